//! `[checklist]`: what no machine can measure, declared by somebody, with the day on which it was so.
//!
//! What is always true: a declaration has a date, because it ages. Nothing here is taken for more than what somebody said.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::section::Section;

/// What was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checklist {
    /// In which second place the passphrase is kept, and when somebody saw it there.
    pub(crate) passphrase_copy: Option<(String, Timestamp)>,
    /// Who followed the restore procedure, and when.
    pub(crate) rehearsed: Option<(String, Timestamp)>,
}

/// Reads it. Days begin in `zone`.
pub(super) fn read(section: Option<&Section<'_>>, zone: &TimeZone) -> Checklist {
    let Some(section) = section else { return Checklist::default() };
    let declared = |key, name: &'static str, example| {
        let declaration = section.section(key)?;
        let (what, on) = (declaration.required(name, example), declaration.required("on", "\"2026-05-02\""));
        let on = on.and_then(|_| declaration.parsed("on", |text| day(text, zone)));
        declaration.finish();
        what.zip(on)
    };
    let checklist = Checklist {
        passphrase_copy: declared("passphrase_copy", "place", "\"an envelope in the safe\""),
        rehearsed: declared("rehearsed", "by", "\"Ada\""),
    };
    section.finish();
    checklist
}

fn day(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let date: Date = text.parse().map_err(|_| format!("{text:?} is no date: write 2026-05-02"))?;
    let begins = date.to_zoned(zone.clone()).map_err(|_| format!("{text:?} is no day in this zone"))?;
    Ok(begins.timestamp())
}
