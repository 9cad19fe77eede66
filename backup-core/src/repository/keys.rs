//! Key files: a passphrase opens a key file, a key file opens the master key, the master key opens everything else
//! (restic's design document, *Keys, Encryption and MAC*).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Identity, Passphrase};
use crate::codec::MasterKey;
use crate::limits::{SCRYPT_BYTES_MAX, SCRYPT_WORK_MAX};
use crate::model::format_timestamp;
use crate::{Error, ErrorKind, Result};

/// How much work scrypt makes of a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptCost {
    /// Memory and time; a power of two.
    pub n: u64,
    /// Block size.
    pub r: u32,
    /// Repetitions.
    pub p: u32,
}

impl ScryptCost {
    /// The least that a new key of a chosen passphrase gets: N = 32768, r = 8 (32 MiB), once.
    pub const LEAST: Self = Self { n: 32_768, r: 8, p: 1 };

    /// What a key of a drawn passphrase gets: N = 1024, r = 8 (1 MiB), once. It need not be hard to guess a second time.
    pub const OF_DRAWN: Self = Self { n: 1024, r: 8, p: 1 };

    /// What a new key for this passphrase gets: [`Self::OF_DRAWN`] for one that a program drew, else
    /// [`Self::calibrated`].
    pub fn for_passphrase(passphrase: &Passphrase) -> Result<Self> {
        if passphrase.is_drawn() { Ok(Self::OF_DRAWN) } else { Self::calibrated() }
    }

    /// As many repetitions as take about half a second on this machine, on one core.
    ///
    /// A passphrase is tried once at each command and thrice by a person who mistypes; whoever guesses pays the same
    /// for every guess (`docs/decisions/keys.md`).
    pub fn calibrated() -> Result<Self> {
        const HALF_A_SECOND: f64 = 0.5;
        // Time spent computing: a machine that is busy with other things must not get a weaker key.
        let spent = || {
            let spent = clock_gettime(ClockId::ProcessCPUTime);
            Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
        };
        let before = spent();
        derive(&Passphrase::new("calibration"), &[0; 64], Self::LEAST)?;
        let once = spent().saturating_sub(before).as_secs_f64();
        let repetitions = (HALF_A_SECOND / once.max(0.001)).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=64 before")]
        let p = repetitions.clamp(1.0, 64.0) as u32;
        Ok(Self { p, ..Self::LEAST })
    }
}

/// A key file as it is stored, in restic's words. It holds nothing that opens without the passphrase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyFile {
    // Empty in rustic's key files, which do not say when and by whom they were made.
    #[serde(default)]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The master key as the key file's sealed part spells it.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct SpelledMaster {
    mac: SpelledMac,
    encrypt: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct SpelledMac {
    k: String,
    r: String,
}

impl KeyFile {
    /// Wraps `master` with a passphrase.
    pub fn create(
        master: &MasterKey,
        passphrase: &Passphrase,
        cost: ScryptCost,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self> {
        let mut salt = [0; 64];
        getrandom::fill(&mut salt).map_err(|error| {
            Error::new(ErrorKind::Broken("no random numbers from the system"), "key").caused_by(error)
        })?;
        let spelled = SpelledMaster {
            mac: SpelledMac { k: BASE64.encode(master.mac_k), r: BASE64.encode(master.mac_r) },
            encrypt: BASE64.encode(master.encrypt),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&spelled).map_err(broken)?);
        let sealed = derive(passphrase, &salt, cost)?.seal(&plain).map_err(broken)?;
        Ok(Self {
            created: format_timestamp(now),
            username: identity.username.clone(),
            hostname: identity.hostname.clone(),
            kdf: "scrypt".to_owned(),
            n: cost.n,
            r: cost.r,
            p: cost.p,
            salt: BASE64.encode(salt),
            data: BASE64.encode(sealed),
        })
    }

