//! The strategy as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::calendar::Calendar;
use super::class::{self, ClassChoice, Demands};
use super::cost::Cost;
use super::frequency::{self, Frequency};
use super::given::{Answers, Bearable, Criticality, Item, Store};
use super::keeping::{Distance, Keeping, keeping};
use super::kind::Kind;
use super::matrix::{self, Recovery};
use super::volume::Volume;
use crate::contracts::Proof;
use crate::model::SnapshotId;
use crate::policy::{
    Backup, CopyFacts, History, JobFacts, Objectives, Offsite, Standards, ThreeTwoOne, Trigger, in_words, three_two_one,
};
use crate::retention::GroupKey;

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strategy {
    /// Each thing, what is critical first.
    pub jobs: Vec<JobPlan>,
    /// Each store, in the order of the answers.
    pub stores: Vec<StorePlan>,
    /// What happens when.
    pub recoveries: Vec<Recovery>,
    /// All stores together; `None` where a price or a size is missing.
    pub cost: Option<Cost>,
    /// What the figures rest on, as sentences.
    pub assumptions: Vec<String>,
}

/// How one thing is backed up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobPlan {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What its loss would mean.
    pub criticality: Criticality,
    /// Why that is thought of it.
    pub because: String,
    /// Its size, where that is known.
    pub bytes: Option<u64>,
    /// What may be lost of it, and how long it may be away.
    pub bearable: Bearable,
    /// Whether a change is a reason to run.
    pub on_change: bool,
    /// When it runs, whatever was seen.
    pub frequency: Frequency,
    /// How long it stays, for each store.
    pub retention: BTreeMap<String, Keeping>,
    /// When a drill restores it.
    pub drill: String,
    /// Why so often.
    pub drill_because: String,
    /// Three copies, two media, one other site: when every run came to a good end and everything was read back.
    pub three_two_one: ThreeTwoOne,
}

/// How one store is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorePlan {
    /// Its name.
    pub name: String,
    /// Its class, and why.
    pub class: ClassChoice,
    /// What it will hold; `None` where not all sizes are known.
    pub volume: Option<Volume>,
    /// What it costs; `None` without prices for it, or without all sizes.
    pub cost: Option<Cost>,
    /// When it is read back in full.
    pub read_back: String,
}

/// That no schedule can keep to what somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The thing.
    pub name: String,
    /// What may be lost of it.
    pub loss: SignedDuration,
    /// What a run is thought to take.
    pub run: Option<SignedDuration>,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no schedule loses at most {} of {}", in_words(self.loss), self.name)?;
        match self.run {
            Some(run) => {
                write!(f, ": a run is thought to take {}, and they may lie 5 min apart at best", in_words(run))
            }
            None => write!(f, ": two runs lie 5 min apart at best"),
        }
    }
}

/// Makes a strategy of what was said.
///
/// # Errors
///
/// The first thing for which no schedule loses as little as it may.
pub fn advise(answers: &Answers, now: Timestamp) -> Result<Strategy, Impossible> {
    let Answers { zone, items, stores, prices } = answers;
    let mut items: Vec<&Item> = items.iter().collect();
    // What matters most begins first. The order is stable: what was named first comes first.
    items.sort_by_key(|item| (std::cmp::Reverse(item.criticality), !item.kind.is_database()));
    let (mut night, mut morning) = (Calendar::of_backups(), Calendar::of_drills());
    let mut jobs = Vec::new();
    let mut recoveries = Vec::new();
    for item in &items {
        let run = matrix::run_takes(item, stores);
        let frequency = frequency::frequency(item.bearable, run, night.next(run), zone, now);
        let impossible = || Impossible { name: item.name.clone(), loss: item.bearable.loss, run };
        let frequency = frequency.ok_or_else(impossible)?;
        recoveries.extend(matrix::recoveries(item, frequency.lost, stores));
        let (drill, drill_because) = frequency::drill(item.criticality, morning.next(run));
        let each = |(at, store): (usize, &Store)| {
            let distance = if at == 0 && stores.len() > 1 { Distance::Near } else { Distance::Far };
            (store.name.clone(), keeping(distance, item.criticality, frequency.gap))
        };
        jobs.push(JobPlan {
            name: item.name.clone(),
            kind: item.kind,
            criticality: item.criticality,
            because: item.because.clone(),
            bytes: item.bytes,
            bearable: item.bearable,
            on_change: item.kind.runs_on_change(),
            retention: stores.iter().enumerate().map(each).collect(),
            drill,
            drill_because,
            three_two_one: promised(item, stores, frequency.gap, now),
            frequency,
        });
    }
    recoveries.sort_by_key(|recovery| recovery.event);
    let mut evening = Calendar::of_checks();
    let stores: Vec<_> = stores
        .iter()
        .map(|store| {
            let slot = evening.next(None);
            plan_store(store, &items, &jobs, answers, frequency::read_back(slot))
        })
        .collect();
    let cost = stores.iter().map(|store| store.cost).reduce(|one, other| Some(one?.and(other?))).flatten();
    let assumptions = assumptions(&items, prices.is_some());
    Ok(Strategy { jobs, stores, recoveries, cost, assumptions })
}

