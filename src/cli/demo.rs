//! `almoner demo`: the whole line on two synthetic hospitals.

use clap::Args;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End when the story is told instead of staying up
    #[arg(long)]
    pub exit: bool,
    /// Patients in each hospital
    #[arg(long, default_value_t = 400)]
    pub patients: u32,
    /// Seed of the synthetic data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Address and port to stay up on
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
}

/// Runs the demonstration.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: DemoArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
