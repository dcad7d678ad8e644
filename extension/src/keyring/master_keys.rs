//! Master keys in memory, the form they are written in, and everything that can be wrong with them.
//!
//! One key a line, `<id>:<base64 of 32 bytes>`, from a file or from a command. Blank lines and lines starting with `#` are
//! skipped. An id is 1 to 64 of `a-z`, `0-9` and `-`. The first key wraps new data keys, all of them unwrap, so a master
//! key is replaced by putting a new line above the old one. Problems are told by line number, never with bytes of a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::KeyBytes;
use crate::errors::Failure;

/// Longest file and longest output of a command, in bytes.
pub const LARGEST: usize = 64 * 1024;

/// Where master keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    File,
    Command,
}

impl Source {
    pub fn kind(self) -> &'static str {
        match self {
            Source::File => "file",
            Source::Command => "command",
        }
    }

    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Source::File => "the master key file",
            Source::Command => "the output of the master key command",
        }
    }

    /// What to do when its keys are missing or wrong.
    pub fn hint(self) -> &'static str {
        match self {
            Source::File => {
                "Check rotator.master_key_file and the file it names: owned by the server's user, mode 0600, lines \"id:base64 of 32 bytes\". rotator.doctor() tells more."
            }
            Source::Command => {
                "Run the command of rotator.master_key_command as the server's user: within 10 seconds it must print lines \"id:base64 of 32 bytes\" and exit with 0. rotator.doctor() tells more."
            }
        }
    }
}

/// Why there are no master keys.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    #[error("neither rotator.master_key_file nor rotator.master_key_command is set")]
    NotSet,
    #[error("rotator.master_key_file and rotator.master_key_command are both set")]
    BothSet,
    #[error(transparent)]
    File(#[from] super::master_file::Unusable),
    #[error(transparent)]
    Command(#[from] super::master_command::Failed),
    #[error("line {line} of {} {wrong}", .source_of.name())]
    Malformed {
        source_of: Source,
        line: usize,
        wrong: Wrong,
    },
    #[error("{} holds no key", .0.name())]
    Empty(Source),
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Wrong {
    #[error("is not of the form id:base64")]
    NoColon,
    #[error("has an id that is not 1 to 64 of a-z, 0-9 and -")]
    BadId,
    #[error("does not hold 32 bytes in base64")]
    BadKey,
    #[error("repeats an id")]
    RepeatedId,
}

impl Problem {
    /// Whether asking again costs a process.
    pub fn is_of_command(&self) -> bool {
        match self {
            Problem::NotSet | Problem::BothSet | Problem::File(_) => false,
            Problem::Command(_) => true,
            Problem::Malformed { source_of, .. } | Problem::Empty(source_of) => {
                *source_of == Source::Command
            }
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Problem::NotSet => {
                "Set rotator.master_key_file (`rotator keys new-master` makes a file) or rotator.master_key_command, then select pg_reload_conf()."
            }
            Problem::BothSet => {
                "Clear rotator.master_key_file or rotator.master_key_command, then select pg_reload_conf()."
            }
            other if other.is_of_command() => Source::Command.hint(),
            _ => Source::File.hint(),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::MasterKeyUnavailable {
            problem: problem.to_string(),
            hint: problem.hint(),
        }
    }
}

struct MasterKey {
    id: String,
    bytes: KeyBytes,
}

/// The keys of one source, in its order; never empty.
pub struct MasterKeys {
    keys: Vec<MasterKey>,
    source: Source,
}

impl MasterKeys {
    pub fn parse(contents: &[u8], source: Source) -> Result<MasterKeys, Problem> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let key = parse_line(line)
                .and_then(|key| match keys.iter().any(|other| other.id == key.id) {
                    true => Err(Wrong::RepeatedId),
                    false => Ok(key),
                })
                .map_err(|wrong| Problem::Malformed {
                    source_of: source,
                    line: index + 1,
                    wrong,
                })?;
            keys.push(key);
        }
        if keys.is_empty() {
            Err(Problem::Empty(source))
        } else {
            Ok(MasterKeys { keys, source })
        }
    }

    /// The key that wraps, with its id.
    pub fn wrapping(&self) -> (&str, &KeyBytes) {
        let first = &self.keys[0];
        (&first.id, &first.bytes)
    }

    pub fn find(&self, id: &str) -> Option<&KeyBytes> {
        let key = self.keys.iter().find(|key| key.id == id)?;
        Some(&key.bytes)
    }

    pub fn source(&self) -> Source {
        self.source
    }

    /// Ids in their order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }
}

fn parse_line(line: &[u8]) -> Result<MasterKey, Wrong> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Wrong::NoColon)?;
    Ok(MasterKey {
        id: parse_id(&line[..colon]).ok_or(Wrong::BadId)?,
        bytes: parse_key(&line[colon + 1..]).ok_or(Wrong::BadKey)?,
    })
}

