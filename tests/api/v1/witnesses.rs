//! `/v1/ledger/witnesses`, and what a witnessed ledger shows: through a real witness over HTTP, and a mirror of it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use almoner::config::Http as HttpConfig;
use almoner::flows::cosign::exchange::{Endpoint as _, Http as WitnessHttp};
use almoner::flows::mirror::Mirror;
use almoner::flows::witness::Witness;
use almoner::system::{SystemClock, SystemEntropy};
use almoner::web::mirror::{Served, serve as serve_mirror};
use almoner::web::small::SmallServing;
use almoner::web::witness::serve;
use almoner_ledger::VerifierKey;
use almoner_ledger::audit::audit;
use almoner_ledger::policy::Policy;
use almoner_ledger::receipt::Receipt;
use almoner_ledger::source::Http;
use almoner_ledger::witness::{Logs, Request};
use serde_json::{Value, json};

use crate::house::House;

/// Waits for a condition; fails where it does not come.
fn until<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(found) = condition() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never came: {what}");
}

fn key_of(house: &House) -> VerifierKey {
    VerifierKey::parse(&house.app.store.vkey()).expect("a key")
}

fn on(listen: SocketAddr) -> HttpConfig {
    HttpConfig { listen, workers: 1, shutdown_seconds: 1, ..HttpConfig::default() }
}

fn witness(folder: &Path, house: &House, listen: SocketAddr) -> SmallServing {
    let witness = Witness::open(folder, Logs::new([key_of(house)]), Arc::new(SystemClock)).expect("opens");
    serve(Arc::new(witness), &on(listen), false).expect("serves")
}

/// A server whose policy asks for one witness, which is not there yet: where it is to listen, its folder, the policy.
fn witnessed() -> (House, tempfile::TempDir, SocketAddr, Policy) {
    let place = tempfile::tempdir().expect("a folder");
    let vkey = Witness::init(&place.path().join("w"), "w.example", &SystemEntropy).expect("made");
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let text = format!("witness board {vkey} http://{listen}\nquorum board\n");
    let file = place.path().join("policy");
    std::fs::write(&file, &text).expect("written");
    let house = House::with(|config| config.ledger.policy = Some(file));
    (house, place, listen, Policy::parse(text.as_bytes()).expect("a policy"))
}

#[test]
fn who_has_signed_what_is_told_to_operators_and_boards() {
    let (house, place, listen, policy) = witnessed();
    let (operator, board) = (house.token("operator", &[]), house.token("board", &[]));
    let told = |token: &str| house.get("/v1/ledger/witnesses", Some(token)).expect(200).json();
    let state = |told: &Value| told["witnesses"][0]["state"].as_str().unwrap_or_default().to_owned();
    until("it is known to be away", || (state(&told(&board)) == "unreachable").then_some(()));
    let away = told(&operator);
    assert_eq!((&away["asked"], &away["quorum_size"]), (&json!(true), &Value::Null), "{away}");
    assert_eq!(away["quorum"], "board is needed and has not cosigned");
    let proof = house.get("/v1/ledger/entries/0/proof", None).expect(200);
    assert_eq!(proof.headers.get("almoner-quorum").expect("said"), "missing");
    assert!(!policy.standing(house.get("/ledger/checkpoint", None).text.as_bytes()).expect("a note").reached);
    house.contributor("north");
    house.get("/v1/ledger/witnesses", Some(&house.token("contributor", &["north"]))).expect(403);

    let serving = witness(&place.path().join("w"), &house, listen);
    let size = house.app.store.size();
    let there = until("the quorum", || Some(told(&board)).filter(|t| t["quorum_size"] == size));
    assert_eq!(
        (state(&there).as_str(), &there["witnesses"][0]["size"]),
        ("cosigning", &json!(size)),
        "{there}"
    );
    assert!(there["quorum_time"].is_string() && there["alarms"] == json!([]), "{there}");
    let shown = house.get("/ledger/checkpoint", None).text;
    assert!(policy.standing(shown.as_bytes()).expect("a note").reached, "{shown}");
    let proof = until("a receipt with it", || {
        let proof = house.get("/v1/ledger/entries/0/proof", None).expect(200);
        (proof.headers.get("almoner-quorum").expect("said") == "reached").then_some(proof)
    });
    let receipt = Receipt::parse(proof.text.as_bytes()).expect("a receipt");
    assert!(policy.standing(&receipt.checkpoint).expect("a note").reached);
    let metrics = house.get("/metrics", Some(&operator)).text;
    assert!(metrics.contains("almoner_witness_cosigning{witness=\"board\"} 1"), "{metrics}");
    assert!(metrics.contains(&format!("almoner_ledger_quorum_entries {size}")), "{metrics}");
    assert_eq!(house.get("/readyz", None).json()["notes"], json!([]));
    // What was collected is there after a restart, also without the witness.
    drop(serving);
    let house = house.restart();
    let proof = house.get("/v1/ledger/entries/0/proof", None).expect(200);
    assert_eq!(proof.headers.get("almoner-quorum").expect("said"), "reached");
}

