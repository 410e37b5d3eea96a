//! [`Sensitive<T>`]: a value that does not print.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroize;

/// Wraps a clinical or identifying value. `Debug` and `Display` print `…`, it does not serialise, and it is wiped when
/// dropped. Reading the value takes an explicit [`Sensitive::expose`], which is easy to find in review.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sensitive<T: Zeroize>(T);

impl<T: Zeroize> Sensitive<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Never pass the result to a log, an error or a file name.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Zeroize> Drop for Sensitive<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T: Zeroize> fmt::Display for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Sensitive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_value_prints() {
        let name = Sensitive::new("Marine542".to_owned());
        assert_eq!(format!("{name} {name:?} {:?}", Some(&name)), "… … Some(…)");
        assert_eq!(name.expose(), "Marine542");
    }
}
