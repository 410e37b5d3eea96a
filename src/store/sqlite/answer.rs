//! Where one caller waits for the one answer of the writer: a channel for a single value, in one allocation.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

struct Slot<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

enum State<T> {
    Waiting,
    Said(T),
    /// The answer was taken, or nobody is left to give one.
    Over,
}

impl<T> Slot<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the answer.
pub struct To<T>(Arc<Slot<T>>);

/// Waits for it.
pub struct From<T>(Arc<Slot<T>>);

/// Both ends.
pub fn answer<T>() -> (To<T>, From<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Waiting), ready: Condvar::new() });
    (To(slot.clone()), From(slot))
}

impl<T> To<T> {
    /// Says it. Nobody need be waiting any more.
    pub fn say(self, value: T) {
        *self.0.state() = State::Said(value);
        // The drop that follows wakes who waits.
    }
}

impl<T> Drop for To<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(*state, State::Waiting) {
            *state = State::Over;
        }
        drop(state);
        self.0.ready.notify_one();
    }
}

impl<T> From<T> {
    /// The answer; `None` if whoever was to give it is gone.
    pub fn wait(self) -> Option<T> {
        let state = self.0.state();
        let waited = self.0.ready.wait_while(state, |state| matches!(state, State::Waiting));
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Over) {
            State::Said(value) => Some(value),
            State::Waiting | State::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_before_and_after_it_is_waited_for_and_none_where_nobody_gives_one() {
        let (to, from) = answer();
        to.say(1);
        assert_eq!(from.wait(), Some(1));
        let (to, from) = answer::<u8>();
        drop(to);
        assert_eq!(from.wait(), None);
        let (to, from) = answer();
        let waiting = std::thread::spawn(move || from.wait());
        to.say(2);
        assert_eq!(waiting.join().expect("waits"), Some(2));
        let (to, from) = answer();
        drop(from);
        to.say(3);
    }
}
