//! A disk that forgets: what was written and not synced may be lost when the power goes, in part, torn and out of order.
//!
//! The model, stricter than ext4 and as strict as POSIX lets a file system be:
//! - Bytes and length of a file are durable after `fsync` or `fdatasync` of the file, and only as of then. At power loss
//!   each page that was written since survives or not by chance, one in eight torn at a sector; the length is then the old
//!   one, the new one, or what the surviving pages need.
//! - Names (made, removed, renamed) are durable after `fsync` of their folder. A file's own `fsync` does not keep its name.
//!   At power loss the earliest of the pending changes survive, a random number of them; a rename is one change.
//! - After the power is off nothing is done and everything fails with EIO.
//!
//! It can also be full (ENOSPC on what needs more bytes) and read-only (EROFS). No FUSE here: see [`crate::mount`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::Sender;

use almoner_model::{Entropy, SeededEntropy};

/// What a page cache and a disk exchange.
const PAGE: usize = 4_096;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// The root folder, by FUSE's convention.
pub const ROOT: u64 = 1;

/// An error number of `libc`.
pub type Errno = i32;

/// A file as programs see it and as the disk has it.
#[derive(Clone, Default)]
pub struct File {
    /// What programs read.
    pub live: Vec<u8>,
    durable: Vec<u8>,
    /// Pages written since the last sync.
    dirty: BTreeSet<usize>,
}

/// Names of a folder, as programs see them and as the disk has them.
#[derive(Clone, Default)]
pub struct Names {
    /// What programs see.
    pub live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
}

/// What a number stands for.
#[derive(Clone)]
pub enum Node {
    /// A file.
    File(File),
    /// A folder.
    Folder(Names),
}

/// One change of names: in which folder, which name, what it then stands for. All of it survives or nothing.
type Change = Vec<(u64, String, Option<u64>)>;

/// The disk.
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    pending: Vec<Change>,
    /// Changes until the power goes, and whom to tell.
    cut: Option<(u64, Sender<()>)>,
    off: bool,
    /// Bytes that all files may have together.
    capacity: u64,
    read_only: bool,
    /// Bytes and names changed, and syncs, so far.
    pub changes: u64,
}

impl Default for Disk {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Folder(Names::default()))]);
        Self {
            nodes,
            next: ROOT + 1,
            pending: Vec::new(),
            cut: None,
            off: false,
            capacity: u64::MAX,
            read_only: false,
            changes: 0,
        }
    }
}

impl Disk {
    /// Takes the power away just before the `after`th change from now, and says so.
    pub fn arm(&mut self, after: u64, told: Sender<()>) {
        self.cut = Some((after, told));
    }

    /// Takes the power away now.
    pub fn cut(&mut self) {
        self.off = true;
    }

