//! `almoner mirror`: keeps a verified copy of somebody else's ledger.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use almoner_ledger::VerifierKey;
use almoner_ledger::policy::Policy;
use almoner_ledger::source::{Source, at_trusting};
use clap::Args;
use crossbeam_channel::RecvTimeoutError;
use serde_json::json;

use super::serve::start_log;
use super::tls::TlsArgs;
use super::{CliError, Globals, read_named, read_named_text};
use crate::config::Config;
use crate::error::ErrorKind;
use crate::flows::mirror::{Mirror, MirrorError, Synced};
use crate::web::mirror::{Served, serve};

/// Arguments.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// The folder of the copy; made where there is none
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The log, e.g. `https://almoner.example.org/ledger`, or a folder from `almoner ledger export`
    #[arg(long, value_name = "URL|DIR")]
    pub log: String,
    /// The log's verifier key line, or a file that holds it; needed the first time
    #[arg(long, value_name = "KEY|FILE")]
    pub vkey: Option<String>,
    /// Take only what has the quorum of this policy (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The authority of the log's certificate where it is one of your own, PEM; trusted instead of the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Go on looking, and serve the copy at this IP address and port
    #[arg(long, value_name = "ADDR")]
    pub serve: Option<std::net::SocketAddr>,
    /// How often to look while serving, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// How it is reached.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl From<MirrorError> for CliError {
    fn from(e: MirrorError) -> Self {
        Self::failed(e.kind(), e)
    }
}

/// Copies what is new, once; or, with `--serve`, until it is told to stop.
///
/// # Errors
/// If the log forked, does not fit its checkpoint or cannot be reached, or the copy cannot be written.
pub fn run(args: MirrorArgs, globals: &Globals) -> Result<(), CliError> {
    let invalid = |e: String| CliError::failed(ErrorKind::Invalid, e);
    let key = match &args.vkey {
        None => None,
        Some(given) => Some(match VerifierKey::parse(given) {
            Ok(key) => key,
            Err(_) => {
                let text = read_named_text(std::path::Path::new(given))?;
                VerifierKey::parse(&text).map_err(|e| invalid(format!("{given}: {e}")))?
            }
        }),
    };
    let policy = match &args.policy {
        None => None,
        Some(file) => {
            Some(Policy::parse(&read_named(file)?).map_err(|e| invalid(format!("{}: {e}", file.display())))?)
        }
    };
    let mirror = Mirror::open(&args.dir, key)?;
    let authorities = args.ca.as_deref().map(read_named).transpose()?;
    let source = at_trusting(&args.log, authorities.as_deref()).map_err(invalid)?;
    match args.serve {
        None => {
            let done = mirror.sync(&*source, policy.as_ref())?;
            globals.output().result(&done, told)
        }
        Some(_) => keep(args, globals, mirror, &*source, policy.as_ref()),
    }
}

fn told(done: &Synced) -> String {
    let mut text =
        format!("{} entries of {} in the copy, {} of them new", done.entries, done.origin, done.new);
    if done.shown < done.entries {
        text += &format!("; the log shows an older view of it, with {} entries", done.shown);
    }
    if done.forks > 0 {
        text +=
            &format!("; THE LOG SIGNED TWO HISTORIES: {} proofs are in `evidence` of the copy", done.forks);
    }
    text
}

fn keep(
    args: MirrorArgs,
    globals: &Globals,
    mirror: Mirror,
    source: &dyn Source,
    policy: Option<&Policy>,
) -> Result<(), CliError> {
    let mut config = Config::load(globals.config.as_deref())?;
    config.http.listen = args.serve.unwrap_or(config.http.listen);
    args.tls.over(&mut config.http);
    config.check()?;
    start_log(&config.log)?;
    let served = Arc::new(Served { mirror, last: Mutex::new(json!({"problem": "not looked yet"})) });
    let serving = serve(Arc::clone(&served), &config.http, true)?;
    let url = serving.url.clone();
    globals.output().result(&json!({"url": url, "copy": args.dir, "log": args.log}), |_| {
        format!("Mirror of {} at {url}\n  copy  {}", args.log, args.dir.display())
    })?;
    let every = Duration::from_secs(args.every);
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                look(&served, source, policy);
                if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        let ended = serving.wait();
        drop(stop);
        Ok(ended?)
    })
}

fn look(served: &Served, source: &dyn Source, policy: Option<&Policy>) {
    let last = match served.mirror.sync(source, policy) {
        Ok(done) => {
            if done.shown < done.entries || done.forks > 0 {
                tracing::warn!("{}", told(&done));
            } else if done.new > 0 {
                tracing::info!("{}", told(&done));
            }
            let mut last = json!(done);
            if done.forks > 0 {
                // It stays wrong whatever the log shows now.
                last["problem"] =
                    json!("the log signed two histories; the proofs are in `evidence` of the copy");
            }
            last
        }
        Err(error @ MirrorError::Forked { .. }) => {
            tracing::error!("{error}");
            json!({"problem": error.to_string()})
        }
        Err(error) => {
            tracing::warn!("{error}");
            json!({"problem": error.to_string()})
        }
    };
    *served.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
}
