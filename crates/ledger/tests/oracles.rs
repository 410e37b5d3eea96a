//! Other people's knowledge of the same trees: the proof vectors of transparency-dev/merkle, the `ct-merkle` crate, and
//! the Go ports in `tlog_tiles`.

use std::path::{Path, PathBuf};

use almoner_ledger::Hash;
use almoner_ledger::proof::{
    Tiles, check_consistency, check_inclusion, check_subtree_consistency, check_subtree_inclusion,
    prove_consistency, prove_inclusion, subtree_root,
};
use almoner_ledger::tree::{Edge, leaf_hash};
use almoner_model::{Entropy as _, SeededEntropy};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

/// The vectors whose roots are made up and shorter than a hash, yet which expect success: one, in both of its forms.
const FAKE_ROOTS: [&str; 2] = [
    "consistency/additional/sizes-are-equal-one-and-proof-is-empty.json",
    "subtreeconsistency/additional/sizes-are-equal-one-and-proof-is-empty.json",
];

#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests only: where the data lies, and why not"
)]
fn vectors() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = std::env::var("ALMONER_TEST_DATA").map_or(beside, PathBuf::from).join("merkle-vectors");
    if !path.exists() {
        assert!(std::env::var("CI").is_err(), "test data is absent, and under CI nothing is skipped");
        eprintln!("skipped: test data merkle-vectors is absent (set ALMONER_TEST_DATA)");
        return None;
    }
    Some(path)
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable").map(|e| e.expect("readable").path()) {
        if entry.is_dir() {
            files(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "json") {
            found.push(entry);
        }
    }
}

/// The hash in a vector; `None` if it has another length, which no correct proof can have.
fn hash(value: &Value) -> Option<Hash> {
    BASE64_STANDARD.decode(value.as_str()?).ok()?.try_into().ok()
}

fn accepted(kind: &str, v: &Value) -> Option<bool> {
    let number = |name: &str| v[name].as_u64();
    let none = vec![];
    let proof: Vec<Hash> = v["proof"].as_array().unwrap_or(&none).iter().map(hash).collect::<Option<_>>()?;
    Some(match kind {
        "inclusion" => check_inclusion(
            number("leafIdx")?,
            number("treeSize")?,
            &hash(&v["leafHash"])?,
            &hash(&v["root"])?,
            &proof,
        )
        .is_ok(),
        "subtreeinclusion" => check_subtree_inclusion(
            number("leafIdx")?,
            number("start")?,
            number("end")?,
            &hash(&v["leafHash"])?,
            &hash(&v["root"])?,
            &proof,
        )
        .is_ok(),
        "consistency" => check_consistency(
            number("size1")?,
            number("size2")?,
            &hash(&v["root1"])?,
            &hash(&v["root2"])?,
            &proof,
        )
        .is_ok(),
        _ => check_subtree_consistency(
            number("start")?,
            number("end")?,
            number("size")?,
            &hash(&v["root1"])?,
            // Of the empty subtree the tree's root does not matter; two vectors have twelve random bytes there.
            &hash(&v["root2"]).or((number("start") == number("end")).then_some([7; 32]))?,
            &proof,
        )
        .is_ok(),
    })
}

#[test]
fn all_published_proof_vectors_agree() {
    let Some(root) = vectors() else { return };
    let mut seen = 0;
    for kind in ["inclusion", "consistency", "subtreeinclusion", "subtreeconsistency"] {
        let mut paths = Vec::new();
        files(&root.join(kind), &mut paths);
        for path in paths {
            let name = path.strip_prefix(&root).expect("under it").to_string_lossy().into_owned();
            let v: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
            let expected = v["wantErr"] == Value::Bool(false);
            let got = accepted(kind, &v).unwrap_or(false);
            seen += 1;
            if FAKE_ROOTS.contains(&name.as_str()) {
                assert!(expected && !got, "the exception is needed no more");
                continue;
            }
            assert_eq!(got, expected, "{name}");
        }
    }
    assert_eq!(seen, 518);
}

/// A tree's tiles in memory.
struct Stored(std::collections::HashMap<(u8, u64), Vec<u8>>);

impl Tiles for Stored {
    type Error = std::convert::Infallible;
    fn tile(&self, level: u8, index: u64, _: u16) -> Result<Vec<u8>, Self::Error> {
        Ok(self.0.get(&(level, index)).cloned().unwrap_or_default())
    }
}

fn tree(size: u64) -> (Edge, Stored) {
    let (mut edge, mut stored) = (Edge::new(), Stored(std::collections::HashMap::new()));
    for i in 0..size {
        edge.push(leaf_hash(&i.to_be_bytes()));
    }
    for tile in edge.take_changes() {
        stored.0.insert((tile.level, tile.index), tile.bytes);
    }
    (edge, stored)
}

