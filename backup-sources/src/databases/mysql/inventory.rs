//! What a database is made of, apart from its rows: looked at before a dump and after it. If the two differ, somebody
//! changed a definition under the dump, and it cannot be trusted.

use std::collections::BTreeMap;

use backup_core::contracts::Expectation;
use xxhash_rust::xxh3::Xxh3;

use super::client::{Client, quoted};

/// Objects by kind and name.
#[derive(Default)]
pub(super) struct Inventory {
    objects: BTreeMap<(String, String), Object>,
}

#[derive(Default)]
struct Object {
    hash: Xxh3,
    /// Of a table: whether its engine knows transactions.
    is_transactional: bool,
    engine: String,
}

impl Inventory {
    /// Looks at `database`.
    pub(super) fn of(client: &Client, database: &str) -> Result<Self, String> {
        let schema = quoted(database);
        let mut inventory = Self::default();
        for row in client.ask(&QUESTIONS.replace("{schema}", &schema))? {
            let [kind, name, rest @ ..] = &row[..] else { return Err(format!("the server answered {row:?}")) };
            let kind = match kind.as_str() {
                // Tables keep what belongs to them.
                "column" | "index" => "table",
                kind => kind,
            };
            let object = inventory.objects.entry((kind.to_owned(), name.clone())).or_default();
            if let ([engine, is_transactional, ..], "table", "table") = (rest, kind, row[0].as_str()) {
                (object.engine, object.is_transactional) = (engine.clone(), is_transactional == "YES");
            }
            object.feed(&row);
            // An index is looked for by itself as well: what it covers is the same after a restore, when the table's
            // other facts, such as when it was made, are not.
            if let ("index", [_, table, index, ..]) = (row[0].as_str(), &row[..]) {
                let key = ("index".to_owned(), format!("{table}.{index}"));
                inventory.objects.entry(key).or_default().feed(&row);
            }
        }
        // Columns of views are there as well: those of what is no table.
        inventory.objects.retain(|(kind, _), object| kind != "table" || !object.engine.is_empty());
        Ok(inventory)
    }

    /// What is not as it was in `before`: the first difference.
    pub(super) fn difference(&self, before: &Self) -> Option<String> {
        let told = |(kind, name): &(String, String), what: &str| Some(format!("the {kind} {name} was {what}"));
        for (key, object) in &before.objects {
            match self.objects.get(key) {
                None => return told(key, "dropped or renamed"),
                Some(now) if now.hash.digest128() != object.hash.digest128() => return told(key, "altered"),
                Some(_) => {}
            }
        }
        self.objects.keys().find(|key| !before.objects.contains_key(*key)).and_then(|key| told(key, "created"))
    }

    /// The tables, in their order.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().filter(|(kind, _)| kind == "table").map(|(_, name)| name.as_str())
    }

    /// Tables whose engine knows no transactions, with their engines.
    pub(super) fn without_transactions(&self) -> Vec<String> {
        let tables = self.objects.iter().filter(|((kind, _), object)| kind == "table" && !object.is_transactional);
        tables.map(|((_, name), object)| format!("{name} ({})", object.engine)).collect()
    }

    /// All that is not a table, as what a restore must show: that it is there, and of an index what it covers.
    pub(super) fn others(&self) -> Vec<Expectation> {
        let others = self.objects.iter().filter(|((kind, _), _)| kind != "table");
        let expectation = |((kind, name), object): (&(String, String), &Object)| Expectation {
            kind: kind.clone(),
            object: name.clone(),
            count: None,
            hash: (kind == "index").then(|| format!("definition-xxh3-128:{:032x}", object.hash.digest128())),
        };
        others.map(expectation).collect()
    }
}

impl Object {
    fn feed(&mut self, row: &[String]) {
        for field in row {
            self.hash.update(&(field.len() as u64).to_le_bytes());
            self.hash.update(field.as_bytes());
        }
    }
}

/// One row for each thing: what it is, its name, and all that makes it what it is.
const QUESTIONS: &str = "
SET SESSION TRANSACTION READ ONLY;
SELECT 'table', t.table_name, t.engine, COALESCE(e.transactions, 'NO'), t.create_time, t.table_collation,
    t.create_options, t.table_comment
  FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
  WHERE t.table_schema = {schema} AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED');
SELECT 'sequence', table_name FROM information_schema.tables
  WHERE table_schema = {schema} AND table_type = 'SEQUENCE';
SELECT 'column', table_name, ordinal_position, column_name, column_default, is_nullable, column_type, collation_name,
    extra, column_comment, generation_expression
  FROM information_schema.columns WHERE table_schema = {schema} ORDER BY table_name, ordinal_position;
SELECT 'index', table_name, index_name, seq_in_index, column_name, non_unique, sub_part, index_type
  FROM information_schema.statistics WHERE table_schema = {schema} ORDER BY table_name, index_name, seq_in_index;
SELECT 'view', table_name, view_definition FROM information_schema.views WHERE table_schema = {schema};
SELECT 'trigger', trigger_name, event_object_table, event_manipulation, action_timing, action_statement
  FROM information_schema.triggers WHERE trigger_schema = {schema};
SELECT LOWER(routine_type), routine_name, last_altered, routine_definition
  FROM information_schema.routines WHERE routine_schema = {schema};
SELECT 'event', event_name, last_altered, event_definition FROM information_schema.events WHERE event_schema = {schema};
";
