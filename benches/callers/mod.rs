//! Callers that each wait for their own answer before they ask again, and how long they waited.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Not measured: memory of the threads, keys of the people.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long callers waited, ascending, and how many were answered a second.
pub struct Measured {
    waits: Vec<Duration>,
    /// Answers a second.
    pub rate: f64,
}

impl Measured {
    /// Milliseconds within which this share of them was answered.
    pub fn at(&self, share: f64) -> f64 {
        self.waits[(self.waits.len() as f64 * share) as usize].as_secs_f64() * 1000.0
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, all] = [0.5, 0.99, 0.999].map(|share| self.at(share));
        write!(f, "{:.0}/s, wait p50 {half:.2} ms, p99 {most:.2} ms, p99.9 {all:.2} ms", self.rate)
    }
}

/// Has one thread for each number of `callers` ask for `seconds` after a warm-up. A caller begins with `begin`; `prepare` makes
/// of its number and 0, 1, 2, … what it asks, and `ask`, which alone is measured, returns when it is answered.
pub fn measure<C, X>(
    callers: Range<u64>,
    seconds: u64,
    begin: impl Fn() -> C + Sync,
    prepare: impl Fn(u64, u64) -> X + Sync,
    ask: impl Fn(&mut C, X) + Sync,
) -> Measured {
    let (warm, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut elapsed = 0.0;
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let handles: Vec<_> = callers
            .map(|caller| {
                let (begin, prepare, ask, warm, stop) = (&begin, &prepare, &ask, &warm, &stop);
                scope.spawn(move || {
                    let (mut own, mut waits) = (begin(), Vec::with_capacity(1 << 16));
                    for n in 0.. {
                        let what = prepare(caller, n);
                        let asked = Instant::now();
                        ask(&mut own, what);
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
