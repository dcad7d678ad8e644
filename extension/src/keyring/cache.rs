//! Unwrapped keys of one backend, and which key each tenant writes with in this transaction.
//!
//! Keys are found by id; ids come from a sequence, so an entry survives rollback. It still isn't believed for ever: the
//! first use in a transaction that starts more than [`LIFETIME`] after it was loaded loads it again, so a destroyed key
//! is forgotten (and wiped) by running backends too. An entry of another tenant or purpose is no hit: after the
//! extension was dropped and created again, ids start anew. The active keys are remembered for one transaction
//! only, and forgotten when a savepoint is rolled back: the row that named them may be gone.

use std::collections::HashMap;

use super::Purpose;
use crate::crypto::aead::Cipher;
use crate::crypto::{KeyBytes, TenantId};

/// In microseconds.
pub const LIFETIME: i64 = 60_000_000;
/// Beyond this many keys the cache starts afresh; an entry is about a kilobyte.
const MOST: usize = 4096;
/// NIST SP 800-38D, 8.3: encryptions under one key with random nonces.
const MOST_SEALED: u64 = 1 << 32;

/// A key ready for use. No variant can be printed, copied or compared.
pub enum Material {
    Data(Box<Cipher>),
    Index(KeyBytes),
}

impl Material {
    pub fn new(purpose: Purpose, key: KeyBytes) -> Material {
        match purpose {
            Purpose::Data => Material::Data(Box::new(Cipher::new(&key))),
            Purpose::Index => Material::Index(key),
        }
    }

    fn purpose(&self) -> Purpose {
        match self {
            Material::Data(_) => Purpose::Data,
            Material::Index(_) => Purpose::Index,
        }
    }
}

/// A cached key with what is known about it.
pub struct Entry {
    id: i64,
    tenant: TenantId,
    loaded_at: i64,
    checked_in: u64,
    sealed: u64,
    pub material: Material,
}

impl Entry {
    /// Counts one more encryption; false when this backend alone has used the key up.
    #[inline]
    pub fn count_sealed(&mut self) -> bool {
        self.sealed += 1;
        self.sealed <= MOST_SEALED
    }
}

struct Active {
    tenant: TenantId,
    purpose: Purpose,
    key_id: i64,
}

/// See the module.
pub struct KeyCache {
    entries: Vec<Entry>,
    places: HashMap<i64, usize>,
    last: usize,
    active: Vec<Active>,
    transaction: u64,
}

impl KeyCache {
    pub fn new() -> KeyCache {
        KeyCache {
            entries: Vec::new(),
            places: HashMap::new(),
            last: 0,
            active: Vec::new(),
            transaction: 1,
        }
    }

    /// The key `id` of `tenant`, if it is here and fresh. `now` is asked only once a transaction and key.
    #[inline]
    pub fn find(
        &mut self,
        id: i64,
        tenant: &TenantId,
        purpose: Purpose,
        now: impl FnOnce() -> i64,
    ) -> Option<&mut Entry> {
        let place = match self.entries.get(self.last) {
            Some(entry) if entry.id == id => self.last,
            _ => *self.places.get(&id)?,
        };
        self.last = place;
        let transaction = self.transaction;
        let entry = self.entries.get_mut(place)?;
        if entry.tenant != *tenant || entry.material.purpose() != purpose {
            return None;
        }
        if entry.checked_in != transaction {
            if !(0..LIFETIME).contains(&now().saturating_sub(entry.loaded_at)) {
                return None;
            }
            entry.checked_in = transaction;
        }
        Some(entry)
    }

