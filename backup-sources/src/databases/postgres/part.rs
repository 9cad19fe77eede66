//! One table or one schema out of a dump: which entries of its table of contents that takes.
//!
//! pg_restore's own choice by name leaves a table without its keys, indexes, triggers, defaults and grants, and does not
//! make a schema. So the entries are chosen here, and handed over as a list.
//!
//! What is always true: with a table comes all that is its own, its partitions included; what it needs besides comes when
//! the database does not have it (its schema, types, functions, sequences), except other tables: what refers to one that
//! is not there, as a foreign key does, is left out and told. Entries stay in the order of the dump, but for a
//! partition that goes back into its table.

use std::collections::{HashMap, HashSet};

use backup_core::Result;

use super::contents::{Contents, Entry};

/// What rows, indexes and the like belong to.
const RELATIONS: [&str; 5] = ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"];

/// What comes along when something chosen needs it and the database does not have it.
const BROUGHT: [&str; 9] =
    ["SCHEMA", "EXTENSION", "TYPE", "DOMAIN", "COLLATION", "FUNCTION", "PROCEDURE", "AGGREGATE", "SEQUENCE"];

/// Belongs to a relation that it depends on.
const OF_A_RELATION: [&str; 8] = [
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
    "SEQUENCE SET",
    "SEQUENCE OWNED BY",
    "INDEX",
    "STATISTICS",
    "ROW SECURITY",
    "PUBLICATION TABLE",
];

/// The same, called by the name of the relation, a space, and its own.
const OF_A_RELATION_BY_NAME: [&str; 7] =
    ["CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT", "TRIGGER", "RULE", "POLICY"];

/// Belongs to whatever it depends on.
const OF_ANYTHING: [&str; 4] = ["COMMENT", "ACL", "SECURITY LABEL", "STATISTICS DATA"];

/// What is left out when something that it needs is neither chosen nor there.
const LEFT_OUT: [&str; 8] = [
    "FK CONSTRAINT",
    "TRIGGER",
    "RULE",
    "POLICY",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "PUBLICATION TABLE",
    "SEQUENCE OWNED BY",
];

/// The part of a dump that was asked for.
#[derive(Debug)]
pub(super) struct Part<'a> {
    entries: Vec<&'a Entry>,
    places: HashMap<i32, usize>,
    /// Where the schemas are.
    schemas: HashMap<&'a [u8], usize>,
    /// The places of what is chosen.
    chosen: HashSet<usize>,
    left_out: HashSet<usize>,
    told: Vec<String>,
}

/// What a dump does not have: by its place among those that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Schema(usize),
    Table(usize),
}

/// Whether a database has what an entry makes; `None` where that cannot be asked.
pub(super) type IsThere<'a> = dyn FnMut(&Entry) -> Result<Option<bool>> + 'a;

