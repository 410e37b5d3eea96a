//! The demonstration's HTTP client: what a hospital's, a board's or a researcher's own program would do.
//!
//! Every call carries a token and every creating call an `Idempotency-Key`. A refusal is told in the words of the server's
//! problem details (RFC 9457).

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;

use super::DemoError;

/// Someone who calls the server.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: String,
}

/// How often a job is looked at.
const POLL: Duration = Duration::from_millis(60);

impl Client {
    /// A caller with `token` at `url`.
    pub fn new(url: &str, token: &str) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { agent, url: url.to_owned(), token: token.to_owned() }
    }

    /// The same server, another caller.
    pub fn as_other(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The secret that it calls with.
    pub fn token(&self) -> &str {
        &self.token
    }

    fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Value, DemoError> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        if method != "GET" {
            let key = almoner_model::Digest::of([path.as_bytes(), &body, self.token.as_bytes()].concat());
            request =
                request.header("content-type", "application/json").header("idempotency-key", key.to_string());
        }
        let request = request.body(body).map_err(|e| DemoError::Call(path.to_owned(), e.to_string()))?;
        let mut answer =
            self.agent.run(request).map_err(|e| DemoError::Call(path.to_owned(), e.to_string()))?;
        let status = answer.status().as_u16();
        let bytes =
            answer.body_mut().read_to_vec().map_err(|e| DemoError::Call(path.to_owned(), e.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let detail = value["detail"].as_str().or(value["title"].as_str()).unwrap_or("no reason given");
        Err(DemoError::Refused { path: format!("{method} {path}"), status, detail: detail.to_owned() })
    }

    /// Reads.
    ///
    /// # Errors
    /// [`DemoError`] if the server cannot be reached or says no.
    pub fn get(&self, path: &str) -> Result<Value, DemoError> {
        self.send("GET", path, Vec::new())
    }

    /// Creates or acts.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, DemoError> {
        self.send("POST", path, body.to_string().into_bytes())
    }

    /// Puts.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, DemoError> {
        self.send("PUT", path, body.to_string().into_bytes())
    }

    /// Ends something.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<Value, DemoError> {
        self.send("DELETE", path, Vec::new())
    }

    /// Reads a text.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn text(&self, path: &str) -> Result<String, DemoError> {
        let failed = |e: ureq::Error| DemoError::Call(path.to_owned(), e.to_string());
        let request = self.agent.get(format!("{}{path}", self.url));
        let mut answer =
            request.header("authorization", format!("Bearer {}", self.token)).call().map_err(failed)?;
        let status = answer.status().as_u16();
        if status != 200 {
            let detail = "it answers with no text".to_owned();
            return Err(DemoError::Refused { path: format!("GET {path}"), status, detail });
        }
        answer.body_mut().read_to_string().map_err(failed)
    }

    /// Starts long work and waits until it is done; its result.
    ///
    /// # Errors
    /// As [`Client::get`], and if the work fails.
    pub fn work(&self, path: &str, body: &Value) -> Result<Value, DemoError> {
        let mut job = self.post(path, body)?;
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        loop {
            match job["state"].as_str() {
                Some("queued" | "running") => std::thread::sleep(POLL),
                Some("done") => return Ok(job["result"].clone()),
                _ => {
                    let detail = job["failure"]["detail"].as_str().unwrap_or("it did not finish").to_owned();
                    return Err(DemoError::Refused { path: format!("POST {path}"), status: 0, detail });
                }
            }
            job = self.get(&format!("/v1/jobs/{id}"))?;
        }
    }

    /// Downloads `path` in two parts, as a client does that was interrupted (`Range`, RFC 9110 §14).
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn download(&self, path: &str) -> Result<Vec<u8>, DemoError> {
        let mut bytes = self.range(path, "bytes=0-4095")?;
        if bytes.len() == 4096 {
            bytes.extend(self.range(path, "bytes=4096-")?);
        }
        Ok(bytes)
    }

    fn range(&self, path: &str, range: &str) -> Result<Vec<u8>, DemoError> {
        let failed = |why: String| DemoError::Call(path.to_owned(), why);
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("range", range)
            .call()
            .map_err(|e| failed(e.to_string()))?;
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
        match status {
            200 | 206 => Ok(bytes),
            // An empty file, or one that ends where the first part ended.
            416 => Ok(Vec::new()),
            _ => {
                let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let detail = value["detail"].as_str().unwrap_or("no reason given").to_owned();
                Err(DemoError::Refused { path: format!("GET {path}"), status, detail })
            }
        }
    }
}
