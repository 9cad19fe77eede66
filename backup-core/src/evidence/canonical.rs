//! One spelling for each JSON value: RFC 8785 (JSON Canonicalization Scheme), for values without fractions.
//!
//! Keys are sorted by their UTF-16 code units, there is no space, strings are escaped as little as possible. Numbers are
//! whole and within what every reader of JSON keeps (2^53), so that none has two spellings.

use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// The largest number that every reader of JSON keeps.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// The one text for `value`.
///
/// # Errors
///
/// When it holds a number with a fraction or beyond 2^53.
pub fn canonical(value: &Value) -> Result<String> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String) -> Result<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => {
            let is_whole = number.as_u64().is_some_and(|number| number <= NUMBER_MAX)
                || number.as_i64().is_some_and(|number| number.unsigned_abs() <= NUMBER_MAX);
            if !is_whole {
                return Err(Error::new(ErrorKind::Broken("a number has more than one spelling"), number.to_string()));
            }
            text.push_str(&number.to_string());
        }
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text)?;
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (index, (name, field)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(name, text);
                text.push(':');
                write(field, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_spelled_as_it_says() {
        // RFC 8785, section 3.2.3: the order of keys by UTF-16, not by code points.
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let text = canonical(&value).unwrap();
        assert_eq!(text, "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}");
        // Section 3.2.2.2.
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/");
        assert_eq!(canonical(&value).unwrap(), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
        assert_eq!(canonical(&json!([null, true, false, 0, -5, {}])).unwrap(), "[null,true,false,0,-5,{}]");
    }

    #[test]
    fn a_number_that_readers_spell_in_several_ways_is_refused() {
        for value in [json!(1.5), json!(1u64 << 53), json!(-1.0e300), json!(i64::MIN)] {
            assert!(canonical(&value).is_err(), "{value}");
        }
        assert_eq!(canonical(&json!(NUMBER_MAX)).unwrap(), "9007199254740991");
    }

    proptest! {
        #[test]
        fn a_text_reads_back_and_is_its_own_canonical_form(fields in proptest::collection::hash_map(".*", ".*", 0..8)) {
            let value = serde_json::to_value(&fields).unwrap();
            let text = canonical(&value).unwrap();
            let again: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert_eq!(canonical(&again).unwrap(), text);
        }
    }
}
