//! The chunker's polynomial: what is accepted is irreducible, of a degree that the hash can work with, and cuts.

#![no_main]

use backup_core::chunk::{DEGREES, Polynomial, Rabin};
use backup_fuzz::{MIB, bounded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(MIB + 8 * bytes.len(), || {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(polynomial) = text.parse::<Polynomial>()
    {
        assert_eq!(polynomial.to_string().parse::<Polynomial>(), Ok(polynomial));
    }
    if let Some(bits) = bytes.first_chunk::<8>()
        && let Ok(polynomial) = Polynomial::from_bits(u64::from_le_bytes(*bits))
    {
        assert!(DEGREES.contains(&polynomial.degree()));
        assert_eq!(Rabin::new(polynomial).polynomial(), polynomial);
    }
}));
