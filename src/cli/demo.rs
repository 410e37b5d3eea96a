//! `almoner demo`: the whole line on two synthetic hospitals.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use clap::Args;

use super::{CliError, DEFAULT_DATA, Globals};
use crate::demo::{self, DemoError, Options, Story};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End when the story is told instead of staying up
    #[arg(long)]
    pub exit: bool,
    /// People in the synthetic population
    #[arg(long, default_value_t = 1200, value_name = "N")]
    pub patients: u64,
    /// Seed of the synthetic data
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Address and port to serve on [default: a free port of this machine]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
}

/// Runs the demonstration in a new data folder: the one named by `--data` (else `./almoner-demo`), or the next free name
/// after it.
///
/// # Errors
/// At the first thing that does not work.
#[expect(clippy::disallowed_methods, reason = "how long the demonstration takes is shown")]
pub fn run(args: DemoArgs, globals: &Globals) -> Result<(), CliError> {
    let output = globals.output();
    // Real data is never taken in beside invented patients: the default folder is not the demonstration's.
    let data =
        if globals.data == Path::new(DEFAULT_DATA) { "./almoner-demo".into() } else { globals.data.clone() };
    let options = Options { data, patients: args.patients, seed: args.seed, listen: args.listen };
    let since = Instant::now();
    let (mut story, serving) = demo::run(&options, output.clone()).map_err(failed)?;
    story.seconds = (since.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    output.result(&story, if args.exit { Story::told } else { Story::told_with_addresses })?;
    if args.exit {
        return Ok(serving.stop()?);
    }
    output.note("Serving until interrupted (Ctrl-C).");
    std::io::stderr().flush()?;
    Ok(serving.wait()?)
}

fn failed(error: DemoError) -> CliError {
    let kind = match &error {
        DemoError::Open(cause) => cause.kind(),
        DemoError::Serve(cause) => cause.kind(),
        DemoError::Refused { .. } => ErrorKind::Refused,
        _ => ErrorKind::Fault,
    };
    CliError::failed(kind, error)
}
