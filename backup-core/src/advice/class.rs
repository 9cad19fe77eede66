//! Which storage class: one that an outage can wait for, that can be read back, and that what is kept outlives.

use jiff::SignedDuration;
use serde::Serialize;

use super::as_seconds;
use super::cost::{Cost, Prices};
use super::given::{Store, StoreKind};
use super::volume::Volume;
use crate::policy::in_words;

/// A class of a provider. Waiting times and least times are those of the providers' own pages
/// (`docs/decisions/advice.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name, as a configuration writes it.
    pub name: &'static str,
    /// How long until what lies in it can be read, at worst.
    pub wait: SignedDuration,
    /// How many days are charged at least.
    pub days_min: u32,
}

/// The class of a store, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassChoice {
    /// Its name; `None` for the store's own.
    pub class: Option<String>,
    /// How long until what lies in it can be read, at worst.
    #[serde(rename = "wait_seconds", serialize_with = "as_seconds")]
    pub wait: SignedDuration,
    /// How many days are charged at least, as far as is known.
    pub days_min: u32,
    /// Why, one sentence for each thing that decided.
    pub because: Vec<String>,
}

const fn class(name: &'static str, wait_hours: i64, days_min: u32) -> Class {
    Class { name, wait: SignedDuration::from_hours(wait_hours), days_min }
}

const S3: [Class; 5] = [
    class("STANDARD", 0, 0),
    class("STANDARD_IA", 0, 30),
    class("GLACIER_IR", 0, 90),
    class("GLACIER", 5, 90),
    class("DEEP_ARCHIVE", 12, 180),
];
const GCS: [Class; 4] =
    [class("STANDARD", 0, 0), class("NEARLINE", 0, 30), class("COLDLINE", 0, 90), class("ARCHIVE", 0, 365)];
const AZURE: [Class; 4] = [class("Hot", 0, 0), class("Cool", 0, 30), class("Cold", 0, 90), class("Archive", 15, 180)];

/// The classes of a store, the warmest first; none where they are not known.
pub(super) fn of(kind: StoreKind) -> &'static [Class] {
    match kind {
        StoreKind::S3 => &S3,
        StoreKind::Gcs => &GCS,
        StoreKind::Azure => &AZURE,
        StoreKind::Folder | StoreKind::Server | StoreKind::S3Compatible => &[],
    }
}

/// What a class has to do justice to.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    /// The shortest time that anything in the store may be away.
    pub(super) outage: SignedDuration,
    /// The least number of days that anything stays.
    pub(super) days_least: u32,
    /// What lies there, where that is known.
    pub(super) volume: Option<Volume>,
}

/// The class of a store.
pub(super) fn choose(store: &Store, demands: &Demands, prices: Option<&Prices>) -> ClassChoice {
    let classes = of(store.kind);
    let Some(warmest) = classes.first() else { return unknown(store) };
    let mut because = Vec::new();
    if let Some(named) = &store.class {
        match classes.iter().find(|class| class.name.eq_ignore_ascii_case(named)) {
            Some(class) => match refused(*class, demands.outage) {
                None => {
                    because.push(format!("{} was named for it, and is read at once", class.name));
                    because.extend(too_short(*class, demands));
                    return chosen(*class, *warmest, because);
                }
                Some(why) => because.push(format!("{} was named for it and is not taken: {why}", class.name)),
            },
            None => because.push(format!(
                "{named} was named for it and is not taken: it is none of the classes of which it is known how long a \
                 restore waits for them"
            )),
        }
    }
    // Prices say what it costs that something goes early; without them it is left to classes that do not mind.
    let priced = prices.zip(demands.volume.as_ref());
    let mut fit = Vec::new();
    for class in classes {
        let short = || too_short(*class, demands).filter(|_| priced.is_none());
        match refused(*class, demands.outage).or_else(short) {
            Some(why) => because.push(format!("not {}: {why}", class.name)),
            None => fit.push(*class),
        }
    }
    match priced.map(|(prices, volume)| (prices, cheapest(store, &fit, volume, prices))) {
        Some((_, Some((class, cost, others)))) => {
            let others = if others.is_empty() { String::new() } else { format!("; {others}") };
            because.insert(
                0,
                format!("{} costs the least of those that fit, reading back included: {cost}{others}", class.name),
            );
            chosen(class, *warmest, because)
        }
        told => {
            // Classes lie in the order of what it costs to keep something in them, the dearest first.
            let coldest = fit.last().copied().unwrap_or(*warmest);
            let why = match (told, coldest == *warmest) {
                (_, true) => "the store's usual class: no colder one fits".to_owned(),
                (None, false) => format!(
                    "the provider sells {} as the cheapest to keep of those that fit; whether the monthly reading eats \
                     that up, nobody can say without prices",
                    coldest.name
                ),
                (Some(_), false) => format!(
                    "the prices name no class that fits, and {} is sold as the cheapest to keep of those",
                    coldest.name
                ),
            };
            because.insert(0, why);
            chosen(coldest, *warmest, because)
        }
    }
}

