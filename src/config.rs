//! Configuration: one TOML file, `ALMONER_*` variables over it, command-line flags over both.
//!
//! Every key has a default, so an empty configuration is a working one. Unknown keys and unknown variables are refused:
//! a misspelt privacy setting must not be silently ignored. `schemas/config.schema.json` is generated from these types
//! and a test holds them equal. This is the only place that reads the environment. Secrets are not configuration: the
//! root key and TLS keys are files that the configuration names.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::flows::uses::processing::Keeping;

/// Everything that can be configured.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the root key is, outside the data folder. Default: the data folder's path with `.key` appended.
    pub root_key: Option<PathBuf>,
    /// The HTTP interface.
    pub http: Http,
    /// What is written about running.
    pub log: Log,
    /// The ledger.
    pub ledger: Ledger,
    /// Work that outlives a request.
    pub jobs: Jobs,
    /// Exports that are pushed over HTTP.
    pub uploads: Uploads,
    /// Intake of exports.
    pub ingest: Ingest,
}

/// The HTTP interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port. An address other than loopback needs `tls_cert` and `tls_key`, or `behind_proxy`.
    pub listen: SocketAddr,
    /// TLS ends at a proxy in front of this server, on a network that only the proxy and this server share.
    pub behind_proxy: bool,
    /// Certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM (PKCS #8, PKCS #1 or SEC 1).
    pub tls_key: Option<PathBuf>,
    /// Threads that serve requests. 0: as many as there are cores.
    #[schemars(range(max = 1024))]
    pub workers: usize,
    /// Largest JSON body, in bytes.
    #[schemars(range(min = 1024))]
    pub body_bytes_max: usize,
    /// How long a client may take to send the head of a request, and all of one to a witness, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub request_timeout_seconds: u64,
    /// How long running requests get to finish when the server is told to stop, in seconds.
    #[schemars(range(max = 3600))]
    pub shutdown_seconds: u64,
    /// Connections at one time.
    #[schemars(range(min = 1))]
    pub connections_max: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8210)),
            behind_proxy: false,
            tls_cert: None,
            tls_key: None,
            workers: 0,
            body_bytes_max: 4 << 20,
            request_timeout_seconds: 30,
            shutdown_seconds: 10,
            connections_max: 10_000,
        }
    }
}

/// What is written about running. Never a value from data, whatever the level.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// A filter in the syntax of `tracing-subscriber`, e.g. `info` or `warn,almoner=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info,actix_server=warn".into() }
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object a line.
    Json,
}

/// The ledger.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// Name of the log in its checkpoints, a schema-less URL such as `almoner.example.org/log`. It is fixed when a data
    /// folder is made. Default: `almoner.local/` and random digits.
    pub origin: Option<String>,
    /// File in which the last published checkpoint is kept, by which an older copy of the ledger is noticed. It lies outside
    /// the data folder. Default: the data folder's path with `.checkpoint` appended.
    pub checkpoint: Option<PathBuf>,
    /// File with the witnesses that are asked to cosign the ledger, and how many of them are needed, in the format of C2SP
    /// tlog-policy. Default: no witness is asked.
    pub policy: Option<PathBuf>,
    /// Certificates of the authorities that the witnesses' servers are trusted by, PEM, instead of the usual ones.
    pub witness_ca: Option<PathBuf>,
}

/// Work that outlives a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// How many run at one time; others wait.
    #[schemars(range(min = 1, max = 64))]
    pub at_once: usize,
    /// How long a finished job can be asked about, in days.
    #[schemars(range(min = 1))]
    pub keep_days: u32,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { at_once: 2, keep_days: 30 }
    }
}

/// Exports that are pushed over HTTP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Uploads {
    /// Largest upload, in bytes over all its files.
    pub bytes_max: u64,
    /// Most files in an upload.
    #[schemars(range(min = 1))]
    pub files_max: u32,
    /// How long an upload that nobody continues is kept, in hours.
    #[schemars(range(min = 1))]
    pub keep_hours: u32,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { bytes_max: 1 << 40, files_max: 100_000, keep_hours: 72 }
    }
}

/// Intake of exports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Threads. 0: as many as there are cores.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// The de-identification profile where none is named.
    pub profile: String,
}

