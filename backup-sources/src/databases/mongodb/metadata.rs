//! `COLL.metadata.json`: what a collection was made with, as mongodump writes it and mongorestore reads it.

use backup_core::limits::MONGODB_METADATA_BYTES_MAX;
use mongodb::bson::{Bson, Document, doc};

use super::catalog::{Collection, Sort};
use super::{extended_json, names};

/// The text of the file.
pub(super) fn text(collection: &Collection) -> Vec<u8> {
    let indexes: Vec<Bson> = collection.indexes.iter().cloned().map(Bson::Document).collect();
    let mut metadata = Document::new();
    if !collection.options.is_empty() {
        metadata.insert("options", collection.options.clone());
    }
    // Never null: older tools stumble over that.
    metadata.insert("indexes", indexes);
    if let Some(uuid) = &collection.uuid {
        metadata.insert("uuid", uuid.clone());
    }
    metadata.extend(doc! {"collectionName": collection.name.clone(), "type": word(collection.sort)});
    extended_json::write(&metadata).into_bytes()
}

/// Reads such a file. `name` is the collection that the file's name stands for, unless that was cut.
///
/// # Errors
///
/// When it is none, or does not say whose it is.
fn read(text: &[u8], name: Option<String>) -> Result<Collection, String> {
    if text.len() as u64 > MONGODB_METADATA_BYTES_MAX {
        return Err("it is too large".to_owned());
    }
    let metadata = extended_json::parse(text)?;
    let named = || metadata.get_str("collectionName").ok().map(str::to_owned);
    let name = name.or_else(named).ok_or("it does not say which collection it belongs to")?;
    let options = metadata.get_document("options").cloned().unwrap_or_default();
    let sort = match metadata.get_str("type") {
        Ok("view") => Sort::View,
        Ok("timeseries") => Sort::TimeSeries,
        // Older dumps say it by the options alone.
        _ if options.contains_key("viewOn") => Sort::View,
        _ if options.contains_key("timeseries") => Sort::TimeSeries,
        _ => Sort::Collection,
    };
    let indexes = metadata.get_array("indexes").map(Vec::as_slice).unwrap_or_default();
    let indexes = indexes.iter().map(|index| index.as_document().cloned().ok_or("an index in it is no document"));
    let uuid = metadata.get_str("uuid").ok().map(str::to_owned);
    Ok(Collection { name, sort, options, uuid, indexes: indexes.collect::<Result<_, _>>()? })
}

/// Reads the file `file`, and tells the name of the one that has its documents; a view has none.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_file(file: &str, text: &[u8]) -> Result<(Collection, Option<String>), String> {
    let stem = file.strip_suffix(names::METADATA).unwrap_or(file);
    let collection = read(text, names::unescaped(stem))?;
    let documents = match collection.sort {
        Sort::View => None,
        // As the file says it: a name may have been cut in another way than ours.
        Sort::Collection => Some(format!("{stem}{}", names::DOCUMENTS)),
        Sort::TimeSeries => collection.namespace().map(|namespace| names::escaped(&namespace) + names::DOCUMENTS),
    };
    Ok((collection, documents))
}

/// mongodump's word for what sort of thing it is.
pub(super) fn word(sort: Sort) -> &'static str {
    match sort {
        Sort::Collection => "collection",
        Sort::View => "view",
        Sort::TimeSeries => "timeseries",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection() -> Collection {
        Collection {
            name: "a b".into(),
            sort: Sort::Collection,
            options: doc! {"capped": true, "size": 4096},
            uuid: Some("00ff".into()),
            indexes: vec![doc! {"v": 2, "key": {"b": 1, "a": -1}, "name": "b_1_a_-1"}],
        }
    }

    #[test]
    fn what_is_written_is_what_mongodump_writes_and_reads_back() {
        let text = text(&collection());
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            concat!(
                r#"{"options":{"capped":true,"size":{"$numberInt":"4096"}},"#,
                r#""indexes":[{"v":{"$numberInt":"2"},"key":{"b":{"$numberInt":"1"},"a":{"$numberInt":"-1"}},"#,
                r#""name":"b_1_a_-1"}],"uuid":"00ff","collectionName":"a b","type":"collection"}"#
            )
        );
        assert_eq!(read(&text, Some("a b".into())).unwrap(), collection());
        assert_eq!(read(&text, None).unwrap(), collection());
    }

    #[test]
    fn dumps_of_older_versions_are_read_too() {
        let old = br#"{"options":{"viewOn":"t","pipeline":[]},"indexes":[]}"#;
        assert_eq!(read(old, Some("v".into())).unwrap().sort, Sort::View);
        assert!(read(old, None).is_err(), "its name was cut, and it does not say it");
        assert!(read(br#"{"indexes":[1]}"#, Some("v".into())).is_err());
    }
}
