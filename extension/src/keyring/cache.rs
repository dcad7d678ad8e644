//! Unwrapped keys of one backend with the account of their uses, and which key each tenant writes with in this
//! transaction.
//!
//! Keys are found by id; ids come from a sequence, so an entry survives rollback. It still isn't believed for ever: the
//! first use in a transaction that starts more than [`LIFETIME`] after it was loaded loads it again, so a destroyed key
//! is forgotten (and wiped) by running backends too. Nothing is kept of another table of keys: after the extension was
//! dropped and created again, and perhaps a dump restored, the same id and tenant may name another key. An entry of another
//! tenant or purpose is no hit. The active keys are remembered for one transaction only, and forgotten when a savepoint is
//! rolled back: the row that named them, or the lock that holds them, may be gone. Across transactions they are good for
//! a guess. An account outlives its key here while it knows of uses that no committed row counts.

use std::collections::HashMap;

use super::Purpose;
use super::uses::Uses;
use crate::crypto::aead::Cipher;
use crate::crypto::{KeyBytes, TenantId};

/// In microseconds.
pub const LIFETIME: i64 = 60_000_000;
/// Beyond this many keys the cache starts afresh; an entry is about a kilobyte.
const MOST: usize = 4096;

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
    pub uses: Uses,
    pub material: Material,
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
    guesses: HashMap<TenantId, i64>,
    /// Accounts that matter of keys that are not here.
    parked: HashMap<i64, (TenantId, Uses)>,
    /// Keys whose account the end of this transaction changes.
    unsettled: Vec<i64>,
    transaction: u64,
    /// Oid of the table that all of this is about.
    table: u32,
}

impl KeyCache {
    pub fn new() -> KeyCache {
        KeyCache {
            table: 0,
            entries: Vec::new(),
            places: HashMap::new(),
            last: 0,
            active: Vec::new(),
            guesses: HashMap::new(),
            parked: HashMap::new(),
            unsettled: Vec::new(),
            transaction: 1,
        }
    }

    /// Forgets (and wipes) everything that is not of the table with this oid: what was encrypted with the bytes of a key
    /// that another one has taken the place of, nobody else could read.
    pub fn belong_to(&mut self, table: u32) {
        if self.table != table {
            *self = KeyCache {
                table,
                transaction: self.transaction,
                ..KeyCache::new()
            };
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
        self.remove(id);
        if self.entries.len() >= MOST {
            self.places.clear();
            for entry in std::mem::take(&mut self.entries) {
                self.park(entry);
            }
        }
        let uses = match self.parked.remove(&id) {
            Some((owner, uses)) if owner == tenant => uses,
            _ => Uses::default(),
        };
        self.places.insert(id, self.entries.len());
        self.entries.push(Entry {
            id,
            tenant,
            loaded_at: now,
            checked_in: self.transaction,
            uses,
            material,
        });
    }

    /// Wipes a key, and keeps its account.
    fn park(&mut self, entry: Entry) {
        self.parked.insert(entry.id, (entry.tenant, entry.uses));
    }

    /// Wipes the key `id`.
    pub fn remove(&mut self, id: i64) {
        if let Some(place) = self.places.remove(&id) {
            let entry = self.entries.swap_remove(place);
            self.park(entry);
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

    /// Forgets the active keys: they changed, or a savepoint was rolled back.
    pub fn forget_active(&mut self) {
        self.active.clear();
    }

    /// The data key that `tenant` wrote with last.
    pub fn guess(&self, tenant: &TenantId) -> Option<i64> {
        self.guesses.get(tenant).copied()
    }

    pub fn remember_guess(&mut self, tenant: TenantId, key_id: i64) {
        if self.guesses.len() >= MOST {
            self.guesses.clear();
        }
        self.guesses.insert(tenant, key_id);
    }

    /// The account of key `id`, whose next change is not settled before this transaction ends.
    pub fn unsettled_uses(&mut self, id: i64) -> Option<&mut Uses> {
        if !self.unsettled.contains(&id) {
            self.unsettled.push(id);
        }
        self.uses(id)
    }

    fn uses(&mut self, id: i64) -> Option<&mut Uses> {
        match self.places.get(&id) {
            Some(&place) => self.entries.get_mut(place).map(|entry| &mut entry.uses),
            None => self.parked.get_mut(&id).map(|(_, uses)| uses),
        }
    }

    /// Keys with the uses that no block counts.
    pub fn debts(&self) -> Vec<(i64, TenantId, u64)> {
        let here = self.entries.iter().map(|e| (e.id, e.tenant, &e.uses));
        let parked = self
            .parked
            .iter()
            .map(|(id, (tenant, uses))| (*id, *tenant, uses));
        here.chain(parked)
            .map(|(id, tenant, uses)| (id, tenant, uses.debt()))
            .filter(|(_, _, debt)| *debt > 0)
            .collect()
    }

    fn change_unsettled(&mut self, change: impl Fn(&mut Uses)) {
        for place in 0..self.unsettled.len() {
            if let Some(uses) = self.uses(self.unsettled[place]) {
                change(uses);
            }
        }
    }

    pub fn commit_subtransaction(&mut self, level: i32) {
        self.change_unsettled(|uses| uses.commit_subtransaction(level));
    }

    pub fn abort_subtransaction(&mut self, level: i32) {
        self.forget_active();
        self.change_unsettled(|uses| uses.abort_subtransaction(level));
    }

    pub fn end_transaction(&mut self, committed: bool) {
        self.forget_active();
        self.change_unsettled(|uses| uses.end_transaction(committed));
        self.unsettled.clear();
        if !self.parked.is_empty() {
            self.parked.retain(|_, (_, uses)| uses.matters());
        }
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
mod tests;