/// Why a class is out of the question, whatever it costs.
fn refused(class: Class, outage: SignedDuration) -> Option<String> {
    if class.wait > outage {
        return Some(format!(
            "a restore waits {} for it, where an outage may last {}",
            in_words(class.wait),
            in_words(outage)
        ));
    }
    // A copy counts when it was read back lately, and every run reads a little.
    (!class.wait.is_zero()).then(|| {
        format!(
            "what lies in it has to be asked for {} before, so that no check and no drill can read it, and the copy \
             would not count",
            in_words(class.wait)
        )
    })
}

/// Of what is new in a month, one part of so many may go before a class has charged for it.
const EARLY_PART: u64 = 10;

fn too_short(class: Class, demands: &Demands) -> Option<String> {
    let Demands { days_least, volume, .. } = demands;
    if class.days_min <= *days_least {
        return None;
    }
    let early = volume.as_ref().map(|volume| (volume.early(class.days_min).0, volume.bytes_month));
    match early {
        Some((early, month)) if early.saturating_mul(EARLY_PART) <= month => None,
        Some((early, month)) => Some(format!(
            "it charges {} days at least, and {} % of what is new in a month goes before",
            class.days_min,
            early.saturating_mul(100) / month.max(1)
        )),
        None => Some(format!(
            "it charges {} days at least, and some of what is kept goes after {days_least}",
            class.days_min
        )),
    }
}

fn cheapest(store: &Store, fit: &[Class], volume: &Volume, prices: &Prices) -> Option<(Class, String, String)> {
    let mut priced: Vec<(Class, f64)> = Vec::new();
    for class in fit {
        if let Some(price) = prices.of(&store.name, Some(class.name)) {
            priced.push((*class, Cost::of(volume, price, class.days_min).month()));
        }
    }
    priced.sort_by(|one, other| one.1.total_cmp(&other.1));
    let (first, others) = priced.split_first()?;
    let told = |(class, month): &(Class, f64)| format!("{} {}", class.name, prices.amount(*month));
    let others = others.iter().map(told).collect::<Vec<_>>().join(", ");
    Some((first.0, format!("{} a month", prices.amount(first.1)), others))
}

fn chosen(class: Class, warmest: Class, because: Vec<String>) -> ClassChoice {
    // The usual class needs no key.
    let name = (class != warmest).then(|| class.name.to_owned());
    ClassChoice { class: name, wait: class.wait, days_min: class.days_min, because }
}

fn unknown(store: &Store) -> ClassChoice {
    let why = match (store.kind, &store.class) {
        (StoreKind::S3Compatible, Some(named)) => format!(
            "{named} was named for it and is not taken: of a server other than Amazon's it is not known how long a \
             restore waits for a class"
        ),
        (StoreKind::S3Compatible, None) => {
            "of a server other than Amazon's it is not known which classes it has, and how long they take".to_owned()
        }
        _ => "a file system has no classes: everything is read at once".to_owned(),
    };
    ClassChoice { class: None, wait: SignedDuration::ZERO, days_min: 0, because: vec![why] }
}