fn plan_store(store: &Store, items: &[&Item], jobs: &[JobPlan], answers: &Answers, read_back: String) -> StorePlan {
    let keeping = |job: &JobPlan| job.retention.get(&store.name).cloned();
    let volumes = items.iter().zip(jobs).map(|(item, job)| {
        let runs_month = 30.0 * 24.0 * 3600.0 / job.frequency.gap.as_secs_f64().max(60.0);
        Volume::of_item(item, &keeping(job)?, runs_month)
    });
    let volume = volumes.reduce(|one, other| Some(one?.and(other?))).flatten();
    let demands = Demands {
        outage: items.iter().map(|item| item.bearable.outage).min().unwrap_or_default(),
        days_least: jobs.iter().filter_map(keeping).map(|keeping| keeping.days_least).min().unwrap_or_default(),
        volume: volume.clone(),
    };
    // Without sizes there is nothing to multiply prices with.
    let prices = answers.prices.as_ref().filter(|_| volume.is_some());
    let class = class::choose(store, &demands, prices);
    let priced_class = class.class.as_deref().or(store.kind.usual_class());
    let price = prices.and_then(|prices| prices.of(&store.name, priced_class));
    let cost = price.zip(volume.as_ref()).map(|(price, volume)| Cost::of(volume, price, class.days_min));
    StorePlan { name: store.name.clone(), class, volume, cost, read_back }
}

/// What policy will say of a job when every run came to a good end and everything was read back just now.
fn promised(item: &Item, stores: &[Store], gap: SignedDuration, now: Timestamp) -> ThreeTwoOne {
    let copy = |store: &Store| CopyFacts {
        repository: store.name.clone(),
        place: store.place.clone(),
        has_retention: true,
        read: Some(now),
        unreachable: None,
        history: Arc::new(History {
            backups: vec![Backup {
                snapshot: SnapshotId::of(item.name.as_bytes()),
                part: GroupKey::of_job(&item.name).into(),
                recovery_point: now,
                durable: now,
                proof: Proof::Verified,
                verified: Some(now),
                restored: None,
                immutable_until: None,
                size: None,
            }],
            runs: Vec::new(),
        }),
    };
    let facts = JobFacts {
        job: item.name.clone(),
        home: item.home.clone(),
        copies: stores.iter().map(copy).collect(),
        trigger: Trigger::Schedule { longest_gap: gap },
        objectives: Objectives { rpo: Some(item.bearable.loss), rto: Some(item.bearable.outage) },
        offsite: Offsite::Required,
        drilled_from: None,
        drills: Vec::new(),
    };
    three_two_one(&facts, &Standards::default(), now)
}

fn assumptions(items: &[&Item], has_prices: bool) -> Vec<String> {
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let mut said = Vec::new();
    let mut kinds: Vec<Kind> = items.iter().map(|item| item.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut alike: Vec<(f64, f64, Vec<String>)> = Vec::new();
    for kind in kinds {
        let word =
            serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        let (change, ratio) = (kind.usual_change(), kind.usual_ratio());
        match alike.iter_mut().find(|(known, also, _)| (*known, *also) == (change, ratio)) {
            Some((.., words)) => words.push(word),
            None => alike.push((change, ratio, vec![word])),
        }
    }
    said.extend(alike.into_iter().map(|(change, ratio, words)| {
        let (words, change, ratio) = (words.join(", "), percent(change), percent(ratio));
        format!("{words}: {change} changes in a day unless said otherwise, and a repository takes {ratio} of the size")
    }));
    for item in items.iter().filter(|item| item.bytes.is_none()) {
        said.push(format!("the size of {} is not known: what it stores, costs and takes is not estimated", item.name));
    }
    said.push(
        "reading and writing at 50 MB/s, the network at 12.5 MB/s (100 Mbit/s); the first backup takes longer, because \
         all of it is new"
            .to_owned(),
    );
    said.push(
        "sizes stay as they are, every change is new, and nothing is shared between jobs: so estimates of storage are \
         upper bounds; folders and indexes, a few percent, are not in them"
            .to_owned(),
    );
    said.push("how long a restore takes leaves out what people need to notice, decide and find a machine".to_owned());
    said.push(match has_prices {
        true => {
            "prices are those of the given file; a gigabyte is 10^9 bytes, a month 30 days, and each store is read \
                 back in full once a month"
                .to_owned()
        }
        false => "no prices were given, so there are no costs, and classes are chosen without them (--prices FILE)"
            .to_owned(),
    });
    said
}
