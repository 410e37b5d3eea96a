//! `/v1/ledger/events`: the ledger as it grows.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use almoner::events::{ContributorRegistered, Event, ReleaseRewritten, SubjectErased};
use almoner::state::records::Release;
use almoner::store::EntryFilter;
use almoner_model::Digest;
use serde_json::{Value, json};

use crate::house::House;
use crate::story::HOSPITALS;

/// A stream that is being read.
struct Stream(BufReader<TcpStream>);

/// A message: its id and the event in it.
type Message = (u64, Value);

impl Stream {
    fn open(house: &House, token: &str, query: &str, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(house.url().trim_start_matches("http://")).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let last = last.map(|seq| format!("Last-Event-ID: {seq}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /v1/ledger/events{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut stream = Self(reader);
        assert!(stream.line().is_some_and(|first| first.starts_with("retry: ")), "it begins at once");
        stream
    }

    /// The next line that the server meant; none at the end.
    fn line(&mut self) -> Option<String> {
        const FIELDS: [&str; 5] = ["id: ", "event: ", "data: ", "retry: ", ": "];
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("readable") == 0 {
                return None;
            }
            let line = line.trim_end();
            if FIELDS.iter().any(|f| line.starts_with(f)) {
                return Some(line.to_owned());
            }
        }
    }

    fn next(&mut self) -> Message {
        let id = self.line().expect("a message");
        let id = id.strip_prefix("id: ").expect("its id").parse().expect("a number");
        let kind = self.line().expect("its type");
        let data = self.line().expect("its data");
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(event["type"], kind.strip_prefix("event: ").expect("a type"));
        (id, event)
    }
}

/// `n` events from the entry `from` on.
pub fn backfill(house: &House, token: &str, from: u64, n: u64) -> Vec<Value> {
    let mut stream = Stream::open(house, token, &format!("?from={from}"), None);
    (0..n).map(|_| stream.next().1).collect()
}

fn register(house: &House, n: u64) {
    let contributor = format!("h{n}").parse().expect("an id");
    let body = ContributorRegistered { contributor, name: "H".into(), linkage: false, k_min: None };
    house.append(&Event::ContributorRegistered(body), None);
}

#[test]
fn who_follows_from_an_entry_gets_each_once_and_goes_on_after_a_cut() {
    let house = House::open();
    let board = house.token("board", &[]);
    (0..300).for_each(|n| register(&house, n));
    let first = house.app.store.size() - 300;
    let mut stream = Stream::open(&house, &board, &format!("?from={first}"), None);
    // Entries come in while the backfill is being read.
    std::thread::scope(|scope| {
        scope.spawn(|| (300..400).for_each(|n| register(&house, n)));
        for seq in first..first + 350 {
            let (id, event) = stream.next();
            assert_eq!(id, seq, "no gap, none twice");
            assert_eq!(event["sequence"], format!("{seq:020}"));
            assert_eq!(event["subject"], format!("h{}", seq - first));
        }
    });
    drop(stream);
    let last = first + 349;
    // The header goes before the parameter, as a browser sends both.
    let mut again = Stream::open(&house, &board, "?from=0", Some(last));
    for seq in last + 1..first + 400 {
        assert_eq!(again.next().0, seq);
    }
    register(&house, 400);
    assert_eq!(again.next().0, first + 400, "live after the backfill");
    let entry = house.app.store.entry(first).expect("store").expect("there");
    let event = backfill(&house, &board, first, 1).remove(0);
    // CloudEvents 1.0: the required attributes, and what was said.
    let origin = house.app.store.checkpoint().checkpoint.origin;
    assert_eq!(event["specversion"], "1.0");
    assert_eq!((&event["id"], &event["time"]), (&json!(entry.leaf.event_id), &json!(entry.leaf.time)));
    assert_eq!(event["source"], format!("https://{origin}"));
    assert_eq!(
        (&event["datacontenttype"], &event["data"]["contributor"]),
        (&json!("application/json"), &json!("h0"))
    );
}

#[test]
fn what_is_not_followed_is_refused_and_types_are_chosen() {
    let house = House::open();
    let operator = house.token("operator", &[]);
    register(&house, 1);
    house.token("board", &[]);
    let mut some = Stream::open(&house, &operator, "?from=0&types=contributor.registered", None);
    assert_eq!(some.next().1["type"], "contributor.registered");
    register(&house, 2);
    assert_eq!(some.next().1["subject"], "h2", "entries between are left out");
    let size = house.app.store.size();
    for bad in
        [format!("?from={}", size + 1), "?from=x".into(), "?types=consent.read".into(), "?until=3".into()]
    {
        house.get(&format!("/v1/ledger/events{bad}"), Some(&operator)).expect(400);
    }
    let headers = |value| [("last-event-id", value)];
    for bad in ["x", "9999", "-1"] {
        house.call("GET", "/v1/ledger/events", Some(&operator), &headers(bad), None).expect(400);
    }
}

#[test]
fn a_stream_ends_with_its_token_and_with_the_server() {
    let house = House::with(|config| config.http.shutdown_seconds = 20);
    let operator = house.token("operator", &[]);
    let board = house.token("board", &[]);
    let id = board.split('_').nth(1).expect("an id");
    let mut ended = Stream::open(&house, &board, "", None);
    house.call("DELETE", &format!("/v1/tokens/{id}"), Some(&operator), &[], None).expect(200);
    assert_eq!(ended.next().1["type"], "token.revoked", "it was sent before the token was looked at again");
    assert_eq!(ended.line(), None, "nothing more comes");
    let mut open = Stream::open(&house, &operator, "", None);
    #[expect(clippy::disallowed_methods, reason = "how long stopping takes is what is tested")]
    let begun = Instant::now();
    let reader = std::thread::spawn(move || {
        let mut rest = String::new();
        open.0.read_to_string(&mut rest).map(|_| rest)
    });
    let house = house.restart();
    assert!(begun.elapsed() < Duration::from_secs(10), "an open stream does not hold the server");
    let rest = reader.join().expect("read").expect("the end of the stream is clean");
    assert!(rest.ends_with("0\r\n\r\n"), "the last chunk came: {rest:?}");
    house.get("/v1/me", Some(&operator)).expect(200);
}

/// Says that the release was written anew without somebody.
fn rewritten(house: &House) {
    let (_, release) = house.app.store.scan("release", "", None, 1).expect("read").remove(0);
    let release: Release = serde_json::from_value(release).expect("a release");
    let erasure = "era-1".to_owned();
    let erased = SubjectErased { erasure: erasure.clone(), contributor: None, entries: Vec::new() };
    house.append(&Event::SubjectErased(erased), None);
    let body = ReleaseRewritten {
        erasure,
        release: release.body.release,
        from: release.body.manifest,
        to: release.body.manifest,
        members: vec![Digest::of(b"a member")],
        persons: release.body.persons - 1,
        tables: release.body.tables,
    };
    house.append(&Event::ReleaseRewritten(body), None);
}

/// Neither who left, nor how many are left.
fn says_of_erasures(data: &BTreeMap<&str, Vec<&Value>>) {
    for rewritten in data.get("release.rewritten").into_iter().flatten() {
        let members: Vec<&String> = rewritten.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["from", "release", "to"]);
    }
    assert!(!data.contains_key("subject.erased") && !data.contains_key("dataset.rewritten"));
}

