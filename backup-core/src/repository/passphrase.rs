//! The passphrase that opens a repository: one that a person chose, or one that this program drew.
//!
//! A drawn one is 20 random bytes and the first five of their SHA-256, in Crockford's base32
//! (<https://www.crockford.com/base32.html>): eight groups of five characters. The random bytes leave nothing to guess, so
//! that its keys need no slow derivation ([`ScryptCost::for_passphrase`](super::ScryptCost::for_passphrase)); the check
//! bytes tell it from every chosen one, and a mistyped one from another repository's.
//!
//! What is always true: a chosen passphrase is taken as it is, to the byte; a drawn one in its own spelling, however it was
//! typed from paper.

use std::fmt;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, ErrorKind, Result};

/// Random bytes of a drawn passphrase: 160 bits, as much as nobody can try.
const RANDOM_BYTES: usize = 20;
/// Bytes of their SHA-256 behind them: of all other texts of this shape one in 10¹² passes for drawn.
const CHECK_BYTES: usize = 5;
const GROUP: usize = 5;
/// More letters than that are not missing, nor too many, where a drawn one was mistyped.
const LETTERS_WRONG_MAX: usize = 2;
const GROUPS: usize = (RANDOM_BYTES + CHECK_BYTES) * 8 / 5 / GROUP;

/// What opens a repository. Wiped from memory when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase {
    text: String,
    is_drawn: bool,
}

impl Passphrase {
    /// The passphrase `text`: as it is, unless it is a drawn one, which may be typed in capitals, with spaces, or with the
    /// letter O for a zero.
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        match drawn(&text) {
            Some(random) => Self { text: spelled(&random).to_string(), is_drawn: true },
            None => Self { text: text.to_string(), is_drawn: false },
        }
    }

    /// A passphrase of 160 random bits.
    pub fn draw() -> Result<Self> {
        let mut random = Zeroizing::new([0_u8; RANDOM_BYTES]);
        getrandom::fill(&mut *random).map_err(|error| {
            Error::new(ErrorKind::Broken("no random numbers from the system"), "passphrase").caused_by(error)
        })?;
        Ok(Self { text: spelled(&*random).to_string(), is_drawn: true })
    }

    /// Whether it is the empty text, which protects nothing.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether a program drew it, [`Self::draw`] of now or of another day: then there is nothing to guess.
    pub fn is_drawn(&self) -> bool {
        self.is_drawn
    }

    /// Whether it has the shape of a drawn one and is none.
    pub fn is_mistyped(&self) -> bool {
        let is_group =
            |group: &str| group.len().abs_diff(GROUP) <= 1 && group.bytes().all(|b| b.is_ascii_alphanumeric());
        // Some programs' recovery keys are eight groups of six.
        let letters: usize = self.groups().map(str::len).sum();
        // Eight words that somebody chose have no digit; of drawn ones, three in ten million have none.
        !self.is_drawn
            && self.text.bytes().any(|byte| byte.is_ascii_digit())
            && self.groups().count() == GROUPS
            && letters.abs_diff(GROUPS * GROUP) <= LETTERS_WRONG_MAX
            && self.groups().all(is_group)
    }

    /// Refuses what must not open anything from now on: the empty text, and a drawn one that was mistyped. Taken for a
    /// chosen one, that would keep out whoever has the right one on paper.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`], with no part of the text.
    pub fn fit_for_a_key(&self) -> Result<()> {
        if self.is_empty() {
            return Err(Error::invalid("passphrase", "must not be empty"));
        }
        if !self.is_mistyped() {
            return Ok(());
        }
        let where_it_is = |(number, group): (usize, &str)| {
            if group.len() != GROUP {
                return Some(format!("its group {} has {} characters and not {GROUP}", number + 1, group.len()));
            }
            group.contains(['u', 'U']).then(|| format!("its group {} has a letter U, which is never drawn", number + 1))
        };
        let found = self.groups().enumerate().find_map(where_it_is);
        let found = found.unwrap_or_else(|| String::from("its check characters do not fit, so one at least is wrong"));
        Err(Error::invalid("passphrase", format!("it looks like one that `key generate` drew, mistyped: {found}"))
            .with_hint(
                "compare it, group by group, with what was drawn; nothing was changed. One of your own must have \
                 another shape than eight groups of five",
            ))
    }

    fn groups(&self) -> impl Iterator<Item = &str> {
        self.text.split(['-', ' ']).filter(|group| !group.is_empty())
    }

    /// The text itself, for whoever writes a drawn one down.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Crockford's base32, which has no I, L, O and U, and reads the first three as 1, 1 and 0.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    specification.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZiIlLoO");
    specification.translate.to.push_str("abcdefghjkmnpqrstvwxyz111100");
    specification.ignore.push_str("- ");
    #[expect(clippy::expect_used, reason = "the alphabet is written here, and every test uses it")]
    specification.encoding().expect("32 symbols, each once")
});

