//! Durable appends a second: callers that each wait for their own act to be durable before the next. What the machine allows
//! is measured beside it ([`super::bare`]).

use std::time::Instant;

use almoner::store::Store as _;

use super::callers::measure;

/// Callers, and what must be reached with them: appends a second, milliseconds for half and for 99 of 100 of them.
const BARS: &[(u64, f64, f64, f64)] = &[(64, 25_000.0, 3.0, 25.0), (1_024, 80_000.0, f64::MAX, f64::MAX)];

/// Payload in bytes.
const PAYLOAD: usize = 512;

/// Measures; says whether the bar is met.
pub fn run(callers: u64, seconds: u64) -> bool {
    let dir = super::folder();
    let bare = super::bare::Bare::open(dir.path());
    let row = |_, _| vec![b'x'; 2 * PAYLOAD];
    let most = measure(0..callers, seconds, || (), row, |(), row| bare.append(row));
    println!("bare SQLite, rows of {} bytes: {most}", 2 * PAYLOAD);
    drop(bare);
    let store = super::open(dir.path()).unwrap();
    let act = |caller, n| super::act(caller, n, PAYLOAD);
    let ours =
        measure(0..callers, seconds, || (), act, |(), act| drop(store.append(vec![act], &[]).unwrap()));
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
