//! Lengths as RDB files write them, and the encodings of texts that stand in their place.

/// A length being read, byte by byte.
#[derive(Default)]
pub(super) struct Numeral {
    value: u64,
    /// Bytes that are still to come; `None` before the first.
    wanted: Option<u8>,
}

/// A length, or the number of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Plain(u64),
    Special(u8),
}

impl Numeral {
    /// Takes a byte; gives the length when that was its last.
    pub(super) fn take(&mut self, byte: u8) -> Result<Option<Length>, &'static str> {
        let wanted = match self.wanted {
            Some(wanted) => {
                self.value = self.value << 8 | u64::from(byte);
                wanted - 1
            }
            None => {
                let (value, wanted) = match (byte >> 6, byte) {
                    (0, _) => (byte & 0x3F, 0),
                    (1, _) => (byte & 0x3F, 1),
                    (_, 0x80) => (0, 4),
                    (_, 0x81) => (0, 8),
                    (3, _) => return Ok(Some(Length::Special(byte & 0x3F))),
                    _ => return Err("a length has an unknown form"),
                };
                self.value = value.into();
                wanted
            }
        };
        self.wanted = (wanted > 0).then_some(wanted);
        Ok((wanted == 0).then_some(Length::Plain(self.value)))
    }
}

/// The bytes that LZF packed into `packed`, exactly `length` of them; `None` when it is damaged. After the description in
/// liblzf's `lzf_d.c`.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    // The promise may be a lie: what comes is at most some 260 times as long.
    let mut out = Vec::with_capacity(length.min(packed.len().saturating_mul(4)));
    let mut packed = packed.iter().copied();
    while let Some(control) = packed.next() {
        let control = usize::from(control);
        if control < 32 {
            for _ in 0..=control {
                out.push(packed.next()?);
            }
        } else {
            let mut run = (control >> 5) + 2;
            if run == 9 {
                run += usize::from(packed.next()?);
            }
            let distance = ((control & 0x1F) << 8 | usize::from(packed.next()?)) + 1;
            let from = out.len().checked_sub(distance)?;
            // What is repeated may reach into what it makes.
            for at in from..from + run {
                out.push(out[at]);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<Length> {
        let mut numeral = Numeral::default();
        let mut outcomes: Vec<_> = bytes.iter().map(|&byte| numeral.take(byte).unwrap()).collect();
        let last = outcomes.pop().unwrap();
        assert!(outcomes.iter().all(Option::is_none));
        last
    }

    #[test]
    fn lengths_come_in_five_forms() {
        assert_eq!(read(&[0x3F]), Some(Length::Plain(63)));
        assert_eq!(read(&[0x41, 0x02]), Some(Length::Plain(0x102)));
        assert_eq!(read(&[0x80, 1, 2, 3, 4]), Some(Length::Plain(0x0102_0304)));
        assert_eq!(read(&[0x81, 0, 0, 0, 1, 0, 0, 0, 0]), Some(Length::Plain(1 << 32)));
        assert_eq!(read(&[0xC3]), Some(Length::Special(3)));
        assert_eq!(read(&[0x41]), None);
        assert!(Numeral::default().take(0x82).is_err());
    }

    #[test]
    fn what_was_packed_is_unpacked_and_damage_is_none() {
        // "ab", then ten bytes from two back.
        let packed = [1, b'a', b'b', 7 << 5, 1, 1];
        assert_eq!(unpack(&packed, 12).unwrap(), b"abababababab");
        for (packed, length) in [(&packed[..], 11), (&packed[..], 13), (&packed[..5], 12), (&[2 << 5, 9][..], 4)] {
            assert_eq!(unpack(packed, length), None);
        }
    }
}
