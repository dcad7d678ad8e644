//! `rotator audit new-key`: a fresh signing key. The private line is wiped from memory after it was written.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

use crate::audit::key::{KeyError, fresh};
use crate::cli::args::NewAuditKey;
use crate::cli::output::print;
use crate::failure::{Exit, Failure};

pub fn run(args: NewAuditKey) -> Result<Exit, Failure> {
    let name = args.name.unwrap_or_else(|| {
        let today = Timestamp::now().strftime("%Y-%m-%d");
        format!("rotator/audit/{today}")
    });
    let (private, public) = fresh(&name).map_err(|error| match error {
        KeyError::Name => Failure::new(
            Exit::Usage,
            format!("that can't be the name of a key: {error}"),
        )
        .hint("Write it like acme/audit/2026."),
        error => {
            Failure::new(Exit::Failed, error.to_string()).hint("Check that /dev/urandom is there.")
        }
    })?;
    match &args.out {
        Some(path) => write(path, &private).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("can't write {}: {error}", path.display()),
            )
            .hint("Name a file that isn't there yet, in a folder that you may write.")
        })?,
        None => {
            print(&private)?;
            print("\n")?;
        }
    }
    print(&format!("{public}\n"))?;
    Ok(Exit::Ok)
}

fn write(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