impl Default for Ingest {
    fn default() -> Self {
        Self { threads: 0, profile: "date-shifted".into() }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not TOML, or a key is unknown or has the wrong type.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
    /// An `ALMONER_*` variable that names no key.
    #[error("the variable {0} names no configuration key (see schemas/config.schema.json)")]
    UnknownVariable(String),
    /// An address other than loopback without protection.
    #[error(
        "refusing to listen on {0} without TLS: set http.tls_cert and http.tls_key, or http.behind_proxy when TLS ends \
         at a proxy"
    )]
    Exposed(SocketAddr),
    /// Half of a TLS identity.
    #[error("http.tls_cert and http.tls_key belong together; one is missing")]
    HalfTls,
}

impl ConfigError {
    /// All are errors of input.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Variables that are not configuration keys: they have flags of their own or belong to the tests.
const OTHER_VARIABLES: &[&str] = &[
    "ALMONER_DATA",
    "ALMONER_CONFIG",
    "ALMONER_TOKEN",
    "ALMONER_SERVER",
    "ALMONER_TEST_DATA",
    "ALMONER_BLESS",
];

impl Config {
    /// Reads `file` (where given), then the process's `ALMONER_*` variables over it.
    ///
    /// # Errors
    /// If either names an unknown key or gives one the wrong type, or the file cannot be read.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?,
            None => String::new(),
        };
        Self::read(&text, std::env::vars())
    }

    /// As [`Config::load`], from a text and variables. Variables that do not begin with `ALMONER_` are ignored.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| ConfigError::Invalid(e.to_string()))?;
        let keys = keys();
        for (name, value) in variables {
            if !name.starts_with("ALMONER_") || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let key = keys
                .iter()
                .find(|k| k.variable() == name)
                .ok_or_else(|| ConfigError::UnknownVariable(name.clone()))?;
            key.set(&mut table, &value)?;
        }
        toml::Value::Table(table).try_into().map_err(|e: toml::de::Error| ConfigError::Invalid(e.to_string()))
    }

    /// What the register of processing activities says about keeping and securing.
    pub fn keeping(&self) -> Keeping {
        let transport = match &self.http {
            http if http.tls_cert.is_some() => "encrypted on the way: TLS at this server",
            http if http.behind_proxy => "encrypted on the way: TLS at the proxy in front of this server",
            _ => "reached from this machine only",
        };
        Keeping { uploads_hours: self.uploads.keep_hours, jobs_days: self.jobs.keep_days, transport }
    }

    /// Checks what depends on several keys.
    ///
    /// # Errors
    /// [`ConfigError::Exposed`] or [`ConfigError::HalfTls`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.http.tls_cert.is_some() != self.http.tls_key.is_some() {
            return Err(ConfigError::HalfTls);
        }
        let protected = self.http.tls_cert.is_some() || self.http.behind_proxy;
        if !self.http.listen.ip().is_loopback() && !protected {
            return Err(ConfigError::Exposed(self.http.listen));
        }
        Ok(())
    }

    /// The JSON Schema of the configuration file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// `XDG_STATE_HOME` and `HOME`, where programs keep what outlives them (XDG Base Directory Specification).
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn state_home() -> (Option<PathBuf>, Option<PathBuf>) {
    let folder = |name| std::env::var(name).ok().map(PathBuf::from).filter(|p| p.is_absolute());
    (folder("XDG_STATE_HOME"), folder("HOME"))
}

/// A key of the configuration: its path, and whether its value is text.
struct Key {
    path: Vec<String>,
    text: bool,
}

impl Key {
    fn variable(&self) -> String {
        format!("ALMONER_{}", self.path.join("_").to_uppercase())
    }

    fn set(&self, table: &mut toml::Table, value: &str) -> Result<(), ConfigError> {
        let value = if self.text {
            toml::Value::String(value.to_owned())
        } else {
            let parsed: toml::Table = format!("v = {value}").parse().map_err(|_| {
                ConfigError::Invalid(format!("{} is not a number, true or false", self.variable()))
            })?;
            parsed.into_iter().next().expect("one key was written").1
        };
        let (last, parents) = self.path.split_last().expect("a key has a path");
        let mut at = table;
        for parent in parents {
            at = at
                .entry(parent.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| ConfigError::Invalid(format!("{parent} is not a table")))?;
        }
        at.insert(last.clone(), value);
        Ok(())
    }
}

