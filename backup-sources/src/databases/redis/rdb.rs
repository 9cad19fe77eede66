//! An RDB file as it passes: where its keys and values are, whether it is whole.
//!
//! Bytes are fed in whatever portions they come; nothing is held but the key being read, a short value, and, when
//! somebody asked for them, whole values. After the format that Redis writes (`rdb.c`); a checksum of zero means that
//! the server was told to write none.

use std::fmt;

use backup_core::limits::{RDB_TEXT_BYTES_MAX, REDIS_STRING_HASHED_BYTES_MAX};

use super::elements::{Digest, Elements};
use super::listener::{Ending, Key, Listener};
use super::numeral::{Length, Numeral, unpack};
use super::shape::{Part, shape_of};
use super::sum::{Sum, Verdict};

/// Reads a file as it comes.
pub(super) struct RdbReader<L> {
    listener: L,
    state: State,
    /// Collections and modules being read, the innermost last.
    frames: Vec<Frame>,
    numeral: Numeral,
    sum: Sum,
    /// The format's version, and whether it is one of Valkey's own.
    version: u16,
    entry: EntryState,
    /// Why the rest is passed through unread.
    unread: Option<String>,
    position: u64,
}

/// The entry being read.
#[derive(Default)]
struct EntryState {
    database: u64,
    expires: Option<u64>,
    kind: Option<u8>,
    name: Vec<u8>,
    string: Option<Vec<u8>>,
    elements: Option<Elements>,
    raw: Vec<u8>,
    is_in_value: bool,
}

/// What the next bytes are.
#[derive(Clone, Debug)]
enum State {
    /// So many bytes that are kept, and what for.
    Kept(Vec<u8>, usize, Use),
    /// So many bytes that nobody wants.
    Passed(u64),
    /// A length, and what for.
    Number(NumberUse),
    /// The next part of the innermost frame, or the next entry.
    Next,
    /// So many bytes of the checksum.
    Trailer(usize),
    Ended,
    /// Everything up to the end of the stream: it cannot be understood.
    Unread,
}

/// What kept bytes are.
#[derive(Clone, Debug)]
enum Use {
    Magic,
    Opcode,
    Seconds,
    Milliseconds,
    DecimalLength,
    Decimal,
    Score,
    Text(TextUse, Form),
}

/// How a text is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    /// As a number, the lowest byte first.
    Integer,
    /// Packed; it has so many bytes.
    Packed(u64),
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextUse {
    Nothing,
    FactName,
    FactValue,
    Key,
    String,
    Element,
    Function,
}

/// What a number is.
#[derive(Clone, Copy, Debug)]
enum NumberUse {
    Nothing,
    Database,
    Count(&'static [Part]),
    Module,
    Text(TextUse),
    /// The two lengths of a packed text.
    Packed(TextUse),
    Whole(TextUse, u64),
}

/// Something that repeats.
struct Frame {
    parts: &'static [Part],
    at: usize,
    times: u64,
}

impl<L: Listener> RdbReader<L> {
    pub(super) fn new(listener: L) -> Self {
        Self {
            listener,
            state: State::Kept(Vec::new(), 9, Use::Magic),
            frames: Vec::new(),
            numeral: Numeral::default(),
            sum: Sum::new(),
            version: 0,
            entry: EntryState::default(),
            unread: None,
            position: 0,
        }
    }

    /// Who heard it all.
    pub(super) fn into_listener(self) -> L {
        self.listener
    }

