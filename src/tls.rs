//! The server's TLS identity: a certificate chain and a private key from PEM files; and what is wrong with a certificate, in
//! the words of whoever has to mend it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use almoner_model::Timestamp;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::config::Http;

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{} holds no PEM {what}", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// They do not fit together.
    #[error("the certificate and the key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The identity that the configuration names, for TLS 1.2 and 1.3; `None` where it names none.
///
/// # Errors
/// [`TlsError`] if a file cannot be read or the two do not fit.
pub fn identity(http: &Http) -> Result<Option<ServerConfig>, TlsError> {
    let (Some(cert), Some(key)) = (&http.tls_cert, &http.tls_key) else { return Ok(None) };
    let chain = chain(cert)?;
    let secret = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(read(key)?))
        .map_err(|_| TlsError::Empty { path: key.clone(), what: "private key" })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    Ok(Some(config))
}

/// What clients will say against the certificate that the configuration names, whoever signed it: that it is an authority's,
/// has expired, or is not for servers. `None` where nothing is known against it.
///
/// # Errors
/// [`TlsError`] if the file cannot be read.
pub fn doubt(http: &Http, now: Timestamp) -> Result<Option<String>, TlsError> {
    let Some(cert) = &http.tls_cert else { return Ok(None) };
    let chain = chain(cert)?;
    let own = &chain[0];
    let mut roots = RootCertStore::empty();
    roots.add(own.clone())?;
    let checked = verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(own)?,
        &roots,
        &[],
        UnixTime::since_unix_epoch(Duration::from_millis(now.millis().unsigned_abs())),
        ring::default_provider().signature_verification_algorithms.all,
    );
    Ok(match checked {
        // Who signed it is for the clients to know.
        Ok(()) | Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => None,
        Err(rustls::Error::InvalidCertificate(error)) => {
            Some(format!("the certificate {} {}", cert.display(), complaint(&error)))
        }
        Err(error) => Some(format!("the certificate {} cannot be checked: {error}", cert.display())),
    })
}

/// What is wrong with a certificate and what to do, as the end of a sentence that begins with it.
pub fn complaint(error: &CertificateError) -> String {
    let said = match error {
        CertificateError::UnknownIssuer => {
            "is signed by nobody that this machine trusts; give its CA's certificate with --ca"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name; call the server by the name in its certificate"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired, or this machine's clock is wrong"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet, or this machine's clock is wrong"
        }
        // The library names this one only in words.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "is that of a CA, not of a server; make one with basicConstraints=CA:FALSE"
        }
        other => return format!("cannot be accepted ({other})"),
    };
    said.to_owned()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or(TlsError::Empty { path: path.to_owned(), what: "certificate" })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_clients_refuse_is_told_to_the_operator() {
        let place = tempfile::tempdir().expect("a folder");
        let now = Timestamp::parse("2030-06-01T00:00:00Z").expect("a time");
        let told = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
            let mut wanted =
                rcgen::CertificateParams::new(["almoner.example.org".to_owned()]).expect("a name");
            change(&mut wanted);
            let key = rcgen::KeyPair::generate().expect("made");
            let path = place.path().join("cert.pem");
            fs::write(&path, wanted.self_signed(&key).expect("signed").pem()).expect("written");
            doubt(&Http { tls_cert: Some(path), ..Http::default() }, now).expect("reads").unwrap_or_default()
        };
        assert_eq!(told(&|_| {}), "");
        let authority = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        assert!(told(&|wanted| wanted.is_ca = authority).contains("CA:FALSE"));
        assert!(told(&|wanted| wanted.not_after = rcgen::date_time_ymd(2029, 1, 1)).contains("has expired"));
        let client = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        assert!(!told(&|wanted| wanted.extended_key_usages = client.clone()).is_empty());
    }
}
