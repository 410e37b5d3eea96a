//! What a command says: results on standard output (text or one JSON object), progress and errors on standard error. With
//! `--json` an error is also the one JSON object on standard output, where the command has not yet said a result there.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::CliError;
use crate::jobs::{Progress, Unit};

/// Where results and progress go.
#[derive(Clone, Debug)]
pub struct Output {
    json: bool,
    /// Whether a result is on standard output.
    told: Arc<AtomicBool>,
}

impl Output {
    /// JSON for machines, or text for people. `told` is shared by all that write for one command.
    pub const fn new(json: bool, told: Arc<AtomicBool>) -> Self {
        Self { json, told }
    }

    /// The same place, for what is JSON whether asked for or not.
    pub fn document(&self, value: &serde_json::Value) -> Result<(), CliError> {
        self.line(&format!("{value:#}"))
    }

    /// Whether results are JSON.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Says the result: `value` as one JSON object, or the text that `human` makes.
    ///
    /// # Errors
    /// If standard output cannot be written. That nobody reads it (`| head`) is no error of the command's.
    pub fn result<T: Serialize>(&self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        if self.json {
            self.line(&serde_json::to_string(value).map_err(io::Error::other)?)
        } else {
            self.line(human(value).trim_end())
        }
    }

    fn line(&self, text: &str) -> Result<(), CliError> {
        self.told.store(true, Ordering::Relaxed);
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// A line for people while work goes on; nothing with `--json`.
    pub fn note(&self, line: &str) {
        if !self.json {
            // A closed standard error must not stop the work.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Says why a command failed: a sentence on standard error, and with `--json` an object on standard output too.
    pub fn failure(&self, error: &CliError) {
        // There is nowhere left to say that standard output or error is closed.
        let _ = writeln!(io::stderr(), "almoner: {error}");
        if self.json && !self.told.load(Ordering::Relaxed) {
            let _ = self.line(&error.object().to_string());
        }
    }

    /// A progress bar where standard error is a terminal, else only what the work waits for.
    pub fn progress(&self) -> Box<dyn Progress> {
        if !self.json && io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Waits) }
    }
}

/// Says only, on standard error, that the work waits and why.
struct Waits;

impl Progress for Waits {
    fn stage(&self, _: &'static str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn waiting(&self, why: &str) {
        // A closed standard error must not stop the work.
        let _ = writeln!(io::stderr(), "{why}");
    }
}

/// One bar for the present stage; stages before stand above it.
#[derive(Default)]
pub struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn stage(&self, name: &'static str, total: Option<u64>, unit: Unit) {
        self.with(|bar| {
            if let Some(before) = bar.take() {
                before.finish();
            }
            let next = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let (done, speed) = match unit {
                Unit::Bytes => ("{bytes}", "{bytes_per_sec}"),
                _ => ("{human_pos}", "{per_sec}"),
            };
            let template = if total.is_some() {
                format!("{{prefix:>12}} {{bar:30}} {{percent:>3}}% {done} {speed}")
            } else {
                format!("{{prefix:>12}} {{spinner}} {done} {speed}")
            };
            if let Ok(style) = ProgressStyle::with_template(&template) {
                next.set_style(style);
            }
            next.set_prefix(name);
            next.enable_steady_tick(Duration::from_millis(120));
            *bar = Some(next);
        });
    }

    fn advance(&self, n: u64) {
        self.with(|bar| {
            if let Some(bar) = bar {
                bar.inc(n);
            }
        });
    }

    fn waiting(&self, why: &str) {
        self.with(|bar| match bar {
            Some(bar) => bar.println(why),
            None => drop(writeln!(io::stderr(), "{why}")),
        });
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish();
            }
        });
    }
}
