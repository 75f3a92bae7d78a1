//! Config vars at rest: AES-256-GCM under the installation's key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

use crate::StoreError;

/// The key that seals secrets in the database. Kept in a file beside it, never in it.
pub struct MasterKey {
    key: RandomizedNonceKey,
    mark: String,
}

/// What a key's mark is made of. Never anything else's.
const MARK_OF: &[u8] = b"the mark of an installation's key";

impl MasterKey {
    /// A key of 32 bytes.
    ///
    /// # Errors
    /// When there are not 32 bytes, or all are zero: a key that somebody forgot to fill.
    pub fn new(bytes: &[u8]) -> Result<Self, StoreError> {
        if bytes.len() != 32 || bytes.iter().all(|b| *b == 0) {
            return Err(StoreError::Unsealable);
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| StoreError::Unsealable)?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), MARK_OF);
        Ok(Self { key, mark: tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect() })
    }

    /// What tells this key from others, and nothing more of it: may be stored beside what it seals.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// 32 random bytes for a new key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<[u8; 32], StoreError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| StoreError::Unsealable)?;
        Ok(bytes)
    }

    /// Seals `plain` for one row; `place` (the row's id) is bound to it, so that bytes cannot move to another row.
    pub(crate) fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut bytes = plain.to_vec();
        let nonce =
            self.key.seal_in_place_append_tag(Aad::from(place), &mut bytes).map_err(|_| StoreError::Unsealable)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut bytes);
        Ok(sealed)
    }

    /// Opens what [`MasterKey::seal`] made for the same place.
    pub(crate) fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (nonce, bytes) = sealed.split_at_checked(12).ok_or(StoreError::Unsealable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| StoreError::Unsealable)?;
        let mut bytes = bytes.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(place), &mut bytes).map_err(|_| StoreError::Unsealable)?;
        Ok(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_place_and_with_its_key() {
        let key = MasterKey::new(&MasterKey::generate().expect("random")).expect("a key");
        let sealed = key.seal("row-1", b"secret").expect("seals");
        assert_eq!(key.open("row-1", &sealed).expect("opens"), b"secret");
        assert!(key.open("row-2", &sealed).is_err());
        let other = MasterKey::new(&MasterKey::generate().expect("random")).expect("a key");
        assert!(other.open("row-1", &sealed).is_err());
        assert!(key.mark() != other.mark() && key.mark().len() == 64);
        assert_eq!(MasterKey::new(&[9; 32]).expect("a key").mark(), MasterKey::new(&[9; 32]).expect("a key").mark());
        assert!(MasterKey::new(&[0; 32]).is_err());
        assert!(MasterKey::new(&[1; 31]).is_err());
    }
}
