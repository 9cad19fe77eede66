//! The polynomial over GF(2) that a repository draws once and cuts by ever after.
//!
//! A bit of the integer is a coefficient, the lowest bit the constant term. The polynomial is part of the repository's
//! configuration and is kept secret with it: whoever knows it can recognise files by the lengths of their chunks.
//!
//! Always true of a [`Polynomial`]: it is irreducible, and its degree lies in [`DEGREES`], so that the rolling hash and
//! the eight bits that are about to leave it fit one 64-bit word.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Degrees that the rolling hash can work with: a whole byte leaves it at each step, and hash plus byte fill at most 61
/// bits. These are the degrees that restic's chunker accepts.
pub const DEGREES: RangeInclusive<u32> = 8..=53;

/// The degree of the polynomials that are drawn for new repositories, by restic as well: the largest prime that leaves
/// a byte of room in 64 bits.
const DEGREE_DRAWN: u32 = 53;

/// One candidate in 27 is irreducible, so that a sound source fails to yield any in so many draws with a probability
/// below 2^-500; a source that repeats itself is found out instead of being asked for ever.
const DRAWS_MAX: u32 = 10_000;

/// An irreducible polynomial over GF(2), written as lower-case hexadecimal without prefix, as in restic's `config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Polynomial(u64);

/// Why a number cannot serve as chunker polynomial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolynomialError {
    /// The text is empty, holds something else than hexadecimal digits, or a number above 64 bits.
    #[error("chunker polynomial is not a hexadecimal number of at most 64 bits")]
    NotHexadecimal,
    /// The degree is outside [`DEGREES`].
    #[error("chunker polynomial {bits:x} has not a degree from {} to {}", DEGREES.start(), DEGREES.end())]
    Degree {
        /// The number that was refused.
        bits: u64,
    },
    /// The polynomial is the product of smaller ones, which would make cuts by a hash with fewer values than promised.
    #[error("chunker polynomial {bits:x} is not irreducible")]
    Reducible {
        /// The number that was refused.
        bits: u64,
    },
    /// The source of random numbers yielded no irreducible polynomial in many draws; it is not random.
    #[error("no irreducible polynomial among {DRAWS_MAX} random numbers")]
    NoneDrawn,
}

impl Polynomial {
    /// Draws a polynomial of degree 53 for a new repository.
    ///
    /// `random` yields eight fresh bytes from a cryptographically secure source at each call; 27 calls are needed on
    /// average. Read as little-endian numbers, the same bytes give the polynomial that restic would have drawn from
    /// them.
    ///
    /// # Errors
    /// [`PolynomialError::NoneDrawn`] when the source is so broken that 10,000 draws do not suffice.
    pub fn random(mut random: impl FnMut() -> u64) -> Result<Self, PolynomialError> {
        let top = 1 << DEGREE_DRAWN;
        (0..DRAWS_MAX)
            // With the constant term the candidate is not divisible by x; without it, every second draw would be lost.
            .map(|_| (random() & (top - 1)) | top | 1)
            .find(|&candidate| is_irreducible(candidate))
            .map(Self)
            .ok_or(PolynomialError::NoneDrawn)
    }

    /// Accepts a number as polynomial if it is irreducible and of a degree in [`DEGREES`].
    ///
    /// # Errors
    /// [`PolynomialError::Degree`] or [`PolynomialError::Reducible`].
    pub fn from_bits(bits: u64) -> Result<Self, PolynomialError> {
        let degree = bits.checked_ilog2();
        if !degree.is_some_and(|degree| DEGREES.contains(&degree)) {
            return Err(PolynomialError::Degree { bits });
        }
        if !is_irreducible(bits) {
            return Err(PolynomialError::Reducible { bits });
        }
        Ok(Self(bits))
    }

    /// The coefficients, the constant term in the lowest bit.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The exponent of the leading term.
    #[must_use]
    pub const fn degree(self) -> u32 {
        self.0.ilog2()
    }