impl<'a> Part<'a> {
    /// Everything in `schemas`, when no table is named; otherwise the tables of these names (and views, and sequences), in
    /// these schemas, or in any when none is named. The name of a table may have its schema's before it.
    ///
    /// Names are in the dump's encoding. The error is the place of what the dump does not have, among the schemas or tables.
    pub(super) fn find(contents: &'a Contents, schemas: &[Vec<u8>], tables: &[Vec<u8>]) -> Result<Self, Missing> {
        let entries: Vec<&Entry> = contents.entries().collect();
        let places = entries.iter().enumerate().map(|(place, entry)| (entry.number, place)).collect();
        let schema = |(place, entry): (usize, &&'a Entry)| (entry.kind == "SCHEMA").then_some((&entry.name[..], place));
        let by_name: HashMap<&[u8], usize> = entries.iter().enumerate().filter_map(schema).collect();
        let is_in = |entry: &Entry, schema: &[u8]| entry.schema.as_deref() == Some(schema);
        for (place, schema) in schemas.iter().enumerate() {
            let is_made = by_name.contains_key(&schema[..]);
            if !is_made && !entries.iter().any(|entry| is_in(entry, schema)) {
                return Err(Missing::Schema(place));
            }
        }
        let is_in_them = |entry: &Entry| schemas.iter().any(|schema| is_in(entry, schema));
        let mut chosen = HashSet::new();
        if tables.is_empty() {
            chosen.extend((0..entries.len()).filter(|&place| is_in_them(entries[place])));
            chosen.extend(schemas.iter().filter_map(|schema| by_name.get(&schema[..])));
        }
        for (place, table) in tables.iter().enumerate() {
            let is_it = |entry: &Entry| {
                let is_called = entry.name == *table
                    || entry.schema.as_ref().is_some_and(|s| [s, &b"."[..], &entry.name].concat() == *table);
                RELATIONS.contains(&entry.kind.as_str()) && is_called && (schemas.is_empty() || is_in_them(entry))
            };
            let before = chosen.len();
            chosen.extend((0..entries.len()).filter(|&place| is_it(entries[place])));
            if chosen.len() == before {
                return Err(Missing::Table(place));
            }
        }
        Ok(Self { entries, places, schemas: by_name, chosen, left_out: HashSet::new(), told: Vec::new() })
    }

    /// Completes it: the numbers of all entries, and what a person should know of it.
    ///
    /// # Errors
    ///
    /// When the database cannot be asked.
    pub(super) fn complete(mut self, is_there: &mut IsThere<'_>) -> Result<(Vec<i32>, Vec<String>)> {
        // A schema that is there is not made again.
        let schemas: Vec<usize> =
            self.chosen.iter().copied().filter(|&place| self.entries[place].kind == "SCHEMA").collect();
        for place in schemas {
            if is_there(self.entries[place])? == Some(true) {
                self.chosen.remove(&place);
            }
        }
        let mut asked = HashMap::new();
        let mut pending: Vec<usize> = self.chosen.iter().copied().collect();
        pending.sort_unstable();
        loop {
            while let Some(place) = pending.pop() {
                self.bring(place, &mut pending, &mut asked, is_there)?;
            }
            let more: Vec<usize> = (0..self.entries.len())
                .filter(|place| !self.chosen.contains(place) && !self.left_out.contains(place))
                .filter(|&place| self.belongs(self.entries[place]))
                .collect();
            if more.is_empty() {
                break;
            }
            self.chosen.extend(&more);
            pending = more;
        }
        let is_left = |number: &i32| self.places.get(number).is_some_and(|place| self.left_out.contains(place));
        let kept = |place: &usize| {
            let entry = self.entries[*place];
            !(OF_ANYTHING.contains(&entry.kind.as_str()) && entry.needs.iter().any(is_left))
        };
        let mut chosen: Vec<usize> = self.chosen.iter().copied().filter(kept).collect();
        chosen.sort_by_key(|&place| (self.turn(self.entries[place]), place));
        Ok((chosen.into_iter().map(|place| self.entries[place].number).collect(), self.told))
    }

    /// In which turn an entry is loaded. A partition of a table that is there already has to have its own indexes first:
    /// attached without them, it is given others.
    fn turn(&self, entry: &Entry) -> u8 {
        let is_of_chosen = || {
            let others = entry.needs.iter().filter_map(|number| self.places.get(number));
            others.into_iter().all(|place| self.chosen.contains(place))
        };
        match entry.kind.as_str() {
            "TABLE ATTACH" if !is_of_chosen() => 1,
            "INDEX ATTACH" if !is_of_chosen() => 2,
            _ => 0,
        }
    }

    /// Looks at what a chosen entry needs: it is brought, or the entry left out.
    fn bring(
        &mut self,
        place: usize,
        pending: &mut Vec<usize>,
        asked: &mut HashMap<usize, Option<bool>>,
        is_there: &mut IsThere<'_>,
    ) -> Result<()> {
        let entry = self.entries[place];
        for needed in self.needs(entry) {
            if needed == place || self.chosen.contains(&needed) {
                continue;
            }
            let found = self.entries[needed];
            let is_brought = BROUGHT.contains(&found.kind.as_str());
            if !is_brought && !LEFT_OUT.contains(&entry.kind.as_str()) {
                continue;
            }
            let answer = match asked.get(&needed) {
                Some(answer) => *answer,
                None => *asked.entry(needed).or_insert(is_there(found)?),
            };
            if answer != Some(false) {
                continue;
            }
            if is_brought {
                self.chosen.insert(needed);
                pending.push(needed);
                continue;
            }
            self.chosen.remove(&place);
            self.left_out.insert(place);
            // An index follows its table: that is told already.
            if entry.kind != "INDEX ATTACH" {
                let (kind, needs) = (entry.kind.to_lowercase(), found.kind.to_lowercase());
                let (name, needed) = (entry.object(), found.object());
                self.told.push(format!("{kind} {name} is left out: the {needs} {needed} is not there"));
            }
            return Ok(());
        }
        Ok(())
    }

    /// The places of what an entry needs: its schema, what it depends on, and of the owner of a sequence its table.
    fn needs(&self, entry: &Entry) -> Vec<usize> {
        let mut needs: Vec<usize> = entry.needs.iter().filter_map(|number| self.places.get(number).copied()).collect();
        if entry.kind == "SEQUENCE OWNED BY" {
            let of_sequence: Vec<i32> = needs.iter().flat_map(|&place| self.entries[place].needs.clone()).collect();
            needs.extend(of_sequence.iter().filter_map(|number| self.places.get(number).copied()));
        }
        needs.extend(entry.schema.as_deref().and_then(|schema| self.schemas.get(schema)));
        needs
    }

    /// Whether an entry belongs to something that is chosen.
    fn belongs(&self, entry: &Entry) -> bool {
        let kind = entry.kind.as_str();
        let of = |is_it: &dyn Fn(&Entry) -> bool| {
            let places = entry.needs.iter().filter_map(|number| self.places.get(number));
            places.into_iter().any(|place| self.chosen.contains(place) && is_it(self.entries[*place]))
        };
        let is_relation = |other: &Entry| RELATIONS.contains(&other.kind.as_str());
        match kind {
            // One that a column owns.
            "SEQUENCE" => of(&|other| other.kind == "TABLE"),
            // A partition: with the table that it is a part of, or what attaches it with itself.
            "TABLE" => self.is_partition_of_chosen(entry),
            "TABLE ATTACH" => of(&|other| other.name == entry.name && other.schema == entry.schema),
            "INDEX ATTACH" => of(&|other| {
                let has_its_name = other.name.ends_with(&entry.name) && other.schema == entry.schema;
                has_its_name && matches!(other.kind.as_str(), "INDEX" | "CONSTRAINT")
            }),
            _ if OF_A_RELATION.contains(&kind) => of(&is_relation),
            _ if OF_A_RELATION_BY_NAME.contains(&kind) => of(&|other| {
                let begins = entry.name.strip_prefix(other.name.as_slice()).is_some_and(|rest| rest.starts_with(b" "));
                is_relation(other) && begins && other.schema == entry.schema
            }),
            _ if OF_ANYTHING.contains(&kind) => of(&|_| true),
            _ => false,
        }
    }

    fn is_partition_of_chosen(&self, table: &Entry) -> bool {
        table.needs.iter().filter_map(|number| self.places.get(number)).any(|parent| {
            self.chosen.contains(parent)
                && self.entries.iter().any(|attach| {
                    attach.kind == "TABLE ATTACH"
                        && attach.needs.contains(&table.number)
                        && attach.needs.contains(&self.entries[*parent].number)
                        && (&attach.name, &attach.schema) == (&table.name, &table.schema)
                })
        })
    }
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
