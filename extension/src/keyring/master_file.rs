//! The master key file: one key a line, `<id>:<base64 of 32 bytes>`.
//!
//! Blank lines and lines starting with `#` are skipped. An id is 1 to 64 of `a-z`, `0-9` and `-`. The first key wraps
//! new data keys, all of them unwrap, so a master key is replaced by putting a new line above the old one. The file is
//! checked the way PostgreSQL checks `ssl_key_file`. Problems are told by line number, never with bytes of the file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::KeyBytes;

const LARGEST: u64 = 64 * 1024;
/// Don't wait for a writer should the path name a FIFO.
const O_NONBLOCK: i32 = 0o4000;

/// Why there are no master keys.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Problem {
    #[error("rotator.master_key_file is not set")]
    NotSet,
    #[error("rotator.master_key_file must be an absolute path")]
    NotAbsolute,
    #[error("the master key file cannot be opened: {0}")]
    Unopenable(String),
    #[error("the master key file is no regular file")]
    NotAFile,
    #[error("the master key file belongs to user {0}, it must belong to the server's user or root")]
    WrongOwner(u32),
    #[error(
        "the master key file has mode {0:04o}, it must be 0600 or less (0640 or less when it belongs to root)"
    )]
    TooOpen(u32),
    #[error("the master key file is larger than 64 KiB")]
    TooLarge,
    #[error("the master key file cannot be read: {0}")]
    Unreadable(String),
    #[error("line {0} of the master key file is not of the form id:base64")]
    NoColon(usize),
    #[error("line {0} of the master key file has an id that is not 1 to 64 of a-z, 0-9 and -")]
    BadId(usize),
    #[error("line {0} of the master key file does not hold 32 bytes in base64")]
    BadKey(usize),
    #[error("line {0} of the master key file repeats an id")]
    RepeatedId(usize),
    #[error("the master key file holds no key")]
    Empty,
}

struct MasterKey {
    id: String,
    bytes: KeyBytes,
}

/// The keys of one file, in its order; never empty.
pub struct MasterKeys(Vec<MasterKey>);

impl MasterKeys {
    /// Reads and checks the file at `path` for a server that runs as `server_uid`.
    pub fn read(path: &str, server_uid: u32) -> Result<MasterKeys, Problem> {
        if path.is_empty() {
            return Err(Problem::NotSet);
        }
        if !Path::new(path).is_absolute() {
            return Err(Problem::NotAbsolute);
        }
        let unopenable = |error: std::io::Error| Problem::Unopenable(reason(&error));
        let file = File::options()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(path)
            .map_err(unopenable)?;
        // Of the opened file, not of the path: nobody can swap them in between.
        let metadata = file.metadata().map_err(unopenable)?;
        let mode = metadata.mode() & 0o7777;
        if !metadata.is_file() {
            return Err(Problem::NotAFile);
        }
        match metadata.uid() {
            uid if uid == server_uid && mode & 0o077 != 0 => return Err(Problem::TooOpen(mode)),
            uid if uid == server_uid => {}
            0 if mode & 0o037 != 0 => return Err(Problem::TooOpen(mode)),
            0 => {}
            uid => return Err(Problem::WrongOwner(uid)),
        }
        if metadata.len() > LARGEST {
            return Err(Problem::TooLarge);
        }
        // Allocated once, so that growing leaves no copy behind.
        let mut contents = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
        file.take(LARGEST + 1)
            .read_to_end(&mut contents)
            .map_err(|error| Problem::Unreadable(reason(&error)))?;
        if contents.len() as u64 > LARGEST {
            return Err(Problem::TooLarge);
        }
        MasterKeys::parse(&contents)
    }

    pub fn parse(contents: &[u8]) -> Result<MasterKeys, Problem> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
            let (number, line) = (index + 1, line.trim_ascii());
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let colon = line
                .iter()
                .position(|byte| *byte == b':')
                .ok_or(Problem::NoColon(number))?;
            let id = parse_id(&line[..colon]).ok_or(Problem::BadId(number))?;
            let bytes = parse_key(&line[colon + 1..]).ok_or(Problem::BadKey(number))?;
            if keys.iter().any(|key| key.id == id) {
                return Err(Problem::RepeatedId(number));
            }
            keys.push(MasterKey { id, bytes });
        }
        if keys.is_empty() {
            Err(Problem::Empty)
        } else {
            Ok(MasterKeys(keys))
        }
    }

    /// The key that wraps, with its id.
    pub fn wrapping(&self) -> (&str, &KeyBytes) {
        let first = &self.0[0];
        (&first.id, &first.bytes)
    }

    pub fn find(&self, id: &str) -> Option<&KeyBytes> {
        self.0.iter().find(|key| key.id == id).map(|key| &key.bytes)
    }
}