    /// The remainder of `dividend` divided by this polynomial.
    pub(super) fn remainder_of(self, dividend: u64) -> u64 {
        remainder(dividend, self.0)
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Reads the hexadecimal number of restic's `chunker_polynomial`: digits of either case, no prefix, no sign.
impl FromStr for Polynomial {
    type Err = PolynomialError;

    fn from_str(text: &str) -> Result<Self, PolynomialError> {
        // The standard parser would let a plus sign pass.
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(PolynomialError::NotHexadecimal);
        }
        let bits = u64::from_str_radix(text, 16).map_err(|_| PolynomialError::NotHexadecimal)?;
        Self::from_bits(bits)
    }
}

/// Ben-Or's test (Gao and Panario, "Tests and Constructions of Irreducible Polynomials over Finite Fields", 1997): a
/// reducible polynomial has a factor of a degree i up to half its own, and every irreducible of degree i divides
/// x^(2^i) − x.
fn is_irreducible(f: u64) -> bool {
    const X: u64 = 0b10;
    let mut power = X;
    (1..=f.ilog2() / 2).all(|_| {
        power = square_modulo(power, f);
        gcd(f, power ^ X) == 1
    })
}

/// `a`² modulo `f`, for `a` of lower degree than `f` and `f` of degree 63 at most.
fn square_modulo(a: u64, f: u64) -> u64 {
    let degree = f.ilog2();
    (0..degree).rev().fold(0, |square, exponent| {
        let shifted = square << 1;
        let reduced = if shifted >> degree & 1 == 1 { shifted ^ f } else { shifted };
        if a >> exponent & 1 == 1 { reduced ^ a } else { reduced }
    })
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, remainder(a, b));
    }
    a
}

fn remainder(mut dividend: u64, divisor: u64) -> u64 {
    let degree = divisor.ilog2();
    while let Some(excess) = dividend.checked_ilog2().and_then(|top| top.checked_sub(degree)) {
        dividend ^= divisor << excess;
    }
    dividend
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The polynomial of restic's own tests.
    const RESTIC: u64 = 0x3D_A335_8B4D_C173;

    #[test]
    fn restics_test_polynomial_is_accepted_and_has_degree_53() {
        let polynomial = Polynomial::from_bits(RESTIC).unwrap();
        assert_eq!(polynomial.degree(), 53);
        assert_eq!(polynomial.bits(), RESTIC);
    }

    #[test]
    fn the_text_form_is_lower_hexadecimal_without_prefix_and_reads_back() {
        let polynomial: Polynomial = "3DA3358b4dc173".parse().unwrap();
        assert_eq!(polynomial.to_string(), "3da3358b4dc173");
        assert_eq!("003da3358b4dc173".parse(), Ok(polynomial));
    }

    #[test]
    fn text_that_is_no_hexadecimal_number_is_refused() {
        for text in
            ["", " ", "0x3da3358b4dc173", "+3da3358b4dc173", "3da3358b4dc173\n", "3da3_358b", "10000000000000000"]
        {
            assert_eq!(text.parse::<Polynomial>(), Err(PolynomialError::NotHexadecimal), "{text:?}");
        }
    }

    #[test]
    fn degrees_that_the_hash_cannot_hold_are_refused() {
        // x^7 + x + 1 and x^63 + x + 1 are irreducible: only their degree speaks against them.
        for bits in [0, 1, 0b10, 0b1000_0011, 1 << 63 | 0b11] {
            assert_eq!(Polynomial::from_bits(bits), Err(PolynomialError::Degree { bits }), "{bits:x}");
        }
    }

    #[test]
    fn exactly_the_irreducible_polynomials_of_small_degree_are_accepted() {
        // Moreau's count: (1/n) Σ μ(n/d) 2^d.
        for (degree, count) in [(8, 30), (9, 56), (10, 99), (11, 186), (12, 335)] {
            let accepted = (1 << degree..1 << (degree + 1)).filter(|&bits| Polynomial::from_bits(bits).is_ok()).count();
            assert_eq!(accepted, count, "degree {degree}");
        }
    }

    #[test]
    fn a_polynomial_drawn_from_known_bytes_is_the_one_restic_draws() {
        let mut source = crate::chunk::tests::xorshift(0x9E37_79B9_7F4A_7C15);
        let drawn: Vec<String> = (0..4).map(|_| Polynomial::random(&mut source).unwrap().to_string()).collect();
        // DerivePolynomial of github.com/restic/chunker 0.4.0, reading the same numbers as little-endian bytes.
        assert_eq!(drawn, ["3ce28856d20e5f", "3911499417aab9", "2c25a986aa6fc9", "2be547500504b3"]);
    }

    #[test]
    fn a_source_that_repeats_itself_is_an_error_instead_of_an_endless_search() {
        // x^53 + 1 is divisible by x + 1.
        assert_eq!(Polynomial::random(|| 0), Err(PolynomialError::NoneDrawn));
    }

    proptest! {
        #[test]
        fn a_product_of_two_polynomials_is_refused(a in 2_u64..1 << 27, b in 2_u64..1 << 27) {
            let product = (0..27).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ a << bit);
            prop_assert!(Polynomial::from_bits(product).is_err());
        }
    }
}
