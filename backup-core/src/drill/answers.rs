//! The user's questions and what their answers must be.

use jiff::{SignedDuration, Timestamp};

use crate::contracts::{Answer, Check, Level, Newest, Question, Trace};
use crate::model::Id;

/// A question with what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct UserCheck {
    /// What people call it. When there is no name, a digest of the question stands for it.
    pub name: Option<String>,
    /// The question.
    pub question: Question,
    /// What the answer must be.
    pub must: Must,
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Must {
    /// There, and neither `false` nor 0 nor empty: `select count(*) > 0 from users`.
    Hold,
    /// Exactly this text, or the same number.
    Equal(String),
    /// A number that is at least this one.
    AtLeast(f64),
    /// An instant that lies at most so long before the recovery point, and not in the future.
    NotOlderThan(SignedDuration),
    /// The same, of data that is written all the time, so that the instant is the recovery point that the restored data
    /// itself shows.
    Heartbeat(SignedDuration),
}

/// Clocks of the source and of the drill may differ by so much.
const CLOCKS_DIFFER_MAX: SignedDuration = SignedDuration::from_mins(5);

impl UserCheck {
    /// The check's id: the same for the same question, and without its text, which may hold what is nobody's business.
    pub fn id(&self) -> String {
        match &self.name {
            Some(name) => format!("question {name}"),
            None => format!("question {:.12}", Id::of(format!("{:?}", self.question).as_bytes())),
        }
    }

    /// Judges an answer. The check holds neither the answer nor what it must be: those are values of the data. The
    /// second is what a person at the terminal may see.
    pub(super) fn judge(&self, answer: &Answer, point: Timestamp, now: Timestamp) -> (Check, Option<String>) {
        match self.must.judge(answer, point, now) {
            Ok(()) => (Check::passed(self.id(), Level::Asked), None),
            Err(why) => {
                let told = format!("{}: {why}; the answer is {}", self.id(), shown(answer));
                (Check::failed(self.id(), Level::Asked, why), Some(told))
            }
        }
    }
}

impl UserCheck {
    /// The recovery point that an answer shows, where that was asked for. One that lies behind what the source said when
    /// it was backed up is no witness.
    pub(super) fn recovery_point(&self, answer: &Answer, point: Timestamp) -> Option<Timestamp> {
        let Must::Heartbeat(_) = self.must else { return None };
        instant(answer.0.as_deref()?.trim()).filter(|shown| *shown <= point)
    }

    /// The trace of a change that an answer is, where the question was for the age of something.
    pub(super) fn newest(&self, answer: &Answer, point: Timestamp) -> Option<Newest> {
        let (Must::NotOlderThan(_) | Must::Heartbeat(_)) = self.must else { return None };
        let time = instant(answer.0.as_deref()?.trim()).filter(|shown| *shown <= point)?;
        Some(Newest { time, from: Trace::Answer })
    }
}

impl Must {
    fn judge(&self, answer: &Answer, point: Timestamp, now: Timestamp) -> Result<(), &'static str> {
        let Some(text) = answer.0.as_deref().map(str::trim) else { return Err("there is no answer") };
        let holds = match self {
            Self::Hold => !matches!(text, "" | "false" | "f") && number(text) != Some(0.0),
            Self::Equal(expected) => text == expected.trim() || same_number(text, expected),
            Self::AtLeast(minimum) => return at_least(text, *minimum),
            Self::NotOlderThan(age_max) | Self::Heartbeat(age_max) => return young(text, *age_max, point, now),
        };
        if holds { Ok(()) } else { Err("the answer is not what it must be") }
    }
}

fn at_least(text: &str, minimum: f64) -> Result<(), &'static str> {
    match number(text) {
        None => Err("the answer is no number"),
        Some(number) if number >= minimum => Ok(()),
        Some(_) => Err("the answer is below its minimum"),
    }
}

fn young(text: &str, age_max: SignedDuration, point: Timestamp, now: Timestamp) -> Result<(), &'static str> {
    let Some(time) = instant(text) else { return Err("the answer is no instant") };
    if time.duration_since(now) > CLOCKS_DIFFER_MAX {
        Err("the answer lies in the future")
    } else if point.duration_since(time) > age_max {
        Err("the answer is older than it may be")
    } else {
        Ok(())
    }
}

