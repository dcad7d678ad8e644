//! What can go wrong, as one enum: each variant has one SQLSTATE, a message and a hint that says what to do next.
//!
//! No message carries plaintext of an encrypted field, key bytes or the value that the guard refused. Turning a
//! [`Failure`] into a PostgreSQL ERROR is `boundary::report`; the statement is hidden from the server log there.

use thiserror::Error;

/// Five characters as SQLSTATE wants them: digits and upper-case ASCII letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    pub const LOOKS_LIKE_SECRET: SqlState = SqlState(*b"RT001");
    pub const NO_TENANT: SqlState = SqlState(*b"RT002");
    pub const MASTER_KEY_UNAVAILABLE: SqlState = SqlState(*b"RT010");
    pub const NOT_AUTHENTIC: SqlState = SqlState(*b"RT011");
    pub const KEY_DESTROYED: SqlState = SqlState(*b"RT012");
    pub const KEY_EXHAUSTED: SqlState = SqlState(*b"RT013");
    pub const INVALID_PARAMETER_VALUE: SqlState = SqlState(*b"22023");
    pub const READ_ONLY: SqlState = SqlState(*b"25006");
    pub const OUT_OF_MEMORY: SqlState = SqlState(*b"53200");
    pub const SYSTEM_ERROR: SqlState = SqlState(*b"58000");
    pub const INTERNAL_ERROR: SqlState = SqlState(*b"XX000");

    /// Reads a SQLSTATE given by SQL; class 00 (success), 01 (warning) and 02 (no data) are no errors.
    pub fn parse(code: &[u8]) -> Option<SqlState> {
        let code: [u8; 5] = code.try_into().ok()?;
        let well_formed = code
            .iter()
            .all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
        let is_error = !matches!(&code[..2], b"00" | b"01" | b"02");
        (well_formed && is_error).then_some(SqlState(code))
    }

    /// PostgreSQL's packing (`MAKE_SQLSTATE`): six bits a character, the first in the lowest bits.
    pub fn packed(self) -> i32 {
        self.0.iter().rev().fold(0, |packed, c| {
            (packed << 6) | (i32::from(c.wrapping_sub(b'0')) & 0x3f)
        })
    }
}