/// The random bytes, where the check bytes are theirs.
fn drawn(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(BASE32.decode(text.as_bytes()).ok()?);
    let is_whole = bytes.len() == RANDOM_BYTES + CHECK_BYTES && bytes[RANDOM_BYTES..] == check(&bytes[..RANDOM_BYTES]);
    bytes.truncate(RANDOM_BYTES);
    is_whole.then_some(bytes)
}

fn spelled(random: &[u8]) -> Zeroizing<String> {
    let whole = Zeroizing::new([random, &check(random)].concat());
    let letters = Zeroizing::new(BASE32.encode(&whole));
    let mut text = Zeroizing::new(String::with_capacity(letters.len() + GROUPS));
    for (place, letter) in letters.chars().enumerate() {
        if place > 0 && place % GROUP == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    text
}

fn check(random: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Sha256::digest(random);
    std::array::from_fn(|place| hash[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_eight_groups_of_five_and_never_twice_the_same() {
        let drawn = Passphrase::draw().unwrap();
        let groups: Vec<_> = drawn.reveal().split('-').collect();
        assert_eq!((groups.len(), groups.iter().all(|group| group.len() == 5)), (8, true), "{}", drawn.reveal());
        assert_ne!(drawn.reveal(), Passphrase::draw().unwrap().reveal());
        assert!(drawn.is_drawn() && !drawn.is_mistyped() && !drawn.is_empty());
        assert_eq!(format!("{drawn:?}"), "Passphrase(…)");
    }

    #[test]
    fn a_drawn_one_is_known_again_however_it_is_typed() {
        // Twenty zeros and the beginning of their SHA-256, computed by another program.
        let spelling = "00000-00000-00000-00000-00000-00000-00vs3-wkcky";
        let upper = spelling.to_uppercase();
        let typed =
            [spelling, &upper, &spelling.replace('0', "o"), &upper.replace('-', ""), &spelling.replace('-', " ")];
        for typed in typed {
            let passphrase = Passphrase::new(typed);
            assert!(passphrase.is_drawn(), "{typed}");
            assert_eq!(passphrase.reveal(), spelling, "{typed}");
        }
    }

    #[test]
    fn a_letter_that_is_another_or_two_that_changed_places_are_noticed() {
        let spelling = spelled(&[7; 20]);
        for place in 0..spelling.len() {
            let mut letters: Vec<_> = spelling.chars().collect();
            if letters[place] == '-' {
                continue;
            }
            letters[place] = if letters[place] == 'x' { 'y' } else { 'x' };
            let typed = Passphrase::new(letters.iter().collect::<String>());
            assert!(!typed.is_drawn() && typed.is_mistyped(), "{place}");
        }
        let missing = Passphrase::new(&spelling[1..]);
        assert!(!missing.is_drawn() && missing.is_mistyped());
    }

    #[test]
    fn a_mistyped_one_becomes_no_key_and_where_it_is_wrong_is_said_without_its_text() {
        let spelling = "00000-00000-00000-00000-00000-00000-00vs3-wkcky";
        assert!(Passphrase::new(spelling).fit_for_a_key().is_ok());
        assert!(Passphrase::new("correct horse").fit_for_a_key().is_ok());
        assert!(Passphrase::new("").fit_for_a_key().unwrap_err().to_string().contains("empty"));
        for (typed, found) in [
            (spelling.replace("vs3", "vs"), "group 7 has 4 characters"),
            (spelling.replace("wkcky", "wkccky"), "group 8 has 6 characters"),
            (spelling.replace("vs3", "us3"), "group 7 has a letter U"),
            (spelling.replace("vs3", "sv3"), "check characters"),
            (format!(" {} ", spelling.replace("vs3", "sv3")), "check characters"),
        ] {
            let error = Passphrase::new(typed.as_str()).fit_for_a_key().unwrap_err();
            assert!(error.to_string().contains(found), "{typed}: {error}");
            assert!(matches!(error.kind(), ErrorKind::Invalid(_)));
            assert!(!format!("{error} {}", error.hint().unwrap()).contains("wkc"), "{error}");
        }
    }

    #[test]
    fn what_a_person_chose_is_taken_as_it_is() {
        let forty = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        // As other programs draw them.
        let eight_groups_of_six = "103948-382910-485920-192837-564738-291028-374655-192830";
        let words = "words small enough make good keys under stars";
        for chosen in ["correct horse", " Mot de passe é ", "", forty, eight_groups_of_six, words] {
            let passphrase = Passphrase::new(chosen);
            assert_eq!((passphrase.reveal(), passphrase.is_drawn()), (chosen, false));
            assert!(!passphrase.is_mistyped(), "{chosen}");
        }
    }
}
