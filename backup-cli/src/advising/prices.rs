//! The file of prices that a user gives: `[[price]]`, one for each class of each repository.

use std::path::Path;

use backup_core::advice::{Price, Prices};
use serde::Deserialize;

use crate::exit::{Exit, Failure};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    currency: String,
    #[serde(default)]
    price: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    repository: Option<String>,
    class: Option<String>,
    storage: f64,
    #[serde(default)]
    put: f64,
    #[serde(default)]
    get: f64,
    #[serde(default)]
    retrieval: f64,
    #[serde(default)]
    transfer: f64,
    minimum_days: Option<u32>,
}

/// Reads one.
///
/// # Errors
///
/// When it cannot be read, is no such file, or holds a price that is none.
pub(crate) fn read(path: &Path) -> Result<Prices, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failure = Failure::because(format!("the prices in {}", path.display()), &error);
        Failure { exit: Exit::Usage, ..failure }
    })?;
    parse(&text).map_err(|why| {
        Failure::usage(
            format!("{}: {why}", path.display()),
            "write currency = \"EUR\", and for each class [[price]] with class = \"STANDARD\" and storage = 0.02",
        )
    })
}

fn parse(text: &str) -> Result<Prices, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', ", "))
    })?;
    if file.price.is_empty() {
        return Err("it has no [[price]]".to_owned());
    }
    let mut prices = Vec::new();
    for entry in file.price {
        let Entry { repository, class, storage, put, get, retrieval, transfer, minimum_days } = entry;
        if let Some(wrong) =
            [storage, put, get, retrieval, transfer].iter().find(|price| !(price.is_finite() && **price >= 0.0))
        {
            return Err(format!("{wrong} is no price"));
        }
        prices.push(Price { repository, class, storage, put, get, retrieval, transfer, days_min: minimum_days });
    }
    Ok(Prices { currency: file.currency, prices })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_what_is_none_is_refused_with_its_line() {
        let prices = parse("currency = \"EUR\"\n[[price]]\nclass = \"STANDARD\"\nstorage = 0.02\nget = 1\n").unwrap();
        assert_eq!((prices.currency.as_str(), prices.prices[0].storage, prices.prices[0].get), ("EUR", 0.02, 1.0));
        for (text, part) in [
            ("currency = \"EUR\"\n", "no [[price]]"),
            ("currency = \"EUR\"\n[[price]]\nstorage = -1\n", "-1 is no price"),
            ("currency = \"EUR\"\n[[price]]\nstorage = 1\nstorige = 1\n", "line 4"),
            ("[[price]]\nstorage = 1\n", "currency"),
        ] {
            assert!(parse(text).is_err_and(|why| why.contains(part)), "{text}");
        }
    }
}
