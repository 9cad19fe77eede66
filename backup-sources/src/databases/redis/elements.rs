//! What the elements of a collection add up to, whichever encoding a server chose for them: the same for a list in one
//! packed text and in a thousand texts.
//!
//! After `listpack.c`, `intset.c` and `rdb.c` of Redis 7.4. What is packed as versions before 7 did, and hashes whose
//! fields expire, are not read: then nothing is claimed of the elements.

use backup_core::limits::{REDIS_PACKED_BYTES_MAX, REDIS_STRING_HASHED_BYTES_MAX};
use xxhash_rust::xxh3::{Xxh3, xxh3_128, xxh3_128_with_seed};

/// What is known of a value's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// It has none: it is a string.
    None,
    /// Their hash, which depends on their order where a server keeps one.
    Of(u128),
    /// They are in an encoding that is not known here.
    Unread,
}

/// The elements of a value, as they come.
pub(super) struct Elements {
    sort: Sort,
    packing: Packing,
    /// Of those that have an order.
    order: Option<Box<Xxh3>>,
    /// Of those that have none.
    sum: u128,
    /// A field that waits for its value, or a member for its score.
    waiting: Option<u128>,
    /// What follows are no elements any more.
    is_over: bool,
    is_unread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    List,
    Set,
    /// Fields and values.
    Hash,
    /// Members and scores.
    Ranked,
    /// Its entries, as they are packed: a server keeps these as they are.
    Stream,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// A text is an element.
    None,
    /// A text is a packed list of elements.
    Listpack,
    /// A text is a packed list of numbers.
    Intset,
    /// A number before each text says whether that is an element or a packed list.
    Nodes,
}

/// An element, or half of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Element<'a> {
    Text(&'a [u8]),
    Integer(i64),
    /// A text of so many bytes, which is not looked at.
    Long(u64),
    Score(f64),
}

impl Elements {
    /// Those of a value of type `kind`; `None` for a string.
    pub(super) fn of(kind: u8) -> Option<Self> {
        let (sort, packing) = match kind {
            0 => return None,
            1 => (Sort::List, Packing::None),
            2 => (Sort::Set, Packing::None),
            3 | 5 => (Sort::Ranked, Packing::None),
            4 => (Sort::Hash, Packing::None),
            11 => (Sort::Set, Packing::Intset),
            15 | 19 | 21 => (Sort::Stream, Packing::None),
            16 => (Sort::Hash, Packing::Listpack),
            17 => (Sort::Ranked, Packing::Listpack),
            18 => (Sort::List, Packing::Nodes),
            20 => (Sort::Set, Packing::Listpack),
            _ => (Sort::Unknown, Packing::None),
        };
        let order = matches!(sort, Sort::List | Sort::Stream).then(Box::default);
        let is_unread = sort == Sort::Unknown;
        Some(Self { sort, packing, order, sum: 0, waiting: None, is_over: false, is_unread })
    }

    /// Whether a text of so many bytes is to be held and given; otherwise its length is.
    pub(super) fn wants(&self, bytes: u64) -> bool {
        let is_packed = self.packing != Packing::None || self.sort == Sort::Stream;
        !self.is_unread
            && !self.is_over
            && bytes <= if is_packed { REDIS_PACKED_BYTES_MAX } else { REDIS_STRING_HASHED_BYTES_MAX }
    }

    /// A text of the value.
    pub(super) fn text(&mut self, text: &[u8]) {
        if self.is_over {
            return;
        }
        let read = match self.packing {
            Packing::None => {
                self.add(Element::Text(text));
                Some(())
            }
            Packing::Listpack | Packing::Nodes => listpack(text, |element| self.add(element)),
            Packing::Intset => intset(text, |element| self.add(element)),
        };
        self.is_unread |= read.is_none();
    }

    /// A text of the value that is not held.
    pub(super) fn long(&mut self, bytes: u64) {
        match self.packing {
            _ if self.is_over => {}
            Packing::None if self.sort != Sort::Stream => self.add(Element::Long(bytes)),
            _ => self.is_unread = true,
        }
    }

    /// A number of the value that counts no elements.
    pub(super) fn number(&mut self, number: u64) {
        match (self.sort, number) {
            // What follows a stream's entries is what was done with them.
            (Sort::Stream, _) => self.is_over = true,
            (Sort::List, 1) => self.packing = Packing::None,
            (Sort::List, 2) => self.packing = Packing::Listpack,
            _ => self.is_unread = true,
        }
    }

    /// A score that stands as a number.
    pub(super) fn score(&mut self, score: f64) {
        self.add(Element::Score(score));
    }

