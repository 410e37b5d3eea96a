//! A small server with routes of its own and nothing of an open data folder: what a witness and a mirror serve with.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};

use super::ServeError;
use super::server::stop_on_signal;
use crate::config::Http;
use crate::tls;

/// It serves in a thread of its own. Dropping it stops it.
pub struct SmallServing {
    /// `http://` or `https://` and the address.
    pub url: String,
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl SmallServing {
    /// Waits until it has ended by a signal.
    ///
    /// # Errors
    /// If it failed.
    pub fn wait(mut self) -> Result<(), ServeError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), ServeError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => Ok(result?),
            Some(Err(_)) => Err(ServeError::Io(io::Error::other("the serving thread panicked"))),
            None => Ok(()),
        }
    }
}

impl Drop for SmallServing {
    fn drop(&mut self) {
        if self.thread.is_some() {
            drop(self.handle.stop(true));
            if let Err(error) = self.join() {
                tracing::error!("{error}");
            }
        }
    }
}

/// Serves `routes` where `http` says, until it is dropped, or a signal comes where `signals`.
///
/// # Errors
/// [`ServeError`] if it cannot start.
pub fn serve(
    routes: impl Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
    http: &Http,
    signals: bool,
) -> Result<SmallServing, ServeError> {
    let tls = tls::identity(http)?;
    let listener =
        TcpListener::bind(http.listen).map_err(|cause| ServeError::Bind { address: http.listen, cause })?;
    let address: SocketAddr = listener.local_addr()?;
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let (told, hear) = mpsc::channel();
    let http = http.clone();
    let run = move || actix_web::rt::System::new().block_on(run(routes, listener, tls, http, signals, told));
    let thread = thread::Builder::new().name("serve".into()).spawn(run)?;
    match hear.recv() {
        Ok(handle) => Ok(SmallServing { url, handle, thread: Some(thread) }),
        Err(_) => match thread.join() {
            Ok(Err(cause)) => Err(ServeError::Io(cause)),
            _ => Err(ServeError::Io(io::Error::other("the server did not start"))),
        },
    }
}

async fn run(
    routes: impl Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
    http: Http,
    signals: bool,
    told: mpsc::Sender<ServerHandle>,
) -> io::Result<()> {
    let server = HttpServer::new(move || App::new().configure(&routes))
        .workers(if http.workers > 0 { http.workers } else { 2 })
        .client_request_timeout(Duration::from_secs(http.request_timeout_seconds))
        .shutdown_timeout(http.shutdown_seconds)
        .max_connections(http.connections_max)
        .disable_signals();
    let server = match tls {
        Some(identity) => server.listen_rustls_0_23(listener, identity)?,
        None => server.listen(listener)?,
    };
    let server = server.run();
    let stopper = actix_web::rt::spawn(stop_on_signal(server.handle(), signals));
    // Whoever waits for the handle may have gone; it serves all the same.
    let _ = told.send(server.handle());
    let result = server.await;
    stopper.abort();
    result
}