    pub fn insert(&mut self, id: i64, tenant: TenantId, material: Material, now: i64) {
        if self.entries.len() >= MOST && !self.places.contains_key(&id) {
            self.entries.clear();
            self.places.clear();
        }
        let mut entry = Entry {
            id,
            tenant,
            loaded_at: now,
            checked_in: self.transaction,
            sealed: 0,
            material,
        };
        match self.places.get(&id) {
            Some(&place) => {
                entry.sealed = self.entries[place].sealed;
                self.entries[place] = entry;
            }
            None => {
                self.places.insert(id, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Wipes the key `id`.
    pub fn remove(&mut self, id: i64) {
        if let Some(place) = self.places.remove(&id) {
            self.entries.swap_remove(place);
            if let Some(moved) = self.entries.get(place) {
                self.places.insert(moved.id, place);
            }
        }
    }

    /// The key that `tenant` writes with in this transaction, once it has been looked up.
    #[inline]
    pub fn active(&self, tenant: &TenantId, purpose: Purpose) -> Option<i64> {
        let same = |active: &&Active| active.purpose == purpose && active.tenant == *tenant;
        self.active
            .iter()
            .rev()
            .find(same)
            .map(|active| active.key_id)
    }

    pub fn remember_active(&mut self, tenant: TenantId, purpose: Purpose, key_id: i64) {
        // A short list, searched from its end: few tenants are written in one transaction, and those close together.
        if self.active.len() >= 64 {
            self.active.clear();
        }
        self.active.push(Active {
            tenant,
            purpose,
            key_id,
        });
    }

    /// Forgets the active keys: a savepoint was rolled back.
    pub fn end_subtransaction(&mut self) {
        self.active.clear();
    }

    pub fn end_transaction(&mut self) {
        self.active.clear();
        self.transaction = self.transaction.wrapping_add(1);
    }

    /// Counts this backend's transactions.
    pub fn transaction(&self) -> u64 {
        self.transaction
    }
}

impl Default for KeyCache {
    fn default() -> KeyCache {
        KeyCache::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = [1; 16];

    fn index_key(byte: u8) -> Material {
        Material::new(Purpose::Index, KeyBytes::take(&mut [byte; 32]))
    }

    fn has(cache: &mut KeyCache, id: i64, now: i64) -> bool {
        cache.find(id, &TENANT, Purpose::Index, || now).is_some()
    }

    #[test]
    fn other_tenants_and_purposes_are_no_hit() {
        let mut cache = KeyCache::new();
        cache.insert(1, TENANT, index_key(1), 0);
        assert!(has(&mut cache, 1, 0));
        assert!(cache.find(1, &[2; 16], Purpose::Index, || 0).is_none());
        assert!(cache.find(1, &TENANT, Purpose::Data, || 0).is_none());
        assert!(cache.find(2, &TENANT, Purpose::Index, || 0).is_none());
    }

    #[test]
    fn is_checked_again_by_a_later_transaction_only() {
        let mut cache = KeyCache::new();
        cache.insert(1, TENANT, index_key(1), 0);
        assert!(has(&mut cache, 1, LIFETIME));
        cache.end_transaction();
        assert!(has(&mut cache, 1, LIFETIME - 1));
        assert!(has(&mut cache, 1, LIFETIME));
        cache.end_transaction();
        assert!(!has(&mut cache, 1, LIFETIME));
        assert!(!has(&mut cache, 1, -1));
        cache.insert(1, TENANT, index_key(1), LIFETIME);
        assert!(has(&mut cache, 1, LIFETIME));
    }

    #[test]
    fn active_keys_last_for_a_transaction() {
        let mut cache = KeyCache::new();
        cache.remember_active(TENANT, Purpose::Data, 7);
        assert_eq!(cache.active(&TENANT, Purpose::Data), Some(7));
        assert_eq!(cache.active(&TENANT, Purpose::Index), None);
        cache.end_subtransaction();
        assert_eq!(cache.active(&TENANT, Purpose::Data), None);
        cache.remember_active(TENANT, Purpose::Data, 7);
        cache.end_transaction();
        assert_eq!(cache.active(&TENANT, Purpose::Data), None);
    }

    #[test]
    fn removing_keeps_the_others() {
        let mut cache = KeyCache::new();
        for id in 1..=5 {
            cache.insert(id, TENANT, index_key(1), 0);
        }
        cache.remove(2);
        cache.remove(5);
        cache.remove(9);
        let left: Vec<i64> = (1..=5).filter(|id| has(&mut cache, *id, 0)).collect();
        assert_eq!(left, [1, 3, 4]);
    }

    #[test]
    fn size_is_bounded() {
        let mut cache = KeyCache::new();
        for id in 0..(MOST as i64 + 10) {
            cache.insert(id, TENANT, index_key(1), 0);
        }
        assert_eq!(cache.entries.len(), 10);
        assert!(has(&mut cache, MOST as i64 + 9, 0));
        assert!(!has(&mut cache, 0, 0));
    }

    #[test]
    fn a_key_is_used_up_at_two_to_the_32() {
        let mut cache = KeyCache::new();
        cache.insert(1, TENANT, index_key(1), 0);
        let entry = cache.find(1, &TENANT, Purpose::Index, || 0).expect("there");
        entry.sealed = MOST_SEALED - 1;
        assert!(entry.count_sealed());
        assert!(!entry.count_sealed());
        cache.insert(1, TENANT, index_key(1), 0);
        assert!(
            !cache
                .find(1, &TENANT, Purpose::Index, || 0)
                .expect("there")
                .count_sealed()
        );
    }
}
