//! Where callers put what they ask of the writer, and wait for what it says.
//!
//! Those who stand in the queue when the writer takes from it are a *round*. They wait at one place and are woken with one
//! call, not each with one of its own. A round may be several transactions; who is woken and has no answer yet waits on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who are woken together.
#[derive(Default)]
struct Round {
    turn: Mutex<()>,
    woken: Condvar,
}

impl Round {
    fn wake(&self) {
        // Who has looked for an answer and does not wait yet holds it.
        drop(locked(&self.turn));
        self.woken.notify_all();
    }
}

enum Said<T> {
    Nothing,
    Answer(T),
    /// The answer was taken, or nobody is left to give one.
    Over,
}

/// Gives the answer. It is heard when the writer wakes its round.
pub struct To<T>(Arc<Mutex<Said<T>>>);

impl<T> To<T> {
    /// Says it. Nobody need be waiting any more.
    pub fn say(self, value: T) {
        *locked(&self.0) = Said::Answer(value);
    }
}

impl<T> Drop for To<T> {
    fn drop(&mut self) {
        let mut said = locked(&self.0);
        if matches!(*said, Said::Nothing) {
            *said = Said::Over;
        }
    }
}

struct State<J> {
    jobs: Vec<J>,
    round: Arc<Round>,
    /// The writer waits for a job.
    idle: bool,
    /// Nobody asks any more.
    ended: bool,
    /// Nobody answers any more.
    dead: bool,
}

struct Shared<J> {
    state: Mutex<State<J>>,
    filled: Condvar,
}

/// The callers' end. The writer works off what stands here after this is dropped, and then ends.
pub struct Callers<J>(Arc<Shared<J>>);

/// The writer's end. Once it is dropped nobody waits in vain.
pub struct Jobs<J>(Arc<Shared<J>>);

/// An empty queue.
pub fn queue<J>() -> (Callers<J>, Jobs<J>) {
    let state = State { jobs: Vec::new(), round: Arc::default(), idle: false, ended: false, dead: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new() });
    (Callers(shared.clone()), Jobs(shared))
}

