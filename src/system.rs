//! The operating system's clock and randomness, for the program itself. Everything below takes them as parameters.

use std::cell::RefCell;

use almoner_model::{Clock, Entropy, Timestamp};
use rand::TryRngCore;
use zeroize::Zeroize as _;

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let elapsed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("the clock stands after 1970");
        Timestamp::from_millis(
            i64::try_from(elapsed.as_millis()).expect("milliseconds fit for millions of years"),
        )
    }
}

/// Bytes asked of the kernel at a time, by each thread for itself.
const DRAWN: usize = 1024;

thread_local! {
    /// What was drawn and not yet given out, at its end; before it zeroes.
    static DRAWN_AHEAD: RefCell<(usize, [u8; DRAWN])> = const { RefCell::new((DRAWN, [0; DRAWN])) };
}

/// The kernel's random bytes. A salt or nonce is not a system call of its own: a thread draws some ahead, and forgets what it
/// gives out.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

fn draw(buffer: &mut [u8]) {
    rand::rngs::OsRng.try_fill_bytes(buffer).expect("the kernel gives random bytes");
}

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() > DRAWN / 4 {
            return draw(buffer);
        }
        DRAWN_AHEAD.with_borrow_mut(|(given, ahead)| {
            if DRAWN - *given < buffer.len() {
                draw(ahead);
                *given = 0;
            }
            let next = &mut ahead[*given..*given + buffer.len()];
            buffer.copy_from_slice(next);
            next.zeroize();
            *given += buffer.len();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_given_out_twice_and_nothing_that_was_given_out_stays() {
        let mut seen = HashSet::new();
        let mut take = |size: usize| {
            let mut bytes = vec![0; size];
            SystemEntropy.fill(&mut bytes);
            for part in bytes.chunks_exact(8) {
                assert!(seen.insert(part.to_vec()), "again");
            }
        };
        for size in [8, 12, 16, 24, 32, 48, 256, 257, 1024, 2000].repeat(40) {
            take(size);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| take(256));
        });
        DRAWN_AHEAD.with_borrow(|(given, ahead)| {
            assert!(ahead[..*given].iter().all(|byte| *byte == 0));
        });
    }
}
