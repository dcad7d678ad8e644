//! Whatever bytes come in for a ciphertext: no panic, nothing opened that wasn't sealed for this very place, nothing
//! written on failure. Millions of mutants of good envelopes and of nothing, from a seed that is printed; `ROTATOR_SEED`
//! gives the same ones again. A fifth of a million in `make test`, five million in `make soak`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::aead::{
    Cipher, Domain, Envelope, FORMAT, HEADER, NONCE, OVERHEAD, Place, TAG, header_key_id, seal_into,
};
use super::{KeyBytes, TenantId};

/// What was sealed, and where.
struct Good {
    envelope: Vec<u8>,
    plaintext: Vec<u8>,
    place: usize,
}

/// Xorshift64* (Vigna, 2014): fast and good enough to choose what to break.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % end
    }
}

const TENANTS: [TenantId; 2] = [[1; 16], [2; 16]];
const ROWS: [&[u8]; 4] = [&[3; 16], &[4; 16], b"42", b""];
const LABELS: [&[u8]; 3] = [b"secret.name", b"secret.purpose", &[b'l'; 200]];
const KEYS: [i64; 4] = [1, 2, i64::MAX, -1];
/// Below, at and above the lengths where the implementation changes.
const LENGTHS: [usize; 10] = [0, 1, 15, 16, 17, 40, 111, 112, 113, 700];

fn places() -> Vec<Place<'static>> {
    let mut places = Vec::new();
    for domain in [Domain::FIELD, Domain::HOST] {
        for tenant in &TENANTS {
            for label in LABELS {
                places.extend(ROWS.map(|row| Place {
                    domain,
                    tenant,
                    label,
                    row,
                }));
            }
        }
    }
    places
}

/// The key that an id names; ids that none has are the first one's, as if a row had been forged.
fn cipher(ciphers: &[Cipher], id: i64) -> &Cipher {
    let place = KEYS.iter().position(|key| *key == id).unwrap_or_default();
    &ciphers[place]
}

/// One to three changes, of the kinds that happen: a bit, a byte, a cut, a longer end, a piece of another envelope, a
/// header of another key.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], draws: &mut Draws) {
    for _ in 0..=draws.below(3) {
        let length = bytes.len();
        match draws.below(8) {
            0 | 1 if length > 0 => bytes[draws.below(length)] ^= 1 << draws.below(8),
            2 if length > 0 => bytes[draws.below(length)] = draws.below(256) as u8,
            3 => bytes.truncate(draws.below(length + 1)),
            4 => bytes.extend((0..draws.below(40)).map(|_| draws.below(256) as u8)),
            5 => {
                let from = draws.below(length.min(other.len()) + 1);
                let to = from + draws.below(length.min(other.len()) - from + 1);
                bytes[from..to].copy_from_slice(&other[from..to]);
            }
            6 if length >= HEADER => {
                bytes[1..HEADER].copy_from_slice(&KEYS[draws.below(KEYS.len())].to_be_bytes());
            }
            7 => drop(bytes.drain(..draws.below(length + 1))),
            _ => {}
        }
    }
}

#[test]
fn no_bytes_panic_and_only_authentic_ones_open() {
    let seed = std::env::var("ROTATOR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| RandomState::new().build_hasher().finish());
    eprintln!("ROTATOR_SEED={seed}");
    let mut draws = Draws(seed | 1);
    let executions = match std::env::var_os("ROTATOR_SOAK") {
        Some(_) => 5_000_000,
        None => 200_000,
    };

    let ciphers: Vec<Cipher> = (0..KEYS.len() as u8)
        .map(|byte| Cipher::new(&KeyBytes::take(&mut [byte; 32])))
        .collect();
    let places = places();
    let mut corpus = Vec::new();
    for (place, at) in places.iter().enumerate() {
        for length in LENGTHS {
            let id = KEYS[draws.below(KEYS.len())];
            let nonce: [u8; NONCE] = std::array::from_fn(|_| draws.below(256) as u8);
            let plaintext: Vec<u8> = (0..length).map(|_| draws.below(256) as u8).collect();
            let mut envelope = vec![0; length + OVERHEAD];
            seal_into(
                cipher(&ciphers, id),
                id,
                &nonce,
                *at,
                &plaintext,
                &mut envelope,
            )
            .expect("seals");
            corpus.push(Good {
                envelope,
                plaintext,
                place,
            });
        }
    }
    let sealed: HashMap<&[u8], &Good> = corpus
        .iter()
        .map(|good| (&good.envelope[..], good))
        .collect();

    let (mut opened, mut refused) = (0, 0);
    for _ in 0..executions {
        let good = &corpus[draws.below(corpus.len())];
        let mut bytes = good.envelope.clone();
        let mut place = good.place;
        match draws.below(20) {
            0 => {}
            1 => place = draws.below(places.len()),
            _ => {
                let other = &corpus[draws.below(corpus.len())].envelope;
                mutate(&mut bytes, other, &mut draws);
            }
        }
        let header = bytes.first_chunk::<HEADER>().and_then(header_key_id);
        let Ok(envelope) = Envelope::parse(&bytes) else {
            assert!(bytes.len() < OVERHEAD || bytes[0] != FORMAT, "{bytes:02x?}");
            refused += 1;
            continue;
        };
        assert_eq!(header, Some(envelope.key_id()));
        assert_eq!(envelope.len(), bytes.len() - HEADER - NONCE - TAG);
        let mut plaintext = vec![0xa5; envelope.len()];
        let authentic = sealed.get(&bytes[..]).filter(|good| good.place == place);
        let cipher = cipher(&ciphers, envelope.key_id());
        match (
            envelope.open_into(cipher, places[place], &mut plaintext),
            authentic,
        ) {
            (Ok(()), Some(good)) => {
                assert_eq!(plaintext, good.plaintext);
                opened += 1;
            }
            (Err(_), None) => {
                assert!(plaintext.iter().all(|byte| *byte == 0xa5));
                refused += 1;
            }
            (outcome, _) => panic!("{outcome:?} at place {place}: {bytes:02x?}"),
        }
    }
    assert!(
        opened > executions / 100 && refused > executions / 2,
        "{opened} opened, {refused} refused"
    );
}
