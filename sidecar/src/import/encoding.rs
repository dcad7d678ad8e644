//! Turns a file of any encoding that is certain into UTF-8, as it is read.
//!
//! A byte-order mark says UTF-8 or UTF-16. Without one a file is UTF-8, unless the user names another encoding: which of
//! the one-byte encodings a file has can't be told from its bytes, and a wrong guess would store wrong names. What can't
//! be decoded (half a surrogate pair, a byte that the code page leaves open) becomes a byte that is no UTF-8, so that the
//! row it is in is reported and the others go in.

use std::io::{BufRead, BufReader, Read};

use super::ReadError;

/// What stands for something undecodable: never part of UTF-8.
const UNDECODABLE: u8 = 0xff;

/// Code page 1252 where it differs from Latin-1; 0 where it has no character.
/// <https://encoding.spec.whatwg.org/index-windows-1252.txt>, whose five stopgaps are left open here.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039,
    0x0152, 0, 0x017d, 0, 0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc,
    0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    #[value(name = "utf-8")]
    Utf8,
    #[value(name = "utf-16le")]
    Utf16Le,
    #[value(name = "utf-16be")]
    Utf16Be,
    #[value(name = "windows-1252")]
    Windows1252,
    #[value(name = "latin1", alias = "iso-8859-1")]
    Latin1,
}

impl Encoding {
    /// As `--encoding` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Utf16Le => "utf-16le",
            Self::Utf16Be => "utf-16be",
            Self::Windows1252 => "windows-1252",
            Self::Latin1 => "latin1",
        }
    }
}

/// `source` as UTF-8 without a byte-order mark. `named` is what the user says it is.
///
/// # Errors
/// It can't be read; it is UTF-32; its mark contradicts the user.
pub fn decoded<'a>(
    source: impl Read + 'a,
    named: Option<Encoding>,
) -> Result<Box<dyn Read + 'a>, ReadError> {
    let mut source = BufReader::with_capacity(64 * 1024, source);
    let mut start = Vec::new();
    source.by_ref().take(4).read_to_end(&mut start)?;
    let marked = match start.as_slice() {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => return Err(ReadError::Utf32),
        [0xef, 0xbb, 0xbf, ..] => Some((Encoding::Utf8, 3)),
        [0xff, 0xfe, ..] => Some((Encoding::Utf16Le, 2)),
        [0xfe, 0xff, ..] => Some((Encoding::Utf16Be, 2)),
        _ => None,
    };
    if let (Some((marked, _)), Some(named)) = (marked, named)
        && marked != named
    {
        return Err(ReadError::OtherMark {
            marked: marked.name(),
            named: named.name(),
        });
    }
    let mark = marked.map_or(0, |(_, length)| length);
    let encoding = marked.map(|(encoding, _)| encoding).or(named);
    let source = std::io::Cursor::new(start.split_off(mark)).chain(source);
    Ok(match encoding.unwrap_or(Encoding::Utf8) {
        Encoding::Utf8 => Box::new(source),
        encoding => Box::new(Decoder {
            source: BufReader::new(source),
            encoding,
            half: None,
            ready: Vec::new(),
            given: 0,
        }),
    })
}

