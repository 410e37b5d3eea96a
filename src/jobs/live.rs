//! How far a running job is, and whether it should stop: shared between the thread that works and those who ask.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Progress, Stage, Unit};

/// The progress of one job.
pub struct Live {
    stage: Mutex<Option<Stage>>,
    done: AtomicU64,
    cancelled: AtomicBool,
    stopping: Arc<AtomicBool>,
}

impl Live {
    /// A job that has not begun. `stopping` stops it together with all others.
    pub fn new(stopping: Arc<AtomicBool>) -> Self {
        Self { stage: Mutex::default(), done: AtomicU64::new(0), cancelled: AtomicBool::new(false), stopping }
    }

    /// The present stage.
    pub fn stage(&self) -> Option<Stage> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        stage.done = self.done.load(Ordering::Relaxed);
        Some(stage)
    }

    /// Asks it to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

impl Progress for Live {
    fn stage(&self, name: &'static str, total: Option<u64>, unit: Unit) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        self.done.store(0, Ordering::Relaxed);
        *stage = Some(Stage { stage: name.into(), done: 0, total, unit });
    }

    fn advance(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.stopping.load(Ordering::Acquire)
    }
}
