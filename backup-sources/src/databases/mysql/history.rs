//! The history of `MariaDB`'s system-versioned tables: rows that were valid once. Its dump program has it since 10.11, when it
//! is asked for, but not of tables whose rows are valid from transaction to transaction: of a database with one of these it
//! dumps no history at all.

use super::client::{Client, quoted};

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum History {
    /// There is none.
    None,
    /// It is dumped.
    Kept,
    /// It is not, and this is what a person must know of it.
    LeftOut(String),
}

impl History {
    /// Of a database on a server of this version of `MariaDB`.
    pub(super) fn of(client: &Client, database: &str, version: &str) -> Result<Self, backup_core::Error> {
        let schema = quoted(database);
        let rows = client.ask_or_fail(&format!(
            "SELECT t.table_name, EXISTS (SELECT * FROM information_schema.columns c WHERE c.table_schema = t.table_schema \
               AND c.table_name = t.table_name AND c.generation_expression = 'ROW START' AND c.data_type = 'bigint') \
             FROM information_schema.tables t WHERE t.table_schema = {schema} AND t.table_type = 'SYSTEM VERSIONED' \
             ORDER BY t.table_name"
        ))?;
        let tables = rows.into_iter().filter_map(|row| match &row[..] {
            [name, by_transaction, ..] => Some((name.clone(), by_transaction == "1")),
            _ => None,
        });
        Ok(Self::decide(&tables.collect::<Vec<_>>(), version))
    }

    /// Of tables that have one, each with whether its rows are valid from transaction to transaction.
    fn decide(tables: &[(String, bool)], version: &str) -> Self {
        if tables.is_empty() {
            return Self::None;
        }
        let named = |of: &dyn Fn(&(String, bool)) -> bool| {
            let names: Vec<&str> = tables.iter().filter(|table| of(table)).map(|(name, _)| name.as_str()).collect();
            names.join(", ")
        };
        let left_out = |why: &str| {
            Self::LeftOut(format!("the history of system-versioned tables is not in it ({}): {why}", named(&|_| true)))
        };
        if !knows_history(version) {
            return left_out("MariaDB dumps it since 10.11");
        }
        match named(&|(_, by_transaction)| *by_transaction) {
            none if none.is_empty() => Self::Kept,
            some => left_out(&format!("no dump can hold that by transactions, of {some}")),
        }
    }
}

fn knows_history(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (10, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_with_the_tables_and_why() {
        let decide = |tables: &[(&str, bool)], version| {
            let tables: Vec<_> = tables.iter().map(|(name, by)| ((*name).to_owned(), *by)).collect();
            History::decide(&tables, version)
        };
        assert_eq!(decide(&[], "10.3.39-MariaDB"), History::None);
        assert_eq!(decide(&[("a", false)], "10.11.19-MariaDB-0+deb12u1-log"), History::Kept);
        assert_eq!(decide(&[("a", false)], "11.4.2-MariaDB"), History::Kept);
        let History::LeftOut(told) = decide(&[("a", false)], "10.6.22-MariaDB") else { panic!("it is kept") };
        assert!(told.contains("(a)") && told.contains("since 10.11"), "{told}");
        let History::LeftOut(told) = decide(&[("a", false), ("b", true)], "10.11.19") else { panic!("it is kept") };
        assert!(told.contains("(a, b)") && told.ends_with("of b"), "{told}");
    }
}