    /// What they add up to.
    pub(super) fn digest(self) -> Digest {
        match self.order {
            _ if self.is_unread || self.waiting.is_some() => Digest::Unread,
            Some(order) => Digest::Of(order.digest128()),
            None => Digest::Of(self.sum),
        }
    }

    fn add(&mut self, element: Element<'_>) {
        if let Some(order) = &mut self.order {
            return order.update(&hash_of(element).to_le_bytes());
        }
        match (self.sort, self.waiting.take()) {
            (Sort::Set, _) => self.sum = self.sum.wrapping_add(hash_of(element)),
            (Sort::Hash | Sort::Ranked, None) => self.waiting = Some(hash_of(element)),
            (Sort::Hash, Some(field)) => self.pair(field, element),
            (Sort::Ranked, Some(member)) => match score_of(element) {
                Some(score) => self.pair(member, Element::Score(score)),
                None => self.is_unread = true,
            },
            (Sort::List | Sort::Stream | Sort::Unknown, _) => {}
        }
    }

    fn pair(&mut self, first: u128, second: Element<'_>) {
        let both = [first.to_le_bytes(), hash_of(second).to_le_bytes()].concat();
        self.sum = self.sum.wrapping_add(xxh3_128(&both));
    }
}

/// Packed or not, the same element has the same hash.
fn hash_of(element: Element<'_>) -> u128 {
    match element {
        Element::Text(text) if text.len() as u64 > REDIS_STRING_HASHED_BYTES_MAX => {
            hash_of(Element::Long(text.len() as u64))
        }
        Element::Text(text) => xxh3_128(text),
        Element::Integer(number) => xxh3_128(number.to_string().as_bytes()),
        Element::Long(bytes) => xxh3_128_with_seed(&bytes.to_le_bytes(), 1),
        Element::Score(score) => xxh3_128_with_seed(&score.to_bits().to_le_bytes(), 2),
    }
}

fn score_of(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Score(score) => Some(score),
        #[expect(clippy::cast_precision_loss, reason = "a server keeps scores as floating-point numbers")]
        Element::Integer(number) => Some(number as f64),
        Element::Text(text) => str::from_utf8(text).ok()?.parse().ok(),
        Element::Long(_) => None,
    }
}

/// What is in a packed list; `None` when it is damaged.
fn listpack<'a>(packed: &'a [u8], mut each: impl FnMut(Element<'a>)) -> Option<()> {
    let (bytes, rest) = packed.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*bytes) as usize != packed.len() {
        return None;
    }
    // Two bytes count the elements, as far as they can.
    let mut rest = rest.get(2..)?;
    loop {
        let before = rest.len();
        let (&first, after) = rest.split_first()?;
        let low = usize::from(first);
        let text = |bytes: &'a [u8], length: usize| {
            bytes.split_at_checked(length).map(|(text, after)| (Element::Text(text), after))
        };
        let integer = |length: usize| {
            after.split_at_checked(length).map(|(bytes, after)| (Element::Integer(signed(bytes)), after))
        };
        let (element, after) = match first {
            0xFF => return after.is_empty().then_some(()),
            0..=0x7F => (Element::Integer(first.into()), after),
            0x80..=0xBF => text(after, low & 0x3F)?,
            0xC0..=0xDF => {
                let (&next, after) = after.split_first()?;
                let number = i64::from(first & 0x1F) << 8 | i64::from(next);
                (Element::Integer(if number < 1 << 12 { number } else { number - (1 << 13) }), after)
            }
            0xE0..=0xEF => {
                let (&next, after) = after.split_first()?;
                text(after, (low & 0x0F) << 8 | usize::from(next))?
            }
            0xF0 => {
                let (length, after) = after.split_first_chunk::<4>()?;
                text(after, u32::from_le_bytes(*length) as usize)?
            }
            0xF1 => integer(2)?,
            0xF2 => integer(3)?,
            0xF3 => integer(4)?,
            0xF4 => integer(8)?,
            _ => return None,
        };
        // Behind each stands its length again, for those who come from the end.
        let back = match before - after.len() {
            0..=0x7F => 1,
            0x80..=0x3FFF => 2,
            0x4000..=0x1F_FFFF => 3,
            0x20_0000..=0xFFF_FFFF => 4,
            _ => 5,
        };
        each(element);
        rest = after.get(back..)?;
    }
}