/// Everything the native functions refuse or fail with.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("field \"{field}\" looks like a secret value (rule {rule})")]
    LooksLikeSecret { field: String, rule: &'static str },
    #[error("the master key is not available: {problem}")]
    MasterKeyUnavailable { problem: String, hint: &'static str },
    #[error("the ciphertext is not authentic")]
    NotAuthentic,
    #[error("data key {key_id} does not exist")]
    KeyUnknown { key_id: i64 },
    #[error("data key {key_id} has been destroyed")]
    KeyDestroyed { key_id: i64 },
    #[error("the tenant has no active {purpose} key")]
    NoActiveKey { purpose: &'static str },
    #[error("data key {key_id} has reached its limit of encryptions")]
    KeyExhausted { key_id: i64 },
    #[error(
        "data key {key_id} has been used too often in transactions that can't write its uses down"
    )]
    UncountedUses { key_id: i64 },
    #[error("no tenant, or no role in it")]
    NoTenant { in_claims_mode: bool },
    #[error("{problem}")]
    BadArgument { problem: String, hint: &'static str },
    #[error("out of memory")]
    OutOfMemory,
    #[error("the operating system gave no random bytes")]
    NoEntropy,
    #[error("{what}")]
    Internal { what: &'static str },
    /// An error worded by SQL (`rotator_internal.refuse`); texts are in the server's encoding.
    #[error("refused")]
    Refused {
        state: SqlState,
        message: Vec<u8>,
        hint: Option<Vec<u8>>,
    },
}

impl Failure {
    pub fn state(&self) -> SqlState {
        match self {
            Failure::LooksLikeSecret { .. } => SqlState::LOOKS_LIKE_SECRET,
            Failure::MasterKeyUnavailable { .. } => SqlState::MASTER_KEY_UNAVAILABLE,
            Failure::NotAuthentic => SqlState::NOT_AUTHENTIC,
            Failure::KeyUnknown { .. }
            | Failure::KeyDestroyed { .. }
            | Failure::NoActiveKey { .. } => SqlState::KEY_DESTROYED,
            Failure::KeyExhausted { .. } => SqlState::KEY_EXHAUSTED,
            Failure::UncountedUses { .. } => SqlState::READ_ONLY,
            Failure::NoTenant { .. } => SqlState::NO_TENANT,
            Failure::BadArgument { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Failure::OutOfMemory => SqlState::OUT_OF_MEMORY,
            Failure::NoEntropy => SqlState::SYSTEM_ERROR,
            Failure::Internal { .. } => SqlState::INTERNAL_ERROR,
            Failure::Refused { state, .. } => *state,
        }
    }

    /// The next thing to do; `None` only when SQL raised the error without one.
    pub fn hint(&self) -> Option<&[u8]> {
        let text = match self {
            Failure::LooksLikeSecret { .. } => {
                "rotator stores metadata only. Register a name or a reference (a path, an ARN, a vault key), never the value."
            }
            Failure::NotAuthentic => {
                "The value was changed, or belongs to another row, column or tenant. Restore it from a backup."
            }
            Failure::KeyUnknown { .. } => {
                "Restore the row of rotator_internal.encryption_key from the backup that the ciphertext came from."
            }
            Failure::KeyDestroyed { .. } => {
                "A destroyed key cannot be brought back: what it encrypted is lost on purpose."
            }
            Failure::NoActiveKey { .. } => {
                "Create tenants with rotator.create_tenant(), which makes their keys, or run rotator.rotate_key()."
            }
            Failure::KeyExhausted { .. } => {
                "Run rotator.rotate_key() for this tenant, then try again."
            }
            Failure::UncountedUses { .. } => {
                "Encrypt in a new transaction that may write, on the primary server (through PostgREST: POST, not GET)."
            }
            // As rotator_internal.require_role words them.
            Failure::NoTenant {
                in_claims_mode: true,
            } => "The token must carry the tenant claim, sub, and a role by claim or membership.",
            Failure::NoTenant {
                in_claims_mode: false,
            } => {
                "Choose one with select rotator.use_tenant('<tenant>'); a tenant admin grants roles with rotator.add_member."
            }
            Failure::MasterKeyUnavailable { hint, .. } | Failure::BadArgument { hint, .. } => hint,
            Failure::OutOfMemory => "Give the server more memory, or send shorter values.",
            Failure::NoEntropy => {
                "Check that getrandom(2) works for the server's user (seccomp profile, early boot)."
            }
            Failure::Internal { .. } => {
                "This is a defect of rotator: please report it with the version from rotator.engine_status()."
            }
            Failure::Refused { hint, .. } => return hint.as_deref(),
        };
        Some(text.as_bytes())
    }
}

impl From<crate::crypto::nonce::NoEntropy> for Failure {
    fn from(_: crate::crypto::nonce::NoEntropy) -> Failure {
        Failure::NoEntropy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_like_postgres() {
        // ERRCODE_INVALID_PARAMETER_VALUE and ERRCODE_INTERNAL_ERROR as errcodes.h has them.
        assert_eq!(SqlState::INVALID_PARAMETER_VALUE.packed(), 50_856_066);
        assert_eq!(SqlState::INTERNAL_ERROR.packed(), 2_600);
    }

    #[test]
    fn parses_only_error_states() {
        assert_eq!(SqlState::parse(b"PT404"), Some(SqlState(*b"PT404")));
        for bad in [
            &b"00000"[..],
            b"01000",
            b"02000",
            b"pt404",
            b"PT40",
            b"PT4040",
            b"",
            b"PT 04",
        ] {
            assert_eq!(SqlState::parse(bad), None);
        }
    }

    #[test]
    fn every_failure_has_a_hint() {
        let all = [
            Failure::LooksLikeSecret {
                field: "name".into(),
                rule: "jwt",
            },
            Failure::MasterKeyUnavailable {
                problem: "x".into(),
                hint: "y",
            },
            Failure::NotAuthentic,
            Failure::KeyUnknown { key_id: 1 },
            Failure::KeyDestroyed { key_id: 1 },
            Failure::NoActiveKey { purpose: "data" },
            Failure::KeyExhausted { key_id: 1 },
            Failure::UncountedUses { key_id: 1 },
            Failure::NoTenant {
                in_claims_mode: true,
            },
            Failure::NoTenant {
                in_claims_mode: false,
            },
            Failure::BadArgument {
                problem: "x".into(),
                hint: "y",
            },
            Failure::OutOfMemory,
            Failure::NoEntropy,
            Failure::Internal { what: "x" },
        ];
        for failure in all {
            assert!(failure.hint().is_some_and(|hint| !hint.is_empty()));
        }
    }
}
