//! Master keys as text, a line each. In the clear `<id>:<base64 of 32 bytes>`, as the database server reads them;
//! wrapped `<id>:kms:<ARN of the KMS key>:<base64 of what KMS made of the 32 bytes>`. In both, blank lines and lines that
//! begin with `#` mean nothing, an id is 1 to 64 of `a-z`, `0-9` and `-` and occurs once, and the first key wraps.
//!
//! Neither passes for the other: `kms:…` is not base64. Problems are told by line number, never with what is there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::arn::KeyArn;

/// More than this is not read, in bytes; what the database server takes, too.
pub const LARGEST: usize = 64 * 1024;
/// What separates a wrapped line from one in the clear.
const MARK: &str = "kms";
/// A ciphertext of KMS over 32 bytes has about 150; what `Decrypt` takes at most.
const LARGEST_CIPHERTEXT: usize = 6144;

/// A master key in the clear.
pub struct MasterKey {
    pub id: String,
    pub bytes: Zeroizing<[u8; 32]>,
}

/// A master key that only KMS can open.
pub struct Wrapped {
    pub id: String,
    pub key: KeyArn,
    pub ciphertext: Vec<u8>,
}

/// What is wrong with a file of keys, and in which line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("it is not text")]
    NotText,
    #[error("it holds no key")]
    Empty,
    #[error("line {0} is a master key in the clear, not a wrapped one")]
    InTheClear(usize),
    #[error("line {0} is wrapped already")]
    WrappedAlready(usize),
    #[error("line {0} is not of the form id:base64")]
    NotPlain(usize),
    #[error("line {0} is not of the form id:kms:arn:base64")]
    NotWrapped(usize),
    #[error("line {0} has an id that is not 1 to 64 of a-z, 0-9 and -")]
    BadId(usize),
    #[error("line {0} names no KMS key by its ARN")]
    BadArn(usize),
    #[error("line {0} does not end in base64")]
    BadBase64(usize),
    #[error("line {0} does not hold 32 bytes in base64")]
    BadKey(usize),
    #[error("line {0} repeats an id")]
    Repeated(usize),
}

/// Reads keys in the clear.
///
/// # Errors
/// [`Malformed`], for the first line that is no key.
pub fn parse_plain(contents: &[u8]) -> Result<Vec<MasterKey>, Malformed> {
    parse(contents, |id, rest, line| {
        if rest.starts_with("kms:") {
            return Err(Malformed::WrappedAlready(line));
        }
        let bytes = thirty_two(rest.trim()).ok_or(Malformed::BadKey(line))?;
        Ok(MasterKey { id, bytes })
    })
    .map_err(|problem| match problem {
        Malformed::NotWrapped(line) => Malformed::NotPlain(line),
        other => other,
    })
}

/// Reads wrapped keys.
///
/// # Errors
/// [`Malformed`], for the first line that is no wrapped key.
pub fn parse_wrapped(contents: &[u8]) -> Result<Vec<Wrapped>, Malformed> {
    parse(contents, |id, rest, line| {
        let Some((MARK, rest)) = rest.split_once(':') else {
            return Err(if thirty_two(rest).is_some() {
                Malformed::InTheClear(line)
            } else {
                Malformed::NotWrapped(line)
            });
        };
        let (arn, base64) = rest.rsplit_once(':').ok_or(Malformed::NotWrapped(line))?;
        let key = arn.parse().map_err(|_| Malformed::BadArn(line))?;
        let ciphertext = STANDARD.decode(base64).ok();
        let ciphertext = ciphertext
            .filter(|bytes| (1..=LARGEST_CIPHERTEXT).contains(&bytes.len()))
            .ok_or(Malformed::BadBase64(line))?;
        Ok(Wrapped {
            id,
            key,
            ciphertext,
        })
    })
}

trait HasId {
    fn id(&self) -> &str;
}

impl HasId for MasterKey {
    fn id(&self) -> &str {
        &self.id
    }
}

impl HasId for Wrapped {
    fn id(&self) -> &str {
        &self.id
    }
}

