//! Durable appends a second: callers that each wait for their own act to be durable before the next. What the machine allows
//! is measured beside it ([`super::bare`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use almoner::store::Store as _;

/// Callers, and what must be reached with them: appends a second, milliseconds for half and for 99 of 100 of them.
const BARS: &[(u64, f64, f64, f64)] = &[(64, 25_000.0, 3.0, 25.0), (1_024, 80_000.0, f64::MAX, f64::MAX)];

/// Not measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// Payload in bytes.
const PAYLOAD: usize = 512;

/// Measures; says whether the bar is met.
pub fn run(callers: u64, seconds: u64) -> bool {
    let dir = super::folder();
    let bare = super::bare::Bare::open(dir.path());
    let most = measure(callers, seconds, |_, _| bare.append(vec![b'x'; 2 * PAYLOAD]));
    println!("bare SQLite, rows of {} bytes: {most}", 2 * PAYLOAD);
    drop(bare);
    let store = super::open(dir.path()).unwrap();
    let ours = measure(callers, seconds, |caller, n| {
        store.append(vec![super::act(caller, n, PAYLOAD)], &[]).unwrap();
    });
    println!("the ledger, payloads of {PAYLOAD} bytes: {ours}");
    let begun = Instant::now();
    drop(store);
    super::open(dir.path()).unwrap();
    println!("closed and opened again in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let (_, bar, half, most_of) =
        BARS.iter().find(|bar| bar.0 == callers).unwrap_or(&(0, 0.0, f64::MAX, f64::MAX));
    println!(
        "bar: {:.0} durable appends/s with {callers} callers (at least {bar:.0}), {:.2} of bare SQLite",
        ours.rate,
        ours.rate / most.rate
    );
    ours.rate >= *bar && ours.at(0.5) <= *half && ours.at(0.99) <= *most_of
}

/// How long callers waited, ascending, and how many were answered a second.
struct Measured {
    waits: Vec<Duration>,
    rate: f64,
}

impl Measured {
    /// Milliseconds within which this share of them was answered.
    fn at(&self, share: f64) -> f64 {
        self.waits[(self.waits.len() as f64 * share) as usize].as_secs_f64() * 1000.0
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, all] = [0.5, 0.99, 0.999].map(|share| self.at(share));
        write!(f, "{:.0}/s, wait p50 {half:.2} ms, p99 {most:.2} ms, p99.9 {all:.2} ms", self.rate)
    }
}

/// Has `callers` threads call `append` with their number and 0, 1, 2, … for `seconds` after a warm-up.
fn measure(callers: u64, seconds: u64, append: impl Fn(u64, u64) + Sync) -> Measured {
    let (warm, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut elapsed = 0.0;
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..callers)
            .map(|caller| {
                let (append, warm, stop) = (&append, &warm, &stop);
                scope.spawn(move || {
                    let mut waits = Vec::with_capacity(1 << 16);
                    for n in 0.. {
                        let asked = Instant::now();
                        append(caller, n);
                        match (warm.load(Ordering::Relaxed), stop.load(Ordering::Relaxed)) {
                            (_, true) => break,
                            (true, false) => waits.push(asked.elapsed()),
                            (false, false) => {}
                        }
                    }
                    waits
                })
            })
            .collect();
        // Memory of the threads, keys of the people.
        std::thread::sleep(WARM_UP);
        warm.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        std::thread::sleep(Duration::from_secs(seconds));
        elapsed = begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        handles.into_iter().flat_map(|h| h.join().unwrap()).collect()
    });
    waits.sort_unstable();
    Measured { rate: waits.len() as f64 / elapsed, waits }
}
