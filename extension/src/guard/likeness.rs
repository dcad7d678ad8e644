//! How much a piece of text looks drawn by chance rather than named by somebody: bits of evidence, character by
//! character, for "each letter and digit equally likely" against "words, numbers and abbreviations".
//!
//! Pairs of letters come from words people put into names: the BIP-39 list and the vocabulary below. What a name does
//! with upper case and digits is in [`follow`]: words are of one case, digits stand together.

use std::collections::HashSet;
use std::sync::LazyLock;

use bip39::Language;

use super::steps;

/// Words that names of credentials are made of, beside plain English.
const VOCABULARY: &str = "api app auth aws azure backend backup batch billing bucket cache cert \
certificate checkout chrome ci claim cloud cluster com config connect consumer core cpu credential cron crypto \
customer dashboard data database datadog db debug default deploy dev dns docker domain east elastic email endpoint env \
environment eu event example exchange export external fallback finance firebase frontend gateway gcp germany git \
github gitlab google grafana graph hashicorp helm host hub iam identity image import infra ingress instance int internal \
invoice io jenkins jira job jwt kafka key keycloak kube kubernetes lambda ldap legacy live load local log login machine \
mail manager marketing master metrics microservice migration mobile monitor mongo mysql name namespace net network node \
north notification oauth office okta ops oracle order org owner password payment payroll pipeline platform pod policy \
postgres postgresql prod production profile project prometheus prov proxy public queue rabbitmq rds read readonly redis \
region registry release replica report repo request resource role root rotate rotation router runner sales sandbox \
scheduler schema search secret secrets security sendgrid sentry server service session shared shop signing slack smtp \
snowflake south sql ssh ssl staging stage storage stripe subscription support sync system team tenant terraform test \
throttle tls token topic tracking traffic twilio uat user vault vendor version vpn warehouse web webhook west wildcard \
worker workspace write zone schluessel zertifikat zugang kennwort rechnung zahlung schnittstelle datenbank kunden \
verwaltung dienst cle motdepasse facturation paiement sauvegarde clave contrasena facturacion servicio produccion";

/// Evidence of a pair of letters for chance, in sixteenths of a bit.
static PAIRS: LazyLock<[[i16; 26]; 26]> = LazyLock::new(|| {
    // A quarter of a pair of each kind, so that an unseen one isn't impossible.
    let mut counts = [[0.25_f64; 26]; 26];
    let words = Language::English.word_list().iter().copied();
    for word in words.chain(VOCABULARY.split_whitespace()) {
        for pair in word.as_bytes().windows(2) {
            counts[usize::from(pair[0] - b'a')][usize::from(pair[1] - b'a')] += 1.0;
        }
    }
    let mut evidence = [[0; 26]; 26];
    for (row, counts) in evidence.iter_mut().zip(&counts) {
        let sum: f64 = counts.iter().sum();
        for (bits, count) in row.iter_mut().zip(counts) {
            // Of a pair that words never have no more than 2.5 bits: it may be an abbreviation.
            let ratio = (sum / 26.0 / count).log2().clamp(-3.0, 2.5);
            *bits = (ratio * 16.0).round() as i16;
        }
    }
    evidence
});

static WORDS: LazyLock<HashSet<&'static [u8]>> = LazyLock::new(|| {
    let words = Language::English.word_list().iter().copied();
    words
        .chain(VOCABULARY.split_whitespace())
        .map(str::as_bytes)
        .collect()
});

/// Whether at least half of the letters are in words we know, as in `ProdEUWest1ReadOnlyUser`.
pub fn is_made_of_words(text: &[u8]) -> bool {
    steps::count(text.len());
    let (mut known, mut letters, mut start) = (0, 0, 0);
    for end in 1..=text.len() {
        let goes_on = text.get(end).is_some_and(|next| {
            let last = text[end - 1];
            // A word is of one case, or begins with a capital: `DBUser` is two.
            let begins = text.get(end + 1).is_some_and(u8::is_ascii_lowercase);
            next.is_ascii_lowercase() && last.is_ascii_alphabetic()
                || next.is_ascii_uppercase() && last.is_ascii_uppercase() && !begins
        });
        if goes_on {
            continue;
        }
        let word = &text[start..end];
        start = end;
        if word.iter().all(u8::is_ascii_alphabetic) {
            letters += word.len();
            if (2..=16).contains(&word.len()) && WORDS.contains(&word.to_ascii_lowercase()[..]) {
                known += word.len();
            }
        }
    }
    known * 2 >= letters
}