/// On a world with counts and a release: everybody sees every entry, and of what was said what the lists show them.
pub fn shows_no_more_than_the_lists(house: &House) {
    // Tokens are entries too; they are made before the ledger is measured.
    let callers: Vec<(&str, &[&str], String)> = [
        ("operator", &[][..]),
        ("board", &[]),
        ("board", &HOSPITALS[..1]),
        ("contributor", &HOSPITALS[1..]),
        ("researcher", &["weight"]),
        ("researcher", &["formula"]),
    ]
    .map(|(role, scope)| (role, scope, house.token(role, scope)))
    .to_vec();
    rewritten(house);
    let size = house.app.store.size();
    let entries = house.app.store.entries(0, 100_000, &EntryFilter::default()).expect("read");
    for (role, scope, token) in callers {
        let events = backfill(house, &token, 0, size);
        let mut data: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for (event, entry) in events.iter().zip(&entries) {
            assert_eq!(event["id"], entry.leaf.event_id);
            if entry.subject.is_some() {
                assert!(
                    event["data"].is_null() && event["subject"].is_null(),
                    "{role}: about a person: {event}"
                );
            }
            if !event["data"].is_null() {
                data.entry(event["type"].as_str().expect("a type")).or_default().push(&event["data"]);
            }
        }
        let number = |kind: &str| data.get(kind).map_or(0, Vec::len);
        let (counts, releases) = match (role, scope) {
            ("operator", _) | ("board", []) => (3, 1),
            ("researcher", ["formula"]) => (1, 0),
            _ => (2, 1),
        };
        assert_eq!(
            (number("count.answered"), number("release.built")),
            (counts, releases),
            "{role} {scope:?}"
        );
        assert_eq!(
            (number("download.opened"), number("download.closed")),
            (releases, releases),
            "{role} {scope:?}"
        );
        assert_eq!(
            number("release.rewritten"),
            releases,
            "{role} {scope:?}: they are told to fetch it again"
        );
        says_of_erasures(&data);
        assert_eq!(number("token.issued") > 0, role == "operator");
        assert_eq!(
            number("legal_basis.recorded"),
            if role == "researcher" {
                0
            } else if counts == 3 {
                2
            } else {
                1
            }
        );
        let told = counts == 3 || role == "researcher";
        for release in data.get("release.built").into_iter().flatten() {
            assert_eq!(release["persons"].is_u64(), told, "{role} {scope:?}");
            assert_eq!(release["tables"].is_object(), told, "{role} {scope:?}");
        }
        for published in &data["dataset.published"] {
            assert!(published["persons"].is_null() && published["tables"].is_null(), "{published}");
        }
    }
}
