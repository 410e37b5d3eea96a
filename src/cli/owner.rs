//! Who works on the data folder: this process, or a server that already owns it and is asked over its Unix socket.
//!
//! The socket serves the same HTTP interface as the network, and a request on it without a token is the operator's, because
//! only the account that owns the data folder can open it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{CliError, Globals};
use crate::app::{App, OpenError};
use crate::error::ErrorKind;
use crate::jobs::{Progress, Unit};

/// Who works on the data folder.
pub enum Owner {
    /// This process does.
    Here(Arc<App>),
    /// A server does.
    There(Local),
}

impl Owner {
    /// Opens the folder, or finds the server that has it.
    ///
    /// # Errors
    /// If the folder cannot be opened for another reason, or is in use by something that cannot be asked.
    pub fn of(globals: &Globals) -> Result<Self, CliError> {
        Self::open(globals, false)
    }

    /// As [`Owner::of`], and makes the folder first where there is none.
    ///
    /// # Errors
    /// As [`Owner::of`], or if it cannot be made.
    pub fn of_new(globals: &Globals) -> Result<Self, CliError> {
        Self::open(globals, true)
    }

    fn open(globals: &Globals, make: bool) -> Result<Self, CliError> {
        if make && !globals.folder().marker().exists() {
            App::init(
                &globals.folder(),
                &globals.config()?,
                &crate::system::SystemClock,
                &crate::system::SystemEntropy,
            )?;
        }
        let opened = App::open(
            globals.folder(),
            globals.config()?,
            Arc::new(crate::system::SystemClock),
            Arc::new(crate::system::SystemEntropy),
        );
        match opened {
            Ok(app) => Ok(Self::Here(Arc::new(app))),
            Err(OpenError::Owned(folder)) => match UnixStream::connect(globals.folder().socket()) {
                Ok(_) => Ok(Self::There(Local { socket: globals.folder().socket() })),
                Err(_) => Err(OpenError::Owned(folder).into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// A server on this machine.
#[derive(Clone, Debug)]
pub struct Local {
    socket: std::path::PathBuf,
}

impl Local {
    /// One call; the answer's body.
    ///
    /// # Errors
    /// The server's problem, or if it cannot be reached.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let text = body.map(ToString::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: almoner\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{text}",
            text.len()
        )?;
        stream.flush()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status: u16 = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(strange)?;
        let mut length = None;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<u64>().ok();
            }
        }
        let mut bytes = Vec::new();
        reader.take(length.ok_or_else(strange)?).read_to_end(&mut bytes)?;
        let value: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|_| strange())?
        };
        if (200..300).contains(&status) { Ok(value) } else { Err(problem(&value)) }
    }

    /// Follows a job to its end, and gives its result.
    ///
    /// # Errors
    /// The job's failure, or if the server cannot be reached.
    pub fn follow(&self, job: &Value, progress: &dyn Progress) -> Result<Value, CliError> {
        let id = job["id"].as_str().ok_or_else(strange)?;
        let path = format!("/v1/jobs/{id}");
        let mut seen = Seen::default();
        loop {
            let job = self.call("GET", &path, None)?;
            seen.tell(&job["progress"], progress);
            match job["state"].as_str() {
                Some("queued" | "running") => thread::sleep(Duration::from_millis(200)),
                Some("done") => return Ok(job["result"].clone()),
                Some("failed") => return Err(problem(&job["failure"])),
                state => {
                    let state = state.unwrap_or("lost");
                    return Err(CliError::failed(
                        ErrorKind::Conflict,
                        format!("the job was {state}; ask again"),
                    ));
                }
            }
        }
    }
}

fn strange() -> CliError {
    CliError::failed(ErrorKind::Fault, "what answers on the data folder's socket is not an almoner server")
}

/// A problem or failure of the server as this command's own.
pub fn problem(value: &Value) -> CliError {
    let kind = serde_json::from_value(value["kind"].clone()).unwrap_or(ErrorKind::Fault);
    let mut message = value["detail"].as_str().unwrap_or("the server gave no reason").to_owned();
    for reason in value["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        message.push_str("\n  - ");
        message.push_str(reason);
    }
    let details = Some(value["measured"].clone()).filter(|m| !m.is_null());
    CliError::Failed { kind, message, details }
}

/// What was told about a job's progress so far, to tell only what is new.
#[derive(Default)]
pub struct Seen {
    stage: String,
    done: u64,
}

/// Names of stages as a server tells them; a stage it does not know is called `working`.
const STAGES: &[&str] = &[
    "hash",
    "upload",
    "verify",
    "references",
    "registry",
    "intake",
    "mapping",
    "gather",
    "publish",
    "consents",
    "permit",
    "count",
    "erase",
    "extract",
    "risk",
    "release",
    "package",
];

impl Seen {
    /// Tells `progress` what is new in a job's `progress` object.
    pub fn tell(&mut self, stage: &Value, progress: &dyn Progress) {
        let Some(name) = stage["stage"].as_str() else { return };
        if name != self.stage {
            let known = STAGES.iter().find(|s| **s == name).copied().unwrap_or("working");
            let unit = serde_json::from_value(stage["unit"].clone()).unwrap_or(Unit::Steps);
            progress.stage(known, stage["total"].as_u64(), unit);
            self.stage = name.to_owned();
            self.done = 0;
        }
        let done = stage["done"].as_u64().unwrap_or(0);
        progress.advance(done.saturating_sub(self.done));
        self.done = self.done.max(done);
    }
}
