//! `almoner serve`: serves the HTTP interface.

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::tls::TlsArgs;
use super::{CliError, Globals};
use crate::app::App;
use crate::config::{Config, Log, LogFormat};
use crate::error::ErrorKind;
use crate::system::{SystemClock, SystemEntropy};
use crate::web::ServeError;

/// Arguments.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// IP address and port [default: http.listen of the configuration]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// How it is reached.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl ServeArgs {
    /// These flags over the configuration.
    fn over(self, mut config: Config) -> Config {
        let http = &mut config.http;
        http.listen = self.listen.unwrap_or(http.listen);
        self.tls.over(http);
        config
    }
}

impl From<ServeError> for CliError {
    fn from(e: ServeError) -> Self {
        Self::failed(e.kind(), e)
    }
}

/// Serves until told to stop. The data folder must exist, so that a misspelt path does not start an empty server.
///
/// # Errors
/// If the folder cannot be opened, the address cannot be used, or the server fails.
pub fn run(args: ServeArgs, globals: &Globals) -> Result<(), CliError> {
    let config = args.over(globals.config()?);
    config.check()?;
    start_log(&config.log)?;
    let output = globals.output();
    let app = App::open(globals.folder(), config, Arc::new(SystemClock), Arc::new(SystemEntropy))?;
    let data = app.folder.root().to_owned();
    let mut said = Ok(());
    crate::web::serve(Arc::new(app), |serving| {
        let value = json!({"url": serving.url, "data": data});
        said = output.result(&value, |_| {
            format!(
                "Serving {} at {url}\n  documentation {url}/docs/\n  ledger        {url}/ledger/checkpoint",
                data.display(),
                url = serving.url
            )
        });
    })?;
    said
}

/// Log lines go to standard error.
///
/// # Errors
/// If the filter is not one.
pub fn start_log(log: &Log) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|_| {
        CliError::Usage("log.level is not a filter; `info` or `warn,almoner=debug` are".into())
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let started = match log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| CliError::failed(ErrorKind::Fault, e))
}
