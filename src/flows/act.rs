//! An act: who does something, and the event id by which repeating it is not a second act.

use almoner_model::Entropy;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};

use crate::events::Actor;
use crate::keys::{Keyring, label};

/// Who acts, and under which event id. Handlers make it from the caller and the `Idempotency-Key`, commands from the
/// operator and fresh randomness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Act {
    /// Who.
    pub actor: Actor,
    /// A UUID (RFC 9562 version 4) of this act.
    pub event_id: String,
}

impl Act {
    /// A new act.
    pub fn new(actor: Actor, entropy: &dyn Entropy) -> Self {
        Self { actor, event_id: uuid_of(entropy.bytes32()) }
    }

    /// An act that is the same whenever the same `actor` names the same `key`. Event ids are public and `key` may hold what
    /// a person said, so the id is HMAC-SHA256 under a key of its own: it tells nothing to whoever guesses.
    pub fn repeated(keys: &Keyring, actor: Actor, key: &[u8]) -> Self {
        let secret = keys.key(label::EVENT_ID);
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_slice()).expect("HMAC takes a key of any length");
        for part in [actor.role.as_bytes(), &[0], actor.id.as_bytes(), &[0], key] {
            mac.update(part);
        }
        Self { actor, event_id: uuid_of(mac.finalize().into_bytes().into()) }
    }

    /// An act of the operator at the machine itself.
    pub fn operator(entropy: &dyn Entropy) -> Self {
        Self::new(Actor { role: "operator".into(), id: "local".into() }, entropy)
    }

    /// An act of the server itself.
    pub fn system(entropy: &dyn Entropy) -> Self {
        Self::new(Actor { role: "system".into(), id: "almoner".into() }, entropy)
    }

    /// The event id of the `n`th entry of this act; the first is [`Act::event_id`].
    pub fn event_id(&self, n: usize) -> String {
        if n == 0 {
            return self.event_id.clone();
        }
        let seed =
            Sha256::new().chain_update(self.event_id.as_bytes()).chain_update(n.to_be_bytes()).finalize();
        uuid_of(seed.into())
    }
}

fn uuid_of(bytes: [u8; 32]) -> String {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    uuid::Builder::from_random_bytes(half).into_uuid().hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use almoner_model::SeededEntropy;

    #[test]
    fn an_act_repeats_by_actor_and_key() {
        let actor = |id: &str| Actor { role: "researcher".into(), id: id.into() };
        let keys = Keyring::from_root(&[1; 32]);
        let one = Act::repeated(&keys, actor("a"), b"key");
        assert_eq!(one, Act::repeated(&keys, actor("a"), b"key"));
        assert_ne!(one.event_id, Act::repeated(&keys, actor("b"), b"key").event_id);
        assert_ne!(one.event_id, Act::repeated(&keys, actor("a"), b"yek").event_id);
        let elsewhere = Act::repeated(&Keyring::from_root(&[2; 32]), actor("a"), b"key");
        assert_ne!(one.event_id, elsewhere.event_id, "who has not the key cannot try out what was said");
        let entropy = SeededEntropy::new(1);
        assert_ne!(Act::operator(&entropy).event_id, Act::operator(&entropy).event_id);
        let ids: std::collections::BTreeSet<String> = (0..100).map(|n| one.event_id(n)).collect();
        assert_eq!(ids.len(), 100);
        assert_eq!(uuid::Uuid::parse_str(&one.event_id(7)).expect("a UUID").get_version_num(), 4);
    }
}