    /// Why what came after some point was not understood: it is still checked, but its keys are not known.
    pub(super) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Reads on.
    ///
    /// # Errors
    ///
    /// When it is no RDB file, or contradicts itself.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.sum.add(bytes);
        while !bytes.is_empty() || matches!(self.state, State::Next) {
            let (before, was_in_value) = (bytes, self.entry.is_in_value);
            if let Err(why) = self.step(&mut bytes) {
                let why = format!("at byte {}: {why}", self.position);
                // What is only counted is carried all the same: its checksum tells whether it is sound.
                if L::WANTS_VALUES || self.version == 0 {
                    return Err(why);
                }
                self.unread.get_or_insert(why);
                self.state = State::Unread;
            }
            let taken = &before[..before.len() - bytes.len()];
            self.position += taken.len() as u64;
            if was_in_value {
                if L::WANTS_VALUES {
                    self.entry.raw.extend_from_slice(taken);
                    if self.entry.raw.len() as u64 > RDB_TEXT_BYTES_MAX {
                        let name = String::from_utf8_lossy(&self.entry.name).into_owned();
                        return Err(format!("the value of {name:?} is longer than a server takes in one piece"));
                    }
                }
                if !self.entry.is_in_value {
                    self.end_entry()?;
                }
            }
        }
        Ok(())
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    ///
    /// When the file does not end here, or its checksum is another.
    pub(super) fn finish(&mut self) -> Result<Ending, String> {
        let ending = match (&self.state, self.sum.verdict()) {
            (State::Ended, _) if self.version < 5 => Ending::Unchecked,
            (State::Ended | State::Unread, Verdict::None) => Ending::Unchecked,
            (State::Ended | State::Unread, Verdict::Right) => Ending::Checked,
            (State::Ended | State::Unread, Verdict::Wrong) => {
                return Err("its checksum is not the one of its bytes".to_owned());
            }
            // The server says that it is whole, so it was misunderstood.
            (_, Verdict::Right) if !L::WANTS_VALUES => {
                self.unread.get_or_insert_with(|| "its end was not found".to_owned());
                Ending::Checked
            }
            _ => return Err(format!("the file ends at byte {}, in the middle", self.position)),
        };
        Ok(ending)
    }

    /// Takes what it can of `bytes`, which is empty only where nothing is needed.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<(), String> {
        match &mut self.state {
            State::Kept(kept, wanted, _) => {
                let (head, rest) = bytes.split_at(bytes.len().min(*wanted - kept.len()));
                kept.extend_from_slice(head);
                *bytes = rest;
                if kept.len() == *wanted {
                    let State::Kept(kept, _, purpose) = std::mem::replace(&mut self.state, State::Next) else {
                        return Ok(());
                    };
                    self.use_kept(kept, &purpose)?;
                }
            }
            State::Passed(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                *bytes = &bytes[taken..];
                if *left == 0 {
                    self.state = State::Next;
                }
            }
            State::Number(purpose) => {
                let purpose = *purpose;
                while let Some((&byte, rest)) = bytes.split_first() {
                    *bytes = rest;
                    if let Some(length) = self.numeral.take(byte)? {
                        self.state = State::Next;
                        return self.use_number(length, purpose);
                    }
                }
            }
            State::Next => self.next()?,
            State::Trailer(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                *bytes = &bytes[taken..];
                if *left == 0 {
                    self.state = State::Ended;
                }
            }
            State::Ended => return Err("something follows the end of the file".to_owned()),
            State::Unread => *bytes = &[],
        }
        Ok(())
    }

    /// The next part of what is being read, or of the file.
    fn next(&mut self) -> Result<(), String> {
        while let Some(frame) = self.frames.last_mut() {
            if frame.at == frame.parts.len() {
                (frame.at, frame.times) = (0, frame.times.saturating_sub(1));
            }
            if frame.times == 0 {
                self.frames.pop();
                continue;
            }
            let part = frame.parts[frame.at];
            frame.at += 1;
            self.state = match part {
                Part::Text if self.entry.kind == Some(0) => State::Number(NumberUse::Text(TextUse::String)),
                Part::Text if self.entry.elements.is_some() => State::Number(NumberUse::Text(TextUse::Element)),
                Part::Text => State::Number(NumberUse::Text(TextUse::Nothing)),
                Part::Number => State::Number(NumberUse::Nothing),
                // The only bytes of a sorted set are its scores.
                Part::Bytes(8) if self.entry.kind == Some(5) => State::Kept(Vec::new(), 8, Use::Score),
                Part::Bytes(count) => State::Passed(count.into()),
                Part::Decimal => State::Kept(Vec::new(), 1, Use::DecimalLength),
                Part::Many(parts) => State::Number(NumberUse::Count(parts)),
                Part::Module => State::Number(NumberUse::Module),
            };
            return Ok(());
        }
        if self.entry.is_in_value {
            self.entry.is_in_value = false;
        }
        self.state = State::Kept(Vec::new(), 1, Use::Opcode);
        Ok(())
    }

