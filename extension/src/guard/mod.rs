//! Refusing values that look like secrets: rotator holds metadata, and a name field is where people paste keys.
//!
//! Two classes, and one may be overruled. [`find`] names the rule that a text breaks for certain: a vendor's prefix and
//! the shape of what follows (`vendors`), a private key in any container (`private_key`), a token or key in JSON's clothes
//! (`web_token`), credentials in URLs (`urls`), in connection strings, files and commands (`credentials`, `logins`), one-time-password seeds
//! (`one_time`), wallet phrases (`seed_phrase`), and all of these once more in base64 (`encoded`).
//! [`random::tokens`] gives what merely looks random; a tenant's admin may let one of these through.
//!
//! `stripe-prod-key-2026` and `sk_live key for billing` are fine. One pass a module, no backtracking, no start-up cost
//! worth mentioning. Nothing here keeps, logs or returns a value but [`random::tokens`], whose result SQL hashes.

mod credentials;
mod encoded;
mod likeness;
mod logins;
mod named;
mod one_time;
mod private_key;
pub mod random;
mod seed_phrase;
mod shape;
mod steps;
mod urls;
mod vendors;
mod web_token;

#[cfg(feature = "postgres")]
mod native;

/// The name of the rule that `text` breaks for certain.
pub fn find(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    plain(bytes).or_else(|| encoded::find(bytes))
}

/// [`find`] for the text as it stands, without decoding anything in it.
fn plain(bytes: &[u8]) -> Option<&'static str> {
    vendors::find(bytes)
        .or_else(|| private_key::find(bytes))
        .or_else(|| web_token::find(bytes))
        .or_else(|| urls::find(bytes))
        .or_else(|| credentials::find(bytes))
        .or_else(|| one_time::find(bytes))
        .or_else(|| seed_phrase::find(bytes))
}

/// Starts a word: the byte before is neither a letter nor a digit.
fn starts_word(bytes: &[u8], position: usize) -> bool {
    position == 0 || !bytes[position - 1].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests;
