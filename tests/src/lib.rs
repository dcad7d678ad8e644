//! The harness of the behaviour tests: a throwaway PostgreSQL, the real sidecar, and peers on loopback.
//!
//! [`cluster`] runs servers through `scripts/private_pg.sh`; [`database`] gives each test a database of its own, copied
//! from a template; [`sidecar`] starts the real `rotator` binary, [`terminal`] at a terminal; [`slack`], [`slack_sdk`], [`smtp`], [`kms`], [`s3`] and
//! [`vendor`] (anything with an HTTP API) are the far ends, which record what they got and fail on demand; [`browser`] opens pages
//! as people and scanners do; [`crash`] kills servers, [`restore`] takes their data elsewhere, [`chance`] draws moments that can be had again, [`patience`] waits for
//! events, [`relay`] is a connection that breaks, [`doctor`] asks the doctor, [`postgrest`] begins requests as it does and knows its statuses. The tests
//! themselves, one module a behaviour, are in `tests/behaviour/`. `make test` runs them all; while developing,
//! `scripts/dev-cluster.sh` once and then `cargo test --release -p rotator-tests NAME`.

pub mod bench;
pub mod browser;
pub mod certificates;
pub mod chance;
pub mod cluster;
pub mod crash;
pub mod database;
pub mod doctor;
pub mod exposition;
pub mod kms;
pub mod patience;
pub mod pooler;
pub mod postgrest;
pub mod relay;
pub mod restore;
pub mod s3;
pub mod scratch;
pub mod sidecar;
pub mod slack;
pub mod slack_sdk;
pub mod smtp;
pub mod standby;
pub mod terminal;
pub mod vendor;

pub use chance::Chance;
pub use cluster::{Cluster, Options};
pub use database::{Role, TestDb, refused, scalar, settled};
pub use patience::{eventually, until};
pub use sidecar::{Cli, Sidecar};

/// A count for a test that is meaningful at any size: all of it in `make soak`, a tenth otherwise.
pub fn scaled(full: usize) -> usize {
    if std::env::var_os("ROTATOR_SOAK").is_some() {
        full
    } else {
        full.div_ceil(10)
    }
}
