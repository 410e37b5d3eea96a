//! One exchange with a witness (C2SP tlog-witness § add-checkpoint, the client's side): what is sent, and what an answer
//! means.
//!
//! The client says from which size it proves. A witness that cosigned another size tells it with a 409, and is asked again
//! from there; a size beyond our own means that this log was rolled back, and the same size again that it forked.

use std::path::Path;
use std::time::Duration;

use almoner_ledger::cosignature::{Cosignature, WitnessVerifierKey, split};
use almoner_ledger::witness::{Request, SIZE_MEDIA_TYPE, size};
use almoner_ledger::{Hash, SignedCheckpoint};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// How far a witness's clock may be from ours, in seconds.
const CLOCKS_APART_MAX: u64 = 600;

/// How often one exchange asks again from the size that the witness tells.
const TRIES: usize = 3;

/// What a witness answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Media type without parameters; empty if there is none.
    pub media_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A way to a witness.
pub trait Endpoint: Send {
    /// Sends the body of an `add-checkpoint` request; returns within a bounded time.
    ///
    /// # Errors
    /// Why there is no answer.
    fn add_checkpoint(&self, body: &[u8]) -> Result<Reply, String>;
}

/// Why a witness did not cosign.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Trouble {
    /// No answer, or one that says nothing about the log.
    #[error("{0}")]
    Unreachable(String),
    /// It refuses the log or its checkpoint.
    #[error("it answered {status}: {said}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The beginning of its answer.
        said: String,
    },
    /// It cosigned another log of this origin.
    #[error("it cosigned {size} entries with another root: this log forked")]
    Forked {
        /// How many.
        size: u64,
    },
    /// It cosigned more than this log has.
    #[error("it cosigned {size} entries, and this log has fewer: it was rolled back")]
    Ahead {
        /// How many.
        size: u64,
    },
    /// What it sent is no cosignature of this checkpoint by its key.
    #[error("{0}")]
    BadAnswer(String),
}

/// Gets `signed` cosigned. `known` is the size that the witness cosigned last as far as known; it is kept up to date.
/// `prove(old, new)` makes a consistency proof; `now` is in seconds since the epoch.
///
/// # Errors
/// [`Trouble`].
pub fn exchange(
    endpoint: &dyn Endpoint,
    key: &WitnessVerifierKey,
    known: &mut u64,
    signed: &SignedCheckpoint,
    prove: &dyn Fn(u64, u64) -> Result<Vec<Hash>, String>,
    now: &dyn Fn() -> u64,
) -> Result<Cosignature, Trouble> {
    let new = signed.checkpoint.size;
    for _ in 0..TRIES {
        let old = *known;
        if old > new {
            return Err(Trouble::Ahead { size: old });
        }
        let proof = if old == 0 || old == new {
            Vec::new()
        } else {
            prove(old, new).map_err(|e| Trouble::Unreachable(format!("no proof could be made: {e}")))?
        };
        let body = Request { old, proof, note: signed.note.clone() }.to_bytes();
        let reply = endpoint.add_checkpoint(&body).map_err(Trouble::Unreachable)?;
        match reply.status {
            200 => {
                let cosignature = read(&reply.body, key, signed, now())?;
                *known = new;
                return Ok(cosignature);
            }
            409 if reply.media_type == SIZE_MEDIA_TYPE => {
                let told = std::str::from_utf8(&reply.body).ok().and_then(|t| size(t.strip_suffix('\n')?));
                let told = told.ok_or_else(|| Trouble::BadAnswer("its 409 tells no size".into()))?;
                if told == old && told == new {
                    return Err(Trouble::Forked { size: told });
                }
                if told == old {
                    return Err(refused(&reply));
                }
                *known = told;
            }
            400..=499 if reply.status != 429 => return Err(refused(&reply)),
            status => return Err(Trouble::Unreachable(format!("it answered {status}"))),
        }
    }
    Err(Trouble::Unreachable("it told another size each time that it was asked".into()))
}

fn refused(reply: &Reply) -> Trouble {
    let said: String =
        String::from_utf8_lossy(&reply.body).chars().filter(|c| !c.is_control()).take(200).collect();
    Trouble::Refused { status: reply.status, said }
}

fn read(
    body: &[u8],
    key: &WitnessVerifierKey,
    signed: &SignedCheckpoint,
    now: u64,
) -> Result<Cosignature, Trouble> {
    let bad = |why: String| Trouble::BadAnswer(why);
    let (text, _) = split(&signed.note).map_err(|e| bad(e.to_string()))?;
    let lines = std::str::from_utf8(body).map_err(|_| bad("its answer is not text".into()))?;
    let found = key.find(text, lines).map_err(|e| bad(e.to_string()))?;
    let cosignature = found.ok_or_else(|| bad(format!("its answer has no cosignature by {}", key.name())))?;
    let apart = cosignature.time.abs_diff(now);
    if apart > CLOCKS_APART_MAX {
        return Err(bad(format!("its clock and this machine's are {apart} s apart")));
    }
    Ok(cosignature)
}

/// A witness over HTTP or HTTPS.
pub struct Http {
    url: String,
    agent: ureq::Agent,
}

impl Http {
    /// The witness with the submission prefix `url`; each request ends within `timeout`. Certificates of `roots` (PEM) are
    /// trusted instead of the usual ones, where given.
    ///
    /// # Errors
    /// A sentence, if the URL or the file cannot be used.
    pub fn new(url: &str, roots: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let url = url.trim_end_matches('/');
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(format!("the URL {url} of a witness does not begin with https:// or http://"));
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = roots {
            let pem = std::fs::read(path)
                .map_err(|e| format!("ledger.witness_ca {}: {}", path.display(), e.kind()))?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(|item| if let Ok(PemItem::Certificate(c)) = item { Some(c) } else { None })
                .collect();
            if certificates.is_empty() {
                return Err(format!("ledger.witness_ca {} holds no certificate", path.display()));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(timeout / 2))
            .timeout_global(Some(timeout))
            .tls_config(tls.build())
            .build()
            .into();
        Ok(Self { url: format!("{url}/add-checkpoint"), agent })
    }
}

impl Endpoint for Http {
    fn add_checkpoint(&self, body: &[u8]) -> Result<Reply, String> {
        let mut answer = self.agent.post(&self.url).send(body).map_err(|e| e.to_string())?;
        let media_type = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
        let media_type = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok(Reply { status, media_type, body: body.map_err(|e| e.to_string())? })
    }
}
