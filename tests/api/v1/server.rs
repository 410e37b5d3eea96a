//! The server itself: TLS, the owner's socket, jobs that are followed, stopping and starting again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_web::web;
use almoner::jobs::{JobState, NewJob, Unit};
use almoner::push::Server;
use almoner::web::answer::Turns;
use almoner::web::error::Problem;
use serde_json::{Value, json};

use crate::house::House;

fn job(id: &str, contributor: Option<&str>) -> NewJob {
    let contributor = contributor.map(|c| c.parse().expect("an id"));
    NewJob { id: id.into(), kind: "test", owner: "someone".into(), contributor, project: None }
}

#[test]
fn tls_is_spoken_where_it_is_configured() {
    let place = tempfile::tempdir().expect("folder");
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let (cert, key) = (place.path().join("cert.pem"), place.path().join("key.pem"));
    std::fs::write(&cert, identity.cert.pem()).expect("written");
    std::fs::write(&key, identity.signing_key.serialize_pem()).expect("written");
    let house = House::with(|config| {
        config.http.tls_cert = Some(cert.clone());
        config.http.tls_key = Some(key);
    });
    assert!(house.url().starts_with("https://"));
    let port = house.url().rsplit(':').next().expect("a port");
    let url = format!("https://localhost:{port}");
    let token = house.token("operator", &[]);
    let trusted = Server::new(&url, &token, Some(&cert)).expect("an address");
    assert_eq!(trusted.get("/v1/me").expect("answers")["role"], "operator");
    assert!(
        Server::new(&url, &token, None).expect("an address").get("/v1/me").is_err(),
        "not a known authority"
    );
    let mut plain = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connects");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "no answer in clear");
}

fn over_socket(house: &House, head: &str) -> String {
    let mut stream = UnixStream::connect(house.app.folder.socket()).expect("the socket");
    write!(stream, "{head}\r\nHost: almoner\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn the_socket_is_the_operators_and_only_the_owners() {
    let house = House::open();
    let mode = std::fs::metadata(house.app.folder.socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let me = over_socket(&house, "GET /v1/me HTTP/1.1");
    assert!(me.contains(r#""role":"operator","id":"local""#), "{me}");
    let board = house.token("board", &[]);
    let shown = over_socket(&house, &format!("GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {board}"));
    assert!(shown.contains(r#""role":"board""#), "a token that is shown counts: {shown}");
    let forged = over_socket(&house, "GET /v1/me HTTP/1.1\r\nAuthorization: Bearer alm_x");
    assert!(forged.starts_with("HTTP/1.1 401"), "{forged}");
    let operator = house.token("operator", &[]);
    let elsewhere = json!({"path": "/etc", "contributor": "north"});
    house.post("/v1/ingests", &operator, &elsewhere).expect(403);
    house.post("/v1/vocabularies", &operator, &json!({"path": "/etc"})).expect(403);
}

#[test]
fn a_job_is_followed_as_events_by_those_whom_it_concerns() {
    let house = House::open();
    let (go, wait) = mpsc::channel::<()>();
    let work = move |progress: &dyn almoner::jobs::Progress| {
        progress.stage("reading", Some(2), Unit::Rows);
        wait.recv().expect("a sender");
        progress.advance(2);
        Ok(json!({"rows": 2}))
    };
    house.app.jobs.submit(job("job_1", Some("north")), Box::new(work)).expect("queued");
    let north = house.token("contributor", &["north"]);
    let south = house.token("contributor", &["south"]);
    house.get("/v1/jobs/job_1", Some(&south)).expect(404);
    assert_eq!(house.get("/v1/jobs", Some(&south)).json()["items"], json!([]));

    let address = house.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).expect("connects");
    let head =
        format!("GET /v1/jobs/job_1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {north}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut told = Vec::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if let Some(data) = line.strip_prefix("data: ") {
            let job: Value = serde_json::from_str(data).expect("JSON");
            if job["progress"]["stage"] == "reading" && told.iter().all(|s| s != "reading") {
                told.push("reading".to_owned());
                go.send(()).expect("a listener");
            }
            if job["state"] == "done" {
                assert_eq!(job["result"]["rows"], 2);
                told.push("done".to_owned());
                break;
            }
        }
    }
    assert_eq!(told, ["reading", "done"]);
}

#[test]
fn a_server_that_is_stopped_ends_streams_and_marks_what_it_cut_short() {
    let house = House::with(|config| config.http.shutdown_seconds = 20);
    let work = |progress: &dyn almoner::jobs::Progress| {
        while !progress.cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(almoner::jobs::Failure::new(almoner::error::ErrorKind::Conflict, "stopped"))
    };
    house.app.jobs.submit(job("job_1", None), Box::new(work)).expect("queued");
    let operator = house.token("operator", &[]);
    let mut stream = TcpStream::connect(house.url().trim_start_matches("http://")).expect("connects");
    let head =
        format!("GET /v1/jobs/job_1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {operator}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("an answer begins");
    #[expect(clippy::disallowed_methods, reason = "how long stopping takes is what is tested")]
    let begun = Instant::now();
    let socket = house.app.folder.socket();
    let house = house.restart();
    assert!(begun.elapsed() < Duration::from_secs(10), "an open stream does not hold the server");
    let after = house.app.jobs.get("job_1").expect("store").expect("remembered");
    assert_eq!(after.state, JobState::Interrupted);
    assert!(socket.exists(), "the new server has its socket");
    house.get("/v1/me", Some(&operator)).expect(200);
}

#[test]
fn work_that_reads_much_is_done_a_few_at_a_time() {
    let house = House::open();
    let app = web::Data::from(std::sync::Arc::clone(&house.app));
    let turns = Turns::new(2);
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let counters: &'static (AtomicUsize, AtomicUsize) = Box::leak(Box::new((running, most)));
    let work = move |_: &almoner::app::App| -> Result<(), Problem> {
        let now = counters.0.fetch_add(1, Ordering::SeqCst) + 1;
        counters.1.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        counters.0.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    actix_web::rt::System::new().block_on(async {
        // One that hangs up while it waits takes nobody's place.
        let (first, second) = (turns.take(&app, work), turns.take(&app, work));
        let hung_up = tokio::time::timeout(Duration::from_millis(1), turns.take(&app, work));
        let _ = tokio::join!(first, second, hung_up);
        let all: Vec<_> = (0..6).map(|_| turns.take(&app, work)).collect();
        for one in futures::future::join_all(all).await {
            one.expect("done");
        }
    });
    assert_eq!(counters.1.load(Ordering::SeqCst), 2);
}
