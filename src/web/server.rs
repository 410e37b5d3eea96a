//! The server: binds the address and the data folder's socket, puts the layers around the router, and stops gracefully.
//!
//! Another address than loopback needs TLS or `behind_proxy` ([`crate::config::Config::check`]). On SIGTERM or SIGINT, or
//! when asked, it takes no new connections, ends event streams, lets requests finish for `http.shutdown_seconds`, tells
//! jobs to stop at their next safe place, removes the socket, and closes the databases.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::{ResourceDef, ServerHandle};
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, HttpServer, web};
use utoipa_actix_web::service_config::ServiceConfig;

use super::answer::Turns;
use super::auth::LocalPeer;
use super::error::Problem;
use super::idempotency::{self, InProgress};
use super::metrics::Metrics;
use super::{extract, openapi, router, trace, ui};
use crate::app::App;
use crate::config::ConfigError;
use crate::error::ErrorKind;
use crate::flows::access::AccessError;
use crate::flows::cosign::CosignError;
use crate::flows::{DataError, download, erase};
use crate::tls::{self, TlsError};

/// How often what has run out is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(600);

/// How long after a look at erasures that a step failed of the next one follows: at first, and after more failures.
const ERASING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How long to wait, once the server has stopped, for its threads to let go of the data folder, and how often to look.
const CLOSING: Duration = Duration::from_secs(10);
const CLOSING_STEP: Duration = Duration::from_millis(10);

/// Why the server did not start or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The TLS identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The policy of witnesses.
    #[error(transparent)]
    Witnesses(#[from] CosignError),
    /// Anything else.
    #[error("the server failed: {0}")]
    Io(#[from] io::Error),
}

impl ServeError {
    /// What kind of no.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Tls(_) | Self::Bind { .. } | Self::Witnesses(_) => ErrorKind::Invalid,
            Self::Io(_) => ErrorKind::Fault,
        }
    }
}

/// A server in a thread of its own. Dropping it stops the server.
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    /// `http://` or `https://` and the address.
    pub url: String,
    app: Weak<App>,
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Serving {
    /// Waits until the server has ended by itself or by a signal.
    ///
    /// # Errors
    /// If it failed.
    pub fn wait(mut self) -> Result<(), ServeError> {
        self.join()
    }

    /// Stops it gracefully.
    ///
    /// # Errors
    /// If it failed.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.tell();
        self.join()
    }

    fn tell(&self) {
        // Event streams end when jobs are told to stop; else they would hold the server for the whole of its grace.
        if let Some(app) = self.app.upgrade() {
            app.jobs.stop();
        }
        // The message is sent when `stop` is called; the future only waits for the answer, which `join` does.
        drop(self.handle.stop(true));
    }

    fn join(&mut self) -> Result<(), ServeError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => Ok(result?),
            Some(Err(_)) => Err(ServeError::Io(io::Error::other("the serving thread panicked"))),
            None => Ok(()),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.tell();
            if let Err(error) = self.join() {
                tracing::error!("{error}");
            }
        }
    }
}

/// Serves until a signal comes.
///
/// # Errors
/// [`ServeError`] if it cannot start or failed.
pub fn serve(app: Arc<App>, ready: impl FnOnce(&Serving)) -> Result<(), ServeError> {
    let serving = start(Arc::clone(&app), true)?;
    ready(&serving);
    serving.wait()?;
    close(app);
    Ok(())
}

/// Closes the data folder, which folds what stands beside the databases into them. The threads that served let go of it when
/// they end, a moment after the server has stopped.
fn close(mut app: Arc<App>) {
    for _ in 0..CLOSING.as_millis() / CLOSING_STEP.as_millis() {
        match Arc::try_unwrap(app) {
            Ok(app) => return drop(app),
            Err(shared) => app = shared,
        }
        thread::sleep(CLOSING_STEP);
    }
    tracing::warn!(
        "something still uses the data folder; its databases are closed by the end of the process"
    );
}

