//! The ledger's format and its verification.

pub mod audit;
pub mod checkpoint;
pub mod commitment;
pub mod evidence;
pub mod leaf;
pub mod members;
pub mod note;
pub mod package;
pub mod proof;
pub mod receipt;
pub mod source;
pub mod tile;
pub mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use leaf::{Leaf, LeafError};
pub use note::{KeyError, LogKey, VerifierKey};
pub use tree::Hash;
