//! Encryption as restic does it: AES-256-CTR, and a Poly1305-AES tag over the ciphertext
//! (restic's design document, *Keys, Encryption and MAC*).

use std::fmt;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use poly1305::Poly1305;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::contracts::CodecError;
use crate::limits::SEAL_OVERHEAD_BYTES;

const IV_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// A key that seals: the repository's master key, or the one that a passphrase gives and that seals only the master
/// key. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    /// The AES-256 key.
    pub(crate) encrypt: [u8; 32],
    /// The AES-128 key that turns an IV into Poly1305's nonce.
    pub(crate) mac_k: [u8; 16],
    /// Poly1305's other half, not clamped.
    pub(crate) mac_r: [u8; 16],
}

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Result<Self, CodecError> {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// The key that 64 bytes make: 32 for encryption, then 16 and 16 for the tag.
    pub(crate) fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// Whether it can be a key at all: restic refuses halves that are all zeros.
    pub(crate) fn is_valid(&self) -> bool {
        self.encrypt != [0; 32] && self.mac_k != [0; 16] && self.mac_r != [0; 16]
    }

    /// Begins a sealed text at the end of `out`. The plain text is appended by the caller, then [`MasterKey::finish`]
    /// is called with what this returned.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) -> Result<usize, CodecError> {
        let start = out.len();
        let mut iv = [0; IV_BYTES];
        // Restic refuses an IV of zeros, which a sound generator gives once in 2¹²⁸ times.
        while iv == [0; IV_BYTES] {
            random(&mut iv)?;
        }
        out.extend_from_slice(&iv);
        Ok(start)
    }

    /// Encrypts what was appended since [`MasterKey::begin`] and appends the tag.
    pub(crate) fn finish(&self, out: &mut Vec<u8>, start: usize) -> Result<(), CodecError> {
        let (iv, text) = out[start..].split_at_mut(IV_BYTES);
        let iv: [u8; IV_BYTES] = (&*iv).try_into().map_err(|_| CodecError::TooShort)?;
        self.cipher(&iv).apply_keystream(text);
        let tag = self.tag(&iv, text);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Seals `plain` into a new vector.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::with_capacity(plain.len() + SEAL_OVERHEAD_BYTES);
        let start = self.begin(&mut out)?;
        out.extend_from_slice(plain);
        self.finish(&mut out, start)?;
        Ok(out)
    }

    /// Checks the seal and decrypts; `out` is replaced.
    pub fn open(&self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
        let (iv, text) = self.check(sealed)?;
        out.clear();
        out.extend_from_slice(text);
        self.cipher(&iv).apply_keystream(out);
        Ok(())
    }

    /// Checks the seal, then decrypts window after window: each fills `window` but the last, and is handed to `each`.
    pub(super) fn open_by_windows(
        &self,
        sealed: &[u8],
        window: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let (iv, text) = self.check(sealed)?;
        let mut cipher = self.cipher(&iv);
        for part in text.chunks(window.len()) {
            let window = &mut window[..part.len()];
            window.copy_from_slice(part);
            cipher.apply_keystream(window);
            each(window)?;
        }
        Ok(())
    }

    /// The initialisation vector and the encrypted text of what has a right seal.
    fn check<'a>(&self, sealed: &'a [u8]) -> Result<([u8; IV_BYTES], &'a [u8]), CodecError> {
        if sealed.len() < SEAL_OVERHEAD_BYTES {
            return Err(CodecError::TooShort);
        }
        let (iv, rest) = sealed.split_at(IV_BYTES);
        let (text, tag) = rest.split_at(rest.len() - TAG_BYTES);
        let iv: [u8; IV_BYTES] = iv.try_into().map_err(|_| CodecError::TooShort)?;
        let expected = self.tag(&iv, text);
        // Every byte is looked at, so that the time tells nothing of where they differ.
        if expected.iter().zip(tag).fold(0, |difference, (a, b)| difference | (a ^ b)) != 0 {
            return Err(CodecError::SealBroken);
        }
        Ok((iv, text))
    }

    fn cipher(&self, iv: &[u8; IV_BYTES]) -> ctr::Ctr128BE<Aes256> {
        ctr::Ctr128BE::<Aes256>::new(&Array(self.encrypt), &Array(*iv))
    }

    fn tag(&self, iv: &[u8; IV_BYTES], text: &[u8]) -> [u8; TAG_BYTES] {
        let mut nonce = Array(*iv);
        Aes128::new(&Array(self.mac_k)).encrypt_block(&mut nonce);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&nonce);
        let tag = Poly1305::new(&Array(key)).compute_unpadded(text);
        key.zeroize();
        tag.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

fn random(bytes: &mut [u8]) -> Result<(), CodecError> {
    getrandom::fill(bytes).map_err(|_| CodecError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of D. J. Bernstein, *The Poly1305-AES message-authentication code*, appendix B.
    #[test]
    fn the_tag_is_poly1305_aes() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        for (message, r, k, nonce, tag) in [
            (
                "f3f6",
                "851fc40c3467ac0be05cc20404f3f700",
                "ec074c835580741701425b623235add6",
                "fb447350c4e868c52ac3275cf9d4327e",
                "f4c633c3044fc145f84f335cb81953de",
            ),
            (
                "663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136",
                "48443d0bb0d21109c89a100b5ce2c208",
                "6acb5f61a7176dd320c5c1eb2edcdc74",
                "ae212a55399729595dea458bc621ff0e",
                "0ee1c16bb73f0f4fd19881753c01cdbe",
            ),
        ] {
            let key =
                MasterKey { encrypt: [1; 32], mac_k: hex(k).try_into().unwrap(), mac_r: hex(r).try_into().unwrap() };
            assert_eq!(key.tag(&hex(nonce).try_into().unwrap(), &hex(message)).to_vec(), hex(tag));
        }
    }

    #[test]
    fn a_text_shorter_than_its_seal_is_refused() {
        let key = MasterKey::generate().unwrap();
        for bytes in 0..SEAL_OVERHEAD_BYTES {
            assert_eq!(key.open(&vec![7; bytes], &mut Vec::new()), Err(CodecError::TooShort));
        }
        let mut out = vec![1];
        key.open(&key.seal(b"").unwrap(), &mut out).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", MasterKey::from_bytes(&[65; 64])), "MasterKey(…)");
    }
}