impl<J> Callers<J> {
    /// Asks and waits for the answer; `None` if whoever was to give it is gone.
    pub fn ask<T>(&self, job: impl FnOnce(To<T>) -> J) -> Option<T> {
        let slot = Arc::new(Mutex::new(Said::Nothing));
        let job = job(To(slot.clone()));
        let round = {
            let mut state = locked(&self.0.state);
            if state.dead {
                return None;
            }
            state.jobs.push(job);
            let round = state.round.clone();
            let idle = std::mem::take(&mut state.idle);
            drop(state);
            if idle {
                self.0.filled.notify_one();
            }
            round
        };
        let mut turn = locked(&round.turn);
        loop {
            match std::mem::replace(&mut *locked(&slot), Said::Nothing) {
                Said::Answer(value) => return Some(value),
                Said::Over => return None,
                Said::Nothing => {}
            }
            turn = round.woken.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<J> Drop for Callers<J> {
    fn drop(&mut self) {
        locked(&self.0.state).ended = true;
        self.0.filled.notify_one();
    }
}

/// What was taken from the queue.
pub struct Taken<J> {
    /// In the order in which it was asked.
    pub jobs: Vec<J>,
    wake: Wake,
}

/// Wakes a round, also where the writer ends without having answered it.
pub struct Wake(Arc<Round>);

impl Wake {
    /// Those who have an answer hear it.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.wake();
    }
}

impl<J> Taken<J> {
    /// The jobs, and what wakes who asked. It must be dropped after them.
    pub fn split(self) -> (Wake, Vec<J>) {
        (self.wake, self.jobs)
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nothing {
    /// Nobody asked in that time.
    Yet,
    /// Nobody will ask again.
    Ever,
}

impl<J> Jobs<J> {
    /// All that stands in the queue, once something does, or after `within` nothing. `more` is asked with how many jobs
    /// there are, and is true while others are to be waited for.
    ///
    /// # Errors
    /// [`Nothing`].
    pub fn take(
        &self,
        within: Option<Duration>,
        mut more: impl FnMut(usize) -> bool,
    ) -> Result<Taken<J>, Nothing> {
        let mut state = locked(&self.0.state);
        if state.jobs.is_empty() {
            state.idle = true;
            let nothing = |state: &mut State<J>| state.jobs.is_empty() && !state.ended;
            state = match within {
                None => self.0.filled.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner),
                Some(within) => {
                    let waited = self.0.filled.wait_timeout_while(state, within, nothing);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.idle = false;
        }
        if state.jobs.is_empty() {
            return Err(if state.ended { Nothing::Ever } else { Nothing::Yet });
        }
        while more(state.jobs.len()) {
            drop(state);
            std::thread::yield_now();
            state = locked(&self.0.state);
        }
        let room = state.jobs.len();
        let jobs = std::mem::replace(&mut state.jobs, Vec::with_capacity(room));
        Ok(Taken { jobs, wake: Wake(std::mem::take(&mut state.round)) })
    }
}

impl<J> Drop for Jobs<J> {
    fn drop(&mut self) {
        let (jobs, round) = {
            let mut state = locked(&self.0.state);
            state.dead = true;
            (std::mem::take(&mut state.jobs), state.round.clone())
        };
        drop(jobs);
        round.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = (u32, To<u32>);

    fn answering(
        jobs: Jobs<Asked>,
        answer: impl Fn(u32) -> Option<u32> + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            while let Ok(taken) = jobs.take(None, |_| false) {
                let (wake, asked) = taken.split();
                for (what, to) in asked {
                    match answer(what) {
                        Some(value) => to.say(value),
                        None => drop(to),
                    }
                    wake.wake();
                }
            }
        })
    }

    #[test]
    fn each_of_many_callers_hears_its_own_answer() {
        let (callers, jobs) = queue::<Asked>();
        let writer = answering(jobs, |n| (n % 7 != 0).then_some(n * 2));
        std::thread::scope(|scope| {
            for caller in 0..16_u32 {
                let callers = &callers;
                scope.spawn(move || {
                    for n in (0..500).map(|n| caller * 1000 + n) {
                        assert_eq!(callers.ask(|to| (n, to)), (n % 7 != 0).then_some(n * 2));
                    }
                });
            }
        });
        drop(callers);
        writer.join().expect("ends");
    }

    #[test]
    fn nobody_waits_for_a_writer_that_is_gone() {
        let (callers, jobs) = queue::<Asked>();
        let waiting = std::thread::scope(|scope| {
            let asked = scope.spawn(|| callers.ask(|to| (1, to)));
            while locked(&jobs.0.state).jobs.is_empty() {
                std::thread::yield_now();
            }
            drop(jobs);
            asked.join().expect("is told")
        });
        assert_eq!(waiting, None, "who stood in the queue");
        assert_eq!(callers.ask(|to| (2, to)), None, "who comes later");
        // One that panics in the middle of its work.
        let (callers, jobs) = queue::<Asked>();
        let writer = std::thread::spawn(move || {
            let Ok(taken) = jobs.take(None, |_| false) else { return };
            let (_wake, _asked) = taken.split();
            panic!("planted");
        });
        assert_eq!(callers.ask(|to| (3, to)), None);
        assert!(writer.join().is_err());
    }

    #[test]
    fn what_was_asked_before_the_end_is_answered_and_waiting_ends() {
        let (callers, jobs) = queue::<Asked>();
        assert_eq!(jobs.take(Some(Duration::from_millis(5)), |_| false).err(), Some(Nothing::Yet));
        let asked = std::thread::spawn(move || callers.ask(|to| (4, to)));
        let mut looks = 0;
        let taken = jobs.take(None, |_| {
            looks += 1;
            looks < 3
        });
        let Ok(taken) = taken else { panic!("asked") };
        let (wake, mut all) = taken.split();
        assert_eq!(looks, 3);
        all.remove(0).1.say(5);
        drop(wake);
        assert_eq!(asked.join().expect("ends"), Some(5));
        assert_eq!(jobs.take(None, |_| false).err(), Some(Nothing::Ever));
    }
}
