//! The members of a release: a Merkle tree over salted records of who is in it and under which directive, so that the
//! public entry commits to every person without naming one.
//!
//! ```text
//! member leaf = JCS { "also": [text, …], "directives": [seq, …], "pseudonym": text, "salt": 64 hex digits, "subject": text }
//! members_root = RFC 6962 root over the member leaves, sorted by their leaf hashes
//! ```
//!
//! Sorting by hash makes the order say nothing. Salts are random, 32 bytes, one for each member of each release. A board's
//! evidence pack carries all member leaves; one member's leaf and inclusion proof show that person's own membership. Of a
//! member who was erased only the leaf hash is left, which says nothing without the salt.

use almoner_model::{Digest, Seq};
use serde::{Deserialize, Serialize};

use crate::commitment::{CanonicalError, canonical};
use crate::tree::{Hash, leaf_hash, root_of};

/// One person in a release.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Other ids of the exchange that stand for the same person, ascending; absent where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Positions of the directives that permit the use, ascending.
    pub directives: Vec<Seq>,
    /// The person's id in the release, as text.
    pub pseudonym: String,
    /// Random; makes the leaf unguessable.
    pub salt: Digest,
    /// The exchange's id of the person, as text.
    pub subject: String,
}

impl Member {
    /// The canonical bytes of the member's leaf.
    ///
    /// # Errors
    /// [`CanonicalError`] if a directive's position is not below 2^53.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical(self)
    }

    /// Its leaf hash.
    ///
    /// # Errors
    /// As [`Member::to_bytes`].
    pub fn hash(&self) -> Result<Hash, CanonicalError> {
        Ok(leaf_hash(&self.to_bytes()?))
    }
}

/// The root over `members`, in whatever order they come.
///
/// # Errors
/// As [`Member::to_bytes`].
pub fn members_root<'a>(members: impl IntoIterator<Item = &'a Member>) -> Result<Digest, CanonicalError> {
    members_root_with(members, &[])
}

/// The root over `members` and those who were erased, of whom only the leaf hashes are left.
///
/// # Errors
/// As [`Member::to_bytes`].
pub fn members_root_with<'a>(
    members: impl IntoIterator<Item = &'a Member>,
    erased: &[Digest],
) -> Result<Digest, CanonicalError> {
    let mut hashes = members.into_iter().map(Member::hash).collect::<Result<Vec<_>, _>>()?;
    hashes.extend(erased.iter().map(|digest| digest.0));
    hashes.sort_unstable();
    Ok(Digest(root_of(&hashes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_depends_on_members_not_on_their_order() {
        let member = |n: u8| Member {
            also: vec![],
            directives: vec![n.into()],
            pseudonym: format!("p{n}"),
            salt: Digest([n; 32]),
            subject: n.to_string(),
        };
        let (a, b, c) = (member(1), member(2), member(3));
        let root = members_root([&a, &b, &c]).expect("canonical");
        assert_eq!(members_root([&c, &a, &b]).expect("canonical"), root);
        let left = Digest(b.hash().expect("canonical"));
        assert_eq!(
            members_root_with([&c, &a], &[left]).expect("canonical"),
            root,
            "the erased one's hash is left"
        );
        let other = Member { directives: vec![9], ..c.clone() };
        assert_ne!(members_root([&a, &b, &other]).expect("canonical"), root);
        assert_ne!(members_root([&a, &b]).expect("canonical"), root);
        assert_eq!(
            Member { salt: Digest([0xab; 32]), ..a }.to_bytes().expect("canonical"),
            format!(
                "{{\"directives\":[1],\"pseudonym\":\"p1\",\"salt\":\"{}\",\"subject\":\"1\"}}",
                "ab".repeat(32)
            )
            .as_bytes()
        );
    }
}