fn reason(error: &std::io::Error) -> String {
    error.kind().to_string()
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
    use std::os::unix::fs::PermissionsExt;

    const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn problem(contents: &str) -> Option<Problem> {
        MasterKeys::parse(contents.as_bytes()).err()
    }

    #[test]
    fn first_wraps_and_all_unwrap() {
        let file = format!("# comment\n\n  2026-11:{TWO}\r\nold:{ONE}\n");
        let Ok(keys) = MasterKeys::parse(file.as_bytes()) else {
            panic!("a good file is refused")
        };
        assert_eq!(keys.wrapping().0, "2026-11");
        assert_eq!(keys.wrapping().1.expose(), &[2; 32]);
        assert_eq!(keys.find("old").expect("found").expose(), &[1; 32]);
        assert!(keys.find("other").is_none());
    }

    #[test]
    fn malformed_files_name_the_line_and_quote_nothing() {
        let long = "a".repeat(65);
        let cases = [
            (String::new(), Problem::Empty),
            ("# only\n\n".into(), Problem::Empty),
            (ONE.into(), Problem::NoColon(1)),
            (format!("\n:{ONE}"), Problem::BadId(2)),
            (format!("Big:{ONE}"), Problem::BadId(1)),
            (format!("a b:{ONE}"), Problem::BadId(1)),
            (format!("{long}:{ONE}"), Problem::BadId(1)),
            ("a:".into(), Problem::BadKey(1)),
            ("a:AAAA".into(), Problem::BadKey(1)),
            (format!("a:{ONE}{TWO}"), Problem::BadKey(1)),
            (format!("a:{}", &ONE[..43]), Problem::BadKey(1)),
            (format!("a:{ONE} b"), Problem::BadKey(1)),
            ("a:****".into(), Problem::BadKey(1)),
            (format!("a:{}", "01".repeat(32)), Problem::BadKey(1)),
            (format!("a:{ONE}\na:{TWO}"), Problem::RepeatedId(2)),
        ];
        for (contents, expected) in cases {
            assert_eq!(problem(&contents), Some(expected), "{contents}");
        }
    }

    #[test]
    fn permissions_and_owner_are_checked() {
        let path = std::env::temp_dir().join(format!("rotator-master-{}", std::process::id()));
        std::fs::write(&path, format!("a:{ONE}\n")).expect("writes");
        let uid = std::fs::metadata(&path).expect("stats").uid();
        let name = path.to_str().expect("utf-8").to_owned();
        let with_mode = |mode: u32, server: u32| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
            MasterKeys::read(&name, server).err()
        };
        assert_eq!(with_mode(0o600, uid), None);
        assert_eq!(with_mode(0o400, uid), None);
        for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
            assert_eq!(with_mode(mode, uid), Some(Problem::TooOpen(mode)));
        }
        if uid == 0 {
            assert_eq!(with_mode(0o640, 7), None);
            assert_eq!(with_mode(0o644, 7), Some(Problem::TooOpen(0o644)));
        } else {
            assert_eq!(with_mode(0o600, uid + 1), Some(Problem::WrongOwner(uid)));
        }
        std::fs::remove_file(&path).expect("removes");
        assert!(matches!(
            MasterKeys::read(&name, uid),
            Err(Problem::Unopenable(_))
        ));
        assert_eq!(MasterKeys::read("", uid).err(), Some(Problem::NotSet));
        assert_eq!(
            MasterKeys::read("keys", uid).err(),
            Some(Problem::NotAbsolute)
        );
        assert_eq!(MasterKeys::read("/", uid).err(), Some(Problem::NotAFile));
        assert_eq!(
            MasterKeys::read("/dev/null", uid).err(),
            Some(Problem::NotAFile)
        );
    }
}
