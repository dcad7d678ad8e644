//! What an attacker tries, one module a promise, in one binary: it links once. The harness is the crate's library.
//! Behaviours of honest users are in `tests/behaviour/`; the bytes of ciphertexts in the extension's unit tests.

mod audit;
mod audit_source;
mod canary;
mod claims;
mod claims_shapes;
mod dump;
mod fixture;
mod foreign;
mod grants;
mod hostile;
mod identity_memory;
mod isolation;
mod keys;
mod master_key;
mod matrix;
mod member_roles;
mod native;
mod roles;
mod settings;
mod tamper;
mod tenancy;
mod tenancy_choice;
