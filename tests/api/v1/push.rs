//! `almoner push` against a real server: published or repeatable, resumed after either side broke, nothing in clear.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use almoner::flows::ingest::Told;
use almoner::jobs::{Progress, Recorded, Unit};
use almoner::push::{Push, PushError, Server, push};
use almoner::store::Write;
use serde_json::Value;

use crate::house::House;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/two-hospitals-20/north-general/fhir")
}

fn to(house: &House, dir: PathBuf, token: &str, state: &Path) -> Push {
    Push {
        dir,
        server: Server::new(house.url(), token, None).expect("loopback"),
        contributor: None,
        dataset: None,
        profile: None,
        incremental: false,
        told: Told::default(),
        state: state.to_owned(),
        patience: Duration::from_millis(300),
    }
}

fn spooled(house: &House) -> usize {
    fs::read_dir(&house.app.spool).expect("spool").count()
}

#[test]
fn a_push_ends_when_the_version_is_published_and_can_be_repeated() {
    let house = House::open();
    let token = house.token("contributor", &["north-general"]);
    let state = tempfile::tempdir().expect("folder");
    let progress = Recorded::default();
    let done = push(&to(&house, sample(), &token, state.path()), &progress).expect("published");
    assert_eq!((done["dataset"].as_str(), done["version"].as_u64()), (Some("north-general"), Some(1)));
    assert!(done["persons"].as_u64() > Some(10), "{done}");
    let lines = &done["lines"];
    let sum =
        ["mapped", "unmapped", "quarantined"].iter().map(|k| lines[k].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!(lines["read"].as_u64(), Some(sum));
    let stages: Vec<&str> = progress.stages().iter().map(|(name, _)| *name).collect();
    assert_eq!(stages[..2], ["hash", "upload"]);

    assert_eq!(fs::read_dir(state.path()).expect("state").count(), 0, "the key is forgotten");
    assert_eq!(spooled(&house), 0, "and so are the bytes");
    let people = house.app.registry.subjects().expect("counts");
    let again = push(&to(&house, sample(), &token, state.path()), &progress).expect("published again");
    assert_eq!((again["version"].as_u64(), &again["persons"]), (Some(2), &done["persons"]));
    assert_eq!(house.app.registry.subjects().expect("counts"), people, "the same people");
}

#[test]
fn the_same_command_goes_on_with_what_the_server_has() {
    let house = House::open();
    let token = house.token("contributor", &["north-general"]);
    let place = tempfile::tempdir().expect("folder");
    let (dir, state) = (place.path().join("export"), place.path().join("state"));
    fs::create_dir(&dir).expect("made");
    for file in fs::read_dir(sample()).expect("sample").flatten() {
        fs::copy(file.path(), dir.join(file.file_name())).expect("copied");
    }
    // A file of more than one piece, so that a break falls inside it.
    let line =
        r#"{"resourceType":"Basic","id":"0","code":{"text":"padding of no meaning to anybody at all"}}"#;
    fs::write(dir.join("Basic.ndjson"), format!("{line}\n").repeat(130_000)).expect("written");
    assert!(fs::metadata(dir.join("Basic.ndjson")).expect("there").len() > 9 << 20);

    // The first attempt goes through a relay that breaks the connection in the middle of the large file.
    let relay = Relay::to(house.url(), 6 << 20);
    let mut through = to(&house, dir.clone(), &token, &state);
    through.server = Server::new(&relay.url, &token, None).expect("loopback");
    let declared_under = fs::read_dir(&state).map_or(0, Iterator::count);
    assert_eq!(declared_under, 0);
    let broken = push(&through, &Recorded::default());
    assert!(matches!(broken, Err(PushError::Unreachable(_))), "{broken:?}");
    let kept: Vec<_> = fs::read_dir(&state).expect("state").flatten().collect();
    assert_eq!(kept.len(), 1, "the key is kept");
    let (state_file, state_kept) = (kept[0].path(), fs::read(kept[0].path()).expect("state"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&kept[0].metadata().expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let uploads = house.get("/v1/uploads", Some(&token)).expect(200).json();
    let id = uploads["items"][0]["id"].as_str().expect("declared").to_owned();
    let here: u64 = uploads["items"][0]["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|f| f["received"].as_u64().expect("bytes"))
        .sum();
    assert!(here >= 1 << 20, "some of it is here: {here}");
    let stored = fs::read(house.app.spool.join(&id).join("000000")).expect("spooled");
    assert!(memchr::memmem::find(&stored, b"resourceType").is_none(), "nothing in clear at rest");

    relay.heal();
    let done = push(&through, &Recorded::default()).expect("published");
    assert_eq!(done["version"], 1);
    let uploads = house.get("/v1/uploads", Some(&token)).expect(200).json();
    assert_eq!(uploads["items"].as_array().map(Vec::len), Some(1), "the same upload went on");
    assert_eq!(uploads["items"][0]["id"], id.as_str());

    // A server that was killed after publication and before it noted that the job is done: the version is acknowledged
    // all the same, and not made again.
    fs::write(&state_file, state_kept).expect("as if the client had not heard");
    let job = uploads["items"][0]["job"].as_str().expect("a job");
    let mut record = house.app.store.get_primary("job", job).expect("store").expect("remembered");
    record["state"] = "interrupted".into();
    record["result"] = Value::Null;
    let write = Write { kind: "job".into(), key: job.into(), value: Some(record) };
    house.app.store.put_primary(vec![write]).expect("written");
    let told = push(&through, &Recorded::default()).expect("published before");
    assert_eq!(told, done);
    let dataset = house.get("/v1/datasets/north-general", Some(&token)).expect(200).json();
    assert_eq!(dataset["dataset"]["version"], 1, "not made again");
}

#[test]
fn a_wrong_token_an_empty_folder_and_a_refused_export_are_told() {
    let house = House::open();
    let state = tempfile::tempdir().expect("folder");
    let researcher = house.token("researcher", &["p"]);
    let refused = push(&to(&house, sample(), &researcher, state.path()), &Recorded::default());
    assert!(matches!(refused, Err(PushError::Problem { status: 403, .. })), "{refused:?}");

    let token = house.token("contributor", &["north-general"]);
    let empty = tempfile::tempdir().expect("folder");
    let nothing = push(&to(&house, empty.path().to_owned(), &token, state.path()), &Recorded::default());
    assert!(matches!(nothing, Err(PushError::Empty(_))));

    fs::write(empty.path().join("Patient.ndjson"), "Marine542 is not JSON\n").expect("written");
    let nobody = push(&to(&house, empty.path().to_owned(), &token, state.path()), &Recorded::default());
    let Err(PushError::Problem { status: 0, detail, measured, .. }) = nobody else { panic!("{nobody:?}") };
    assert!(!detail.contains("Marine"), "{detail}");
    assert_eq!(measured, Value::Null);
}

/// A server whose certificate is for `name`, with the file that holds the certificate.
fn with_certificate(name: &str, ca: bool, place: &Path) -> (House, PathBuf) {
    let key = rcgen::KeyPair::generate().expect("made");
    let mut wanted = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
    if ca {
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let (cert, secret) = (place.join(format!("{name}-{ca}.pem")), place.join(format!("{name}-{ca}.key")));
    fs::write(&cert, wanted.self_signed(&key).expect("signed").pem()).expect("written");
    fs::write(&secret, key.serialize_pem()).expect("written");
    let shown = cert.clone();
    let house = House::with(|config| {
        config.http.tls_cert = Some(shown);
        config.http.tls_key = Some(secret);
    });
    (house, cert)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "that nothing was waited for is what is tested")]
fn what_cannot_get_better_by_waiting_ends_at_once_and_says_what_to_do() {
    let place = tempfile::tempdir().expect("folder");
    let (right, right_cert) = with_certificate("localhost", false, place.path());
    let (authority, authority_cert) = with_certificate("localhost", true, place.path());
    let (other, other_cert) = with_certificate("almoner.example.org", false, place.path());
    let plain = House::open();
    let local = |house: &House, scheme: &str| {
        format!("{scheme}://localhost:{}", house.url().rsplit(':').next().expect("a port"))
    };
    let cases = [
        (local(&right, "https"), None, "--ca"),
        (local(&authority, "https"), Some(&authority_cert), "basicConstraints=CA:FALSE"),
        (local(&other, "https"), Some(&other_cert), "another name"),
        (local(&plain, "https"), Some(&right_cert), "does not speak TLS"),
        (local(&right, "http"), None, "does not speak HTTP"),
        ("https://nobody.invalid".into(), None, "no machine is known by the name nobody.invalid"),
    ];
    for (url, ca, told) in cases {
        let begun = Instant::now();
        let mut wanted = to(&plain, sample(), "token", place.path());
        wanted.server = Server::new(&url, "token", ca.map(PathBuf::as_path)).expect("an address");
        wanted.patience = Duration::from_secs(600);
        let Err(PushError::Unusable(said)) = push(&wanted, &Recorded::default()) else { panic!("{url}") };
        assert!(said.contains(told), "{url}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{url} took {:?}", begun.elapsed());
    }
}

#[derive(Default)]
struct Waits(Mutex<Vec<String>>);

impl Progress for Waits {
    fn stage(&self, _: &'static str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn waiting(&self, why: &str) {
        self.0.lock().expect("no thread failed").push(why.to_owned());
    }
}

#[test]
fn every_wait_for_a_server_that_is_not_there_is_told() {
    let house = House::open();
    let place = tempfile::tempdir().expect("folder");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("bound"))
    };
    let mut wanted = to(&house, sample(), "token", place.path());
    wanted.server = Server::new(&closed, "token", None).expect("loopback");
    wanted.patience = Duration::from_secs(1);
    let waits = Waits::default();
    assert!(matches!(push(&wanted, &waits), Err(PushError::Unreachable(_))));
    let told = waits.0.lock().expect("no thread failed");
    assert_eq!(told.len(), 3, "0.2, 0.4 and 0.8 seconds: {told:?}");
    assert!(told.iter().all(|line| line.contains(&closed) && line.contains("refused")), "{told:?}");
}

/// Passes bytes on to a server, and breaks every connection once `limit` bytes went through, until healed.
struct Relay {
    url: String,
    left: Arc<AtomicI64>,
}

impl Relay {
    fn to(url: &str, limit: i64) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let left = Arc::new(AtomicI64::new(limit));
        let shared = Arc::clone(&left);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, left) = (target.clone(), Arc::clone(&shared));
                thread::spawn(move || {
                    if left.load(Ordering::SeqCst) <= 0 {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(target) else { return };
                    let (up, down) =
                        (client.try_clone().expect("clones"), server.try_clone().expect("clones"));
                    let back = thread::spawn(move || io::copy(&mut &down, &mut &up));
                    let mut buffer = [0; 16 << 10];
                    while let Ok(n @ 1..) = (&client).read(&mut buffer) {
                        if left.fetch_sub(n as i64, Ordering::SeqCst) <= 0
                            || (&server).write_all(&buffer[..n]).is_err()
                        {
                            break;
                        }
                    }
                    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
                    let _ = back.join();
                });
            }
        });
        Self { url, left }
    }

    fn heal(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }
}

