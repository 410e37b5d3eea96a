//! A server to talk to, and tokens of every role.

use std::sync::Arc;
use std::time::Duration;

use almoner::app::{App, Folder, OpenError};
use almoner::config::Config;
use almoner::events::{ContributorRegistered, Event};
use almoner::flows::Act;
use almoner::flows::invitation;
use almoner::flows::tokens::NewToken;
use almoner::store::NewEntry;
use almoner::system::{SystemClock, SystemEntropy};
use almoner::web::{self, Serving};
use almoner_model::{Entropy as _, SourcePatientId, SubjectId};
use serde_json::Value;

/// A running server; it stops and its folder goes when dropped.
pub struct House {
    pub app: Arc<App>,
    serving: Option<Serving>,
    agent: ureq::Agent,
    _place: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }

    /// Asserts the status and that errors are problems.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status >= 400 {
            assert_eq!(self.content_type, "application/problem+json", "{}", self.text);
            let problem = self.json();
            assert_eq!(problem["status"], status);
            assert!(problem["instance"].as_str().is_some_and(|id| id.starts_with("req_")), "{}", self.text);
        }
        self
    }
}

impl House {
    pub fn open() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(place.path().join("data"));
        let mut config = Config::default();
        config.http.listen = "127.0.0.1:0".parse().expect("address");
        config.http.workers = 2;
        change(&mut config);
        App::init(&folder, &config, &SystemClock, &SystemEntropy).expect("made");
        let app = App::open(folder, config, Arc::new(SystemClock), Arc::new(SystemEntropy)).expect("opens");
        let app = Arc::new(app);
        let serving = web::spawn(Arc::clone(&app)).expect("serves");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        Self { app, serving: Some(serving), agent, _place: place }
    }

    pub fn url(&self) -> &str {
        &self.serving.as_ref().expect("serving").url
    }

    /// A new token of `role`, limited to `scope`.
    pub fn token(&self, role: &str, scope: &[&str]) -> String {
        let scope = scope.iter().map(ToString::to_string).collect();
        let new = NewToken { role: role.into(), scope, label: "test".into(), days: None };
        self.app.tokens().issue(new, Act::operator(&SystemEntropy)).expect("issued").token.to_string()
    }

    /// Says something in the ledger without a flow.
    pub fn append(&self, event: &Event, subject: Option<SubjectId>) {
        let act = Act::operator(&SystemEntropy);
        let entry = NewEntry {
            event_id: act.event_id,
            kind: event.kind(),
            actor: act.actor,
            subject,
            payload: event.payload().expect("JSON"),
            policy: None,
            decision: None,
            as_of: None,
            until: None,
            topics: Vec::new(),
        };
        self.app.store.append(vec![entry], &[]).expect("appended");
    }

    /// Registers a contributor.
    pub fn contributor(&self, id: &str) {
        let contributor = id.parse().expect("an id");
        let body = ContributorRegistered { contributor, name: id.to_uppercase(), linkage: true, k_min: None };
        self.append(&Event::ContributorRegistered(body), None);
    }

    /// A new participant's token, by invitation of `north`, which is registered where it is not.
    pub fn participant(&self) -> String {
        if self.app.store.get("contributor", "north").expect("store").is_none() {
            self.contributor("north");
        }
        let north = "north".parse().expect("an id");
        let record = SourcePatientId::new(format!("mr-{}", SystemEntropy.u64()));
        self.app.registry.subject_of_record(&north, &record, &SystemEntropy).expect("a person");
        let act = Act::operator(&SystemEntropy);
        let ctx = self.app.access();
        let invited = invitation::invite(&ctx, &act, &north, &record, 14).expect("invited");
        let redeemed = invitation::redeem(&ctx, &Act::operator(&SystemEntropy), &invited.secret);
        redeemed.expect("redeemed").secret.to_string()
    }

    pub fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.call("GET", path, token, &[], None)
    }

    pub fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.call(
            "POST",
            path,
            Some(token),
            &[("content-type", "application/json")],
            Some(body.to_string().as_bytes()),
        )
    }

    pub fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent = &self.agent;
        let answer = match body {
            Some(bytes) => agent.run(request.body(bytes.to_vec()).expect("a request")),
            None => agent.run(request.body(()).expect("a request")),
        };
        let mut answer = answer.expect("an answer");
        let content_type = answer.headers().get("content-type").map(|v| v.to_str().expect("text").to_owned());
        // A stream of events has no end to wait for.
        let endless = content_type.as_deref() == Some("text/event-stream");
        Answer {
            status: answer.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            headers: answer.headers().clone(),
            text: if endless {
                String::new()
            } else {
                String::from_utf8_lossy(&answer.body_mut().read_to_vec().expect("read")).into_owned()
            },
        }
    }
}

impl House {
    /// Stops the server, closes the folder, and opens both again.
    pub fn restart(mut self) -> Self {
        self.serving.take().expect("serving").stop().expect("stops");
        let (folder, config) = (self.app.folder.clone(), self.app.config.clone());
        let old = std::mem::replace(&mut self._place, tempfile::tempdir().expect("a folder"));
        let agent = self.agent.clone();
        drop(self);
        let open =
            || App::open(folder.clone(), config.clone(), Arc::new(SystemClock), Arc::new(SystemEntropy));
        // The threads of the server let go of the folder when they end, which may be a moment after it has stopped.
        let mut opened = open();
        for _ in 0..1_000 {
            if !matches!(opened, Err(OpenError::Owned(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            opened = open();
        }
        let app = opened.expect("opens again");
        let app = Arc::new(app);
        let serving = web::spawn(Arc::clone(&app)).expect("serves again");
        Self { app, serving: Some(serving), agent, _place: old }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().expect("stops");
        }
    }
}
