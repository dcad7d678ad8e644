//! A setting that must not be seen: no `Debug`, `Display`, `Clone` or `PartialEq`, wiped when dropped.

use zeroize::Zeroize;

/// A token, a password, or a URL that contains one. Whoever calls [`Secret::expose`] answers for where it goes.
pub struct Secret(String);

impl Secret {
    /// Takes ownership, so that no second copy stays behind.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself: for the wire, never for a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
