//! The [`Disk`] as a mounted file system, by FUSE.
//!
//! Writes go through to the disk at once and in order (no write-back cache); a shared memory map (SQLite's `-shm`) is kept by
//! the kernel and comes back when it is synced or unmapped. A process that uses the mount must not be the one that serves it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow,
};

use crate::disk::{Disk, File, Names, Node, ROOT};

/// How long the kernel may keep names and attributes: it is the only one that changes them.
const TTL: Duration = Duration::from_secs(3_600);

/// A mounted disk; unmounted when dropped.
pub struct Mounted {
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
}

struct Served(Arc<Mutex<Disk>>);

/// A disk that several threads use.
fn locked(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mounted {
    /// Mounts `disk` at the empty folder `at`.
    ///
    /// # Errors
    /// What the machine says: no `/dev/fuse`, no right to mount.
    pub fn new(disk: Disk, at: &Path) -> io::Result<Self> {
        let disk = Arc::new(Mutex::new(disk));
        let options = [MountOption::FSName("almoner-crash".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount2(Served(disk.clone()), at, &options)?;
        Ok(Self { disk, session: Some(session) })
    }

    /// The disk.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        locked(&self.disk)
    }

    /// Unmounts, and gives the disk back. Nobody may have a file open.
    pub fn unmount(mut self) -> Disk {
        // Not `join`: it panics where the kernel ends the connection in another way than it expects.
        drop(self.session.take());
        std::mem::take(&mut *locked(&self.disk))
    }
}

fn attributes(ino: u64, node: &Node) -> FileAttr {
    let (kind, size, perm) = match node {
        Node::File(file) => (FileType::RegularFile, file.live.len() as u64, 0o600),
        Node::Folder(_) => (FileType::Directory, 0, 0o700),
    };
    let then = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: then,
        mtime: then,
        ctime: then,
        crtime: then,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Served {
    fn attributes(&self, ino: u64) -> Result<FileAttr, i32> {
        locked(&self.0).node(ino).map(|node| attributes(ino, node))
    }

    fn make(&self, parent: u64, name: &OsStr, node: Node) -> Result<FileAttr, i32> {
        let name = name.to_str().ok_or(libc::EINVAL)?;
        let ino = locked(&self.0).make(parent, name, node)?;
        self.attributes(ino)
    }

    fn done(&self, reply: ReplyEmpty, act: impl FnOnce(&mut Disk) -> Result<(), i32>) {
        match act(&mut locked(&self.0)) {
            Ok(()) => reply.ok(),
            Err(code) => reply.error(code),
        }
    }
}

impl Filesystem for Served {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let found = locked(&self.0).find(parent, name.to_str().unwrap_or_default());
        match found.and_then(|ino| self.attributes(ino)) {
            Ok(attr) => reply.entry(&TTL, &attr, 0),
            Err(code) => reply.error(code),
        }
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, reply: ReplyAttr) {
        match self.attributes(ino) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(code) => reply.error(code),
        }
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        let cut = size.map_or(Ok(()), |size| locked(&self.0).truncate(ino, size as usize));
        match cut.and_then(|()| self.attributes(ino)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(code) => reply.error(code),
        }
    }

    fn mkdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match self.make(parent, name, Node::Folder(Names::default())) {
            Ok(attr) => reply.entry(&TTL, &attr, 0),
            Err(code) => reply.error(code),
        }
    }

    fn create(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, Node::File(File::default())) {
            Ok(attr) => reply.created(&TTL, &attr, 0, 0, 0),
            Err(code) => reply.error(code),
        }
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, |disk| disk.remove(parent, name.to_str().unwrap_or_default()));
    }

    fn rmdir(&mut self, request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(request, parent, name, reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        let (Some(name), Some(new_name)) = (name.to_str(), new_name.to_str()) else {
            return reply.error(libc::EINVAL);
        };
        self.done(reply, |disk| {
            if flags & libc::RENAME_NOREPLACE != 0 && disk.find(new_parent, new_name).is_ok() {
                return Err(libc::EEXIST);
            }
            disk.rename((parent, name), (new_parent, new_name))
        });
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        match locked(&self.0).node(ino) {
            Ok(Node::File(file)) => {
                let start = (offset as usize).min(file.live.len());
                let end = (start + size as usize).min(file.live.len());
                reply.data(&file.live[start..end]);
            }
            Ok(Node::Folder(_)) => reply.error(libc::EISDIR),
            Err(code) => reply.error(code),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        match locked(&self.0).write(ino, offset as usize, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(code) => reply.error(code),
        }
    }

    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&mut self, _: &Request<'_>, ino: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.done(reply, |disk| disk.sync(ino));
    }

    fn fsyncdir(&mut self, _: &Request<'_>, ino: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.done(reply, |disk| disk.sync_names(ino));
    }

    fn readdir(&mut self, _: &Request<'_>, ino: u64, _: u64, offset: i64, mut reply: ReplyDirectory) {
        let disk = locked(&self.0);
        let names = match disk.node(ino) {
            Ok(Node::Folder(names)) => names,
            Ok(Node::File(_)) => return reply.error(libc::ENOTDIR),
            Err(code) => return reply.error(code),
        };
        let dots = [(ino, "."), (ROOT, "..")];
        let all = dots.into_iter().chain(names.live.iter().map(|(name, ino)| (*ino, name.as_str())));
        for (at, (ino, name)) in all.enumerate().skip(offset as usize) {
            let kind = match disk.node(ino) {
                Ok(Node::File(_)) => FileType::RegularFile,
                _ => FileType::Directory,
            };
            if reply.add(ino, at as i64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
