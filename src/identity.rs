//! Names that programs give to what they do, so that a repetition is recognised.
//!
//! A name may have any length; what is kept of it is a digest, long enough that two names never
//! have the same one, whoever chooses them: a stranger's name must not make a message vanish.

use sha2::{Digest as _, Sha256};

/// What is kept of a name, or of what a transaction has done: the first half of its SHA-256.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Identity(pub [u8; 16]);

impl Identity {
    /// Of a name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        Self::from_digest(Sha256::new().chain_update(name))
    }

    /// Of something on a topic that has this name among all that is published there.
    #[must_use]
    pub fn on_topic(self, topic: &str) -> Self {
        Self::from_digest(Sha256::new().chain_update(self.0).chain_update(topic))
    }

    fn from_digest(digest: Sha256) -> Self {
        let bytes = digest.finalize();
        Self(bytes[..16].try_into().expect("a SHA-256 has 32 bytes"))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_le_bytes(self.0))
    }
}

/// A message by its producer's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numbered {
    /// The producer, whoever speaks for it.
    pub producer: Identity,
    /// Which of all that it has sent, wherever to.
    pub sequence: u64,
}

/// What tells a message that is sent from all others, so that a repetition is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A name of its own among all that is sent to its queue, or published on its topic.
    Name(Identity),
    /// Its number among all that its producer sends.
    Number(Numbered),
}

/// The digest of a list of things as it grows: of other things, or of the same in another order,
/// or cut in another way, it is another.
#[derive(Clone, Debug, Default)]
pub struct Listing(Sha256);

impl Listing {
    /// Adds a thing.
    pub fn add(&mut self, thing: &[u8]) {
        self.0.update((thing.len() as u64).to_le_bytes());
        self.0.update(thing);
    }

    /// What has been added so far.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_digest(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_this_digest_for_ever() {
        // The first half of SHA-256("abc"), as its standard tells it.
        let expected = 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223_u128;
        assert_eq!(Identity::of(b"abc").0, expected.swap_bytes().to_le_bytes());
    }

    #[test]
    fn a_list_cut_in_another_way_has_another_digest() {
        let of = |things: &[&[u8]]| {
            let mut listing = Listing::default();
            things.iter().for_each(|thing| listing.add(thing));
            listing.identity()
        };
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"c", b"ab"]));
        assert_ne!(of(&[]), of(&[b""]));
    }
}