/// A withdrawal waits for nobody: its first receipt says that the quorum is missing, and one that is fetched later has it.
#[test]
fn a_withdrawal_says_whether_its_receipt_has_the_quorum_and_has_it_later() {
    let (house, place, listen, policy) = witnessed();
    house.contributor("north");
    let north = house.token("contributor", &["north"]);
    let body = json!({"contributor": "north", "record_number": "mr-1", "mode": "no_further_use"});
    let first = house.post("/v1/withdrawals", &north, &body).expect(201).json();
    assert_eq!(first["quorum"], "missing", "{first}");
    let _serving = witness(&place.path().join("w"), &house, listen);
    let path = format!("/v1/ledger/entries/{}/proof", first["seq"]);
    let later = until("a receipt with it", || {
        let proof = house.get(&path, None).expect(200);
        (proof.headers.get("almoner-quorum").expect("said") == "reached").then_some(proof.text)
    });
    let receipt = Receipt::parse(later.as_bytes()).expect("a receipt");
    receipt.check(first["entry"].as_str().expect("text").as_bytes(), &key_of(&house)).expect("holds");
    assert!(policy.standing(&receipt.checkpoint).expect("a note").reached);
    let alone = House::open();
    alone.contributor("north");
    let north = alone.token("contributor", &["north"]);
    assert_eq!(alone.post("/v1/withdrawals", &north, &body).expect(201).json()["quorum"], Value::Null);
}

/// Whoever sends slowly does not keep connections.
#[test]
fn a_witness_waits_for_no_request_for_ever() {
    use std::io::{Read as _, Write as _};
    let (house, place) = (House::open(), tempfile::tempdir().expect("a folder"));
    Witness::init(&place.path().join("w"), "w.example", &SystemEntropy).expect("made");
    let logs = Logs::new([key_of(&house)]);
    let witness = Witness::open(&place.path().join("w"), logs, Arc::new(SystemClock)).expect("opens");
    let http = HttpConfig { request_timeout_seconds: 1, ..on("127.0.0.1:0".parse().expect("an address")) };
    let serving = serve(Arc::new(witness), &http, false).expect("serves");
    let address = serving.url.strip_prefix("http://").expect("not over TLS");
    for (length, status) in [(1000, "408"), (100_000, "413")] {
        let mut connection = std::net::TcpStream::connect(address).expect("connects");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let head = format!("POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\n\r\n");
        connection.write_all(head.as_bytes()).expect("sent");
        connection.write_all(&vec![b'o'; length - 1]).expect("sent");
        let mut answer = vec![0; 12];
        connection.read_exact(&mut answer).expect("answered");
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
    }
}

#[test]
fn a_witness_is_asked_over_tls_and_its_certificate_is_checked() {
    let place = tempfile::tempdir().expect("a folder");
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let (cert, key) = (place.path().join("cert.pem"), place.path().join("key.pem"));
    std::fs::write(&cert, identity.cert.pem()).expect("written");
    std::fs::write(&key, identity.signing_key.serialize_pem()).expect("written");
    let house = House::open();
    Witness::init(&place.path().join("w"), "w.example", &SystemEntropy).expect("made");
    let logs = Logs::new([key_of(&house)]);
    let witness = Witness::open(&place.path().join("w"), logs, Arc::new(SystemClock)).expect("opens");
    let listen = HttpConfig {
        tls_cert: Some(cert.clone()),
        tls_key: Some(key),
        ..on("127.0.0.1:0".parse().expect("an address"))
    };
    let serving = serve(Arc::new(witness), &listen, false).expect("serves");
    let port = serving.url.strip_prefix("https://127.0.0.1:").expect("over TLS");
    let url = format!("https://localhost:{port}/");
    let signed = house.app.store.checkpoint();
    let body = Request { old: 0, proof: vec![], note: signed.note }.to_bytes();
    let ask =
        |roots| WitnessHttp::new(&url, roots, Duration::from_secs(20)).expect("a URL").add_checkpoint(&body);
    let reply = ask(Some(cert.as_path())).expect("answered");
    assert_eq!((reply.status, reply.media_type.as_str()), (200, "text/plain"));
    assert!(ask(None).is_err(), "not a known authority");
}