    fn use_kept(&mut self, kept: Vec<u8>, purpose: &Use) -> Result<(), String> {
        let number = || kept.iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
        match purpose {
            Use::Magic => {
                // Valkey counts its own versions from 80, behind a name of the same length with the number.
                let digits = kept.strip_prefix(b"REDIS").or_else(|| kept.strip_prefix(b"VALKEY"));
                let version = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
                self.version = version.ok_or("it does not begin as an RDB file")?;
                self.listener.version(self.version);
            }
            Use::Opcode => return self.opcode(kept[0]),
            Use::Seconds => self.entry.expires = Some(number() * 1_000),
            Use::Milliseconds => self.entry.expires = Some(number()),
            Use::DecimalLength => match kept[0] {
                length @ 1..=252 => self.state = State::Kept(Vec::new(), length.into(), Use::Decimal),
                special => self.score(special_score(special)),
            },
            Use::Decimal | Use::Score => {
                let score = match purpose {
                    Use::Score => f64::from_bits(number()),
                    _ => {
                        let text = str::from_utf8(&kept).ok().and_then(|text| text.parse().ok());
                        text.ok_or("a score is no number")?
                    }
                };
                self.score(score);
            }
            Use::Text(purpose, form) => {
                let text = match form {
                    Form::Plain => kept,
                    Form::Integer => decimal(&kept),
                    Form::Packed(length) => {
                        let length = usize::try_from(*length).map_err(|_| "a text is too long")?;
                        unpack(&kept, length).ok_or("a packed text is damaged")?
                    }
                };
                return self.use_text(text, *purpose);
            }
        }
        Ok(())
    }

    fn score(&mut self, score: f64) {
        self.entry.elements.iter_mut().for_each(|elements| elements.score(score));
    }

    fn opcode(&mut self, opcode: u8) -> Result<(), String> {
        let eight = |purpose| State::Kept(Vec::new(), 8, purpose);
        self.state = match opcode {
            255 if self.version < 5 => State::Ended,
            255 => State::Trailer(8),
            254 => State::Number(NumberUse::Database),
            253 => State::Kept(Vec::new(), 4, Use::Seconds),
            252 => eight(Use::Milliseconds),
            251 => self.parts(&[Part::Number, Part::Number]),
            250 => State::Number(NumberUse::Text(TextUse::FactName)),
            249 => State::Passed(1),
            248 => State::Number(NumberUse::Nothing),
            247 => {
                self.listener.module_data();
                self.parts(&[Part::Number, Part::Number, Part::Number, Part::Module])
            }
            245 => State::Number(NumberUse::Text(TextUse::Function)),
            244 => self.parts(&[Part::Number, Part::Number, Part::Number]),
            kind if shape_of(kind).is_some() => {
                self.entry.kind = Some(kind);
                State::Number(NumberUse::Text(TextUse::Key))
            }
            unknown => {
                self.unread = Some(format!("it holds something of the type {unknown}, which is not known here"));
                State::Unread
            }
        };
        Ok(())
    }

    fn parts(&mut self, parts: &'static [Part]) -> State {
        self.frames.push(Frame { parts, at: 0, times: 1 });
        State::Next
    }