struct Decoder<R> {
    source: BufReader<R>,
    encoding: Encoding,
    /// The first half of a surrogate pair.
    half: Option<u16>,
    ready: Vec<u8>,
    given: usize,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
            self.decode()?;
        }
        let length = buffer.len().min(self.ready.len() - self.given);
        buffer[..length].copy_from_slice(&self.ready[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

impl<R: Read> Decoder<R> {
    /// Decodes some more of the source; nothing more is ready at its end only.
    fn decode(&mut self) -> std::io::Result<()> {
        match self.encoding {
            Encoding::Utf16Le | Encoding::Utf16Be => {
                while self.ready.len() < 16 * 1024 {
                    let mut pair = Vec::with_capacity(2);
                    self.source.by_ref().take(2).read_to_end(&mut pair)?;
                    match *pair.as_slice() {
                        [one, two] => {
                            let unit = if self.encoding == Encoding::Utf16Le {
                                u16::from_le_bytes([one, two])
                            } else {
                                u16::from_be_bytes([one, two])
                            };
                            self.unit(unit);
                        }
                        _ => {
                            if self.half.take().is_some() || !pair.is_empty() {
                                self.ready.push(UNDECODABLE);
                            }
                            return Ok(());
                        }
                    }
                }
            }
            encoding => {
                let bytes = self.source.fill_buf()?;
                for &byte in bytes {
                    let point = match byte {
                        0x80..=0x9f if encoding == Encoding::Windows1252 => {
                            WINDOWS_1252[usize::from(byte - 0x80)]
                        }
                        _ => u16::from(byte),
                    };
                    push(
                        &mut self.ready,
                        char::from_u32(u32::from(point)).filter(|_| point > 0 || byte == 0),
                    );
                }
                let length = bytes.len();
                self.source.consume(length);
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: u16) {
        if let Some(half) = self.half.take() {
            let decoded = char::decode_utf16([half, unit]).next();
            push(&mut self.ready, decoded.and_then(Result::ok));
            if matches!(unit, 0xdc00..=0xdfff) {
                return;
            }
        }
        match unit {
            0xd800..=0xdbff => self.half = Some(unit),
            _ => push(&mut self.ready, char::from_u32(u32::from(unit))),
        }
    }
}

fn push(ready: &mut Vec<u8>, c: Option<char>) {
    match c {
        Some(c) => ready.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => ready.push(UNDECODABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], named: Option<Encoding>) -> Result<Vec<u8>, ReadError> {
        let mut text = Vec::new();
        decoded(bytes, named)?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn utf16(text: &str, mark: bool, convert: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter()
            .chain(text.encode_utf16())
            .flat_map(convert)
            .collect()
    }

    #[test]
    fn marks_say_what_a_file_is() {
        let text = "näme,€,😀\n";
        assert_eq!(read(text.as_bytes(), None).unwrap(), text.as_bytes());
        assert_eq!(
            read(format!("\u{feff}{text}").as_bytes(), None).unwrap(),
            text.as_bytes()
        );
        assert_eq!(
            read(&utf16(text, true, u16::to_le_bytes), None).unwrap(),
            text.as_bytes()
        );
        assert_eq!(
            read(&utf16(text, true, u16::to_be_bytes), None).unwrap(),
            text.as_bytes()
        );
        let named = Some(Encoding::Utf16Be);
        assert_eq!(
            read(&utf16(text, false, u16::to_be_bytes), named).unwrap(),
            text.as_bytes()
        );
        let long = text.repeat(10_000);
        assert_eq!(
            read(&utf16(&long, true, u16::to_le_bytes), None).unwrap(),
            long.as_bytes()
        );
        assert_eq!(read(b"", None).unwrap(), b"");
        assert_eq!(read(b"\xef\xbb\xbf", None).unwrap(), b"");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(
            read(b"\xff\xfe\0\0n\0\0\0", None).unwrap_err(),
            ReadError::Utf32
        );
        assert!(matches!(
            read(b"\xef\xbb\xbfname", Some(Encoding::Latin1)).unwrap_err(),
            ReadError::OtherMark { .. }
        ));
        assert!(read(b"\xef\xbb\xbfname", Some(Encoding::Utf8)).is_ok());
    }

    #[test]
    fn one_byte_encodings_are_read_when_named() {
        let bytes = b"Gr\xfc\xdfe \x80 \x93x\x94";
        assert_eq!(
            read(bytes, Some(Encoding::Windows1252)).unwrap(),
            "Grüße € “x”".as_bytes()
        );
        assert_eq!(
            read(b"Gr\xfc\xdfe", Some(Encoding::Latin1)).unwrap(),
            "Grüße".as_bytes()
        );
        assert_eq!(read(bytes, None).unwrap(), bytes);
    }

    #[test]
    fn what_can_not_be_decoded_is_no_utf8() {
        let lone = [0x61, 0x00, 0x3d, 0xd8, 0x62, 0x00, 0x3d, 0xd8];
        assert_eq!(read(&lone, Some(Encoding::Utf16Le)).unwrap(), b"a\xffb\xff");
        assert_eq!(
            read(&[0x61, 0x00, 0x62], Some(Encoding::Utf16Le)).unwrap(),
            b"a\xff"
        );
        assert_eq!(
            read(b"a\x81b\0", Some(Encoding::Windows1252)).unwrap(),
            b"a\xffb\0"
        );
    }
}
