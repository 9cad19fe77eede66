//! Documents as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::{Bson, Document};

/// Writes `document` in the canonical form.
pub(in super::super) fn write(document: &Document) -> String {
    let mut text = String::new();
    object(&mut text, document);
    text
}

fn object(text: &mut String, document: &Document) {
    text.push('{');
    for (index, (name, value)) in document.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        quoted(text, name);
        text.push(':');
        bson(text, value);
    }
    text.push('}');
}

fn bson(text: &mut String, value: &Bson) {
    match value {
        Bson::Document(document) => object(text, document),
        Bson::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                bson(text, value);
            }
            text.push(']');
        }
        Bson::String(value) => quoted(text, value),
        Bson::Boolean(value) => text.push_str(if *value { "true" } else { "false" }),
        Bson::Null => text.push_str("null"),
        Bson::Undefined => text.push_str(r#"{"$undefined":true}"#),
        Bson::MinKey => text.push_str(r#"{"$minKey":1}"#),
        Bson::MaxKey => text.push_str(r#"{"$maxKey":1}"#),
        Bson::Int32(value) => wrapped(text, "$numberInt", &value.to_string()),
        Bson::Int64(value) => wrapped(text, "$numberLong", &value.to_string()),
        Bson::Double(value) => wrapped(text, "$numberDouble", &double(*value)),
        Bson::Decimal128(value) => wrapped(text, "$numberDecimal", &value.to_string()),
        Bson::ObjectId(value) => wrapped(text, "$oid", &value.to_hex()),
        Bson::Symbol(value) => wrapped(text, "$symbol", value),
        Bson::JavaScriptCode(code) => wrapped(text, "$code", code),
        Bson::JavaScriptCodeWithScope(value) => {
            text.push_str(r#"{"$code":"#);
            quoted(text, &value.code);
            text.push_str(r#","$scope":"#);
            object(text, &value.scope);
            text.push('}');
        }
        Bson::DateTime(value) => {
            text.push_str(r#"{"$date":"#);
            wrapped(text, "$numberLong", &value.timestamp_millis().to_string());
            text.push('}');
        }
        Bson::Timestamp(value) => {
            text.push_str(&format!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, value.time, value.increment));
        }
        Bson::Binary(value) => {
            let (base64, subtype) = (STANDARD.encode(&value.bytes), u8::from(value.subtype));
            text.push_str(&format!(r#"{{"$binary":{{"base64":"{base64}","subType":"{subtype:02x}"}}}}"#));
        }
        Bson::RegularExpression(value) => {
            text.push_str(r#"{"$regularExpression":{"pattern":"#);
            quoted(text, value.pattern.as_str());
            text.push_str(r#","options":"#);
            quoted(text, value.options.as_str());
            text.push_str("}}");
        }
        // It has no parts that the library would show; servers have not made any for fifteen years.
        Bson::DbPointer(_) => text.push_str(r#"{"$undefined":true}"#),
    }
}

fn wrapped(text: &mut String, name: &str, value: &str) {
    text.push('{');
    quoted(text, name);
    text.push(':');
    quoted(text, value);
    text.push('}');
}

/// The shortest text that reads back as the same number.
fn double(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{value:?}"),
    }
}

fn quoted(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if u32::from(control) < 0x20 => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}