#[test]
fn what_is_not_the_whole_is_refused_and_what_was_left_out_is_told() {
    let house = House::open();
    let token = house.token("contributor", &["north-general"]);
    let (state, dir) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    for item in fs::read_dir(sample()).expect("lists").map(|item| item.expect("there").path()) {
        fs::copy(&item, dir.path().join(item.file_name().expect("a name"))).expect("copied");
    }
    fs::write(dir.path().join("Condition.2.ndjson.gz"), "garbage").expect("written");
    for name in ["readme.txt", "Condition.json", "log.ndjson"] {
        fs::write(dir.path().join(name), "x").expect("written");
    }
    let mut export = to(&house, dir.path().to_owned(), &token, state.path());
    let progress = Recorded::default();
    let Err(PushError::Problem { detail, .. }) = push(&export, &progress) else { panic!("refused") };
    assert!(detail.contains("(Condition): truncated") && detail.contains("accept_incomplete"), "{detail}");
    // The bytes are there already: only the word is missing.
    export.told.accept_incomplete = true;
    let done = push(&export, &progress).expect("published");
    assert_eq!(done["stopped"][0]["rule"], "truncated");
    let strangers: &Value = &done["strangers"];
    assert_eq!((strangers["unknown-kind"].as_u64(), strangers["export-log"].as_u64()), (Some(3), Some(1)));
    // Other people are another dataset's.
    let clinic = sample().parent().and_then(Path::parent).expect("there").join("southfield-clinic/fhir");
    let mut other = to(&house, clinic, &token, state.path());
    let Err(PushError::Problem { detail, .. }) = push(&other, &progress) else { panic!("refused") };
    assert!(detail.contains("of version 1") && detail.contains("replace_all"), "{detail}");
    other.told.replace_all = true;
    assert_eq!(push(&other, &progress).expect("published")["version"], 2);
}
