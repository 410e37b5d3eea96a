//! Bar `http-append`: durable appends a second over HTTP, consents of people who are new to the registry.
//!
//! The server and its callers share this machine. A caller is one kept connection that writes a call, reads the whole
//! answer, and only then writes the next. Each consent is of another person, so that each also makes a subject in the
//! registry. Arguments: callers and seconds for single calls, then callers and consents a call for batches.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "this program measures and prints"
)]

mod callers;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;

use almoner::app::{App, Folder};
use almoner::config::Config;
use almoner::events::ContributorRegistered;
use almoner::flows::tokens::NewToken;
use almoner::flows::{Act, contributor};
use almoner::system::{SystemClock, SystemEntropy};
use almoner::web;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Appends a second that must be reached, one by one and in batches.
const BARS: [f64; 2] = [5_000.0, 30_000.0];

/// One consent as JSON.
fn consent(caller: u64, n: u64) -> String {
    format!(
        "{{\"record_number\":\"mr-{caller}-{n}\",\"document\":\"broad-consent\",\"signed\":\"2026-01-15\",\
         \"evidence\":\"{:064x}\",\"rules\":{{\"effect\":\"permit\",\"purposes\":[\"DUO:0000006\"]}}}}",
        u128::from(n) << 32 | u128::from(caller)
    )
}

/// A whole call: one consent, or `batch` of them.
fn call(token: &str, caller: u64, n: u64, batch: usize) -> Vec<u8> {
    let (path, body) = if batch == 1 {
        ("/v1/consents", format!("{{\"consent\":{}}}", consent(caller, n)))
    } else {
        let mut all = String::new();
        for at in 0..batch as u64 {
            let comma = if at == 0 { "" } else { "," };
            write!(all, "{comma}{}", consent(caller, n * batch as u64 + at)).unwrap();
        }
        ("/v1/consents/batch", format!("{{\"consents\":[{all}]}}"))
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one answer; its status.
fn answer(from: &mut BufReader<TcpStream>, line: &mut String, body: &mut Vec<u8>) -> u16 {
    line.clear();
    from.read_line(line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = 0;
    loop {
        line.clear();
        from.read_line(line).unwrap();
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    body.resize(length, 0);
    from.read_exact(body).unwrap();
    status
}

/// A kept connection and what is read from it.
struct Line {
    to: TcpStream,
    from: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Line {
    fn open(address: SocketAddr) -> Self {
        let to = TcpStream::connect(address).unwrap();
        to.set_nodelay(true).unwrap();
        let from = BufReader::new(to.try_clone().unwrap());
        Self { to, from, line: String::new(), body: Vec::new() }
    }

    fn ask(&mut self, call: &[u8]) {
        self.to.write_all(call).unwrap();
        let status = answer(&mut self.from, &mut self.line, &mut self.body);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&self.body));
    }
}

/// Appends a second by `callers`, in calls of `batch`; how long calls took goes to the output.
fn measure(address: SocketAddr, token: &str, callers: Range<u64>, seconds: u64, batch: usize) -> f64 {
    let many = callers.end - callers.start;
    let measured = callers::measure(
        callers,
        seconds,
        || Line::open(address),
        |caller, n| call(token, caller, n, batch),
        |line, call| line.ask(&call),
    );
    let rate = measured.rate * batch as f64;
    println!("{many} callers, {batch} consents a call: {rate:.0} appends/s; calls: {measured}");
    rate
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let number = |at: usize, default: usize| args.get(at).copied().unwrap_or(default);
    let place = tempfile::tempdir_in(
        std::env::var("ALMONER_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into()),
    )
    .unwrap();
    let folder = Folder::at(place.path().join("data"));
    let mut config = Config::default();
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    App::init(&folder, &config, &SystemClock, &SystemEntropy).unwrap();
    let app = Arc::new(App::open(folder, config, Arc::new(SystemClock), Arc::new(SystemEntropy)).unwrap());
    let north = ContributorRegistered {
        contributor: "north".parse().unwrap(),
        name: "North".into(),
        linkage: false,
        k_min: None,
    };
    contributor::register(&app.access(), &Act::operator(&SystemEntropy), north).unwrap();
    let new = NewToken {
        role: "contributor".into(),
        scope: vec!["north".into()],
        label: "bench".into(),
        days: None,
    };
    let token = app.tokens().issue(new, Act::operator(&SystemEntropy)).unwrap().token.to_string();
    let serving = web::spawn(Arc::clone(&app)).unwrap();

    let (single, seconds) = (number(0, 64) as u64, number(1, 10) as u64);
    let (many, batch) = (number(2, 4) as u64, number(3, 1_000));
    let before = app.store.size();
    let one = measure(serving.address, &token, 0..single, seconds, 1);
    let all = measure(serving.address, &token, single..single + many, seconds, batch);
    assert!(
        app.store.size() - before >= ((one + all) * seconds as f64) as u64,
        "what was answered is in the ledger"
    );
    println!("bar: {one:.0} durable appends/s one by one (at least {:.0})", BARS[0]);
    println!("bar: {all:.0} durable appends/s in batches (at least {:.0})", BARS[1]);
    serving.stop().unwrap();
    std::process::exit(i32::from(one < BARS[0] || all < BARS[1]));
}