    /// Lets all files together have `bytes`, or less if they have more already.
    pub const fn limit(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Refuses changes, or takes them again.
    pub const fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| if let Node::File(file) = node { file.live.len() as u64 } else { 0 })
            .sum()
    }

    /// What `ino` stands for.
    ///
    /// # Errors
    /// EIO without power, ENOENT.
    pub fn node(&self, ino: u64) -> Result<&Node, Errno> {
        if self.off {
            return Err(libc::EIO);
        }
        self.nodes.get(&ino).ok_or(libc::ENOENT)
    }

    /// The number behind a name.
    ///
    /// # Errors
    /// As [`Disk::node`], ENOTDIR.
    pub fn find(&self, parent: u64, name: &str) -> Result<u64, Errno> {
        match self.node(parent)? {
            Node::Folder(names) => names.live.get(name).copied().ok_or(libc::ENOENT),
            Node::File(_) => Err(libc::ENOTDIR),
        }
    }

    /// Counts a change, and takes the power away where its time has come.
    fn change(&mut self) -> Result<(), Errno> {
        if let Some((left, told)) = &mut self.cut {
            *left = left.saturating_sub(1);
            if *left == 0 && !self.off {
                self.off = true;
                let _ = told.send(());
            }
        }
        match (self.off, self.read_only) {
            (true, _) => Err(libc::EIO),
            (_, true) => Err(libc::EROFS),
            _ => {
                self.changes += 1;
                Ok(())
            }
        }
    }

    fn file(&mut self, ino: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// EIO, EROFS, ENOSPC (nothing is written then), ENOENT.
    pub fn write(&mut self, ino: u64, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.change()?;
        let (used, capacity) = (self.used(), self.capacity);
        let file = self.file(ino)?;
        let end = at + bytes.len();
        if end > file.live.len() {
            if used + (end - file.live.len()) as u64 > capacity {
                return Err(libc::ENOSPC);
            }
            file.live.resize(end, 0);
        }
        file.live[at..end].copy_from_slice(bytes);
        file.dirty.extend(at / PAGE..end.div_ceil(PAGE));
        Ok(())
    }

    /// Cuts or lengthens.
    ///
    /// # Errors
    /// As [`Disk::write`].
    pub fn truncate(&mut self, ino: u64, length: usize) -> Result<(), Errno> {
        self.change()?;
        let (used, capacity) = (self.used(), self.capacity);
        let file = self.file(ino)?;
        if length > file.live.len() && used + (length - file.live.len()) as u64 > capacity {
            return Err(libc::ENOSPC);
        }
        let cut = length.min(file.live.len());
        file.live.resize(length, 0);
        file.dirty.extend(cut / PAGE..file.durable.len().max(length).div_ceil(PAGE));
        Ok(())
    }

    /// Makes bytes and length of a file durable.
    ///
    /// # Errors
    /// EIO, EROFS, ENOENT.
    pub fn sync(&mut self, ino: u64) -> Result<(), Errno> {
        self.change()?;
        let file = self.file(ino)?;
        file.durable.resize(file.live.len(), 0);
        for page in std::mem::take(&mut file.dirty) {
            let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(file.live.len()));
            if start < end {
                file.durable[start..end].copy_from_slice(&file.live[start..end]);
            }
        }
        Ok(())
    }

    /// Makes the names of a folder durable.
    ///
    /// # Errors
    /// EIO, EROFS.
    pub fn sync_names(&mut self, folder: u64) -> Result<(), Errno> {
        self.change()?;
        let touches = |change: &Change| change.iter().any(|(at, ..)| *at == folder);
        let (kept, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(touches);
        self.pending = waiting;
        kept.into_iter().for_each(|change| self.keep(change));
        Ok(())
    }

    fn keep(&mut self, change: Change) {
        for (folder, name, ino) in change {
            if let Some(Node::Folder(names)) = self.nodes.get_mut(&folder) {
                match ino {
                    Some(ino) => names.durable.insert(name, ino),
                    None => names.durable.remove(&name),
                };
            }
        }
    }

    fn rename_live(&mut self, change: Change) {
        for (folder, name, ino) in &change {
            if let Some(Node::Folder(names)) = self.nodes.get_mut(folder) {
                match ino {
                    Some(ino) => names.live.insert(name.clone(), *ino),
                    None => names.live.remove(name),
                };
            }
        }
        self.pending.push(change);
    }

    /// Makes a file or a folder.
    ///
    /// # Errors
    /// EIO, EROFS, EEXIST.
    pub fn make(&mut self, parent: u64, name: &str, node: Node) -> Result<u64, Errno> {
        self.change()?;
        if self.find(parent, name).is_ok() {
            return Err(libc::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, node);
        self.rename_live(vec![(parent, name.to_owned(), Some(ino))]);
        Ok(ino)
    }

    /// Removes a name. The file stays for who has it open.
    ///
    /// # Errors
    /// EIO, EROFS, ENOENT, ENOTEMPTY.
    pub fn remove(&mut self, parent: u64, name: &str) -> Result<(), Errno> {
        self.change()?;
        let ino = self.find(parent, name)?;
        if matches!(self.node(ino)?, Node::Folder(names) if !names.live.is_empty()) {
            return Err(libc::ENOTEMPTY);
        }
        self.rename_live(vec![(parent, name.to_owned(), None)]);
        Ok(())
    }

    /// Gives a file or folder another name, in the place of what had it.
    ///
    /// # Errors
    /// EIO, EROFS, ENOENT.
    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Errno> {
        self.change()?;
        let ino = self.find(from.0, from.1)?;
        self.rename_live(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(ino))]);
        Ok(())
    }

    /// What is on the disk when the power is back: chance decides by `seed` about what was not synced.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let dice = SeededEntropy::new(seed);
        let mut after = Self { nodes: self.nodes.clone(), next: self.next, ..Self::default() };
        let surviving = dice.u64() as usize % (self.pending.len() + 1);
        self.pending[..surviving].iter().for_each(|change| after.keep(change.clone()));
        for node in after.nodes.values_mut() {
            match node {
                Node::File(file) => *file = file.after_power_loss(&dice),
                Node::Folder(names) => names.live.clone_from(&names.durable),
            }
        }
        after
    }

    /// Copies what programs see into a folder of the machine's own disk.
    ///
    /// # Errors
    /// What the machine says.
    pub fn copy_to(&self, folder: &Path) -> std::io::Result<()> {
        self.copy_names(ROOT, folder)
    }

    fn copy_names(&self, ino: u64, to: &Path) -> std::io::Result<()> {
        let Some(Node::Folder(names)) = self.nodes.get(&ino) else { return Ok(()) };
        std::fs::create_dir_all(to)?;
        for (name, ino) in &names.live {
            match self.nodes.get(ino) {
                Some(Node::File(file)) => std::fs::write(to.join(name), &file.live)?,
                _ => self.copy_names(*ino, &to.join(name))?,
            }
        }
        Ok(())
    }
}

