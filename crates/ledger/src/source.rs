//! Where a published log is read from: a folder laid out as C2SP tlog-tiles, or the same over HTTP.
//!
//! The one module of this crate that touches files and the network; everything else is a function of bytes.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::handover;
use crate::note::VerifierKey;
use crate::tile::{TilePath, unbundle};
use crate::tree::TILE_WIDTH;

/// Longest file of a log: an entry bundle of 256 leaves of 8 KiB.
const BYTES_MAX: u64 = 256 * (8 * 1024 + 2);

/// Why a file of the log could not be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// It cannot be had now, which says nothing about the log: the address is not reached, or the file not readable.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// It is there, and no file of a log.
    #[error("{0} is longer than any file of a log")]
    TooLong(String),
}

/// A published log.
pub trait Source: Sync {
    /// The bytes at `path` (`checkpoint`, `tile/0/000`, …).
    ///
    /// # Errors
    /// [`SourceError`].
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError>;

    /// The tile at `path`. A log may take a partial tile away once the full one is there, which was then read for it and
    /// cut (C2SP tlog-tiles, "Partial Tiles").
    ///
    /// # Errors
    /// [`SourceError`].
    fn tile(&self, path: &TilePath) -> Result<Vec<u8>, SourceError> {
        match self.read(&path.to_string()) {
            Err(SourceError::Missing(name)) if usize::from(path.width) < TILE_WIDTH => {
                match self.read(&path.full().to_string()) {
                    Ok(bytes) => path.cut(bytes).ok_or(SourceError::Missing(name)),
                    Err(SourceError::Missing(_)) => Err(SourceError::Missing(name)),
                    Err(other) => Err(other),
                }
            }
            had => had,
        }
    }
}

/// A folder.
#[derive(Clone, Debug)]
pub struct Folder(
    /// Its path.
    pub PathBuf,
);

impl Source for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        std::fs::File::open(self.0.join(path))
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => SourceError::Missing(path.into()),
                kind => SourceError::Unreadable { path: path.into(), reason: kind.to_string() },
            })?;
        limited(path, bytes)
    }
}

/// The same paths under an `http://` or `https://` address.
#[derive(Debug)]
pub struct Http {
    base: String,
    agent: ureq::Agent,
}

impl Http {
    /// A log published under `base`, e.g. `https://almoner.example/ledger`.
    pub fn new(base: &str) -> Self {
        Self::with(base, TlsConfig::default())
    }

    /// The same where certificates of these authorities (PEM) are trusted instead of the usual ones, as inside a hospital.
    ///
    /// # Errors
    /// A sentence, if there is no certificate in it.
    pub fn trusting(base: &str, authorities: &[u8]) -> Result<Self, String> {
        let of =
            |item| if let Ok(PemItem::Certificate(certificate)) = item { Some(certificate) } else { None };
        let certificates: Vec<Certificate<'static>> = parse_pem(authorities).filter_map(of).collect();
        if certificates.is_empty() {
            return Err("there is no certificate in the file of authorities to trust".into());
        }
        let roots = RootCerts::new_with_certs(&certificates);
        Ok(Self::with(base, TlsConfig::builder().root_certs(roots).build()))
    }

    fn with(base: &str, tls: TlsConfig) -> Self {
        let within = Some(Duration::from_secs(60));
        let agent = ureq::Agent::config_builder().timeout_global(within).tls_config(tls).build();
        Self { base: base.trim_end_matches('/').to_owned(), agent: agent.into() }
    }
}

impl Source for Http {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let unreadable = |reason: String| SourceError::Unreadable { path: path.into(), reason };
        let mut response = self.agent.get(format!("{}/{path}", self.base)).call().map_err(|e| match e {
            ureq::Error::StatusCode(404 | 410) => SourceError::Missing(path.into()),
            other => unreadable(other.to_string()),
        })?;
        let bytes = response.body_mut().with_config().limit(BYTES_MAX + 1).read_to_vec();
        limited(path, bytes.map_err(|e| unreadable(e.to_string()))?)
    }
}

/// A verifier key given as its line or as the name of a file that holds it.
///
/// # Errors
/// A sentence, if it is neither.
pub fn verifier_key(given: &str) -> Result<VerifierKey, String> {
    VerifierKey::parse(given).or_else(|error| {
        let text = std::fs::read_to_string(given).map_err(|e| {
            format!("{given} is no verifier key ({error}) and no file that can be read ({})", e.kind())
        })?;
        VerifierKey::parse(&text).map_err(|e| e.to_string())
    })
}

/// All keys of the log at `source` that `key` leads to, by the hand-overs that lie beside its checkpoint; the key alone where
/// there are none, or they are not of it.
///
/// # Errors
/// [`SourceError`] if they cannot be had now.
pub fn keys_of(source: &dyn Source, key: &VerifierKey) -> Result<VerifierKey, SourceError> {
    match source.read("handovers") {
        Ok(bytes) => Ok(handover::or_alone(key, &handover::read(&bytes).unwrap_or_default())),
        Err(SourceError::Missing(_)) => Ok(key.clone()),
        Err(error) => Err(error),
    }
}

/// A log at an address, or in a folder.
pub fn at(place: &str) -> Box<dyn Source> {
    if place.starts_with("http://") || place.starts_with("https://") {
        Box::new(Http::new(place))
    } else {
        Box::new(Folder(PathBuf::from(place)))
    }
}

/// As [`at`], where an address's certificate is one of these authorities (PEM), if they are given.
///
/// # Errors
/// As [`Http::trusting`].
pub fn at_trusting(place: &str, authorities: Option<&[u8]>) -> Result<Box<dyn Source>, String> {
    match authorities {
        Some(authorities) if place.starts_with("https://") => {
            Ok(Box::new(Http::trusting(place, authorities)?))
        }
        _ => Ok(at(place)),
    }
}

/// All leaves of a log, in order; ends early where a bundle cannot be read, which a check notices.
pub fn leaves(source: &dyn Source, size: u64) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
    (0..)
        .map_while(move |index| {
            let bytes = source.tile(&TilePath::entries(index, size)?).ok()?;
            let leaves: Vec<Vec<u8>> = unbundle(&bytes)?.into_iter().map(<[u8]>::to_vec).collect();
            Some((index * 256, leaves))
        })
        .flat_map(|(first, leaves)| {
            leaves.into_iter().enumerate().map(move |(i, leaf)| (first + i as u64, leaf))
        })
}

fn limited(path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, SourceError> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err(SourceError::TooLong(path.into()));
    }
    Ok(bytes)
}
