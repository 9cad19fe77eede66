//! What a store costs, by prices that somebody has given.
//!
//! A gigabyte is 10⁹ bytes. Where a provider means 2³⁰ the figures are 7 % too high, which is less than they are uncertain.

use serde::Serialize;

use super::volume::Volume;

/// Prices, from the file of a user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// What the numbers are in: `EUR`.
    pub currency: String,
    /// One for each class of each store.
    pub prices: Vec<Price>,
}

/// The prices of a class, or of a store that has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Price {
    /// The repository that they are of; of all when not given.
    pub repository: Option<String>,
    /// The class that they are of; of a store without classes when not given.
    pub class: Option<String>,
    /// A gigabyte for a month.
    pub storage: f64,
    /// A thousand requests that write.
    pub put: f64,
    /// A thousand requests that read.
    pub get: f64,
    /// A gigabyte that is read out of the class.
    pub retrieval: f64,
    /// A gigabyte that leaves the provider.
    pub transfer: f64,
    /// How many days are charged at least, where that is not what is known of the class.
    pub days_min: Option<u32>,
}

/// What a store costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// A month of what lies there in the end.
    pub storage: f64,
    /// A month of requests: runs, and one full reading.
    pub requests: f64,
    /// The full reading of a month: what is taken out and leaves the provider.
    pub reading: f64,
    /// What goes before its class has charged for it.
    pub early: f64,
    /// One restore of everything, as the newest backup has it. Not in the month.
    pub restore: f64,
}

const BYTES_A_GIGABYTE: f64 = 1e9;
const DAYS_A_MONTH: f64 = 30.0;

impl Prices {
    /// The prices of a class of a repository; what names the repository comes before what does not.
    pub fn of(&self, repository: &str, class: Option<&str>) -> Option<&Price> {
        let fits = |price: &&Price| match (&price.class, class) {
            (Some(named), Some(class)) => named.eq_ignore_ascii_case(class),
            (None, None) => true,
            _ => false,
        };
        let own = self.prices.iter().filter(fits).find(|price| price.repository.as_deref() == Some(repository));
        own.or_else(|| self.prices.iter().filter(fits).find(|price| price.repository.is_none()))
    }

    /// An amount of money, for people.
    pub fn amount(&self, amount: f64) -> String {
        format!("{amount:.2} {}", self.currency)
    }
}

impl Cost {
    /// What it comes to, in a class that charges so many days at least.
    #[expect(clippy::cast_precision_loss, reason = "money for bytes, which is no exact number")]
    pub(super) fn of(volume: &Volume, price: &Price, days_min: u32) -> Self {
        let gigabytes = |bytes: u64| bytes as f64 / BYTES_A_GIGABYTE;
        let thousands = |count: u64| count as f64 / 1_000.0;
        let out = price.retrieval + price.transfer;
        let (_, early) = volume.early(price.days_min.unwrap_or(days_min));
        // What the newest backup takes is what the first did: sizes are taken to stay.
        let restore_gets = gigabytes(volume.bytes_first) / gigabytes(volume.bytes_kept).max(f64::MIN_POSITIVE);
        Self {
            storage: gigabytes(volume.bytes_kept) * price.storage,
            requests: thousands(volume.writes_month) * price.put + thousands(volume.objects_kept) * price.get,
            reading: gigabytes(volume.bytes_kept) * out,
            early: early / BYTES_A_GIGABYTE / DAYS_A_MONTH * price.storage,
            restore: gigabytes(volume.bytes_first) * out
                + thousands(volume.objects_kept) * restore_gets.min(1.0) * price.get,
        }
    }

    /// A month of it.
    pub fn month(&self) -> f64 {
        self.storage + self.requests + self.reading + self.early
    }

    /// Two together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            storage: self.storage + other.storage,
            requests: self.requests + other.requests,
            reading: self.reading + other.reading,
            early: self.early + other.early,
            restore: self.restore + other.restore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-6
    }

    #[test]
    fn storage_requests_reading_and_early_removal_are_counted() {
        let price = Price { storage: 0.01, put: 0.05, get: 0.004, retrieval: 0.03, transfer: 0.09, ..Price::default() };
        let volume = Volume {
            bytes_first: 50_000_000_000,
            bytes_month: 30_000_000_000,
            bytes_kept: 80_000_000_000,
            writes_month: 2_000,
            objects_kept: 5_000,
            bytes_by_days: [(30, 30_000_000_000)].into(),
        };
        let cost = Cost::of(&volume, &price, 90);
        assert!(near(cost.storage, 0.8) && near(cost.requests, 0.12) && near(cost.reading, 9.6), "{cost:?}");
        // Thirty gigabytes a month that are charged for sixty days more than they stay.
        assert!(near(cost.early, 0.6), "{cost:?}");
        assert!(near(cost.restore, 6.0 + 0.0125), "{cost:?}");
        assert!(near(cost.month(), 11.12));
        assert!(near(Cost::of(&volume, &Price { days_min: Some(0), ..price }, 90).early, 0.0));
    }

    #[test]
    fn what_names_the_repository_comes_first() {
        let price = |repository: Option<&str>, storage| Price {
            repository: repository.map(str::to_owned),
            class: Some("STANDARD".to_owned()),
            storage,
            ..Price::default()
        };
        let prices = Prices { currency: "EUR".to_owned(), prices: vec![price(None, 1.0), price(Some("far"), 2.0)] };
        let storage = |name| prices.of(name, Some("standard")).map(|price| price.storage);
        assert_eq!((storage("far"), storage("near")), (Some(2.0), Some(1.0)));
        assert_eq!(prices.of("far", None), None);
        assert_eq!(prices.amount(1.5), "1.50 EUR");
    }
}
