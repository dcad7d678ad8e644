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
mod key_fence;
mod key_uses;
mod keys;
mod master_command;
mod master_command_time;
mod master_key;
mod master_key_change;
mod master_kms;
mod matrix;
mod member_roles;
mod native;
mod nonces;
mod retire_race;
mod reseal;
mod roles;
mod rotation_kill;
mod rotation_model;
mod settings;
mod swap;
mod tamper;
mod tenancy;
mod tenancy_choice;
mod values;