/// What a character is, as far as chance and names differ in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Lower,
    Upper,
    Digit,
    /// `-`, `_` and `/`, between the parts of names and now and then in base64
    Joint,
    /// `+` and `=`, in base64 alone
    Sign,
}

impl Kind {
    pub fn of(byte: u8) -> Option<Kind> {
        match byte {
            b'a'..=b'z' => Some(Kind::Lower),
            b'A'..=b'Z' => Some(Kind::Upper),
            b'0'..=b'9' => Some(Kind::Digit),
            b'-' | b'_' | b'/' => Some(Kind::Joint),
            b'+' | b'=' => Some(Kind::Sign),
            _ => None,
        }
    }
}

/// Which of the three kinds of letters and digits a token draws from.
#[derive(Clone, Copy, Default)]
pub struct Alphabet {
    pub lower: bool,
    pub upper: bool,
    pub digit: bool,
}

impl Alphabet {
    pub fn of(token: &[u8]) -> Alphabet {
        Alphabet {
            lower: token.iter().any(u8::is_ascii_lowercase),
            upper: token.iter().any(u8::is_ascii_uppercase),
            digit: token.iter().any(u8::is_ascii_digit),
        }
    }

    pub fn kinds(self) -> usize {
        usize::from(self.lower) + usize::from(self.upper) + usize::from(self.digit)
    }

    /// How likely chance draws a character of this kind.
    fn chance(self, kind: Kind) -> f64 {
        let size = |has: bool, size: u8| if has { f64::from(size) } else { 0.0 };
        let all = size(self.lower, 26) + size(self.upper, 26) + size(self.digit, 10);
        match kind {
            Kind::Lower => 26.0 / all,
            Kind::Upper => 26.0 / all,
            Kind::Digit => 10.0 / all,
            Kind::Joint => 0.02,
            Kind::Sign => 0.02,
        }
    }
}

/// How likely a name goes on with a character of this kind.
fn follow(before: Option<Kind>, kind: Kind) -> f64 {
    match (before, kind) {
        (Some(Kind::Lower), Kind::Lower) => 0.76,
        (Some(Kind::Lower), Kind::Upper) => 0.07,
        (Some(Kind::Lower), Kind::Digit) => 0.03,
        (Some(Kind::Upper), Kind::Lower) => 0.40,
        (Some(Kind::Upper), Kind::Upper) => 0.45,
        (Some(Kind::Upper), Kind::Digit) => 0.05,
        (Some(Kind::Digit), Kind::Lower) => 0.06,
        (Some(Kind::Digit), Kind::Upper) => 0.05,
        (Some(Kind::Digit), Kind::Digit) => 0.70,
        (_, Kind::Lower) => 0.65,
        (_, Kind::Upper) => 0.20,
        (_, Kind::Digit) => 0.15,
        (_, Kind::Joint) => 0.14,
        (_, Kind::Sign) => 0.01,
    }
}

/// Evidence for chance in a token, one number a character, in sixteenths of a bit.
pub struct Evidence {
    steps: [[i16; 5]; 6],
}

const KINDS: [Kind; 5] = [
    Kind::Lower,
    Kind::Upper,
    Kind::Digit,
    Kind::Joint,
    Kind::Sign,
];

impl Evidence {
    pub fn new(alphabet: Alphabet) -> Evidence {
        let mut steps = [[0; 5]; 6];
        for (place, row) in steps.iter_mut().enumerate() {
            let before = KINDS.get(place).copied();
            for (kind, bits) in KINDS.into_iter().zip(row) {
                let ratio = alphabet.chance(kind) / follow(before, kind);
                *bits = (ratio.log2().clamp(-4.0, 4.0) * 16.0).round() as i16;
            }
        }
        Evidence { steps }
    }

    /// What this character says after that one.
    pub fn of(&self, before: Option<u8>, byte: u8, kind: Kind) -> i32 {
        let before_kind = before.and_then(Kind::of);
        let row = before_kind.map_or(5, |kind| kind as usize);
        let step = i32::from(self.steps[row][kind as usize]);
        let letter = |byte: u8| {
            byte.is_ascii_alphabetic()
                .then(|| byte.to_ascii_lowercase() - b'a')
        };
        match (before.and_then(letter), letter(byte)) {
            // A new word begins with any letter.
            _ if before_kind == Some(Kind::Lower) && kind == Kind::Upper => step,
            (Some(first), Some(second)) => {
                step + i32::from(PAIRS[usize::from(first)][usize::from(second)])
            }
            _ => step,
        }
    }
}
