//! The `rotator` binary: a shim over [`rotator_sidecar::run`], which tests can call as well.

use std::process::ExitCode;

fn main() -> ExitCode {
    rotator_sidecar::run(std::env::args_os())
}
