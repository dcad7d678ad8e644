//! Bytes as lower-case hexadecimal, and tenants as UUIDs: the way the database writes them.

/// Lower-case hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// `N` bytes from exactly `2 * N` hexadecimal digits of either case; `None` for anything else.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

/// A UUID with its hyphens, in lower case.
pub fn uuid(id: &[u8; 16]) -> String {
    let digits = encode(id);
    [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ]
    .join("-")
}

/// The bytes of a UUID as [`uuid`] writes it; `None` for anything else.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let id = decode(&text.replace('-', ""))?;
    (uuid(&id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        assert_eq!(encode(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(decode("001FfF"), Some([0, 0x1f, 0xff]));
        for wrong in ["", "00", "001ff", "001fff00", "001ffg", "0 1fff"] {
            assert_eq!(decode::<3>(wrong), None, "{wrong}");
        }
        let text = "01234567-89ab-cdef-0123-456789abcdef";
        let id = parse_uuid(text).expect("a UUID");
        assert_eq!(uuid(&id), text);
        for wrong in [
            "",
            "0123456789abcdef0123456789abcdef",
            "01234567-89AB-cdef-0123-456789abcdef",
            "0123456-789ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
    }
}
