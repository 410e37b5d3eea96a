//! The flags by which a command that serves is told how it is reached.

use std::path::PathBuf;

use clap::Args;

use crate::config::Http;

/// TLS.
#[derive(Debug, Args)]
pub struct TlsArgs {
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

impl TlsArgs {
    /// These flags over the configuration.
    pub fn over(self, http: &mut Http) {
        http.behind_proxy |= self.behind_proxy;
        http.tls_cert = self.tls_cert.or(http.tls_cert.take());
        http.tls_key = self.tls_key.or(http.tls_key.take());
    }
}
