//! The tenant a backend is bound to, by `rotator.use_tenant()`.
//!
//! A plain variable would survive ROLLBACK and `discard all`; a setting could be imitated by anyone with SQL. So there
//! are both: the backend keeps [`Bindings`], each under a random mark, and the current mark is put into the setting
//! `rotator.session`, whose value follows transactions, savepoints, `set local` and `discard all`. The tenant is the one
//! whose mark the setting holds, if the session user is still the same. Values that anyone else gives to the setting
//! are discarded (`native::discard_foreign_value`), so an old mark can't be brought back either.
//!
//! [`memory`] spares working out again who the session is, `known` tells it when to forget.

#[cfg(feature = "postgres")]
pub mod known;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod native;

use crate::crypto::{TenantId, equal_in_constant_time};

/// The random part of a binding, as 32 hexadecimal digits and a closing NUL for C.
pub type Mark = [u8; 33];

/// So many bindings can be reached by rolling back to savepoints of one transaction.
const MOST: usize = 1024;

struct Binding {
    tenant: TenantId,
    session_user: u32,
    mark: Mark,
}

/// The bindings of one backend that its setting may still come back to.
pub struct Bindings(Vec<Binding>);

impl Bindings {
    pub const fn new() -> Bindings {
        Bindings(Vec::new())
    }

    /// Adds a binding. `current` is the value of the setting before; `in_new_transaction` says that this is the first
    /// binding of a transaction, when no earlier value than `current` can return.
    pub fn add(
        &mut self,
        tenant: TenantId,
        session_user: u32,
        random: [u8; 16],
        current: &[u8],
        in_new_transaction: bool,
    ) -> Mark {
        if in_new_transaction {
            self.0
                .retain(|binding| equal_in_constant_time(&binding.mark[..32], current));
        }
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let mark = mark(random);
        self.0.push(Binding {
            tenant,
            session_user,
            mark,
        });
        mark
    }

    /// The tenant whose mark the setting holds.
    pub fn find(&self, session_user: u32, current: &[u8]) -> Option<TenantId> {
        let holds = |binding: &&Binding| equal_in_constant_time(&binding.mark[..32], current);
        let found = self.0.iter().rev().find(holds)?;
        (found.session_user == session_user).then_some(found.tenant)
    }
}

impl Default for Bindings {
    fn default() -> Bindings {
        Bindings::new()
    }
}

fn mark(random: [u8; 16]) -> Mark {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut mark = [0; 33];
    for (byte, digits) in random.iter().zip(mark.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_finds_its_tenant_for_the_same_user_only() {
        let mut bindings = Bindings::new();
        let one = bindings.add([1; 16], 10, [0xa5; 16], b"", true);
        let two = bindings.add([2; 16], 10, [0x5a; 16], &one[..32], false);
        assert_eq!(&one[..4], b"a5a5");
        assert_eq!(bindings.find(10, &one[..32]), Some([1; 16]));
        assert_eq!(bindings.find(10, &two[..32]), Some([2; 16]));
        assert_eq!(bindings.find(11, &two[..32]), None);
        assert_eq!(bindings.find(10, b""), None);
        assert_eq!(bindings.find(10, &two[..31]), None);
    }

    #[test]
    fn a_new_transaction_keeps_only_the_current_one() {
        let mut bindings = Bindings::new();
        let one = bindings.add([1; 16], 10, [1; 16], b"", true);
        let two = bindings.add([2; 16], 10, [2; 16], &one[..32], false);
        bindings.add([3; 16], 10, [3; 16], &two[..32], true);
        assert_eq!(bindings.find(10, &one[..32]), None);
        assert_eq!(bindings.find(10, &two[..32]), Some([2; 16]));
    }

    #[test]
    fn never_grows_without_bound() {
        let mut bindings = Bindings::new();
        for count in 0..5000_u32 {
            bindings.add([1; 16], 10, u128::from(count).to_be_bytes(), b"", false);
        }
        assert_eq!(bindings.0.len(), MOST);
    }
}
