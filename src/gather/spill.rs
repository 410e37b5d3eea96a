//! Encrypted spill: pieces of staged rows that do not fit in memory, by bucket and table.
//!
//! Serves the arrow `mapping → gather`. Staged rows hold true dates, so nothing is written in clear: every piece is an
//! Arrow IPC stream sealed with AES-256-GCM (NIST SP 800-38D) under a key made for this run, held in memory only. A
//! nonce is the number of the spill file and a counter, and so never repeats under the key; bucket and table are
//! authenticated with each piece. After a crash what is left is noise without a key, and is removed at the next start.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use almoner_model::Entropy;
use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use zeroize::Zeroizing;

use super::GatherError;

/// The key of one run's spill files. Never stored, wiped when dropped.
#[derive(Clone)]
pub struct SpillKey(Zeroizing<[u8; 32]>);

impl SpillKey {
    /// A fresh key.
    pub fn new(entropy: &dyn Entropy) -> Self {
        Self(Zeroizing::new(entropy.bytes32()))
    }
}

impl std::fmt::Debug for SpillKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpillKey(…)")
    }
}

/// Where a piece lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub bucket: u32,
    pub table: usize,
    offset: u64,
    bytes: usize,
    counter: u64,
}

/// One spill file, written by one thread and then only read.
pub(super) struct SpillFile {
    file: File,
    end: u64,
    number: u32,
    counter: u64,
    cipher: Aes256Gcm,
    pub pieces: Vec<Piece>,
}

impl SpillFile {
    /// Creates the file with the given number in `folder`. The name is removed at once, so that a killed process leaves
    /// no file behind.
    pub fn create(folder: &Path, number: u32, key: &SpillKey) -> Result<Self, GatherError> {
        let path = folder.join(format!("spill-{number}"));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let cipher = Aes256Gcm::new(key.0.as_slice().into());
        Ok(Self { file, end: 0, number, counter: 0, cipher, pieces: Vec::new() })
    }

    /// Seals and appends one piece.
    pub fn append(&mut self, bucket: u32, table: usize, rows: &RecordBatch) -> Result<(), GatherError> {
        let mut buffer = Vec::with_capacity(rows.get_array_memory_size() / 2 + 4096);
        let mut writer = StreamWriter::try_new(&mut buffer, &rows.schema())?;
        writer.write(rows)?;
        writer.finish()?;
        drop(writer);
        let piece =
            Piece { bucket, table, offset: self.end, bytes: buffer.len() + 16, counter: self.counter };
        self.cipher
            .encrypt_in_place(&self.nonce(piece.counter), &aad(bucket, table), &mut buffer)
            .map_err(|_| GatherError::Sealed)?;
        self.file.write_all(&buffer)?;
        self.end += buffer.len() as u64;
        self.counter += 1;
        self.pieces.push(piece);
        Ok(())
    }

    /// Reads one piece back.
    pub fn read(&self, piece: &Piece) -> Result<Vec<RecordBatch>, GatherError> {
        let mut buffer = vec![0; piece.bytes];
        self.file.read_exact_at(&mut buffer, piece.offset)?;
        self.cipher
            .decrypt_in_place(&self.nonce(piece.counter), &aad(piece.bucket, piece.table), &mut buffer)
            .map_err(|_| GatherError::Sealed)?;
        let reader = StreamReader::try_new(buffer.as_slice(), None)?;
        Ok(reader.collect::<Result<_, _>>()?)
    }

    fn nonce(&self, counter: u64) -> aes_gcm::Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.number.to_be_bytes());
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Nonce::from(nonce)
    }
}

fn aad(bucket: u32, table: usize) -> [u8; 8] {
    let mut aad = [0; 8];
    aad[..4].copy_from_slice(&bucket.to_be_bytes());
    aad[4..].copy_from_slice(&(table as u32).to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_model::SeededEntropy;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(text: &str) -> RecordBatch {
        RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![1, 2])) as _),
            ("b", Arc::new(StringArray::from(vec![Some(text), None])) as _),
        ])
        .expect("a batch")
    }

    #[test]
    fn pieces_come_back_and_stand_nowhere_in_clear() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = SpillKey::new(&SeededEntropy::new(1));
        let mut spill = SpillFile::create(folder.path(), 0, &key).expect("created");
        spill.append(3, 1, &rows("Medhurst")).expect("written");
        spill.append(4, 2, &rows("Okuneva")).expect("written");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "no name is left behind");
        let mut bytes = vec![0; spill.end as usize];
        spill.file.read_exact_at(&mut bytes, 0).expect("read");
        assert!(!bytes.windows(8).any(|w| w == b"Medhurst"));
        assert_eq!(spill.read(&spill.pieces[0]).expect("opens"), [rows("Medhurst")]);
        let moved = Piece { bucket: 4, ..spill.pieces[0] };
        assert!(matches!(spill.read(&moved), Err(GatherError::Sealed)));
        spill.file.write_all_at(&[bytes[20] ^ 1], 20).expect("written");
        assert!(matches!(spill.read(&spill.pieces[0]), Err(GatherError::Sealed)));
    }
}
