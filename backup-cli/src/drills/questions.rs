//! The checks of the configuration and of the command line, as questions to restored data.

use backup_core::contracts::Question;
use backup_core::drill::{Must, UserCheck};
use backup_sources::databases::url::Engine;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{DrillCheck, Expected, Probe};
use crate::exit::Failure;

/// The questions that `checks` ask of data of this engine; `None` for files.
pub(super) fn of(checks: &[DrillCheck], engine: Option<Engine>) -> Result<Vec<UserCheck>, Failure> {
    checks.iter().map(|check| one(check, engine)).collect()
}

fn one(check: &DrillCheck, engine: Option<Engine>) -> Result<UserCheck, Failure> {
    let question = match (&check.probe, engine) {
        (Probe::Sql(text), Some(Engine::Postgres | Engine::Mysql | Engine::Sqlite)) => Question::Sql(text.clone()),
        (Probe::Sql(_), _) => return Err(unfit("sql", "for PostgreSQL, MySQL, MariaDB and SQLite")),
        (Probe::Aggregate(text), Some(Engine::Mongodb)) => aggregation(text)?,
        (Probe::Aggregate(_), _) => return Err(unfit("aggregate", "for MongoDB")),
        // A command to Redis is a command of Redis: no program of the user's is needed.
        (Probe::Command(text), Some(Engine::Redis)) => {
            Question::Engine(text.split_whitespace().map(str::to_owned).collect())
        }
        (Probe::Command(text), _) => Question::Program(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()]),
    };
    let must = match &check.expected {
        Expected::Truth => Must::Hold,
        Expected::Equals(text) => Must::Equal(text.clone()),
        Expected::Minimum(number) => Must::AtLeast(*number),
        Expected::NotOlderThan(age) => Must::NotOlderThan(*age),
        Expected::Heartbeat(age) => Must::Heartbeat(*age),
    };
    Ok(UserCheck { name: check.name.clone(), question, must })
}

/// `{"aggregate": "users", "pipeline": [...]}`, as MongoDB's own command is written.
fn aggregation(text: &str) -> Result<Question, Failure> {
    /// The stages as they were written: the order of their fields means something.
    #[derive(Deserialize)]
    struct Aggregate {
        aggregate: String,
        pipeline: Vec<Box<RawValue>>,
    }
    let hint = r#"write {"aggregate": "users", "pipeline": [{"$count": "n"}]}"#;
    let Aggregate { aggregate, pipeline } = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("an aggregation could not be read: {error}"), hint))?;
    let stages: Vec<&str> = pipeline.iter().map(|stage| stage.get()).collect();
    Ok(Question::Aggregation { collection: aggregate, pipeline: format!("[{}]", stages.join(",")) })
}

fn unfit(probe: &str, engines: &str) -> Failure {
    Failure::usage(
        format!("a check with {probe} is {engines}, and the snapshot holds something else"),
        "`command` runs a program of yours beside the restored data",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(probe: Probe, engine: Option<Engine>) -> Result<Question, String> {
        let check = DrillCheck { name: None, probe, expected: Expected::Truth };
        one(&check, engine).map(|check| check.question).map_err(|failure| failure.what)
    }

    #[test]
    fn a_check_fits_its_engine_or_is_refused() {
        let sql = || Probe::Sql("select 1".to_owned());
        assert_eq!(question(sql(), Some(Engine::Sqlite)), Ok(Question::Sql("select 1".to_owned())));
        assert!(question(sql(), None).is_err() && question(sql(), Some(Engine::Redis)).is_err());
        let command = || Probe::Command("GET a".to_owned());
        let words = vec!["GET".to_owned(), "a".to_owned()];
        assert_eq!(question(command(), Some(Engine::Redis)), Ok(Question::Engine(words)));
        assert!(matches!(question(command(), None), Ok(Question::Program(_))));
        let sorted = r#"{"$sort":{"b":1,"a":1}},{"$count":"n"}"#;
        let aggregate = Probe::Aggregate(format!(r#"{{"aggregate":"users","pipeline":[{sorted}]}}"#));
        let pipeline = format!("[{sorted}]");
        let expected = Question::Aggregation { collection: "users".to_owned(), pipeline };
        assert_eq!(question(aggregate, Some(Engine::Mongodb)), Ok(expected));
        assert!(question(Probe::Aggregate("[]".to_owned()), Some(Engine::Mongodb)).is_err());
    }
}
