//! The program as its users run it: commands, a server, calls over HTTP. Everything it says is kept, to be searched.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use super::scan::{Finding, Scanner};

/// `(what, bytes)` of everything that was said on standard output and error, and answered over HTTP.
type Said = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A data folder and the commands that were run on it.
pub struct Program {
    /// The data folder.
    pub data: PathBuf,
    said: Said,
}

impl Program {
    /// On the data folder `data`, which need not exist.
    pub fn on(data: PathBuf) -> Self {
        Self { data, said: Arc::default() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_almoner"));
        command.args(args).arg("--data").arg(&self.data).arg("--json").stdin(Stdio::null());
        command
    }

    fn keep(&self, what: &str, bytes: &[u8]) {
        self.said.lock().expect("no thread failed").push((what.to_owned(), bytes.to_vec()));
    }

    /// Runs a command; `Ok` with its one JSON object, or `Err` with what it said.
    ///
    /// # Errors
    /// Standard error, if it did not end well.
    pub fn run(&self, args: &[&str]) -> Result<Value, String> {
        let output = self.command(args).output().expect("the program starts");
        // What it was asked is no answer: only what it says itself is kept.
        self.keep(&format!("standard output of {}", args[0]), &output.stdout);
        self.keep(&format!("standard error of {}", args[0]), &output.stderr);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).expect("--json gives one JSON object"))
    }

    /// Runs a command that must end well.
    ///
    /// # Panics
    /// With what it said, if it does not.
    pub fn must(&self, args: &[&str]) -> Value {
        self.run(args).unwrap_or_else(|said| panic!("almoner {args:?}: {said}"))
    }

    /// Serves the data folder on a free port until the result is dropped.
    pub fn serve(&self) -> Server {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut first = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut first).expect("it says where it serves");
        let mut log = child.stderr.take().expect("piped");
        let said = Arc::clone(&self.said);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = log.read_to_end(&mut bytes);
            said.lock().expect("no thread failed").push(("log of serve".into(), bytes));
        });
        let value: Value = serde_json::from_str(&first).expect("it says where it serves, as JSON");
        let url = value["url"].as_str().expect("a URL").to_owned();
        Server { url, child, reader: Some(reader), said: Arc::clone(&self.said) }
    }

    /// Searches the data folder and everything that was said.
    pub fn search(&self, scanner: &Scanner) -> Vec<Finding> {
        let mut found = scanner.folder(&self.data);
        for (what, bytes) in self.said.lock().expect("no thread failed").iter() {
            scanner.bytes(what, bytes, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }
}

/// A running server. Dropping it kills it, as a crash would; [`Server::stop`] ends it well.
pub struct Server {
    /// Where it serves.
    pub url: String,
    child: Child,
    reader: Option<JoinHandle<()>>,
    said: Said,
}

impl Server {
    /// A call with an optional token and JSON body; the status and the body.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> (u16, Vec<u8>) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let text = body.map_or_else(Vec::new, |b| b.to_string().into_bytes());
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let mut answer = agent.run(request.body(text).expect("a request")).expect("the server answers");
        let status = answer.status().as_u16();
        let mut bytes = answer.body_mut().read_to_vec().expect("a whole answer");
        let headers: Vec<u8> = answer
            .headers()
            .iter()
            .flat_map(|(k, v)| [k.as_str().as_bytes(), b": ", v.as_bytes(), b"\n"].concat())
            .collect();
        let mut said = self.said.lock().expect("no thread failed");
        said.push((format!("headers of {method} {path}"), headers));
        said.push((format!("answer to {method} {path}"), bytes.clone()));
        (status, std::mem::take(&mut bytes))
    }
}

impl Server {
    /// Tells it to stop, and waits until it has.
    pub fn stop(mut self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(told.success() && self.child.wait().expect("it ends").success(), "it ends well");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// `path` as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
