//! The canonical encoding of rotator's audit log, in one place for everybody who hashes it: the native functions inside
//! PostgreSQL, which seal, and the sidecar, which signs and verifies offline. Pure: no database, no clock, no keys.
//!
//! | module | owns |
//! |---|---|
//! | [`event`] | one event and its leaf |
//! | [`changes`] | what an event changed: JSON as a tree, whatever its text looks like |
//! | [`tree`] | the root over the leaves of a block (RFC 6962) |
//! | [`block`] | the header of a block and the hash that the next one names |
//! | [`note`] | the signed text about a block (C2SP signed-note) |
//! | [`hex`] | bytes as lower-case hexadecimal, and UUIDs, as the database writes them |
//!
//! Three first bytes keep the kinds of hashes apart: 0 a leaf, 1 a node of the tree, 2 a block. Behind it stands a domain
//! with a version; then the fields, each as a tag, its length and its bytes, so that no two different events, and no two
//! different headers, have one encoding. Nothing depends on time zone, date style, key order, or server version.
//!
//! What is released never changes: logs that were sealed with it are verified with it. A different encoding is a new
//! domain beside this one.

pub mod block;
pub mod changes;
pub mod event;
pub mod hex;
pub mod note;
pub mod tree;

mod field;

pub use block::Header;
pub use changes::BadChanges;
pub use event::{Event, leaf};
pub use note::{Note, NoteError, Signature, VerifierKey};
pub use tree::root;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What the first block of a tenant has before it.
pub const NO_PREVIOUS: Hash = [0; 32];
