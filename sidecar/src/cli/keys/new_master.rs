//! `rotator keys new-master`: a fresh line for the master key file, `<id>:<base64 of 32 bytes>`.
//!
//! The id names the day and the key (a hash, which tells nothing about it), so that two files can be compared by eye.
//! The line is the only thing on standard output, and is wiped from memory after it was written.

use std::io::{IsTerminal, stdout};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::cli::output::print;
use crate::failure::{Exit, Failure};

const HINT: &str = "\
hint: put this line into the file that rotator.master_key_file names, owned by the server's user, chmod 600.
      As its first line it wraps new data keys; further down it only unwraps. Keep a copy apart from backups.";

pub fn run() -> Result<Exit, Failure> {
    print(&fresh_line()?)?;
    if stdout().is_terminal() {
        eprintln!("{HINT}");
    }
    Ok(Exit::Ok)
}

/// A master key that nobody has had before.
///
/// # Errors
/// The operating system gives no random bytes.
pub fn fresh_line() -> Result<Zeroizing<String>, Failure> {
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the operating system gives no random bytes: {error}"),
        )
        .hint("Check that /dev/urandom is there.")
    })?;
    Ok(line(&key, Timestamp::now()))
}

fn line(key: &[u8; 32], at: Timestamp) -> Zeroizing<String> {
    let mut digest = Sha256::new();
    digest.update(b"rotator.master.id");
    digest.update(key);
    let id: String = digest
        .finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(80));
    line.push_str(&format!("mk-{}-{id}:", at.strftime("%Y%m%d")));
    STANDARD.encode_string(key, &mut line);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_id_and_32_bytes() {
        let at: Timestamp = "2026-11-22T23:30:00Z".parse().unwrap();
        let text = line(&[7; 32], at);
        let (id, key) = text.trim_end().split_once(':').unwrap();
        let (mk, rest) = id.split_once('-').unwrap();
        assert_eq!((mk, &rest[..9], rest.len()), ("mk", "20261122-", 17));
        assert!(
            rest[9..]
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        );
        assert_eq!(STANDARD.decode(key).unwrap(), [7; 32]);
        assert!(text.len() <= 80);
        assert_ne!(*line(&[8; 32], at), *text);
    }
}