fn oracle(size: u64) -> ct_merkle::mem_backed_tree::MemoryBackedTree<sha2::Sha256, [u8; 8]> {
    let mut tree = ct_merkle::mem_backed_tree::MemoryBackedTree::new();
    (0..size).for_each(|i| tree.push(i.to_be_bytes()));
    tree
}

fn flat(proof: &[Hash]) -> Vec<u8> {
    proof.concat()
}

/// Proofs of each kind that are compared with the oracle's.
const PROOFS: usize = 10_000;

#[test]
fn proofs_are_those_of_ct_merkle() {
    let random = SeededEntropy::new(6962);
    let below = |limit: u64| random.u64() % limit;
    let (mut inclusions, mut consistencies) = (0, 0);
    while inclusions < PROOFS || consistencies < PROOFS {
        let size = 2 + below(1_500);
        let (edge, tiles) = tree(size);
        let ours = oracle(size);
        let root: Hash = edge.root();
        assert_eq!(ours.root().as_bytes().as_slice(), root.as_slice());
        for _ in 0..PROOFS / 16 {
            let index = below(size);
            let proof = prove_inclusion(&tiles, index, size).expect("in range");
            assert!(ours.prove_inclusion(index as usize).as_bytes() == flat(&proof), "{index} of {size}");
            let leaf = leaf_hash(&index.to_be_bytes());
            assert_eq!(check_inclusion(index, size, &leaf, &root, &proof), Ok(()));
            assert!(check_inclusion((index + 1) % (size + 1), size, &leaf, &root, &proof).is_err());
            inclusions += 1;

            let old = 1 + below(size - 1);
            let proof = prove_consistency(&tiles, old, size).expect("in range");
            let theirs = ours.prove_consistency((size - old) as usize);
            assert!(theirs.as_bytes() == flat(&proof), "{old} to {size}");
            let before = subtree_root(&tiles, 0, old).expect("in range");
            assert_eq!(check_consistency(old, size, &before, &root, &proof), Ok(()));
            let mut bad = proof.clone();
            bad[0][0] ^= 1;
            assert!(check_consistency(old, size, &before, &root, &bad).is_err(), "{old} to {size}");
            consistencies += 1;
        }
        assert_eq!(prove_consistency(&tiles, size, size), Ok(vec![]));
        assert_eq!(check_consistency(size, size, &root, &root, &[]), Ok(()));
    }
}

#[test]
fn receipts_and_checkpoints_are_read_by_the_ports_of_the_go_code() {
    use almoner_ledger::receipt::Receipt;
    use almoner_ledger::{Checkpoint, LogKey, VerifierKey};
    let key = LogKey::new("almoner.example/log", &[9; 32]).expect("a name");
    let vkey = VerifierKey::parse(&key.vkey()).expect("vkey");
    let (edge, tiles) = tree(300);
    let checkpoint = Checkpoint { origin: key.name().into(), size: 300, root: edge.root() };
    let signed = checkpoint.sign(&key).expect("signs");
    let text = vkey.open(&signed.note).expect("opens");
    let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).expect("reads");
    assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), ("almoner.example/log", 300, edge.root()));
    for index in [0, 1, 255, 256, 299] {
        let hashes = prove_inclusion(&tiles, index, 300).expect("in range");
        let proof = hashes.iter().map(|h| tlog_tiles::Hash(*h)).collect();
        let leaf = index.to_be_bytes();
        tlog_tiles::check_record(
            &proof,
            300,
            tlog_tiles::Hash(edge.root()),
            index,
            tlog_tiles::record_hash(&leaf),
        )
        .expect("accepted");
        let receipt = Receipt { extra: None, index, hashes, checkpoint: signed.note.clone() };
        let bytes = receipt.to_bytes();
        let again = Receipt::parse(&bytes).expect("reads");
        assert_eq!(again, receipt);
        assert_eq!(again.check(&leaf, &vkey).expect("holds"), signed);
        assert!(again.check(b"other", &vkey).is_err());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x02;
            let read = Receipt::parse(&bad).and_then(|r| r.check(&leaf, &vkey));
            assert!(read.is_err(), "byte {at}");
        }
    }
    let extra = Receipt { extra: Some(b"x".to_vec()), index: 5, hashes: vec![], checkpoint: b"c\n".to_vec() };
    assert_eq!(extra.to_bytes(), b"c2sp.org/tlog-proof@v1\nextra eA==\nindex 5\n\nc\n");
    assert_eq!(Receipt::parse(&extra.to_bytes()), Ok(extra));
}
