//! Who the session is, remembered for as long as nothing that decides it can have changed.
//!
//! `rotator_internal.identity()` decides; this only spares asking it again for every policy of every statement. What was
//! decided is kept beside the circumstances it was decided under: the login, the settings, and what the snapshot shows of
//! other transactions, all compared byte by byte. What circumstances don't tell (changes that this transaction makes
//! itself, a rollback, roles granted or renamed) makes the session [`Memory::forget`]. An answer is kept only if its
//! circumstances were taken before it was worked out and nothing was forgotten meanwhile.

use crate::crypto::TenantId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: TenantId,
    pub actor: String,
    pub role: String,
}

/// The circumstances of a decision, as bytes.
#[derive(Default)]
pub struct Circumstances(Vec<u8>);

impl Circumstances {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a part, with its length, so that no two lists of parts give the same bytes.
    pub fn add(&mut self, part: &[u8]) {
        self.0.extend((part.len() as u64).to_ne_bytes());
        self.0.extend_from_slice(part);
    }

    pub fn add_number(&mut self, number: u32) {
        self.0.extend(number.to_ne_bytes());
    }
}

#[derive(Default)]
pub struct Memory {
    known: Option<(Vec<u8>, Identity)>,
    /// What was asked about and not known; the answer to it may be remembered.
    asked: Option<Vec<u8>>,
}

impl Memory {
    pub const fn new() -> Memory {
        Memory {
            known: None,
            asked: None,
        }
    }

    /// The identity that was decided under the same circumstances.
    pub fn recall(&mut self, now: &Circumstances) -> Option<&Identity> {
        if self.known.as_ref().is_none_or(|(then, _)| *then != now.0) {
            self.known = None;
            self.asked = Some(now.0.clone());
        }
        self.known.as_ref().map(|(_, identity)| identity)
    }

    /// Keeps what was decided, unless it was asked under other circumstances or before something was forgotten.
    pub fn remember(&mut self, now: &Circumstances, identity: Identity) {
        if self.asked.take().is_some_and(|asked| asked == now.0) {
            self.known = Some((now.0.clone(), identity));
        }
    }

    pub fn forget(&mut self) {
        self.known = None;
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circumstances(parts: &[&str]) -> Circumstances {
        let mut circumstances = Circumstances::default();
        parts
            .iter()
            .for_each(|part| circumstances.add(part.as_bytes()));
        circumstances
    }

    fn dana() -> Identity {
        Identity {
            tenant: [1; 16],
            actor: "dana".into(),
            role: "editor".into(),
        }
    }

    #[test]
    fn known_only_under_the_same_circumstances() {
        let mut memory = Memory::new();
        let (then, other) = (circumstances(&["a", "b"]), circumstances(&["ab", ""]));
        assert_eq!(memory.recall(&then), None);
        memory.remember(&then, dana());
        assert_eq!(memory.recall(&then), Some(&dana()));
        assert_eq!(memory.recall(&other), None);
        assert_eq!(
            memory.recall(&then),
            None,
            "what was known is not brought back"
        );
    }

    #[test]
    fn what_was_forgotten_meanwhile_is_not_remembered() {
        let mut memory = Memory::new();
        let now = circumstances(&["a"]);
        assert_eq!(memory.recall(&now), None);
        memory.forget();
        memory.remember(&now, dana());
        assert_eq!(memory.recall(&now), None);
        memory.remember(&circumstances(&["b"]), dana());
        assert_eq!(
            memory.recall(&now),
            None,
            "decided under other circumstances"
        );
        memory.remember(&now, dana());
        memory.forget();
        assert_eq!(memory.recall(&now), None);
    }
}