/// All keys, from the JSON Schema, so that a key added above needs no second mention.
fn keys() -> Vec<Key> {
    let schema = Config::schema();
    let mut keys = Vec::new();
    collect(&schema, &schema, &mut Vec::new(), &mut keys);
    keys
}

fn collect(root: &serde_json::Value, node: &serde_json::Value, path: &mut Vec<String>, keys: &mut Vec<Key>) {
    let node = match node.get("$ref").and_then(serde_json::Value::as_str) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap_or(node),
        None => node,
    };
    if let Some(properties) = node.get("properties").and_then(serde_json::Value::as_object) {
        for (name, property) in properties {
            path.push(name.clone());
            collect(root, property, path, keys);
            path.pop();
        }
        return;
    }
    let kind = node.get("type").map(ToString::to_string).unwrap_or_default();
    let text = !["integer", "number", "boolean"].iter().any(|t| kind.contains(t));
    keys.push(Key { path: path.clone(), text });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn an_empty_configuration_is_a_working_one() {
        let config = Config::read("", []).expect("defaults");
        assert_eq!(config, Config::default());
        config.check().expect("loopback needs no TLS");
    }

    #[test]
    fn variables_stand_over_the_file() {
        let file = "root_key = '/a'\n[http]\nlisten = '127.0.0.1:1'\nworkers = 3\n[log]\nformat = 'json'\n";
        let variables = [
            var("ALMONER_HTTP_LISTEN", "127.0.0.1:2"),
            var("ALMONER_HTTP_BEHIND_PROXY", "true"),
            var("ALMONER_JOBS_AT_ONCE", "5"),
            var("ALMONER_ROOT_KEY", "/b"),
            var("ALMONER_LOG_FORMAT", "text"),
            var("ALMONER_DATA", "elsewhere"),
            var("PATH", "/bin"),
        ];
        let config = Config::read(file, variables).expect("valid");
        assert_eq!(config.http.listen.port(), 2);
        assert_eq!((config.http.workers, config.http.behind_proxy, config.jobs.at_once), (3, true, 5));
        assert_eq!((config.root_key, config.log.format), (Some("/b".into()), LogFormat::Text));
    }

    #[test]
    fn the_example_of_the_manual_is_a_configuration() {
        let page = include_str!("../docs/operate.md");
        let examples: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [example] = examples[..] else { panic!("{} examples", examples.len()) };
        let config = Config::read(example, []).expect("valid");
        config.check().expect("TLS belongs to its address");
        let table: toml::Table = example.parse().expect("TOML");
        let schema = Config::schema();
        let keys = schema["properties"].as_object().expect("keys").keys();
        let unsaid: Vec<&String> = keys.filter(|key| !table.contains_key(key.as_str())).collect();
        assert!(unsaid.is_empty(), "sections without an example: {unsaid:?}");
        assert_eq!(table["log"]["level"].as_str(), Some(Log::default().level.as_str()), "called the default");
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(Config::read("[http]\nlisten_on = '127.0.0.1:1'", []).is_err());
        assert!(Config::read("hppt = 1", []).is_err());
        let unknown = Config::read("", [var("ALMONER_HTTP_LISTENS", "127.0.0.1:1")]);
        assert!(matches!(unknown, Err(ConfigError::UnknownVariable(name)) if name == "ALMONER_HTTP_LISTENS"));
        assert!(Config::read("", [var("ALMONER_JOBS_AT_ONCE", "many")]).is_err());
    }

    #[test]
    fn other_addresses_need_tls_or_a_proxy() {
        let mut config = Config::default();
        config.http.listen = "0.0.0.0:80".parse().expect("address");
        assert!(matches!(config.check(), Err(ConfigError::Exposed(_))));
        config.http.behind_proxy = true;
        config.check().expect("behind a proxy");
        config.http.tls_cert = Some("cert.pem".into());
        assert!(matches!(config.check(), Err(ConfigError::HalfTls)));
    }

    #[test]
    fn the_checked_in_schema_is_the_one_generated() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/config.schema.json");
        let stored: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(file).expect("schemas/config.schema.json"))
                .expect("JSON");
        assert_eq!(
            stored,
            Config::schema(),
            "regenerate with `almoner schema config > schemas/config.schema.json`"
        );
    }
}