/// The numbers of a packed set; `None` when it is damaged.
fn intset(packed: &[u8], mut each: impl FnMut(Element<'static>)) -> Option<()> {
    let (width, rest) = packed.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (width, count) = (u32::from_le_bytes(*width), u64::from(u32::from_le_bytes(*count)));
    if !matches!(width, 2 | 4 | 8) || rest.len() as u64 != count * u64::from(width) {
        return None;
    }
    rest.chunks_exact(width as usize).for_each(|bytes| each(Element::Integer(signed(bytes))));
    Some(())
}

/// A number of at most eight bytes, the lowest first.
fn signed(bytes: &[u8]) -> i64 {
    let mut whole = if bytes.last().is_some_and(|highest| *highest > 0x7F) { [0xFF; 8] } else { [0; 8] };
    whole[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(whole)
}

#[cfg(test)]
mod tests {
    use super::Element::{Integer, Text};
    use super::*;

    /// A packed list of these entries, without the length behind each.
    fn packed(entries: &[&[u8]]) -> Vec<u8> {
        let body: Vec<u8> = entries.iter().flat_map(|entry| [*entry, &back(entry.len())].concat()).collect();
        let bytes = u32::try_from(body.len() + 7).unwrap().to_le_bytes();
        [&bytes[..], &[0xFF, 0xFF], &body, &[0xFF]].concat()
    }

    /// Only its length matters here.
    fn back(length: usize) -> Vec<u8> {
        vec![
            0;
            if length < 0x80 {
                1
            } else if length < 0x4000 {
                2
            } else {
                3
            }
        ]
    }

    fn unpacked(bytes: &[u8]) -> Option<Vec<Element<'_>>> {
        let mut elements = Vec::new();
        listpack(bytes, |element| elements.push(element)).map(|()| elements)
    }

    #[test]
    fn every_form_of_a_packed_element_is_read_and_a_list_that_is_cut_off_is_none() {
        let long = [&[0xF0, 0x20, 0x4E, 0, 0][..], &[b'x'; 20_000]].concat();
        let middle = [&[0xE1, 0x2C][..], &[b'y'; 300]].concat();
        let list = packed(&[
            &[0x7F],
            b"\x82ab",
            &[0xDF, 0xFF],
            &[0xC1, 0x00],
            &middle,
            &long,
            &[0xF1, 0x00, 0x80],
            &[0xF2, 0xFF, 0xFF, 0x7F],
            &[0xF3, 0, 0, 0, 0x80],
            &[0xF4, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        ]);
        let expected = [
            Integer(127),
            Text(b"ab"),
            Integer(-1),
            Integer(256),
            Text(&[b'y'; 300]),
            Text(&[b'x'; 20_000]),
            Integer(-32_768),
            Integer(8_388_607),
            Integer(-2_147_483_648),
            Integer(i64::MAX),
        ];
        assert_eq!(unpacked(&list).unwrap(), expected);
        for length in (0..list.len()).step_by(97) {
            assert_eq!(unpacked(&list[..length]), None);
        }
        assert_eq!(unpacked(&packed(&[&[0xF5]])), None);
    }

    #[test]
    fn the_same_elements_are_the_same_in_every_encoding() {
        let digest = |kind: u8, give: &dyn Fn(&mut Elements)| {
            let mut elements = Elements::of(kind).unwrap();
            give(&mut elements);
            elements.digest()
        };
        let texts =
            |texts: &'static [&'static [u8]]| move |to: &mut Elements| texts.iter().for_each(|one| to.text(one));
        let list = digest(1, &texts(&[b"1", b"two"]));
        let nodes = |to: &mut Elements| {
            to.number(2);
            to.text(&packed(&[&[0x01]]));
            to.number(1);
            to.text(b"two");
        };
        assert_eq!(digest(18, &nodes), list);
        assert_ne!(digest(1, &texts(&[b"two", b"1"])), list, "a list has an order");
        let set = digest(2, &texts(&[b"-7", b"300"]));
        assert_eq!(digest(2, &texts(&[b"300", b"-7"])), set);
        assert_eq!(digest(11, &|to| to.text(&[2, 0, 0, 0, 2, 0, 0, 0, 0xF9, 0xFF, 0x2C, 1])), set);
        assert_eq!(digest(20, &|to| to.text(&packed(&[&[0xC1, 0x2C], &[0xDF, 0xF9]]))), set);
        let hash = digest(4, &texts(&[b"a", b"b", b"c", b"d"]));
        assert_eq!(digest(16, &|to| to.text(&packed(&[b"\x81c", b"\x81d", b"\x81a", b"\x81b"]))), hash);
        assert_ne!(digest(4, &texts(&[b"a", b"d", b"c", b"b"])), hash, "values belong to fields");
        let plain = |to: &mut Elements| {
            to.text(b"m");
            to.score(-1.5);
        };
        assert_eq!(digest(17, &|to| to.text(&packed(&[b"\x81m", b"\x84-1.5"]))), digest(5, &plain));
        for unread in [digest(10, &|to| to.text(b"x")), digest(4, &texts(&[b"a"])), digest(16, &texts(&[b"x"]))] {
            assert_eq!(unread, Digest::Unread);
        }
        assert!(Elements::of(0).is_none());
    }
}