#[cfg(test)]
mod tests {
    use super::super::cost::Price;
    use super::*;
    use crate::policy::Place;

    fn store(kind: StoreKind, class: Option<&str>) -> Store {
        Store { name: "offsite".to_owned(), kind, place: Place::default(), host: None, class: class.map(str::to_owned) }
    }

    fn demands(hours: i64, days_least: u32) -> Demands {
        let volume = Volume::of(1_000_000_000_000, 1.0, 0.001, days_least, 0, 30.0);
        Demands { outage: SignedDuration::from_hours(hours), days_least, volume: Some(volume) }
    }

    #[test]
    fn a_class_that_an_outage_cannot_wait_for_is_never_taken_and_the_reason_says_so() {
        for (hours, named) in [(2, None), (2, Some("DEEP_ARCHIVE")), (100, None), (100, Some("GLACIER"))] {
            let choice = choose(&store(StoreKind::S3, named), &demands(hours, 90), None);
            assert_eq!(choice.class.as_deref(), Some("GLACIER_IR"), "{hours} {named:?}");
            assert!(choice.because.iter().any(|why| why.contains("not DEEP_ARCHIVE: ")), "{:?}", choice.because);
        }
        let choice = choose(&store(StoreKind::S3, Some("DEEP_ARCHIVE")), &demands(2, 90), None);
        assert!(
            choice.because.iter().any(|why| why.contains("a restore waits 12 h for it, where an outage may last 2 h"))
        );
    }

    #[test]
    fn what_goes_early_lies_in_no_class_that_charges_longer() {
        for (kind, days, class) in [
            (StoreKind::S3, 90, Some("GLACIER_IR")),
            (StoreKind::S3, 30, Some("STANDARD_IA")),
            (StoreKind::S3, 3, None),
            (StoreKind::Gcs, 90, Some("COLDLINE")),
            (StoreKind::Gcs, 400, Some("ARCHIVE")),
            (StoreKind::Azure, 89, Some("Cool")),
            (StoreKind::Folder, 400, None),
            (StoreKind::S3Compatible, 400, None),
        ] {
            assert_eq!(choose(&store(kind, None), &demands(2, days), None).class.as_deref(), class, "{kind:?} {days}");
        }
    }

    #[test]
    fn a_little_that_goes_early_is_borne_and_unknown_sizes_are_not() {
        let mut demands = demands(2, 90);
        demands.days_least = 3;
        demands.volume = demands.volume.map(|volume| volume.and(Volume::of(1_000_000_000, 1.0, 0.1, 3, 0, 30.0)));
        let class = |demands: &Demands| choose(&store(StoreKind::S3, None), demands, None).class;
        assert_eq!(class(&demands).as_deref(), Some("GLACIER_IR"));
        demands.volume = None;
        assert_eq!(class(&demands), None);
    }

    #[test]
    fn with_prices_the_sum_decides_and_reading_back_is_in_it() {
        let price = |class: &str, storage, retrieval| Price {
            class: Some(class.to_owned()),
            storage,
            retrieval,
            ..Price::default()
        };
        let prices = |retrieval| Prices {
            currency: "EUR".to_owned(),
            prices: vec![
                price("STANDARD", 0.02, 0.0),
                price("STANDARD_IA", 0.01, 0.005),
                price("GLACIER_IR", 0.004, retrieval),
            ],
        };
        let class = |prices: &Prices| choose(&store(StoreKind::S3, None), &demands(2, 90), Some(prices)).class;
        assert_eq!(class(&prices(0.03)).as_deref(), Some("STANDARD_IA"));
        assert_eq!(class(&prices(0.001)).as_deref(), Some("GLACIER_IR"));
    }
}