/// Serves in a thread of its own until the result is dropped; signals are left to the caller.
///
/// # Errors
/// [`ServeError`] if it cannot start.
pub fn spawn(app: Arc<App>) -> Result<Serving, ServeError> {
    start(app, false)
}

fn start(app: Arc<App>, signals: bool) -> Result<Serving, ServeError> {
    app.config.check()?;
    let tls = tls::identity(&app.config.http)?;
    if let Some(doubt) = tls::doubt(&app.config.http, app.clock.now())? {
        tracing::warn!("{doubt}");
    }
    let listen = app.config.http.listen;
    let listener = TcpListener::bind(listen).map_err(|cause| ServeError::Bind { address: listen, cause })?;
    let address = listener.local_addr()?;
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    app.start_cosigning()?;
    let weak = Arc::downgrade(&app);
    let (told, hear) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("serve".into())
        .spawn(move || actix_web::rt::System::new().block_on(run(app, listener, tls, signals, told)))?;
    match hear.recv() {
        Ok(handle) => Ok(Serving { address, url, app: weak, handle, thread: Some(thread) }),
        Err(_) => match thread.join() {
            Ok(Err(cause)) => Err(ServeError::Io(cause)),
            _ => Err(ServeError::Io(io::Error::other("the server did not start"))),
        },
    }
}

async fn run(
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
    signals: bool,
    told: mpsc::Sender<ServerHandle>,
) -> io::Result<()> {
    let http = app.config.http.clone();
    let shared = Shared::new(Arc::clone(&app));
    let mut server = HttpServer::new(move || {
        actix_web::App::new()
            .wrap(from_fn(idempotency::replay))
            .wrap(from_fn(trace::request))
            .configure(|config| shared.configure(config))
    })
    .on_connect(|connection, data| {
        if connection.is::<actix_web::rt::net::UnixStream>() {
            data.insert(LocalPeer);
        }
    })
    .client_request_timeout(Duration::from_secs(http.request_timeout_seconds))
    .shutdown_timeout(http.shutdown_seconds)
    .max_connections(http.connections_max)
    .disable_signals();
    if http.workers > 0 {
        server = server.workers(http.workers);
    }
    server = match tls {
        Some(identity) => server.listen_rustls_0_23(listener, identity)?,
        None => server.listen(listener)?,
    };
    if let Some(socket) = local_socket(&app)? {
        server = server.listen_uds(socket)?;
    }
    let server = server.run();
    let handle = server.handle();
    let stopper = actix_web::rt::spawn(watch(Arc::clone(&app), handle.clone(), signals));
    let keeper = actix_web::rt::spawn(keep_house(web::Data::from(Arc::clone(&app))));
    let eraser = actix_web::rt::spawn(keep_erasing(web::Data::from(Arc::clone(&app))));
    // Whoever waits for the handle may have gone; the server serves all the same.
    let _ = told.send(handle);
    let result = server.await;
    stopper.abort();
    keeper.abort();
    eraser.abort();
    app.jobs.stop();
    let _ = std::fs::remove_file(app.folder.socket());
    result
}

