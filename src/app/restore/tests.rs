//! Restores: what is refused, and what is put back.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use almoner_model::{ManualClock, SeededEntropy, Timestamp};
use serde_json::json;

use super::*;
use crate::app::backup;
use crate::flows::checkpoint::export;
use crate::jobs::Silent;
use crate::store::{Actor, NewEntry, Store};

struct Place(tempfile::TempDir);

type Tools = (Arc<dyn Clock>, Arc<dyn Entropy>);

fn tools(seed: u64) -> Tools {
    (Arc::new(ManualClock::at(Timestamp::from_millis(1_000))), Arc::new(SeededEntropy::new(seed)))
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        let (clock, entropy) = tools(1);
        App::init(&place.folder(), &Config::default(), &*clock, &*entropy).expect("made");
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn folder(&self) -> Folder {
        Folder::at(self.path("data"))
    }
    fn open(&self) -> App {
        let (clock, entropy) = tools(2);
        App::open(self.folder(), Config::default(), clock, entropy).expect("opens")
    }
    fn back_up(&self, to: &str) -> Result<crate::flows::backup::Manifest, RestoreError> {
        let (clock, entropy) = tools(3);
        backup(&self.folder(), &Config::default(), clock, entropy, &self.path(to), &Silent)
    }
    /// Loses the data folder, and restores it.
    fn restore(&self, from: &str, known: &[PathBuf], accept_loss: bool) -> Result<Restored, RestoreError> {
        let _ = fs::remove_dir_all(self.folder().root());
        self.restore_into(&self.folder(), from, known, accept_loss)
    }
    fn restore_into(
        &self,
        folder: &Folder,
        from: &str,
        known: &[PathBuf],
        accept_loss: bool,
    ) -> Result<Restored, RestoreError> {
        let config = Config { root_key: Some(self.folder().default_root_key()), ..Config::default() };
        restore(&self.path(from), folder, &config, (known, accept_loss), tools(4), &Silent)
    }
}

fn append(store: &dyn Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let entry = NewEntry {
            event_id: format!("00000000-0000-4000-8000-{n:012x}"),
            kind: "token.issued",
            actor: Actor { role: "operator".into(), id: "t".into() },
            subject: None,
            payload: json!({"token": format!("t{n}"), "role": "operator", "scope": []}),
            policy: None,
            decision: None,
            as_of: None,
            until: None,
            topics: vec![],
        };
        store.append(vec![entry], &[]).expect("appends");
    }
}