impl File {
    fn after_power_loss(&self, dice: &SeededEntropy) -> Self {
        let mut bytes = self.durable.clone();
        if dice.u64().is_multiple_of(2) {
            bytes.resize(self.live.len(), 0);
        }
        for page in &self.dirty {
            let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(self.live.len()));
            let torn = dice.u64().is_multiple_of(8);
            if start >= end || dice.u64().is_multiple_of(2) {
                continue;
            }
            for at in (start..end).step_by(SECTOR) {
                let end = (at + SECTOR).min(end);
                if torn && dice.u64().is_multiple_of(2) {
                    continue;
                }
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[at..end].copy_from_slice(&self.live[at..end]);
            }
        }
        Self { durable: bytes.clone(), live: bytes, dirty: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        Node::File(File::default())
    }

    fn bytes(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        let ino = disk.find(ROOT, name).ok()?;
        match disk.node(ino) {
            Ok(Node::File(file)) => Some(file.live.clone()),
            _ => None,
        }
    }

    #[test]
    fn what_is_synced_survives_and_what_is_not_may_not() {
        let mut disk = Disk::default();
        let kept = disk.make(ROOT, "kept", file()).expect("made");
        disk.sync_names(ROOT).expect("synced");
        disk.write(kept, 0, &[1; 3 * PAGE]).expect("written");
        disk.sync(kept).expect("synced");
        disk.write(kept, PAGE, &[2; PAGE]).expect("written");
        let unnamed = disk.make(ROOT, "unnamed", file()).expect("made");
        disk.write(unnamed, 0, b"x").expect("written");
        disk.sync(unnamed).expect("synced");
        let (mut old, mut new, mut torn, mut named) = (0, 0, 0, 0);
        for seed in 0..200 {
            let after = disk.after_power_loss(seed);
            let there = bytes(&after, "kept").expect("its name was synced");
            assert!(there[..PAGE] == [1; PAGE] && there[2 * PAGE..] == [1; PAGE]);
            match &there[PAGE..2 * PAGE] {
                page if *page == [1; PAGE] => old += 1,
                page if *page == [2; PAGE] => new += 1,
                _ => torn += 1,
            }
            if let Some(there) = bytes(&after, "unnamed") {
                named += 1;
                assert_eq!(there, b"x");
            }
        }
        assert!(old > 40 && new > 40 && torn > 2 && (40..160).contains(&named), "{old} {new} {torn} {named}");
    }

    #[test]
    fn a_rename_is_whole_and_a_cut_length_may_come_back() {
        let mut disk = Disk::default();
        let old = disk.make(ROOT, "note", file()).expect("made");
        disk.write(old, 0, b"old").expect("written");
        disk.sync(old).expect("synced");
        disk.sync_names(ROOT).expect("synced");
        let new = disk.make(ROOT, "note.new", file()).expect("made");
        disk.write(new, 0, b"new").expect("written");
        disk.sync(new).expect("synced");
        disk.rename((ROOT, "note.new"), (ROOT, "note")).expect("renamed");
        let seen: BTreeSet<_> = (0..50).map(|seed| bytes(&disk.after_power_loss(seed), "note")).collect();
        assert_eq!(seen, [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
        disk.sync_names(ROOT).expect("synced");
        disk.truncate(new, 0).expect("cut");
        let seen: BTreeSet<_> = (0..50).map(|seed| bytes(&disk.after_power_loss(seed), "note")).collect();
        assert_eq!(seen, [Some(b"new".to_vec()), Some(Vec::new())].into());
    }

    #[test]
    fn without_power_nothing_is_done_and_a_full_disk_takes_no_more() {
        let mut disk = Disk::default();
        let ino = disk.make(ROOT, "a", file()).expect("made");
        disk.limit(4);
        assert_eq!(disk.write(ino, 0, b"12345"), Err(libc::ENOSPC));
        assert_eq!(disk.write(ino, 0, b"1234"), Ok(()));
        assert_eq!(disk.write(ino, 0, b"4321"), Ok(()), "what is there can be written over");
        disk.set_read_only(true);
        assert_eq!(disk.write(ino, 0, b"1"), Err(libc::EROFS));
        disk.set_read_only(false);
        let (told, off) = std::sync::mpsc::channel();
        disk.arm(2, told);
        assert_eq!(disk.write(ino, 0, b"5"), Ok(()));
        assert!(off.try_recv().is_err());
        assert_eq!(disk.sync(ino), Err(libc::EIO));
        assert!(off.try_recv().is_ok());
        assert_eq!(disk.node(ino).err(), Some(libc::EIO));
    }
}
