//! `almoner demo`: the whole line on two synthetic hospitals, as the people in it live it.
//!
//! Everything that has an operation over HTTP is done over HTTP, each act with the token of who does it: hospitals push
//! their exports and consents and publish contracts, a researcher counts and asks, committees decide, the release is
//! downloaded and verified offline, a patient withdraws, and the next release no longer has them. Nothing here knows more
//! than such clients know.

mod client;
mod hospital;
mod research;
mod screen;
mod story;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::{App, Folder, OpenError};
use crate::cli::Output;
use crate::config::Config;
use crate::flows::Act;
use crate::flows::tokens::{NewToken, TokenError};
use crate::push::PushError;
use crate::synth::{self, SynthError};
use crate::system::{SystemClock, SystemEntropy};
use crate::web::{ServeError, Serving};

use client::Client;
use screen::Screen;
pub use story::Story;

/// How to run it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder to make.
    pub data: PathBuf,
    /// People in the population.
    pub patients: u64,
    /// Fixes the population.
    pub seed: u64,
    /// Where to serve; a free port of this machine by default.
    pub listen: Option<SocketAddr>,
}

/// Why the demonstration stopped.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The exports.
    #[error(transparent)]
    Synth(#[from] SynthError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// An export was not taken in.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The first token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A file.
    #[error("a file of the demonstration: {0}")]
    Io(#[from] io::Error),
    /// A call that got no answer.
    #[error("{0}: no answer: {1}")]
    Call(String, String),
    /// A call that was refused.
    #[error("{path} was refused ({status}): {detail}")]
    Refused {
        /// Method and path.
        path: String,
        /// Status code; 0 for work that failed.
        status: u16,
        /// In the server's words.
        detail: String,
    },
    /// Something did not come out as it must.
    #[error("the demonstration does not hold: {0}")]
    Broken(String),
}

impl DemoError {
    fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }
}

/// The population of a demonstration.
pub fn population(patients: u64, seed: u64) -> synth::Options {
    synth::Options {
        patients,
        hospitals: 2,
        overlap_per_mille: 250,
        seed,
        years: 4,
        fhir: true,
        omop: false,
        planted: true,
    }
}

/// Runs the story to its end. The server that it ran on is returned with it and stops when dropped.
///
/// # Errors
/// [`DemoError`] at the first thing that does not work.
pub fn run(options: &Options, output: Output) -> Result<(Story, Serving), DemoError> {
    let screen = Screen::new(output);
    let place = Place::free(&options.data);
    screen.say("\nAlmoner: two hospitals, one researcher, and the patients whose data it is.\n");
    let step = screen.step("two synthetic hospitals", Some(options.patients * 5 / 4));
    let population = population(options.patients, options.seed);
    let made = synth::generate(&place.exports, &population, &|n| step.advance(n))?;
    step.done(&format!(
        "{} people, {} of them at both; {:.0} MB of FHIR",
        made.patients,
        made.hospitals[0].shared,
        made.bytes as f64 / 1e6
    ));
    let (serving, operator) = serve(&place, options.listen)?;
    let mut story = Story::begin(&place, &serving.url, &made, &operator);
    let hospitals = hospital::set_up(&screen, &place, &operator, &made, &mut story)?;
    research::tell(&screen, &place, &operator, &hospitals, &mut story)?;
    Ok((story, serving))
}

/// Where the demonstration keeps things: nothing that is there is touched.
struct Place {
    data: PathBuf,
    exports: PathBuf,
    downloads: PathBuf,
}

impl Place {
    fn free(wanted: &Path) -> Self {
        let named = |n: u32, suffix: &str| {
            let mut name = wanted.as_os_str().to_owned();
            if n > 1 {
                name.push(format!("-{n}"));
            }
            name.push(suffix);
            PathBuf::from(name)
        };
        let taken = |n: u32| ["", ".exports", ".downloads"].iter().any(|s| named(n, s).exists());
        let n = (1..).find(|n| !taken(*n)).unwrap_or(1);
        Self { data: named(n, ""), exports: named(n, ".exports"), downloads: named(n, ".downloads") }
    }
}

/// Makes the data folder and the operator's token, and serves.
fn serve(place: &Place, listen: Option<SocketAddr>) -> Result<(Serving, Client), DemoError> {
    let mut config = Config::default();
    config.http.listen = listen.unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)));
    let folder = Folder::at(&place.data);
    App::init(&folder, &config, &SystemClock, &SystemEntropy)?;
    let app = Arc::new(App::open(folder, config, Arc::new(SystemClock), Arc::new(SystemEntropy))?);
    let new = NewToken { role: "operator".into(), scope: Vec::new(), label: "demo".into(), days: Some(7) };
    let token = app.tokens().issue(new, Act::operator(&*app.entropy))?.token;
    let serving = crate::web::spawn(app)?;
    let operator = Client::new(&serving.url, token.as_str());
    Ok((serving, operator))
}
