//! HTTP to one server: with the token, over TLS or to this machine, and without following redirects.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use super::state::State;
use super::{PushError, at, reach};
use crate::error::ErrorKind;

/// A server that is spoken to with a token.
pub struct Server {
    base: String,
    token: Zeroizing<String>,
    agent: ureq::Agent,
    host: String,
    /// Whether anything at its address ever answered.
    answered: AtomicBool,
}

impl Server {
    /// The server at `url`; certificates of `ca` are trusted instead of the usual ones, where given.
    ///
    /// # Errors
    /// [`PushError::Address`] for plain HTTP to another machine: the export and its key would travel in clear.
    pub fn new(url: &str, token: &str, ca: Option<&Path>) -> Result<Self, PushError> {
        let address = |why: &str| PushError::Address(why.to_owned());
        let uri: Uri = url.parse().map_err(|_| address("the server's address is not a URL"))?;
        let host = uri.host().ok_or_else(|| address("the server's address names no host"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => {
                return Err(address("refusing to send an export over plain HTTP to another machine"));
            }
            _ => return Err(address("the server's address begins with https://")),
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = ca {
            let pem = std::fs::read(path).map_err(at(path))?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(|item| if let Ok(PemItem::Certificate(c)) = item { Some(c) } else { None })
                .collect();
            if certificates.is_empty() {
                return Err(PushError::Address(format!("{} holds no certificate", path.display())));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(300)))
            .tls_config(tls.build())
            .build()
            .into();
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            token: Zeroizing::new(token.to_owned()),
            agent,
            host: host.to_owned(),
            answered: AtomicBool::new(false),
        })
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET`, as JSON.
    ///
    /// # Errors
    /// [`PushError::Unreachable`], [`PushError::Unusable`], or the server's problem.
    pub fn get(&self, path: &str) -> Result<Value, PushError> {
        self.call("GET", path, &[], "", &[])
    }

    pub(super) fn post(&self, path: &str, body: Option<&Value>, state: &State) -> Result<Value, PushError> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        let headers = [("almoner-upload-key", state.key.as_str()), ("idempotency-key", state.once.as_str())];
        self.call("POST", path, &headers, "application/json", text.as_bytes())
    }

    pub(super) fn post_keyed(&self, path: &str, state: &State) -> Result<Value, PushError> {
        self.call("POST", path, &[("almoner-upload-key", state.key.as_str())], "", &[])
    }

    pub(super) fn patch(&self, path: &str, bytes: &[u8], state: &State) -> Result<Value, PushError> {
        let headers = [("almoner-upload-key", state.key.as_str())];
        self.call("PATCH", path, &headers, "application/octet-stream", bytes)
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        media_type: &str,
        body: &[u8],
    ) -> Result<Value, PushError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token.as_str()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let built = |e: ureq::http::Error| PushError::Address(e.to_string());
        let answer = if media_type.is_empty() && method == "GET" {
            self.agent.run(request.body(()).map_err(built)?)
        } else {
            if !media_type.is_empty() {
                request = request.header("content-type", media_type);
            }
            self.agent.run(request.body(body).map_err(built)?)
        };
        let answered = self.answered.load(Ordering::Relaxed);
        let mut answer = answer.map_err(|e| reach::why(&e, &self.host, answered))?;
        self.answered.store(true, Ordering::Relaxed);
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(256 << 20).read_to_vec();
        let text = text.map_err(|e| PushError::Unreachable(e.to_string()))?;
        let value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) { Ok(value) } else { Err(problem(status, &value)) }
    }
}

/// A problem, or the failure of a job, as this client's own.
pub(super) fn problem(status: u16, value: &Value) -> PushError {
    let kind = serde_json::from_value(value["kind"].clone()).unwrap_or(ErrorKind::Fault);
    let mut detail = match value["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("the server answered {status} without a reason"),
    };
    for reason in value["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        detail.push_str("\n  - ");
        detail.push_str(reason);
    }
    PushError::Problem { status, kind, detail, measured: value["measured"].clone() }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for good in
            ["http://127.0.0.1:8210", "http://localhost", "http://[::1]:1/", "https://almoner.example.org"]
        {
            assert!(Server::new(good, "t", None).is_ok(), "{good}");
        }
        for bad in
            ["http://almoner.example.org", "http://10.0.0.7:8210", "ftp://x", "almoner.example.org", ""]
        {
            assert!(matches!(Server::new(bad, "t", None), Err(PushError::Address(_))), "{bad}");
        }
        assert!(Server::new("http://127.0.0.1.example.org", "t", None).is_err());
    }
}