fn parse_id(bytes: &[u8]) -> Option<String> {
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if (1..=64).contains(&bytes.len()) && bytes.iter().all(allowed) {
        String::from_utf8(bytes.to_vec()).ok()
    } else {
        None
    }
}

fn parse_key(base64: &[u8]) -> Option<KeyBytes> {
    let mut decoded = Zeroizing::new([0; 34]); // what 44 characters may decode to, with room for the decoder's estimate
    let length = STANDARD
        .decode_slice(base64.trim_ascii(), &mut decoded[..])
        .ok()?;
    let mut bytes: Zeroizing<[u8; 32]> = Zeroizing::new(decoded[..length].try_into().ok()?);
    Some(KeyBytes::take(&mut bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    #[test]
    fn first_wraps_and_all_unwrap() {
        let file = format!("# comment\n\n  2026-11:{TWO}\r\nold:{ONE}\n");
        let Ok(keys) = MasterKeys::parse(file.as_bytes(), Source::File) else {
            panic!("a good file is refused")
        };
        assert_eq!(keys.wrapping().0, "2026-11");
        assert_eq!(keys.wrapping().1.expose(), &[2; 32]);
        assert_eq!(keys.find("old").expect("found").expose(), &[1; 32]);
        assert!(keys.find("other").is_none());
        assert_eq!(keys.ids().collect::<Vec<_>>(), ["2026-11", "old"]);
    }

    #[test]
    fn malformed_lines_are_told_by_number_and_quote_nothing() {
        let long = "a".repeat(65);
        let cases = [
            (String::new(), None),
            ("# only\n\n".into(), None),
            (ONE.into(), Some((1, Wrong::NoColon))),
            (format!("\n:{ONE}"), Some((2, Wrong::BadId))),
            (format!("Big:{ONE}"), Some((1, Wrong::BadId))),
            (format!("a b:{ONE}"), Some((1, Wrong::BadId))),
            (format!("{long}:{ONE}"), Some((1, Wrong::BadId))),
            ("a:".into(), Some((1, Wrong::BadKey))),
            ("a:AAAA".into(), Some((1, Wrong::BadKey))),
            (format!("a:{ONE}{TWO}"), Some((1, Wrong::BadKey))),
            (format!("a:{}", &ONE[..43]), Some((1, Wrong::BadKey))),
            (format!("a:{ONE} b"), Some((1, Wrong::BadKey))),
            (format!("a:{ONE}\0"), Some((1, Wrong::BadKey))),
            (format!("a:{ONE}\n\0"), Some((2, Wrong::NoColon))),
            ("a:****".into(), Some((1, Wrong::BadKey))),
            (format!("a:{}", "01".repeat(32)), Some((1, Wrong::BadKey))),
            (format!("a:{ONE}\na:{TWO}"), Some((2, Wrong::RepeatedId))),
        ];
        for source in [Source::File, Source::Command] {
            for (contents, expected) in &cases {
                let problem = match expected {
                    None => Problem::Empty(source),
                    Some((line, wrong)) => Problem::Malformed {
                        source_of: source,
                        line: *line,
                        wrong: *wrong,
                    },
                };
                let told = problem.to_string();
                assert!(told.contains(source.name()), "{told}");
                assert_eq!(
                    MasterKeys::parse(contents.as_bytes(), source).err(),
                    Some(problem),
                    "{contents}"
                );
            }
        }
    }
}
