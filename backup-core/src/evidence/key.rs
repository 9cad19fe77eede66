//! Keys that sign evidence: Ed25519 (RFC 8032), in the files that openssl reads and writes (RFC 8410).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::model::Id;
use crate::{Error, ErrorKind, Result};

/// What comes before the 32 bytes of a private key in PKCS #8 (RFC 8410, section 7).
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// What comes before the 32 bytes of a public key (RFC 8410, section 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The words around a private key.
const PRIVATE: &str = "PRIVATE KEY";
/// The words around a public key.
const PUBLIC: &str = "PUBLIC KEY";

/// Digits of a key's id: enough that no two keys of one owner share it. The whole key is compared where it matters.
const ID_DIGITS: usize = 16;

/// A key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

impl SigningKey {
    /// A new key, and the text of its file.
    pub fn generate() -> Result<(Self, Zeroizing<String>)> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| {
            Error::new(ErrorKind::Broken("no random numbers from the system"), "evidence key").caused_by(error)
        })?;
        let mut der = Zeroizing::new(PRIVATE_PREFIX.to_vec());
        der.extend_from_slice(&*seed);
        Ok((Self::from_der(&der)?, Zeroizing::new(pem(PRIVATE, &der))))
    }

    /// Reads the file of a key: PEM with PKCS #8, as this program and `openssl genpkey -algorithm ed25519` write it.
    pub fn parse(text: &str) -> Result<Self> {
        let der = Zeroizing::new(from_pem(PRIVATE, text).ok_or_else(|| not_a_key("no PEM with a private key"))?);
        Self::from_der(&der)
    }

    fn from_der(der: &[u8]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map_err(|error| not_a_key(format!("not a private key of Ed25519: {error}")))?;
        let raw = pair.public_key().as_ref().try_into().map_err(|_| not_a_key("its public half has the wrong size"))?;
        Ok(Self { pair, public: PublicKey(raw) })
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of `bytes`, in hexadecimal digits.
    pub fn sign(&self, bytes: &[u8]) -> String {
        hex(self.pair.sign(bytes).as_ref())
    }
}

/// The public half of a key: what an auditor holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.hex())
    }
}

impl PublicKey {
    /// Reads PEM, as [`PublicKey::pem`] writes it, or 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        let raw = match from_pem(PUBLIC, text) {
            Some(der) => der.strip_prefix(PUBLIC_PREFIX.as_slice()).map(<[u8]>::to_vec),
            None => from_hex(text.trim()),
        };
        let raw = raw.and_then(|raw| <[u8; 32]>::try_from(raw).ok());
        raw.map(Self).ok_or_else(|| not_a_key("not a public key of Ed25519: neither PEM nor 64 hexadecimal digits"))
    }

    /// In hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// As a file that openssl reads.
    pub fn pem(&self) -> String {
        let mut der = PUBLIC_PREFIX.to_vec();
        der.extend_from_slice(&self.0);
        pem(PUBLIC, &der)
    }

    /// Its short name, and that of the chain of what it signs.
    pub fn id(&self) -> String {
        Id::of(&self.0).to_string().chars().take(ID_DIGITS).collect()
    }

    /// Whether `signature`, in hexadecimal digits, is this key's under `bytes`.
    pub fn verifies(&self, bytes: &[u8], signature: &str) -> bool {
        from_hex(signature)
            .is_some_and(|signature| UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, &signature).is_ok())
    }
}

fn not_a_key(why: impl Into<String>) -> Error {
    Error::invalid("evidence key", why).with_hint("`evidence key create` makes one")
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body = Zeroizing::new(body.chars().filter(|character| !character.is_ascii_whitespace()).collect::<String>());
    BASE64.decode(body.as_bytes()).ok()
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_verify_what_they_signed_and_nothing_else() {
        let (key, text) = SigningKey::generate().unwrap();
        let again = SigningKey::parse(&text).unwrap();
        assert_eq!(key.public(), again.public());
        let signature = again.sign(b"text");
        assert!(key.public().verifies(b"text", &signature));
        assert!(!key.public().verifies(b"texT", &signature));
        let (other, _) = SigningKey::generate().unwrap();
        assert!(!other.public().verifies(b"text", &signature));
        assert!(!key.public().verifies(b"text", "zz") && !key.public().verifies(b"text", ""));
        assert_eq!(PublicKey::parse(&key.public().pem()).unwrap(), *key.public());
        assert_eq!(PublicKey::parse(&key.public().hex()).unwrap(), *key.public());
        assert!(!format!("{key:?}").contains(&text[30..60]));
    }

    #[test]
    fn signatures_are_those_of_the_rfc() {
        // RFC 8032, section 7.1, test 2.
        let seed = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SigningKey::from_der(&[&PRIVATE_PREFIX[..], &seed].concat()).unwrap();
        assert_eq!(key.public().hex(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(key.sign(&[0x72]), expected);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"]
        {
            assert!(SigningKey::parse(text).is_err(), "{text}");
        }
        for text in ["", "00", &"g".repeat(64), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            assert!(PublicKey::parse(text).is_err(), "{text}");
        }
    }
}