    fn use_number(&mut self, length: Length, purpose: NumberUse) -> Result<(), String> {
        let number = match (&length, purpose) {
            (Length::Plain(number), _) => *number,
            (Length::Special(encoding), NumberUse::Text(purpose)) => {
                self.state = match encoding {
                    3 => State::Number(NumberUse::Packed(purpose)),
                    bytes @ 0..=2 => self.text(1 << bytes, purpose, Form::Integer)?,
                    _ => return Err("a text has an unknown encoding".to_owned()),
                };
                return Ok(());
            }
            (Length::Special(_), _) => return Err("a number was expected".to_owned()),
        };
        match purpose {
            NumberUse::Nothing => self.entry.elements.iter_mut().for_each(|elements| elements.number(number)),
            NumberUse::Database => self.entry.database = number,
            NumberUse::Count(parts) => self.frames.push(Frame { parts, at: 0, times: number }),
            NumberUse::Text(purpose) => self.state = self.text(number, purpose, Form::Plain)?,
            NumberUse::Packed(purpose) => self.state = State::Number(NumberUse::Whole(purpose, number)),
            NumberUse::Whole(purpose, packed) => {
                self.state = self.text(packed, purpose, Form::Packed(number))?;
            }
            NumberUse::Module => {
                // Its parts say what they are; another follows each.
                let parts: &'static [Part] = match number {
                    0 => return Ok(()),
                    1 | 2 => &[Part::Number, Part::Module],
                    3 => &[Part::Bytes(4), Part::Module],
                    4 => &[Part::Bytes(8), Part::Module],
                    5 => &[Part::Text, Part::Module],
                    _ => return Err("a module's value has an unknown part".to_owned()),
                };
                self.replace_module_frame(parts);
            }
        }
        Ok(())
    }

    /// A module's value may have millions of parts: each takes the place of the one before it.
    fn replace_module_frame(&mut self, parts: &'static [Part]) {
        if self.frames.last().is_some_and(|frame| frame.at == frame.parts.len() && frame.times <= 1) {
            self.frames.pop();
        }
        self.frames.push(Frame { parts, at: 0, times: 1 });
    }

    /// How a text of `bytes` bytes is read. One that nobody wants, or that is too long to be held, is passed over.
    fn text(&mut self, bytes: u64, purpose: TextUse, form: Form) -> Result<State, String> {
        let length = match form {
            Form::Packed(length) => length,
            Form::Plain | Form::Integer => bytes,
        };
        let is_wanted = match purpose {
            TextUse::Nothing => false,
            TextUse::Element => match &mut self.entry.elements {
                Some(elements) if elements.wants(length) => true,
                elements => {
                    elements.iter_mut().for_each(|elements| elements.long(length));
                    false
                }
            },
            TextUse::String => length <= REDIS_STRING_HASHED_BYTES_MAX,
            _ if bytes.max(length) > RDB_TEXT_BYTES_MAX => {
                return Err(format!("a name of {} bytes is longer than any can be", bytes.max(length)));
            }
            _ => true,
        };
        if !is_wanted {
            return Ok(if bytes == 0 { State::Next } else { State::Passed(bytes) });
        }
        if bytes == 0 {
            self.state = State::Next;
            self.use_text(Vec::new(), purpose)?;
            return Ok(std::mem::replace(&mut self.state, State::Next));
        }
        let bytes = usize::try_from(bytes).map_err(|_| "a text is too long")?;
        Ok(State::Kept(Vec::new(), bytes, Use::Text(purpose, form)))
    }

    fn use_text(&mut self, text: Vec<u8>, purpose: TextUse) -> Result<(), String> {
        match purpose {
            TextUse::Nothing => {}
            TextUse::FactName => {
                self.entry.name = text;
                self.state = State::Number(NumberUse::Text(TextUse::FactValue));
            }
            TextUse::FactValue => self.listener.fact(&self.entry.name, &text),
            TextUse::Function => self.listener.function(&text)?,
            TextUse::String => self.entry.string = Some(text),
            TextUse::Element => self.entry.elements.iter_mut().for_each(|elements| elements.text(&text)),
            TextUse::Key => {
                self.entry.name = text;
                self.entry.is_in_value = true;
                self.entry.elements = self.entry.kind.filter(|_| L::WANTS_ELEMENTS).and_then(Elements::of);
                self.state = self.parts(self.entry.kind.and_then(shape_of).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn end_entry(&mut self) -> Result<(), String> {
        let EntryState { database, expires, kind, name, string, elements, raw, .. } = &mut self.entry;
        let key = Key {
            database: *database,
            name,
            expires: expires.take(),
            kind: kind.take().unwrap_or_default(),
            string: string.as_deref(),
            elements: elements.take().map_or(Digest::None, Elements::digest),
            raw,
        };
        let heard = self.listener.key(key);
        *string = None;
        raw.clear();
        heard
    }
}

impl<L> fmt::Debug for RdbReader<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdbReader").field("position", &self.position).finish_non_exhaustive()
    }
}

/// What stands for a score that has no digits.
fn special_score(byte: u8) -> f64 {
    match byte {
        254 => f64::INFINITY,
        255 => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

/// A number of one, two or four bytes as text.
fn decimal(bytes: &[u8]) -> Vec<u8> {
    let number = match *bytes {
        [a] => i32::from(i8::from_le_bytes([a])),
        [a, b] => i32::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
        _ => 0,
    };
    number.to_string().into_bytes()
}