#[test]
fn a_log_behind_an_authority_of_ones_own_is_read_by_who_names_it() {
    use almoner_ledger::source::{at, at_trusting};
    let (house, place) = (House::open(), tempfile::tempdir().expect("a folder"));
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let (cert, key) = (place.path().join("cert.pem"), place.path().join("key.pem"));
    std::fs::write(&cert, identity.cert.pem()).expect("written");
    std::fs::write(&key, identity.signing_key.serialize_pem()).expect("written");
    let mirror = Mirror::open(&place.path().join("m"), Some(key_of(&house))).expect("opens");
    let listen = HttpConfig {
        tls_cert: Some(cert),
        tls_key: Some(key),
        ..on("127.0.0.1:0".parse().expect("an address"))
    };
    let served = Arc::new(Served { mirror, last: Mutex::new(json!({})) });
    let here = serve_mirror(served, &listen, false).expect("serves");
    let url = here.url.replace("127.0.0.1", "localhost");
    let vkey = at_trusting(&url, Some(identity.cert.pem().as_bytes())).expect("a certificate").read("vkey");
    assert_eq!(vkey.expect("read"), format!("{}\n", key_of(&house).line()).into_bytes());
    assert!(at(&url).read("vkey").is_err(), "not a known authority");
    assert!(at_trusting(&url, Some(b"no certificate")).is_err());
}

#[test]
fn without_a_policy_nobody_is_asked_and_a_wrong_one_stops_the_start() {
    let house = House::open();
    let told = house.get("/v1/ledger/witnesses", Some(&house.token("board", &[]))).expect(200).json();
    assert_eq!((&told["asked"], &told["witnesses"]), (&json!(false), &json!([])));
    assert!(
        !house.get("/v1/ledger/entries/0/proof", None).expect(200).headers.contains_key("almoner-quorum")
    );
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("policy");
    let start = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let mut config = house.app.config.clone();
        config.ledger.policy = Some(file.clone());
        let folder = almoner::app::Folder::at(place.path().join("data"));
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        almoner::app::App::init(&folder, &config, &*clock, &*entropy).expect("made");
        let app = almoner::app::App::open(folder, config, clock, entropy).expect("opens");
        app.start_cosigning().map_err(|e| e.to_string())
    };
    let other = format!("log {}\nquorum none\n", house.app.store.vkey());
    for (text, why) in [("quorum board\n", "line 1"), ("", "no quorum"), (other.as_str(), "other logs")] {
        let problem = start(text).expect_err(why);
        assert!(problem.contains(why) && problem.contains("policy"), "{problem}");
    }
    start("quorum none\n").expect("nobody is asked");
}

#[test]
fn a_mirror_copies_a_running_server_and_serves_it_to_a_verifier() {
    let (house, place, listen, policy) = witnessed();
    let _serving = witness(&place.path().join("w"), &house, listen);
    for n in 0..5 {
        house.contributor(&format!("h-{n}"));
    }
    let source = Http::new(&format!("{}/ledger", house.url()));
    let mirror = Mirror::open(&place.path().join("m"), Some(key_of(&house))).expect("opens");
    let size = house.app.store.size();
    until("the quorum", || mirror.sync(&source, Some(&policy)).ok().filter(|done| done.entries == size));
    let served = Arc::new(Served { mirror, last: Mutex::new(json!({})) });
    let here = serve_mirror(served, &on("127.0.0.1:0".parse().expect("an address")), false).expect("serves");
    let found = audit(&Http::new(&here.url), &key_of(&house), None, 2);
    assert!(found.intact && found.size == size, "{:?}", found.findings);
    let note = std::fs::read(place.path().join("m/checkpoint")).expect("there");
    assert!(policy.standing(&note).expect("a note").reached);
}
