//! What one sees: one line for each step, with a bar while it runs where standard error is a terminal, plain lines
//! otherwise, and the story at the end.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Output;

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
        Self { output, terminal: !output.json() && std::io::stderr().is_terminal() }
    }

    /// Begins a step. `total` is how many units it has, if it has many.
    #[expect(clippy::disallowed_methods, reason = "how long a step takes is shown")]
    pub fn step(&self, title: &'static str, total: Option<u64>) -> Step<'_> {
        let bar = self.terminal.then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = match total {
                Some(_) => "  {spinner:.cyan} {msg:<28} {bar:24.cyan/dim} {percent:>3}%",
                None => "  {spinner:.cyan} {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸ "));
            }
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
        self.screen.output.note(&format!("  {tick} {:<28} {seconds:>5.1} s  {result}", self.title));
    }
}
