//! Seed phrases of wallets (BIP-39): 12 to 24 words of the English list in a row, the last of them with the right
//! checksum. Prose doesn't have twelve such words in a row, and if it did, a sixteenth of them would pass the checksum.

use std::collections::HashMap;
use std::sync::LazyLock;

use bip39::Language;
use sha2::{Digest, Sha256};

use super::steps;

const LENGTHS: [usize; 5] = [12, 15, 18, 21, 24];
const LONGEST: usize = 24;
/// The list's longest word has so many letters.
const LONGEST_WORD: usize = 8;
/// What may stand between two words: a blank, a comma and quotes, a number with a dot.
const WIDEST_GAP: usize = 8;

static WORDS: LazyLock<HashMap<&'static [u8], u16>> = LazyLock::new(|| {
    Language::English
        .word_list()
        .iter()
        .zip(0..)
        .map(|(word, number)| (word.as_bytes(), number))
        .collect()
});

pub fn find(bytes: &[u8]) -> Option<&'static str> {
    // Each word has three letters, and something before the next.
    if bytes.len() < 12 * 4 - 1 {
        return None;
    }
    let mut row: Vec<u16> = Vec::new();
    let mut position = 0;
    while position < bytes.len() {
        let gap = bytes[position..]
            .iter()
            .take_while(|byte| !byte.is_ascii_alphabetic() && byte.is_ascii())
            .count();
        position += gap;
        let length = bytes[position..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii())
            .count();
        steps::count(gap + length + 1);
        if gap > WIDEST_GAP {
            row.clear();
        }
        match number(&bytes[position..position + length]) {
            Some(number) => row.push(number),
            None => row.clear(),
        }
        if row.len() > LONGEST {
            row.remove(0);
        }
        if LENGTHS
            .iter()
            .any(|length| row.len() >= *length && has_checksum(&row[row.len() - length..]))
        {
            return Some("seed-phrase");
        }
        position += length;
    }
    None
}

/// The place of a word in the list.
fn number(word: &[u8]) -> Option<u16> {
    if !(3..=LONGEST_WORD).contains(&word.len()) {
        return None;
    }
    let mut lower = [0; LONGEST_WORD];
    for (to, from) in lower.iter_mut().zip(word) {
        *to = from.to_ascii_lowercase();
    }
    WORDS.get(&lower[..word.len()]).copied()
}

/// Eleven bits a word; the last of them, one for each three words, are the first of the hash of the rest.
fn has_checksum(row: &[u16]) -> bool {
    steps::count(64);
    let mut bits = [0_u8; LONGEST * 11 / 8];
    for (place, word) in row.iter().enumerate() {
        for bit in 0..11 {
            if word >> (10 - bit) & 1 == 1 {
                let at = place * 11 + bit;
                bits[at / 8] |= 0x80 >> (at % 8);
            }
        }
    }
    let checked = row.len() / 3;
    let entropy = (row.len() * 11 - checked) / 8;
    let hash = Sha256::digest(&bits[..entropy]);
    hash[0] >> (8 - checked) == bits[entropy] >> (8 - checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phrase for these bytes of entropy.
    fn phrase(entropy: &[u8]) -> String {
        let mut bits: Vec<bool> = entropy
            .iter()
            .chain(&Sha256::digest(entropy)[..1])
            .flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1 == 1))
            .collect();
        bits.truncate(entropy.len() * 8 + entropy.len() / 4);
        bits.chunks(11)
            .map(|word| word.iter().fold(0, |sum, bit| sum * 2 + usize::from(*bit)))
            .map(|word| Language::English.word_list()[word])
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_standards_own_examples_are_found() {
        // From the test vectors of BIP-39: entropy of zeros and of ones.
        assert!(phrase(&[0; 16]).ends_with("abandon about"));
        assert!(phrase(&[0xff; 32]).ends_with("zoo vote"));
        for length in [16, 20, 24, 28, 32] {
            for byte in [0, 0x7f, 0x80, 0xff] {
                assert!(find(phrase(&vec![byte; length]).as_bytes()).is_some());
            }
        }
    }

    #[test]
    fn a_wrong_last_word_is_no_phrase() {
        let right = phrase(&[0x42; 16]);
        let words: Vec<&str> = right.split(' ').collect();
        let found = Language::English
            .word_list()
            .iter()
            .filter(|last| find(format!("{} {last}", words[..11].join(" ")).as_bytes()).is_some())
            .count();
        assert_eq!(found, 128, "of 2048 last words one in sixteen is right");
    }

    #[test]
    fn it_may_be_numbered_listed_or_shouted() {
        let right = phrase(&[0x17; 16]);
        let words: Vec<&str> = right.split(' ').collect();
        let numbered: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(place, word)| format!("{}. {word}", place + 1))
            .collect();
        for text in [
            numbered.join("\n"),
            words.join(", "),
            format!("[\"{}\"]", words.join("\", \"")),
            right.to_uppercase(),
            format!("our phrase: {right}. keep it safe"),
        ] {
            assert!(find(text.as_bytes()).is_some(), "{text}");
        }
    }
}
