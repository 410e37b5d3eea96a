//! Why a call found no server: whether waiting can help, in words that say what to do.
//!
//! What cannot get better by waiting ends a call at once: a certificate that is not right, a port that does not speak TLS or
//! HTTP, a name that nobody knows. The last two may also be the sign of a network that comes and goes, so they end it only
//! while the server has not yet answered.

use std::io;

use super::PushError;
use crate::tls::complaint;

/// The failure of a call to `host`; `answered` says whether the server answered an earlier call.
pub(super) fn why(error: &ureq::Error, host: &str, answered: bool) -> PushError {
    let lasting = match error {
        ureq::Error::Rustls(e) => tls(e, host),
        ureq::Error::Tls(_) => Some(format!("{host} is not a name that a certificate can hold")),
        ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(inner) => tls(inner, host),
            None if !answered && unknown_name(e) => Some(format!("no machine is known by the name {host}")),
            None => None,
        },
        ureq::Error::HostNotFound if !answered => Some(format!("no machine is known by the name {host}")),
        ureq::Error::Protocol(_) if !answered => {
            Some(format!("what answers at {host} does not speak HTTP here; is the address https:// ?"))
        }
        _ => None,
    };
    lasting.map_or_else(|| PushError::Unreachable(words(error)), PushError::Unusable)
}

/// The cause as a person says it.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        e => e.to_string(),
    }
}

/// A resolver that answered "there is none", not one that could not be asked. The standard library passes on only the words
/// of `getaddrinfo` (POSIX), of glibc and of musl.
fn unknown_name(error: &io::Error) -> bool {
    let said = error.to_string();
    ["Name or service not known", "Name does not resolve", "No address associated", "nodename nor servname"]
        .iter()
        .any(|words| said.contains(words))
}

fn tls(error: &rustls::Error, host: &str) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            Some(format!("the certificate of {host} {}", complaint(why)))
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Some(format!("what answers at {host} does not speak TLS there; is the port right?"))
        }
        rustls::Error::PeerIncompatible(_) => {
            Some(format!("{host} offers no version of TLS that is safe: 1.2 or 1.3 is needed"))
        }
        _ => None,
    }
}