    /// The master key, or `None` when the passphrase is another one. A key file that makes no sense is an error.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Option<MasterKey>> {
        let damaged = |what: &str| Error::damaged("key", what);
        if self.kdf != "scrypt" {
            return Err(damaged("its key derivation is not scrypt"));
        }
        let salt = BASE64.decode(&self.salt).map_err(|_| damaged("its salt is not base64"))?;
        let data = BASE64.decode(&self.data).map_err(|_| damaged("its data is not base64"))?;
        let user_key = derive(passphrase, &salt, ScryptCost { n: self.n, r: self.r, p: self.p })?;
        let mut plain = Zeroizing::new(Vec::new());
        if user_key.open(&data, &mut plain).is_err() {
            return Ok(None);
        }
        let spelled: SpelledMaster =
            serde_json::from_slice(&plain).map_err(|_| damaged("what it seals is no master key"))?;
        let mut bytes = Zeroizing::new([0; 64]);
        for (part, text) in [(0..32, &spelled.encrypt), (32..48, &spelled.mac.k), (48..64, &spelled.mac.r)] {
            let decoded = Zeroizing::new(BASE64.decode(text).map_err(|_| damaged("its master key is not base64"))?);
            if decoded.len() != part.len() {
                return Err(damaged("its master key has the wrong length"));
            }
            bytes[part].copy_from_slice(&decoded);
        }
        let master = MasterKey::from_bytes(&bytes);
        if master.is_valid() { Ok(Some(master)) } else { Err(damaged("its master key is empty")) }
    }

    /// When it was made, as the file says; empty when it does not.
    pub fn created(&self) -> &str {
        &self.created
    }

    /// Who made it, as the file says: user, then host; empty when it does not.
    pub fn made_by(&self) -> (&str, &str) {
        (&self.username, &self.hostname)
    }

    /// How much work a guess costs.
    pub fn cost(&self) -> ScryptCost {
        ScryptCost { n: self.n, r: self.r, p: self.p }
    }
}

fn derive(passphrase: &Passphrase, salt: &[u8], cost: ScryptCost) -> Result<MasterKey> {
    let ScryptCost { n, r, p } = cost;
    let damaged = || Error::damaged("key", "its scrypt parameters cannot be right");
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(damaged());
    }
    let memory = u128::from(n) * u128::from(r) * 128;
    let work = u128::from(n) * u128::from(r) * u128::from(p);
    if memory > SCRYPT_BYTES_MAX.into() || work > SCRYPT_WORK_MAX.into() {
        return Err(Error::new(ErrorKind::Limit("the work that a key file may ask for"), "key"));
    }
    let log_n = u8::try_from(n.ilog2()).map_err(|_| damaged())?;
    let mut bytes = Zeroizing::new([0; 64]);
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| damaged())?;
    scrypt::scrypt(passphrase.bytes(), salt, &params, &mut *bytes).map_err(|_| damaged())?;
    Ok(MasterKey::from_bytes(&bytes))
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Broken("a key could not be wrapped"), "key").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

    fn file(passphrase: &str) -> (MasterKey, KeyFile) {
        let master = MasterKey::generate().unwrap();
        let identity = Identity { hostname: "h".into(), username: "u".into(), uid: 0, gid: 0, pid: 1 };
        let passphrase = Passphrase::new(passphrase);
        let file = KeyFile::create(&master, &passphrase, CHEAP, &identity, Timestamp::UNIX_EPOCH).unwrap();
        (master, file)
    }

    #[test]
    fn a_key_file_opens_with_its_passphrase_and_no_other() {
        let (master, file) = file("right");
        let stored: KeyFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
        assert!(stored.open(&Passphrase::new("right")).unwrap() == Some(master));
        assert!(stored.open(&Passphrase::new("wrong")).unwrap().is_none());
    }

    #[test]
    fn a_key_file_that_does_not_say_who_made_it_and_when_opens_as_those_of_rustic() {
        let (master, file) = file("right");
        let mut stored = serde_json::to_value(&file).unwrap();
        for field in ["created", "username", "hostname"] {
            stored.as_object_mut().unwrap().remove(field).unwrap();
        }
        let stored: KeyFile = serde_json::from_value(stored).unwrap();
        assert!(stored.open(&Passphrase::new("right")).unwrap() == Some(master));
        assert_eq!((stored.created(), stored.made_by()), ("", ("", "")));
    }

    #[test]
    fn a_key_file_that_asks_for_hours_of_work_is_refused() {
        let (_, file) = file("x");
        for (n, r, p) in
            [(1 << 40, 8, 1), (32_768, 8, u32::MAX), (32_768, u32::MAX, 1), (3, 8, 1), (0, 8, 1), (2, 0, 1)]
        {
            assert!(KeyFile { n, r, p, ..file.clone() }.open(&Passphrase::new("x")).is_err(), "{n} {r} {p}");
        }
    }
}
