//! Linear time, shown by counting what every rule looks at: as much a byte in a long hostile text as in a short one, and
//! not much in any.

use crate::guard::{find, random, steps};

/// Pieces that begin what a rule looks for, and go on for ever.
const HOSTILE: [&str; 64] = [
    "A",
    "-",
    "=",
    ":",
    "/",
    "$",
    "{",
    "\"",
    "'",
    " ",
    "\n",
    "@",
    "?",
    "&",
    ".",
    "é",
    "sk_live_",
    "sk-",
    "eyJ",
    "eyJhbGciOi.",
    "ey-",
    "e-",
    "e_",
    "xoxb-",
    "BEGIN ",
    "---BEGIN ",
    "0123456789abcdef",
    "Q~",
    "0Q~",
    "LS0tLS1CRUdJTi",
    "M.",
    "N.A.",
    "://",
    "://a:b",
    "a://:",
    "@tcp(",
    "?key=",
    "&sig=",
    "sig=",
    "password=",
    "password=x ",
    "host=x password=",
    "server=",
    "machine ",
    "machine a.b login ",
    "$2y$",
    "{SSHA}",
    "Basic ",
    "bearer ",
    "\"auth\":\"",
    "-u ",
    "curl -u ",
    "secret",
    "secret_access_key=",
    "totp ",
    "2fa ABCD ",
    "otpauth://",
    "abandon ",
    "\"kty\":\"d\":\"k\":",
    "PrivateKey = ",
    "<RSAKeyValue>",
    "a:5432:b:",
    "aB3-",
    "token: aB3",
];

/// Steps for a text made of one piece.
fn steps_for(piece: &str, length: usize) -> usize {
    let text: String = piece.repeat(length / piece.len());
    steps::of(|| {
        find(&text);
        random::tokens(&text);
    })
}

#[test]
fn ten_times_the_text_takes_ten_times_the_steps() {
    for piece in HOSTILE {
        let (short, long) = (steps_for(piece, 10_000), steps_for(piece, 100_000));
        assert!(
            long <= short * 11 + 10_000,
            "{piece:?}: {short} steps for 10,000 bytes, {long} for ten times as many"
        );
    }
}

#[test]
fn no_text_takes_many_steps_a_byte() {
    let most = HOSTILE
        .iter()
        .map(|piece| (steps_for(piece, 10_000) / 10_000, *piece))
        .max()
        .unwrap_or_default();
    println!("the most: {} steps a byte, for {:?}", most.0, most.1);
    assert!(most.0 <= 400, "{most:?}");
}

#[test]
fn pairs_of_pieces_are_linear_too() {
    for first in HOSTILE {
        for second in HOSTILE {
            let piece = format!("{first}{second}");
            let (short, long) = (steps_for(&piece, 1_000), steps_for(&piece, 4_000));
            assert!(
                long <= short * 5 + 50_000,
                "{piece:?}: {short} steps for 1,000 bytes, {long} for four times as many"
            );
        }
    }
}
