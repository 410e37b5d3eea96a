//! What one sees: one line for each step, with a bar while it runs where standard error is a terminal, plain lines
//! otherwise, and the story at the end.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Output;
use crate::jobs::{Progress, Unit};

/// The screen.
pub struct Screen {
    output: Output,
    terminal: bool,
}

/// A step that is being shown.
pub struct Step<'s> {
    screen: &'s Screen,
    title: &'static str,
    bar: Option<ProgressBar>,
    since: Instant,
}

impl Screen {
    /// Lines go where `output` says.
    pub fn new(output: Output) -> Self {
        let terminal = !output.json() && std::io::stderr().is_terminal();
        Self { output, terminal }
    }

    /// Begins a step. `total` is how many units it has, if it has many.
    #[expect(clippy::disallowed_methods, reason = "how long a step takes is shown")]
    pub fn step(&self, title: &'static str, total: Option<u64>) -> Step<'_> {
        let bar = self.terminal.then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.set_style(style(total.is_some()));
            bar.set_message(title);
            bar.enable_steady_tick(Duration::from_millis(90));
            bar
        });
        Step { screen: self, title, bar, since: Instant::now() }
    }

    /// A line between steps.
    pub fn say(&self, line: &str) {
        self.output.note(line);
    }
}

impl Step<'_> {
    /// `n` more units are done.
    pub fn advance(&self, n: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(n);
        }
    }

    /// The step is done; `result` says in a few words what came of it.
    #[expect(clippy::disallowed_methods, reason = "how long a step takes is shown")]
    pub fn done(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = Instant::now().duration_since(self.since).as_secs_f32();
        let tick = if self.screen.terminal { "\u{1b}[32m✓\u{1b}[0m" } else { "done" };
        self.screen.output.note(&format!("  {tick} {:<30} {seconds:>5.1} s  {result}", self.title));
    }
}

impl Progress for Step<'_> {
    fn stage(&self, name: &'static str, total: Option<u64>, _: Unit) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {name}", self.title));
            bar.set_position(0);
            match total {
                Some(total) => {
                    bar.set_length(total);
                    bar.set_style(style(true));
                }
                None => bar.set_style(style(false)),
            }
        }
    }

    fn advance(&self, n: u64) {
        Self::advance(self, n);
    }
}

fn style(counted: bool) -> ProgressStyle {
    let template = match counted {
        true => "  {spinner:.cyan} {msg:<34} {bar:24.cyan/dim} {percent:>3}%",
        false => "  {spinner:.cyan} {msg}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.progress_chars("━╸ ")
}
