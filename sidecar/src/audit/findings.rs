//! What a verification found: counts, and what is wrong, row by row. Elsewhere: finding it (`verify.rs`), printing it
//! (`cli/audit/verify.rs`).

use rotator_audit::hex;

/// So many problems are kept; a log with more isn't better known for it.
const KEPT: usize = 100;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub tenant: Option<[u8; 16]>,
    /// The first row that is known to be bad.
    pub event: Option<i64>,
    pub block: Option<u64>,
    pub what: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The row was sealed and isn't there.
    Gone,
    /// The row is there and should not be.
    Extra,
    Other,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(tenant) = &self.tenant {
            write!(f, "tenant {}: ", hex::uuid(tenant))?;
        }
        f.write_str(&self.what)
    }
}

/// What came out.
#[derive(Debug, Default)]
pub struct Findings {
    /// Events that are what was sealed.
    pub checked: u64,
    pub unsealed: u64,
    pub blocks: u64,
    pub signed: u64,
    pub tenants: u64,
    /// In the order of the log; at most a hundred.
    pub bad: Vec<Bad>,
    /// What isn't wrong, and worth knowing.
    pub notes: Vec<String>,
}

impl Findings {
    pub(super) fn add(&mut self, bad: Bad) {
        if self.bad.len() < KEPT {
            self.bad.push(bad);
        }
    }

    /// An event that is missing in one tenant and too many in another was moved.
    pub(super) fn tell_moves(&mut self) {
        let bad = &mut self.bad;
        for here in 0..bad.len() {
            let (kind, event, tenant) = (bad[here].kind, bad[here].event, bad[here].tenant);
            let other = match kind {
                Kind::Gone => Kind::Extra,
                Kind::Extra => Kind::Gone,
                Kind::Other => continue,
            };
            let moved = bad
                .iter()
                .find(|one| one.kind == other && one.event == event && one.tenant != tenant)
                .and_then(|one| one.tenant);
            if let (Some(moved), Some(id)) = (moved, event) {
                let to_or_from = if kind == Kind::Gone { "to" } else { "from" };
                bad[here].what = format!(
                    "event {id} was moved {to_or_from} tenant {}",
                    hex::uuid(&moved)
                );
            }
        }
    }
}
