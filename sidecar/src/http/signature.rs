//! Checking who calls back: HMAC-SHA-256 over the raw bytes, before anything of them is understood, in constant time; and
//! a memory of what came already. Who signs what: `slack.rs`, `pagerduty.rs`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName};
use ring::hmac;

use crate::config::Secret;

const TAG_BYTES: usize = 32;
/// Signatures that are remembered at once: only valid ones, so only the vendor can fill it.
const REMEMBERED: usize = 100_000;

/// What a signature was made with: one key, or several while one replaces another.
pub struct Keys(Vec<hmac::Key>);

/// A signature that a vendor's key has made.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tag([u8; TAG_BYTES]);

impl Keys {
    /// Of a setting with commas between several.
    pub fn new(secrets: &Secret) -> Self {
        let keys = secrets
            .expose()
            .split(',')
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.trim().as_bytes()));
        Self(keys.collect())
    }

    /// The signature, if it is 64 small hexadecimal digits, and one of ours over that message.
    pub fn check(&self, message: &[u8], signature: &str) -> Option<Tag> {
        let tag = Tag::read(signature)?;
        self.0
            .iter()
            .any(|key| hmac::verify(key, message, &tag.0).is_ok())
            .then_some(tag)
    }
}

impl Tag {
    fn read(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * TAG_BYTES {
            return None;
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut tag = [0; TAG_BYTES];
        for (byte, pair) in tag.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? * 16 + digit(pair[1])?;
        }
        Some(Self(tag))
    }
}

/// The header's one value; none if it is missing, there twice, or no text.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Signatures that were used, until they would be too old anyway. One process knows nothing of another's: what is
/// repeated there comes to nothing in the database, where an action counts once.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<Tag, u64>>);

impl Seen {
    /// Whether this is the first time; seconds since 1970. Also false when there is no room to remember it.
    pub fn is_new(&self, tag: Tag, good_until: u64, now: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, until| *until >= now);
        }
        if seen.contains_key(&tag) || seen.len() >= REMEMBERED {
            return false;
        }
        seen.insert(tag, good_until);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Slack's own documentation: <https://docs.slack.dev/authentication/verifying-requests-from-slack>
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const MESSAGE: &str = "v0:1531420618:token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
        &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect\
        &text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const TAG: &str = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn keys(secrets: &str) -> Keys {
        Keys::new(&Secret::new(secrets.to_owned()))
    }

    #[test]
    fn slacks_own_example_is_valid_and_nothing_near_it() {
        assert!(keys(SECRET).check(MESSAGE.as_bytes(), TAG).is_some());
        let changed = MESSAGE.replace("roadrunner", "coyote");
        assert!(keys(SECRET).check(changed.as_bytes(), TAG).is_none());
        let upper = TAG.to_uppercase();
        let longer = format!("{TAG}0");
        for tag in [
            &TAG[1..],
            &upper,
            &longer,
            "",
            &"0".repeat(64),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            assert!(
                keys(SECRET).check(MESSAGE.as_bytes(), tag).is_none(),
                "{tag}"
            );
        }
        assert!(
            keys("another secret")
                .check(MESSAGE.as_bytes(), TAG)
                .is_none()
        );
    }

    #[test]
    fn of_several_keys_each_is_good() {
        let both = keys(&format!("the one before, {SECRET}"));
        assert!(both.check(MESSAGE.as_bytes(), TAG).is_some());
    }

    #[test]
    fn a_signature_counts_once() {
        let seen = Seen::default();
        let tag = Tag([1; 32]);
        assert!(seen.is_new(tag, 400, 100));
        assert!(!seen.is_new(tag, 400, 101));
        assert!(seen.is_new(Tag([2; 32]), 400, 101));
    }

    #[test]
    fn what_is_too_old_makes_room() {
        let seen = Seen::default();
        for n in 0..REMEMBERED as u32 {
            let mut tag = [0; 32];
            tag[..4].copy_from_slice(&n.to_be_bytes());
            assert!(seen.is_new(Tag(tag), 400, 100));
        }
        assert!(
            !seen.is_new(Tag([9; 32]), 400, 400),
            "all of them are still good"
        );
        assert!(seen.is_new(Tag([9; 32]), 800, 401));
    }
}
