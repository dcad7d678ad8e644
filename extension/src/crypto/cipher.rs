//! AES-256-GCM under one key: which implementation a message goes to.
//!
//! Short messages, nearly all fields, take the fast way through [`short`](super::short); all others, and none differently,
//! the aes-gcm crate. Both give the same bytes.

use aes::Aes256Enc;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{AesGcm, Nonce, Tag};

use super::KeyBytes;
use super::short::{Layout, ShortGcm};

pub const NONCE: usize = 12;
pub const TAG: usize = 16;

/// The ciphertext is malformed, was changed, or belongs elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAuthentic;

/// What a message is bound to: bytes that are written where they are needed, once.
pub trait AssociatedData {
    /// How many bytes there are.
    fn size(&self) -> usize;

    /// Writes them; `target` is [`AssociatedData::size`] long.
    fn write(&self, target: &mut [u8]);
}

impl AssociatedData for &[u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn write(&self, target: &mut [u8]) {
        target.copy_from_slice(self);
    }
}

/// A key with its schedule expanded once; all that was made of it is wiped when dropped.
pub struct Cipher {
    pub(super) short: ShortGcm,
    pub(super) long: AesGcm<Aes256Enc, U12>,
}

impl Cipher {
    pub fn new(key: &KeyBytes) -> Cipher {
        let aes = Aes256Enc::new(key.expose().into());
        Cipher {
            long: AesGcm::from(aes.clone()),
            short: ShortGcm::new(aes),
        }
    }

    /// Encrypts `plaintext` into `ciphertext` (same length) and gives the tag.
    #[inline]
    pub(crate) fn encrypt(
        &self,
        nonce: &[u8; NONCE],
        associated_data: &impl AssociatedData,
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> Result<[u8; TAG], NotAuthentic> {
        if plaintext.len() != ciphertext.len() {
            return Err(NotAuthentic);
        }
        match Layout::of(associated_data.size(), plaintext.len()) {
            Some(layout) => {
                Ok(self
                    .short
                    .seal(nonce, layout, associated_data, plaintext, ciphertext))
            }
            None => self.encrypt_long(nonce, &written(associated_data), plaintext, ciphertext),
        }
    }

    /// Checks the tag, then decrypts `ciphertext` into `plaintext` (same length), which stays untouched on failure.
    #[inline]
    pub(crate) fn decrypt(
        &self,
        nonce: &[u8; NONCE],
        associated_data: &impl AssociatedData,
        ciphertext: &[u8],
        tag: &[u8; TAG],
        plaintext: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        if ciphertext.len() != plaintext.len() {
            return Err(NotAuthentic);
        }
        match Layout::of(associated_data.size(), ciphertext.len()) {
            Some(layout) => {
                self.short
                    .open(nonce, layout, associated_data, ciphertext, tag, plaintext)
            }
            None => self.decrypt_long(nonce, &written(associated_data), ciphertext, tag, plaintext),
        }
    }

    pub(super) fn encrypt_long(
        &self,
        nonce: &[u8; NONCE],
        associated_data: &[u8],
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> Result<[u8; TAG], NotAuthentic> {
        let buffer = InOutBuf::new(plaintext, ciphertext).map_err(|_| NotAuthentic)?;
        let tag = self
            .long
            .encrypt_inout_detached(<&Nonce<_>>::from(nonce), associated_data, buffer)
            .map_err(|_| NotAuthentic)?;
        Ok(tag.into())
    }

    pub(super) fn decrypt_long(
        &self,
        nonce: &[u8; NONCE],
        associated_data: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG],
        plaintext: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        let (nonce, tag) = (<&Nonce<_>>::from(nonce), <&Tag>::from(tag));
        let buffer = InOutBuf::new(ciphertext, plaintext).map_err(|_| NotAuthentic)?;
        self.long
            .decrypt_inout_detached(nonce, associated_data, buffer, tag)
            .map_err(|_| NotAuthentic)
    }
}

#[cold]
fn written(associated_data: &impl AssociatedData) -> Vec<u8> {
    let mut bytes = vec![0; associated_data.size()];
    associated_data.write(&mut bytes);
    bytes
}
