//! Aggregations that a user asks of a restored database: one value comes out, and nothing is written.

use backup_core::contracts::Answer;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use crate::databases::mongodb::connection::Connection;
use crate::databases::mongodb::{extended_json, failure};

/// The only stages that write. They stand in a pipeline's outermost list or nowhere.
const WRITING: [&str; 2] = ["$out", "$merge"];

/// Asks `database`.
///
/// # Errors
///
/// When the pipeline is none, would write, is refused by the server, or gives more than one value; in a line for people.
pub(super) fn ask(connection: &Connection, database: &str, collection: &str, pipeline: &str) -> Result<Answer, String> {
    let mut stages = stages(pipeline)?;
    // Two tell that there is more than one.
    stages.push(doc! {"$limit": 2}.into());
    let command = doc! {"aggregate": collection, "pipeline": stages, "cursor": {"batchSize": 3}};
    let said = connection.ask(database, command).map_err(|error| error.to_string())?;
    let said = said.map_err(|error| failure::told(&error))?;
    let batch = said.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    match batch.map_err(|_| "the server's answer is none".to_owned())?.as_slice() {
        [] => Ok(Answer(None)),
        [Bson::Document(document)] => value(document).map(Answer),
        _ => Err("it gives more than one document".to_owned()),
    }
}

/// The stages of a pipeline that only reads. The order of their fields is kept.
fn stages(pipeline: &str) -> Result<Vec<Bson>, String> {
    let wrapped = extended_json::parse(format!("{{\"stages\":{pipeline}}}").as_bytes())?;
    let Ok(stages) = wrapped.get_array("stages") else { return Err("a pipeline is a list of stages".to_owned()) };
    for stage in stages {
        let stage = stage.as_document().ok_or("a stage of a pipeline is a document")?;
        if let Some(name) = stage.keys().find(|name| WRITING.contains(&name.as_str())) {
            return Err(format!("{name} writes, and a question only reads"));
        }
    }
    Ok(stages.clone())
}

/// The only field beside `_id`, or `_id` when there is none: `$group` always has one.
fn value(document: &Document) -> Result<Option<String>, String> {
    let mut fields = document.iter().filter(|(name, _)| *name != "_id").map(|(_, value)| value);
    match (fields.next(), fields.next()) {
        (Some(value), None) => plain(value),
        (None, _) => document.get("_id").map_or(Ok(None), plain),
        _ => Err("it gives more than one field: choose one with $project".to_owned()),
    }
}

/// A value as answers are written.
fn plain(value: &Bson) -> Result<Option<String>, String> {
    let instant = |millis: i64| Timestamp::from_millisecond(millis).ok().map(|time| time.to_string());
    let seconds = |seconds: u32| Timestamp::from_second(seconds.into()).ok().map(|time| time.to_string());
    Ok(Some(match value {
        Bson::Null | Bson::Undefined => return Ok(None),
        Bson::Boolean(value) => value.to_string(),
        Bson::Int32(value) => value.to_string(),
        Bson::Int64(value) => value.to_string(),
        Bson::Double(value) => value.to_string(),
        Bson::Decimal128(value) => value.to_string(),
        Bson::String(value) | Bson::Symbol(value) => value.clone(),
        Bson::ObjectId(value) => value.to_hex(),
        Bson::DateTime(value) => instant(value.timestamp_millis()).ok_or("it gives a time that no calendar has")?,
        Bson::Timestamp(value) => seconds(value.time).ok_or("it gives a time that no calendar has")?,
        _ => return Err("it gives no single value".to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::DateTime;

    use super::*;

    #[test]
    fn a_value_is_the_only_one_of_its_document() {
        let of = |document: Document| value(&document);
        assert_eq!(of(doc! {"n": 3}), Ok(Some("3".into())));
        assert_eq!(
            of(doc! {"_id": Bson::Null, "newest": DateTime::from_millis(1_500)}),
            Ok(Some("1970-01-01T00:00:01.5Z".into()))
        );
        assert_eq!(of(doc! {"_id": "x"}), Ok(Some("x".into())));
        assert_eq!((of(doc! {"a": Bson::Null}), of(doc! {})), (Ok(None), Ok(None)));
        assert_eq!((of(doc! {"a": true}), of(doc! {"a": 5.0})), (Ok(Some("true".into())), Ok(Some("5".into()))));
        assert!(of(doc! {"a": 1, "b": 2}).is_err() && of(doc! {"a": [1]}).is_err());
    }

    #[test]
    fn a_pipeline_keeps_its_order_and_does_not_write() {
        let sorted = stages(r#"[{"$sort": {"b": 1, "a": -1}}, {"$match": {"at": {"$date": "2026-01-01T00:00:00Z"}}}]"#);
        let sorted = sorted.unwrap();
        assert_eq!(sorted[0], doc! {"$sort": {"b": 1, "a": -1}}.into());
        assert!(matches!(sorted[1].as_document().unwrap().get_document("$match").unwrap()["at"], Bson::DateTime(_)));
        for writes in [r#"[{"$match": {}}, {"$out": "x"}]"#, r#"[{"$merge": {"into": "x"}}]"#] {
            assert!(stages(writes).unwrap_err().ends_with("a question only reads"));
        }
        for wrong in ["{}", "[1]", "[", "[]}, \"x\": [{\"$out\": \"y\"}", r#"[{}],"stages":[{"$out":"y"}]"#] {
            assert!(stages(wrong).is_err(), "{wrong}");
        }
    }
}