/// An instant as an engine may spell it: RFC 3339, the same with a space, without a zone (UTC then), or seconds since
/// 1970.
fn instant(text: &str) -> Option<Timestamp> {
    let civil = |text: &str| {
        let local: jiff::civil::DateTime = text.parse().ok()?;
        local.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    let seconds = |text: &str| Timestamp::from_second(text.parse().ok()?).ok();
    text.parse().ok().or_else(|| seconds(text)).or_else(|| civil(text))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// As whole numbers where both are: those of a database do not all fit into a floating one.
fn same_number(one: &str, other: &str) -> bool {
    match (one.parse::<i128>(), other.trim().parse::<i128>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => number(one).is_some_and(|one| Some(one) == number(other.trim())),
    }
}

fn shown(answer: &Answer) -> String {
    match &answer.0 {
        None => "nothing".to_owned(),
        Some(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "each is made for its one question")]
    fn holds(must: Must, answer: Option<&str>) -> bool {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        must.judge(&Answer(answer.map(str::to_owned)), now, now).is_ok()
    }

    #[test]
    fn an_answer_is_what_it_must_be_or_not() {
        for yes in ["true", "t", "1", "3.5", "yes", "-1"] {
            assert!(holds(Must::Hold, Some(yes)), "{yes}");
        }
        for no in ["", "false", "f", "0", "0.0", " 0 "] {
            assert!(!holds(Must::Hold, Some(no)), "{no}");
        }
        let equal = |text: &str| Must::Equal(text.to_owned());
        assert!(
            holds(equal("12"), Some("12.0")) && holds(equal("a b"), Some("a b\n")) && holds(equal("1"), Some("01"))
        );
        assert!(!holds(equal("12"), Some("13")) && !holds(equal("a"), Some("A")));
        assert!(!holds(equal("9007199254740993"), Some("9007199254740992")));
        assert!(holds(Must::AtLeast(10.0), Some("10")) && !holds(Must::AtLeast(10.0), Some("9.99")));
        assert!(!holds(Must::AtLeast(10.0), Some("many")) && !holds(Must::AtLeast(0.0), Some("NaN")));
        for must in [Must::Hold, equal(""), Must::AtLeast(0.0), Must::NotOlderThan(SignedDuration::MAX)] {
            assert!(!holds(must, None));
        }
    }

    #[test]
    fn an_instant_may_be_spelled_as_engines_do_and_must_not_be_too_old() {
        let hours = |hours| Must::NotOlderThan(SignedDuration::from_hours(hours));
        for text in ["2026-01-01T20:00:00Z", "2026-01-01 20:00:00", "2026-01-01 22:00:00+02", "1767297600"] {
            assert!(holds(hours(5), Some(text)), "{text}");
            assert!(!holds(hours(3), Some(text)), "{text}");
        }
        assert!(!holds(hours(5), Some("2026-01-03T00:00:00Z")), "tomorrow is no proof of today");
        assert!(!holds(hours(5), Some("yesterday")));
    }

    #[test]
    fn a_heartbeat_shows_the_recovery_point_and_any_other_time_does_not() {
        let of = |must: Must, text: &str| {
            let check = UserCheck { name: None, question: Question::Sql(String::new()), must };
            let point = "2026-01-01T12:00:00Z".parse().unwrap();
            check.recovery_point(&Answer(Some(text.to_owned())), point).map(|shown| shown.to_string())
        };
        let five = SignedDuration::from_mins(5);
        assert_eq!(of(Must::Heartbeat(five), "2026-01-01 11:58:30\n").as_deref(), Some("2026-01-01T11:58:30Z"));
        assert_eq!(of(Must::Heartbeat(five), "2026-01-01T12:00:01Z"), None, "after the backup began");
        assert_eq!(of(Must::Heartbeat(five), "soon"), None);
        assert_eq!(of(Must::NotOlderThan(five), "2026-01-01T11:58:30Z"), None);
        let newest = |must: Must, text: &str| {
            let check = UserCheck { name: None, question: Question::Sql(String::new()), must };
            let point = "2026-01-01T12:00:00Z".parse().unwrap();
            check.newest(&Answer(Some(text.to_owned())), point).map(|newest| newest.time.to_string())
        };
        let shown = newest(Must::NotOlderThan(five), "2026-01-01T11:58:30Z");
        assert_eq!(shown.as_deref(), Some("2026-01-01T11:58:30Z"), "but that something was changed then");
        assert_eq!(newest(Must::NotOlderThan(five), "2026-01-01T12:00:01Z"), None);
        assert_eq!(newest(Must::Hold, "2026-01-01T11:58:30Z"), None, "nobody said that it is an age");
        assert!(!holds(Must::Heartbeat(five), Some("2026-01-01T11:58:30Z")), "judged as any other age is");
    }

    #[test]
    fn a_check_holds_no_value_and_has_the_same_id_each_time() {
        let question = Question::Sql("select secret from t".to_owned());
        let check = UserCheck { name: None, question, must: Must::Equal("hunter2".to_owned()) };
        let (judged, told) =
            check.judge(&Answer(Some("hunter3".to_owned())), Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let json = serde_json::to_string(&judged).unwrap();
        assert!(!json.contains("hunter") && !json.contains("secret"), "{json}");
        assert!(told.unwrap().contains("hunter3"));
        assert_eq!(check.id(), check.clone().id());
    }
}
