//! `kill -9` of a process that appends, at random moments: nothing acknowledged is lost, nothing stands twice, and the
//! next start needs no help.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use almoner::store::Store as _;
use almoner::system::SystemEntropy;
use almoner_model::Entropy as _;

/// Callers in the killed process.
const CALLERS: u64 = 8;

/// Appends until killed; says each act and its place only once it is acknowledged.
pub fn append_until_killed(dir: &Path, run: u64) -> bool {
    let store = super::open(dir).unwrap();
    let out = Mutex::new(std::io::stdout());
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (store, out) = (&store, &out);
            scope.spawn(move || {
                for n in 0.. {
                    let seq =
                        store.append(vec![super::act(run * CALLERS + caller, n, 512)], &[]).unwrap()[0].seq;
                    let mut out = out.lock().unwrap();
                    writeln!(out, "{} {n} {seq}", run * CALLERS + caller).unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
    true
}

/// Kills `times` processes; says whether nothing was lost.
pub fn run(times: u64) -> bool {
    let dir = super::folder();
    let mut acknowledged: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let (mut lost, mut unsaid) = (0, 0);
    for run in 0..times {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["appender", dir.path().to_str().unwrap(), &run.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_micros(20_000 + SystemEntropy.u64() % 180_000));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            // A line cut by the kill was not said whole.
            let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
            if let [caller, n, seq] = numbers[..] {
                acknowledged.insert((caller, n), seq);
            }
        }
        let store = super::open(dir.path()).unwrap();
        for ((caller, n), seq) in &acknowledged {
            let found = store.find_event(&super::act(*caller, *n, 512).event_id).unwrap();
            lost += u64::from(found != Some(*seq));
        }
        unsaid = store.size() - acknowledged.len() as u64;
    }
    let store = super::open(dir.path()).unwrap();
    let audit = store.audit().unwrap();
    println!("{} acts acknowledged, {unsaid} durable but cut off before they were said", acknowledged.len());
    println!("audit after the last kill: {} entries, findings {:?}", audit.entries, audit.findings);
    println!("bar: {times} kills, {lost} acknowledged acts lost (0 allowed)");
    lost == 0 && audit.intact && !acknowledged.is_empty()
}
