//! Text as documents. What comes may be anybody's: nesting is bounded by the JSON reader, nothing is assumed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::CString;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Reads one document.
///
/// # Errors
///
/// What is wrong with it, for people.
pub(in super::super) fn parse(text: &[u8]) -> Result<Document, String> {
    match serde_json::from_slice::<Value>(text).map_err(|error| error.to_string())?.0 {
        Bson::Document(document) => Ok(document),
        _ => Err("it is no document".to_owned()),
    }
}

/// A value, understood as extended JSON as soon as it is whole.
struct Value(Bson);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Bson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("extended JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Bson, E> {
        Ok(Bson::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Bson, E> {
        Ok(integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Bson, E> {
        #[expect(clippy::cast_precision_loss, reason = "the specification: what no integer holds is a double")]
        Ok(i64::try_from(value).map_or(Bson::Double(value as f64), integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Bson, E> {
        Ok(Bson::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Bson, E> {
        Ok(Bson::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Bson, E> {
        Ok(Bson::String(value))
    }

    fn visit_unit<E>(self) -> Result<Bson, E> {
        Ok(Bson::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Bson, A::Error> {
        let mut values = Vec::new();
        while let Some(Value(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Bson::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Bson, A::Error> {
        let mut document = Document::new();
        while let Some((name, Value(value))) = fields.next_entry::<String, Value>()? {
            document.insert(name, value);
        }
        understood(document).map_err(A::Error::custom)
    }
}

fn integer(value: i64) -> Bson {
    i32::try_from(value).map_or(Bson::Int64(value), Bson::Int32)
}

/// What a document with these fields stands for: itself, unless they are exactly those of another type.
fn understood(document: Document) -> Result<Bson, String> {
    let mut fields = document.iter();
    let (Some((name, value)), second) = (fields.next(), fields.next()) else { return Ok(Bson::Document(document)) };
    let wrong = |name: &str| format!("{name} has no such value");
    let text = || value.as_str();
    let found = match (name.as_str(), second) {
        ("$code", Some((scope, Bson::Document(variables)))) if scope == "$scope" && document.len() == 2 => {
            let code = text().ok_or_else(|| wrong(name))?.to_owned();
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope: variables.clone() })
        }
        (_, Some(_)) => return Ok(Bson::Document(document)),
        ("$numberInt", None) => number(text()).map(Bson::Int32).ok_or_else(|| wrong(name))?,
        ("$numberLong", None) => number(text()).map(Bson::Int64).ok_or_else(|| wrong(name))?,
        // Rust reads the words of the specification too: Infinity, -Infinity, NaN.
        ("$numberDouble", None) => number(text()).map(Bson::Double).ok_or_else(|| wrong(name))?,
        ("$numberDecimal", None) => number(text()).map(|it: Decimal128| it.into()).ok_or_else(|| wrong(name))?,
        ("$oid", None) => {
            let id = text().and_then(|text| ObjectId::parse_str(text).ok());
            Bson::ObjectId(id.ok_or_else(|| wrong(name))?)
        }
        ("$symbol", None) => Bson::Symbol(text().ok_or_else(|| wrong(name))?.to_owned()),
        ("$code", None) => Bson::JavaScriptCode(text().ok_or_else(|| wrong(name))?.to_owned()),
        ("$undefined", None) => Bson::Undefined,
        ("$minKey", None) => Bson::MinKey,
        ("$maxKey", None) => Bson::MaxKey,
        ("$date", None) => Bson::DateTime(date(value).ok_or_else(|| wrong(name))?),
        ("$timestamp", None) => timestamp(value).ok_or_else(|| wrong(name))?,
        ("$binary", None) => binary(value).ok_or_else(|| wrong(name))?,
        ("$regularExpression", None) => expression(value).ok_or_else(|| wrong(name))?,
        // Operators of queries and pipelines begin with a dollar too.
        _ => return Ok(Bson::Document(document)),
    };
    Ok(found)
}

fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

/// A date, of the canonical form or of the relaxed one.
fn date(value: &Bson) -> Option<DateTime> {
    match value {
        Bson::Int64(millis) => Some(DateTime::from_millis(*millis)),
        Bson::Int32(millis) => Some(DateTime::from_millis((*millis).into())),
        Bson::String(text) => DateTime::parse_rfc3339_str(text).ok(),
        _ => None,
    }
}

fn timestamp(value: &Bson) -> Option<Bson> {
    let parts = value.as_document()?;
    let part = |name: &str| match parts.get(name)? {
        Bson::Int32(value) => u32::try_from(*value).ok(),
        Bson::Int64(value) => u32::try_from(*value).ok(),
        _ => None,
    };
    Some(Bson::Timestamp(Timestamp { time: part("t")?, increment: part("i")? }))
}

fn binary(value: &Bson) -> Option<Bson> {
    let parts = value.as_document()?;
    let bytes = STANDARD.decode(parts.get("base64")?.as_str()?).ok()?;
    let subtype = u8::from_str_radix(parts.get("subType")?.as_str()?, 16).ok()?;
    Some(Bson::Binary(Binary { subtype: BinarySubtype::from(subtype), bytes }))
}

fn expression(value: &Bson) -> Option<Bson> {
    let parts = value.as_document()?;
    let text = |name: &str| CString::try_from(parts.get(name)?.as_str()?).ok();
    Some(Bson::RegularExpression(Regex { pattern: text("pattern")?, options: text("options")? }))
}
