//! What the command printed as an error, fit to be shown to a client and to be logged.
//!
//! A program in trouble may print the key it holds. So only the first line is shown, at most 200 characters of it, and any
//! run of 16 or more characters of base64 or hex gives way to an ellipsis: a key is longer in every encoding.

/// How much of stderr is kept, in bytes.
pub const KEPT: usize = 4096;
const SHOWN: usize = 200;
const LONGEST_RUN: usize = 15;

/// `: ` and the first line, redacted; empty when nothing was said.
pub fn shown(stderr: &[u8]) -> String {
    let line = stderr
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let mut shown = String::new();
    for run in line.chunk_by(|a, b| is_of_a_key(*a) == is_of_a_key(*b)) {
        if is_of_a_key(run[0]) && run.len() > LONGEST_RUN {
            shown.push_str("...");
        } else {
            shown.extend(run.iter().map(|byte| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '?',
            }));
        }
    }
    shown.truncate(SHOWN);
    if !shown.is_empty() {
        shown.insert_str(0, ": ");
    }
    shown
}

/// Base64 in both alphabets, and so hex.
fn is_of_a_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_shown() {
        assert_eq!(shown(b""), "");
        assert_eq!(shown(b"\n \r\n"), "");
        assert_eq!(shown(b"\n  access denied \nsecond"), ": access denied");
        assert_eq!(shown("caf\u{e9}\x1b[1m".as_bytes()), ": caf???[1m");
        assert_eq!(shown(&b"no ".repeat(200)).len(), 2 + 200);
    }

    #[test]
    fn keys_are_not() {
        let base64 = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
        let base64url = "q83vASNFZ4m-ze8BI0VniavN7wEjRWeJq83v_SNFZ4k";
        let hex = "abcdef0123456789".repeat(4);
        for key in [
            base64,
            base64url,
            &hex,
            &hex.to_uppercase(),
            "exactly-16-chars",
        ] {
            for line in [
                format!("cannot use {key}"),
                format!("2026-11:{key} is wrong"),
                format!("key=\"{key}\""),
                key.to_owned(),
            ] {
                let shown = shown(line.as_bytes());
                assert!(
                    shown.contains("...") && !shown.contains(&key[..16]),
                    "{shown}"
                );
                assert!(!shown.contains(&key[key.len() - 8..]), "{shown}");
            }
        }
        assert_eq!(shown(b"fifteen-letters"), ": fifteen-letters");
    }
}
