//! The operating system's clock and randomness, for the program itself. Everything below takes them as parameters.

use almoner_model::{Clock, Entropy, Timestamp};
use rand::TryRngCore;

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

/// The kernel's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rngs::OsRng.try_fill_bytes(buffer).expect("the kernel gives random bytes");
    }
}
