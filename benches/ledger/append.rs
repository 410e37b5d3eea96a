//! Durable appends a second: callers that each wait for their own act to be durable before the next.

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
    let store = super::open(dir.path()).unwrap();
    let (warm, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut elapsed = 0.0;
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..callers)
            .map(|caller| {
                let (store, warm, stop) = (&store, &warm, &stop);
                scope.spawn(move || {
                    let mut waits = Vec::with_capacity(1 << 16);
                    for n in 0.. {
                        let entry = super::act(caller, n, PAYLOAD);
                        let asked = Instant::now();
                        store.append(vec![entry], &[]).unwrap();
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
    let rate = waits.len() as f64 / elapsed;
    let at = |share: f64| waits[(waits.len() as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("callers {callers}, payload {PAYLOAD} bytes, {} appends in {elapsed:.2} s", waits.len());
    println!("wait p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", at(0.5), at(0.99), at(0.999));
    let begun = Instant::now();
    drop(store);
    super::open(dir.path()).unwrap();
    println!("closed and opened again in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let (_, bar, half, most) =
        BARS.iter().find(|bar| bar.0 == callers).unwrap_or(&(0, 0.0, f64::MAX, f64::MAX));
    println!("bar: {rate:.0} durable appends/s with {callers} callers (at least {bar:.0})");
    rate >= *bar && at(0.5) <= *half && at(0.99) <= *most
}