/// The socket for commands on this machine. A path longer than the system allows leaves the server without one.
fn local_socket(app: &App) -> io::Result<Option<UnixListener>> {
    let path = app.folder.socket();
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    match UnixListener::bind(&path) {
        Ok(socket) => {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(Some(socket))
        }
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            tracing::warn!(
                "the data folder's path is too long for a Unix socket; commands cannot reach this server"
            );
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Stops the server on a signal. Event streams look at `jobs.stopping` and end.
async fn watch(app: Arc<App>, handle: ServerHandle, signals: bool) {
    signal_to_stop(signals).await;
    app.jobs.stop();
    handle.stop(true).await;
}

/// Stops a server on a signal, where signals are listened to.
pub(super) async fn stop_on_signal(handle: ServerHandle, signals: bool) {
    signal_to_stop(signals).await;
    handle.stop(true).await;
}

async fn signal_to_stop(signals: bool) {
    if !signals {
        return std::future::pending().await;
    }
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be heard; stop the process by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
}

async fn keep_house(app: web::Data<App>) {
    loop {
        let app = app.clone();
        let tidied = web::block(move || {
            idempotency::tidy(&app).map_err(|e| e.to_string())?;
            app.with_data(download::tidy).map_err(|e| e.to_string())?;
            app.uploads().tidy(|job| app.unfinished(job)).map_err(|e| e.to_string())
        });
        if let Ok(Err(error)) = tidied.await {
            tracing::error!("what has run out could not be forgotten: {error}");
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}

/// Goes on with erasures of which a step failed, once the disk takes entries.
async fn keep_erasing(app: web::Data<App>) {
    let mut wait = ERASING.0;
    loop {
        tokio::time::sleep(wait).await;
        let app = app.clone();
        let gone_on = web::block(move || {
            let nothing = app.store.accepting().is_err() || erase::open(&*app.store)? == 0;
            if nothing { Ok(0) } else { app.with_erase(erase::go_on) }
        });
        wait = match gone_on.await {
            // What runs now ends first, be it an erasure's own job.
            Ok(Err(DataError::Access(AccessError::Conflict(_)))) => ERASING.0,
            Ok(Err(error)) => {
                tracing::error!(%error, "an erasure could not be finished; it is tried again");
                wait.saturating_mul(2).min(ERASING.1)
            }
            Ok(Ok(0)) | Err(_) => ERASING.0,
            Ok(Ok(finished)) => {
                tracing::info!(finished, "erasures that had been cut short are finished");
                ERASING.0
            }
        };
    }
}

/// What every worker shares.
#[derive(Clone)]
struct Shared {
    app: web::Data<App>,
    metrics: web::Data<Metrics>,
    in_progress: web::Data<InProgress>,
    document: Arc<utoipa::openapi::OpenApi>,
    operations: web::Data<Operations>,
    turns: web::Data<Turns>,
}

impl Shared {
    fn new(app: Arc<App>) -> Self {
        let document = Arc::new(openapi::document());
        Self {
            turns: web::Data::new(Turns::new(app.config.jobs.at_once)),
            app: web::Data::from(app),
            metrics: web::Data::new(Metrics::new()),
            in_progress: web::Data::new(InProgress::default()),
            operations: web::Data::new(Operations::of(&document)),
            document,
        }
    }

    fn configure(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(self.app.clone())
            .app_data(self.metrics.clone())
            .app_data(self.in_progress.clone())
            .app_data(self.operations.clone())
            .app_data(self.turns.clone())
            .app_data(extract::path())
            .app_data(extract::query())
            .app_data(web::PayloadConfig::new(self.app.config.http.body_bytes_max));
        ui::routes(config, &self.document);
        router::routes(&mut ServiceConfig::new(config));
        config.default_service(web::to(nowhere));
    }
}

/// The operations by path, to tell "no such thing" from "not this way".
struct Operations(Vec<(ResourceDef, Vec<Method>)>);

impl Operations {
    fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let table = document.paths.paths.iter().map(|(path, item)| {
            let methods = [
                (item.get.is_some(), Method::GET),
                (item.put.is_some(), Method::PUT),
                (item.post.is_some(), Method::POST),
                (item.delete.is_some(), Method::DELETE),
                (item.patch.is_some(), Method::PATCH),
            ];
            (
                ResourceDef::new(path.as_str()),
                methods.into_iter().filter(|(is, _)| *is).map(|(_, m)| m).collect(),
            )
        });
        Self(table.collect())
    }
}

/// Whatever the router does not have: 405 where another method would do, else 404.
async fn nowhere(request: HttpRequest, operations: web::Data<Operations>) -> HttpResponse {
    let found = operations.0.iter().find(|(path, _)| path.is_match(request.path()));
    let Some((_, methods)) = found else { return Problem::not_found().response() };
    let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let mut response = Problem::invalid(format!("Here there is only {allowed}.")).with_status(405).response();
    if let Ok(value) = actix_web::http::header::HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(actix_web::http::header::ALLOW, value);
    }
    response
}
