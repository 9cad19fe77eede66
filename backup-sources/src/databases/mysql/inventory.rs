//! What a database is made of, apart from its rows: looked at before a dump and after it. If the two differ, somebody
//! changed a definition under the dump, and it cannot be trusted.

use std::collections::BTreeMap;

use backup_core::contracts::Expectation;
use xxhash_rust::xxh3::Xxh3;

use super::client::{Client, named, quoted};

/// Objects by kind and name.
#[derive(Default)]
pub(super) struct Inventory {
    objects: BTreeMap<(String, String), Object>,
}

#[derive(Default)]
struct Object {
    hash: Xxh3,
    /// Of what makes it the same after a restore: not when it was made, nor in which database.
    definition: Option<Xxh3>,
    /// Of what stands around that, as arguments, a schedule, or who defined it.
    declaration: Option<Xxh3>,
    /// Of a table: whether its engine knows transactions.
    is_transactional: bool,
    engine: String,
}

/// The kind of expectation that tells what stands around the text of a view, a trigger, a routine or an event, and what
/// makes a sequence.
pub(super) const DECLARATION: &str = "declaration";

impl Inventory {
    /// Looks at `database`.
    pub(super) fn of(client: &Client, database: &str) -> Result<Self, String> {
        let (schema, own) = (quoted(database), format!("{}.", named(database)));
        let mut inventory = Self::default();
        for row in client.ask(&QUESTIONS.replace("{schema}", &schema))? {
            let [kind, name, rest @ ..] = &row[..] else { return Err(format!("the server answered {row:?}")) };
            if let ("parameter", [routine, ..]) = (kind.as_str(), rest) {
                // Of routines that were not shown there may be arguments, which say nothing alone.
                if let Some(object) = inventory.objects.get_mut(&(routine.clone(), name.clone())) {
                    object.feed(&row);
                    object.declare(&row);
                }
                continue;
            }
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
            object.define(&row, &own);
            // An index is looked for by itself as well: what it covers is the same after a restore, when the table's
            // other facts, such as when it was made, are not.
            if let ("index", [_, table, index, ..]) = (row[0].as_str(), &row[..]) {
                let key = ("index".to_owned(), format!("{table}.{index}"));
                inventory.objects.entry(key).or_default().feed(&row);
            }
        }
        // Columns of views are there as well: those of what is no table.
        inventory.objects.retain(|(kind, _), object| kind != "table" || !object.engine.is_empty());
        inventory.look_at_sequences(client, database)?;
        Ok(inventory)
    }

    /// What makes a sequence stands in no table of the server's; where it is now is data, and is not looked at.
    fn look_at_sequences(&mut self, client: &Client, database: &str) -> Result<(), String> {
        let sequences = self.objects.keys().filter(|(kind, _)| kind == "sequence");
        let questions: String =
            sequences.map(|(_, name)| format!("SHOW CREATE SEQUENCE {}.{};\n", named(database), named(name))).collect();
        if questions.is_empty() {
            return Ok(());
        }
        for row in client.ask(&questions)? {
            let Some(name) = row.first() else { continue };
            if let Some(object) = self.objects.get_mut(&("sequence".to_owned(), name.clone())) {
                object.feed(&row);
                object.declare(&row);
            }
        }
        Ok(())
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

    /// All that is not a table, as what a restore must show: that it is there, what an index covers, and what views,
    /// triggers, routines and events do and how they are declared, where this user sees that.
    pub(super) fn others(&self) -> Vec<Expectation> {
        let others = self.objects.iter().filter(|((kind, _), _)| kind != "table");
        let expectation = |kind: &str, object: String, hash: Option<&Xxh3>| Expectation {
            kind: kind.to_owned(),
            object,
            count: None,
            hash: hash.map(|hash| format!("definition-xxh3-128:{:032x}", hash.digest128())),
        };
        let both = |((kind, name), object): (&(String, String), &Object)| {
            let declared = object.declaration.as_ref().filter(|_| kind == "sequence" || object.definition.is_some());
            let declared = declared.map(|hash| expectation(DECLARATION, format!("{kind} {name}"), Some(hash)));
            [Some(expectation(kind, name.clone(), object.defined(kind))), declared]
        };
        others.flat_map(both).flatten().collect()
    }
}

impl Object {
    /// Takes what defines it, and what declares it. The text of a view names its database; the others are as somebody
    /// wrote them.
    fn define(&mut self, row: &[String], own: &str) {
        let (text, declared) = match row {
            [kind, _, text, declared @ ..] if kind == "view" => (text.replace(own, ""), declared),
            [kind, _, table, event, timing, text, declared @ ..] if kind == "trigger" && !text.is_empty() => {
                (format!("{table}\0{event}\0{timing}\0{text}"), declared)
            }
            [kind, _, _, text, declared @ ..] if matches!(kind.as_str(), "procedure" | "function" | "event") => {
                (text.clone(), declared)
            }
            _ => return,
        };
        if !text.is_empty() {
            self.definition.get_or_insert_default().update(text.as_bytes());
            self.declare(declared);
        }
    }

    fn declare(&mut self, fields: &[String]) {
        feed(self.declaration.get_or_insert_default(), fields);
    }

    fn defined(&self, kind: &str) -> Option<&Xxh3> {
        if kind == "index" { Some(&self.hash) } else { self.definition.as_ref() }
    }

    fn feed(&mut self, row: &[String]) {
        feed(&mut self.hash, row);
    }
}

fn feed(hash: &mut Xxh3, fields: &[String]) {
    for field in fields {
        hash.update(&(field.len() as u64).to_le_bytes());
        hash.update(field.as_bytes());
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
SELECT 'view', table_name, view_definition, definer, security_type, check_option
  FROM information_schema.views WHERE table_schema = {schema};
SELECT 'trigger', trigger_name, event_object_table, event_manipulation, action_timing, action_statement, definer, sql_mode
  FROM information_schema.triggers WHERE trigger_schema = {schema};
SELECT LOWER(routine_type), routine_name, last_altered, routine_definition, definer, security_type, is_deterministic,
    sql_data_access, sql_mode, dtd_identifier, routine_comment
  FROM information_schema.routines WHERE routine_schema = {schema};
SELECT 'parameter', specific_name, LOWER(routine_type), ordinal_position, parameter_mode, parameter_name, dtd_identifier
  FROM information_schema.parameters WHERE specific_schema = {schema}
  ORDER BY routine_type, specific_name, ordinal_position;
SELECT 'event', event_name, last_altered, event_definition, definer, time_zone, execute_at, interval_value,
    interval_field, starts, ends, status, on_completion, sql_mode, event_comment
  FROM information_schema.events WHERE event_schema = {schema};
";
