//! What the cache of unwrapped keys keeps, forgets and counts, with keys and times of the test's own.

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
fn nothing_of_another_table_is_kept() {
    let mut cache = KeyCache::new();
    cache.belong_to(7);
    cache.insert(1, TENANT, index_key(1), 0);
    cache.remember_guess(TENANT, 1);
    cache.remember_active(TENANT, Purpose::Index, 1);
    spend(&mut cache, 1, 10, 1);
    cache.belong_to(7);
    assert!(has(&mut cache, 1, 0));
    let transaction = cache.transaction();
    cache.belong_to(8);
    assert!(!has(&mut cache, 1, 0));
    assert_eq!(cache.guess(&TENANT), None);
    assert_eq!(cache.active(&TENANT, Purpose::Index), None);
    assert_eq!(cache.transaction(), transaction);
    cache.end_transaction(false);
    assert!(cache.parked.is_empty());
}

#[test]
fn is_checked_again_by_a_later_transaction_only() {
    let mut cache = KeyCache::new();
    cache.insert(1, TENANT, index_key(1), 0);
    assert!(has(&mut cache, 1, LIFETIME));
    cache.end_transaction(true);
    assert!(has(&mut cache, 1, LIFETIME - 1));
    assert!(has(&mut cache, 1, LIFETIME));
    cache.end_transaction(true);
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
    cache.abort_subtransaction(2);
    assert_eq!(cache.active(&TENANT, Purpose::Data), None);
    cache.remember_active(TENANT, Purpose::Data, 7);
    cache.end_transaction(true);
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

/// Uses the key `id` `times` times, from a block of the transaction at `level`.
fn spend(cache: &mut KeyCache, id: i64, times: u64, level: i32) {
    let uses = cache.unsettled_uses(id).expect("there");
    assert!(uses.grant(times + 1, level));
    assert!((0..times).all(|_| uses.count()));
}

fn wanted(cache: &mut KeyCache, id: i64) -> u64 {
    cache.uses(id).expect("there").wanted()
}

#[test]
fn an_account_outlives_its_key_while_it_matters() {
    let mut cache = KeyCache::new();
    for id in 1..=3 {
        cache.insert(id, TENANT, index_key(1), 0);
    }
    spend(&mut cache, 1, 1000, 1);
    spend(&mut cache, 2, 1000, 2);
    cache.remove(1);
    cache.remove(2);
    cache.remove(3);
    cache.abort_subtransaction(2);
    cache.insert(2, TENANT, index_key(1), 0);
    assert_eq!(wanted(&mut cache, 2), 1000 + 128, "owed, its key reloaded");
    cache.end_transaction(true);
    assert!(cache.parked.is_empty(), "paid, or never used");
    cache.insert(1, TENANT, index_key(1), 0);
    assert_eq!(wanted(&mut cache, 1), 64, "forgotten with its key");
    assert_eq!(wanted(&mut cache, 2), 1000 + 128);
}

#[test]
fn accounts_survive_a_cache_that_starts_afresh_and_not_another_tenants_key() {
    let mut cache = KeyCache::new();
    cache.insert(-1, TENANT, index_key(1), 0);
    cache.insert(-2, TENANT, index_key(1), 0);
    spend(&mut cache, -1, 10, 1);
    spend(&mut cache, -2, 10, 1);
    for id in 0..(MOST as i64) {
        cache.insert(id, TENANT, index_key(1), 0);
    }
    cache.end_transaction(false);
    cache.insert(-1, TENANT, index_key(1), 0);
    cache.insert(-2, [2; 16], index_key(1), 0);
    assert_eq!(wanted(&mut cache, -1), 10 + 128);
    assert_eq!(wanted(&mut cache, -2), 64);
}