fn parse<T: HasId>(
    contents: &[u8],
    read: impl Fn(String, &str, usize) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let text = std::str::from_utf8(contents).map_err(|_| Malformed::NotText)?;
    let mut keys: Vec<T> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (id, rest) = line.split_once(':').ok_or(Malformed::NotWrapped(number))?;
        if !is_id(id) {
            return Err(Malformed::BadId(number));
        }
        let key = read(id.to_owned(), rest, number)?;
        if keys.iter().any(|known| known.id() == key.id()) {
            return Err(Malformed::Repeated(number));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(Malformed::Empty);
    }
    Ok(keys)
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// The 32 bytes of this base64, if that is what it is.
pub fn thirty_two(base64: &str) -> Option<Zeroizing<[u8; 32]>> {
    // 44 characters, with room for the decoder's estimate.
    let mut decoded = Zeroizing::new([0_u8; 34]);
    let length = STANDARD.decode_slice(base64, &mut decoded[..]).ok()?;
    let mut bytes = Zeroizing::new([0_u8; 32]);
    if length != bytes.len() {
        return None;
    }
    bytes.copy_from_slice(&decoded[..length]);
    Some(bytes)
}

/// Lines in the clear, for the database server.
pub fn print_plain(keys: &[MasterKey]) -> Zeroizing<String> {
    // Room for all of it at once: a string that grows leaves copies behind.
    let room = keys.iter().map(|key| key.id.len() + 46).sum();
    let mut text = Zeroizing::new(String::with_capacity(room));
    for key in keys {
        text.push_str(&key.id);
        text.push(':');
        STANDARD.encode_string(key.bytes.as_slice(), &mut text);
        text.push('\n');
    }
    text
}

/// Wrapped lines, with a first line that says what they are.
pub fn print_wrapped(keys: &[Wrapped]) -> String {
    let mut text = "# Master keys of rotator, wrapped by AWS KMS: id:kms:arn:base64. The first wraps, all unwrap.\n\
                    # To be opened by `rotator kms unwrap --in THIS_FILE`.\n"
        .to_owned();
    for key in keys {
        let base64 = STANDARD.encode(&key.ciphertext);
        text.push_str(&format!("{}:{MARK}:{}:{base64}\n", key.id, key.key));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str =
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn wrapped_lines_survive_being_printed() {
        let text = format!("# mine\r\n\n new:kms:{ARN}:AQID\r\nold:kms:{ARN}:BAUG\n");
        let keys = parse_wrapped(text.as_bytes()).unwrap();
        let again = parse_wrapped(print_wrapped(&keys).as_bytes()).unwrap();
        let ids: Vec<&str> = again.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(ids, ["new", "old"]);
        assert_eq!(again[1].ciphertext, [4, 5, 6]);
        assert_eq!(again[0].key.to_string(), ARN);
    }

    #[test]
    fn lines_in_the_clear_survive_being_printed() {
        let text = format!("# mine\nnew:{ONE}\r\n\nold: {ONE}");
        let keys = parse_plain(text.as_bytes()).unwrap();
        assert_eq!(*keys[0].bytes, [1; 32]);
        let printed = print_plain(&keys);
        assert_eq!(*printed, format!("new:{ONE}\nold:{ONE}\n"));
        assert!(printed.capacity() <= printed.len());
    }

    #[test]
    fn neither_passes_for_the_other_and_problems_name_the_line() {
        let wrapped = |text: &str| parse_wrapped(text.as_bytes()).err();
        let plain = |text: &str| parse_plain(text.as_bytes()).err();
        let long = "a".repeat(65);
        assert_eq!(wrapped(&format!("a:{ONE}")), Some(Malformed::InTheClear(1)));
        assert_eq!(
            plain(&format!("\na:kms:{ARN}:AQID")),
            Some(Malformed::WrappedAlready(2))
        );
        assert_eq!(wrapped("#\n"), Some(Malformed::Empty));
        assert_eq!(plain(""), Some(Malformed::Empty));
        assert_eq!(plain("a"), Some(Malformed::NotPlain(1)));
        assert_eq!(plain("a:AQID"), Some(Malformed::BadKey(1)));
        assert_eq!(plain(&format!("a:{ONE}{ONE}")), Some(Malformed::BadKey(1)));
        assert_eq!(plain(&format!("{long}:{ONE}")), Some(Malformed::BadId(1)));
        assert_eq!(
            plain(&format!("a:{ONE}\na:{ONE}")),
            Some(Malformed::Repeated(2))
        );
        for (text, problem) in [
            ("a".to_owned(), Malformed::NotWrapped(1)),
            ("a:kms".to_owned(), Malformed::NotWrapped(1)),
            ("a:kms:b".to_owned(), Malformed::NotWrapped(1)),
            ("a:vault:b:c".to_owned(), Malformed::NotWrapped(1)),
            ("a:kms:b:AQID".to_owned(), Malformed::BadArn(1)),
            (format!("A:kms:{ARN}:AQID"), Malformed::BadId(1)),
            (format!("a:kms:{ARN}:"), Malformed::BadBase64(1)),
            (format!("a:kms:{ARN}:AQI"), Malformed::BadBase64(1)),
            (
                format!("a:kms:{ARN}:AQID\na:kms:{ARN}:AQID"),
                Malformed::Repeated(2),
            ),
        ] {
            assert_eq!(wrapped(&text), Some(problem), "{text}");
        }
        assert_eq!(parse_wrapped(&[0xff, 0xfe]).err(), Some(Malformed::NotText));
    }
}