#[test]
fn a_backup_of_a_working_folder_is_whole_without_keys_and_comes_back_proven() {
    let place = Place::new();
    let app = place.open();
    app.documents.put("aa/one", bytes::Bytes::from_static(b"a document")).expect("put");
    append(&*app.store, 0..5);
    let stop = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let (app, stop) = (&app, &stop);
        scope.spawn(move || {
            for n in 5.. {
                append(&*app.store, n..n + 1);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let made = place.back_up("copy");
        stop.store(true, Ordering::Relaxed);
        made.expect("copied while entries are appended")
    });
    assert!(made.entries >= 5 && made.files.iter().any(|f| f.path == "blobs/aa/one"), "{made:?}");
    let key = fs::read(place.folder().default_root_key()).expect("key");
    for file in &made.files {
        let bytes = fs::read(place.path("copy/data").join(&file.path)).expect("copied");
        assert!(!bytes.windows(key.len()).any(|w| w == key), "{} holds the root key", file.path);
    }
    drop(app);
    assert!(matches!(place.back_up("copy"), Err(RestoreError::Backup(BackupError::Occupied(_)))));
    assert!(matches!(place.back_up("data/in"), Err(RestoreError::Backup(BackupError::Inside(_)))));
    fs::remove_dir(place.path("data/in")).expect("removed");
    let last = place.back_up("last").expect("copied while nobody works");
    let done = place.restore("last", &[], false).expect("restored");
    assert_eq!((done.entries, done.lost.clone()), (last.entries, None));
    assert_eq!(done.proven_by, [place.folder().default_checkpoint()]);
    let app = place.open();
    assert!(app.spool.is_dir(), "uploads can come");
    assert_eq!(app.store.size(), last.entries);
    append(&*app.store, 2_000_000..2_000_001);
}

#[test]
fn what_was_published_since_is_not_forgotten_unless_that_is_accepted() {
    let place = Place::new();
    let app = place.open();
    append(&*app.store, 0..3);
    place.back_up("old").expect("copied");
    append(&*app.store, 3..7);
    export(&*app.store, &place.path("mirror")).expect("mirrored");
    drop(app);
    let Err(RestoreError::Lacks { lacking, .. }) = place.restore("old", &[], false) else {
        panic!("restored")
    };
    assert_eq!((lacking.from, lacking.known, lacking.proven), (3, 7, false));
    assert!(!place.folder().root().exists(), "nothing was made");
    // On a new machine only a mirror knows, and says what is lacking.
    fs::remove_file(place.folder().default_checkpoint()).expect("removed");
    assert!(matches!(place.restore("old", &[], false), Err(RestoreError::NotProven(_))));
    let refused = place.restore("old", &[place.path("mirror")], false).expect_err("lacks");
    assert!(refused.to_string().contains("4 token.issued"), "{refused}");
    let done = place.restore("old", &[place.path("mirror")], true).expect("accepted");
    assert_eq!((done.entries, done.lost.map(|lost| lost.proven)), (3, Some(true)));
    assert_eq!(place.open().store.size(), 3);
    // What goes on from there is another history, which the mirror's checkpoint shows.
    append(&*place.open().store, 100..110);
    place.back_up("forked").expect("copied");
    let forked = place.restore("forked", &[place.path("mirror")], true);
    assert!(matches!(forked, Err(RestoreError::Another(_))), "{forked:?}");
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let app = place.open();
    app.documents.put("aa/one", bytes::Bytes::from_static(b"a document")).expect("put");
    append(&*app.store, 0..300);
    let made = place.back_up("copy").expect("copied");
    drop(app);
    let new = Folder::at(place.path("new"));
    let known = [place.folder().default_checkpoint()];
    let paths = made
        .files
        .iter()
        .map(|f| format!("data/{}", f.path))
        .chain(["backup.json".into(), "backup.mac".into()]);
    for name in paths {
        let path = place.path("copy").join(&name);
        let good = fs::read(&path).expect("readable");
        if good.is_empty() {
            continue;
        }
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        for bad in [Some(bad.as_slice()), Some(&good[..good.len() - 1]), None] {
            match bad {
                Some(bad) => fs::write(&path, bad).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let refused = place.restore_into(&new, "copy", &known, true);
            assert!(refused.is_err(), "{name} was taken");
            let made = fs::read_dir(new.root()).map_or(0, Iterator::count);
            assert_eq!(made, 0, "{name}");
        }
        fs::write(&path, &good).expect("written");
    }
    place.restore_into(&new, "copy", &known, false).expect("whole again");
    let again = place.restore_into(&new, "copy", &known, true);
    assert!(matches!(again, Err(RestoreError::Open(OpenError::Elsewhere(_)))), "{again:?}");
}

#[test]
fn a_folder_that_cannot_be_opened_after_a_restore_is_no_data_folder() {
    let place = Place::new();
    append(&*place.open().store, 0..3);
    place.back_up("copy").expect("copied");
    let erased = place.folder().default_checkpoint().with_extension("erased");
    fs::write(&erased, "not a list of who was erased\n").expect("written");
    let refused = place.restore("copy", &[], false);
    assert!(matches!(refused, Err(RestoreError::NotIntact(_))), "{refused:?}");
    assert!(!place.folder().marker().exists());
    fs::remove_file(&erased).expect("removed");
    place.restore("copy", &[], false).expect("restored");
}

#[test]
fn what_lies_elsewhere_behind_a_link_is_backed_up_too() {
    let place = Place::new();
    append(&*place.open().store, 0..3);
    let (elsewhere, linked) = (place.path("elsewhere"), place.folder().blobs().join("aa"));
    fs::create_dir_all(&elsewhere).expect("made");
    fs::write(elsewhere.join("one"), "a document").expect("written");
    std::os::unix::fs::symlink(&elsewhere, &linked).expect("linked");
    place.back_up("copy").expect("copied");
    place.restore("copy", &[], false).expect("restored");
    assert_eq!(fs::read(linked.join("one")).expect("there"), b"a document");
    // Of what is behind a link that leads nowhere nothing can be copied.
    std::os::unix::fs::symlink(place.path("nowhere"), place.folder().blobs().join("bb")).expect("linked");
    assert!(matches!(place.back_up("more"), Err(RestoreError::Backup(BackupError::Restless))));
}
