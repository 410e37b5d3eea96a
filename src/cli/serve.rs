//! `almoner serve`: serves the HTTP interface.

use clap::Args;
use std::path::PathBuf;

use super::{CliError, Globals};
use crate::error::ErrorKind;

/// Arguments.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port [default: http.listen of the configuration]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// TLS ends at a proxy in front of this server
    #[arg(long)]
    pub behind_proxy: bool,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// Serves until told to stop.
///
/// # Errors
/// Always, until the flow behind it is wired.
pub fn run(_args: ServeArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::failed(ErrorKind::Fault, "this build does not have this command yet"))
}
