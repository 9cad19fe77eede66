//! Both directions, against the forms that mongodump writes.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc};

use super::*;

fn regex(pattern: &str, options: &str) -> Regex {
    Regex { pattern: pattern.try_into().unwrap(), options: options.try_into().unwrap() }
}

fn zoo() -> Document {
    doc! {
        "z": 1, "a": -1_i64, "double": 1.5, "whole": 3.0, "huge": 1e300, "nan": f64::NAN, "inf": f64::NEG_INFINITY,
        "text": "\"\\\n\u{1}ü", "yes": true, "none": Bson::Null, "list": [1, "two", {"three": 3}],
        "id": ObjectId::parse_str("0123456789abcdef01234567").unwrap(),
        "date": DateTime::from_millis(-1), "stamp": Timestamp { time: u32::MAX, increment: 7 },
        "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![0, 1, 254, 255] },
        "regex": regex("^a\"", "im"),
        "code": Bson::JavaScriptCode("f()".into()),
        "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "g()".into(), scope: doc! {"x": 1} }),
        "symbol": Bson::Symbol("s".into()), "min": Bson::MinKey, "max": Bson::MaxKey, "undefined": Bson::Undefined,
        "decimal": Bson::Decimal128("1.50".parse().unwrap()),
        "query": {"$regex": "x", "$options": "i"}, "operator": {"$gt": 5}, "empty": {},
    }
}

#[test]
fn every_type_reads_back_in_the_same_order() {
    let text = write(&zoo());
    let back = parse(text.as_bytes()).unwrap();
    // A NaN is not equal to itself; its text is.
    assert_eq!(write(&back), text);
    let names = |document: &Document| document.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&back), names(&zoo()));
    let without = |mut document: Document| {
        document.remove("nan");
        document
    };
    assert_eq!(without(back), without(zoo()));
    serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
}

#[test]
fn the_forms_are_those_of_the_specification() {
    let text = write(&doc! {
        "v": 2, "key": {"b": 1, "a": -1.0}, "at": DateTime::from_millis(5), "ts": Timestamp { time: 1, increment: 2 },
        "bin": Binary { subtype: BinarySubtype::Generic, bytes: vec![1] }, "re": regex("a", "i"),
    });
    assert_eq!(
        text,
        concat!(
            r#"{"v":{"$numberInt":"2"},"key":{"b":{"$numberInt":"1"},"a":{"$numberDouble":"-1.0"}},"#,
            r#""at":{"$date":{"$numberLong":"5"}},"ts":{"$timestamp":{"t":1,"i":2}},"#,
            r#""bin":{"$binary":{"base64":"AQ==","subType":"00"}},"#,
            r#""re":{"$regularExpression":{"pattern":"a","options":"i"}}}"#
        )
    );
}

#[test]
fn relaxed_forms_are_understood() {
    let read =
        parse(br#"{"a":1,"b":3000000000,"c":1.5,"d":{"$date":"1970-01-01T00:00:00.005Z"},"u":18446744073709551615}"#);
    let wanted =
        doc! {"a": 1, "b": 3_000_000_000_i64, "c": 1.5, "d": DateTime::from_millis(5), "u": 18446744073709551615.0};
    assert_eq!(read.unwrap(), wanted);
}

#[test]
fn what_is_no_extended_json_is_refused_and_not_guessed_at() {
    for wrong in [
        &b""[..],
        b"[]",
        b"1",
        br#"{"a":{"$numberInt":"x"}}"#,
        br#"{"a":{"$numberInt":5}}"#,
        br#"{"a":{"$oid":"12"}}"#,
        br#"{"a":{"$binary":{"base64":"!","subType":"00"}}}"#,
        br#"{"a":{"$date":[]}}"#,
        br#"{"a":1"#,
    ] {
        assert!(parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(parse(&deep).is_err());
}
