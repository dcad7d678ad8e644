//! The audit log outside of the database: signatures over sealed blocks, copies where nobody can take them back, and
//! verification by whoever has an export and the public key. Encoding and hashes: crate `rotator-audit`. Sealing:
//! `sql/api/audit*.sql`. A reader's view of all this: docs/audit.md.
//!
//! - `key`: Ed25519 keys as lines of text; signing, checking
//! - `copy`: a signed block as a line of JSON; `file`: the append-only file; `s3`: objects with Object Lock
//! - `signer`: checks a block, signs it, sees to it that copies exist
//! - `export`: the log as lines of JSON, written and read; `lines`: those lines
//! - `verify`: goes through a log and says what is wrong (`findings`); `copies`: looks up what was signed; `history`: what
//!   order says
//!
//! Driven by `serve/audit.rs` and `cli/audit/`.

mod copies;
mod copy;
pub mod export;
mod file;
mod findings;
mod history;
pub mod key;
mod lines;
mod s3;
mod signer;
mod verify;

pub use copies::{Copies, CopiesError};
pub use copy::Block;
pub use findings::{Bad, Findings};
pub use key::{KeyError, PublicKey, SigningKey};
pub use s3::{Bucket, S3Url};
pub use signer::{Sealed, Signer, SinkError, Trouble};
pub use verify::Verifier;
