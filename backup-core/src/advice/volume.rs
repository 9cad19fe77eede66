//! How much a store will hold, and how much goes in and out of it: from sizes, what changes, and how long it stays.
//!
//! It is an upper bound on purpose: what changes in a day is taken to be new each day, and nothing to be stored already.

use std::collections::BTreeMap;

use serde::Serialize;

use super::given::Item;
use super::keeping::Keeping;
use crate::limits::PACK_BYTES_TARGET;

/// What lies in a store when all rules have been at work for a year, and what moves in a month of thirty days.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Volume {
    /// What the first backup stores.
    pub bytes_first: u64,
    /// What is new in a month.
    pub bytes_month: u64,
    /// What lies there in the end.
    pub bytes_kept: u64,
    /// Objects that are written in a month.
    pub writes_month: u64,
    /// Objects that lie there in the end: what one full reading asks for.
    pub objects_kept: u64,
    /// What of a month's new bytes stays for how many days at least.
    pub bytes_by_days: BTreeMap<u32, u64>,
}

/// Objects that a run writes whatever it finds: index, snapshot, record, lock, and packs that are not full.
const OBJECTS_A_RUN: f64 = 6.0;
const DAYS_A_MONTH: f64 = 30.0;

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "estimates of bytes, which are neither negative nor exact"
)]
impl Volume {
    /// Of so many bytes, that take `ratio` each, of which `change` is new each day, day by day for `days` and month by
    /// month for `months`, by so many runs a month.
    pub(super) fn of(bytes: u64, ratio: f64, change: f64, days: u32, months: u32, runs_month: f64) -> Self {
        let first = bytes as f64 * ratio;
        let day = first * change;
        let kept_daily = day * f64::from(days);
        let further = (f64::from(months) - f64::from(days) / DAYS_A_MONTH).max(0.0);
        // One snapshot a month shows what is left of the month, and no more than everything.
        let kept_monthly = further * (day * DAYS_A_MONTH).min(first);
        let (month, kept) = (day * DAYS_A_MONTH, first + kept_daily + kept_monthly);
        let packs = |bytes: f64| bytes / PACK_BYTES_TARGET as f64;
        Self {
            bytes_first: first as u64,
            bytes_month: month as u64,
            bytes_kept: kept as u64,
            writes_month: (packs(month) + runs_month * OBJECTS_A_RUN).ceil() as u64,
            objects_kept: (packs(kept) + runs_month).ceil() as u64,
            bytes_by_days: BTreeMap::from([(days, month as u64)]),
        }
    }

    /// What of a month's new bytes goes before so many days, and the days by which it does, byte by byte.
    pub(super) fn early(&self, days: u32) -> (u64, f64) {
        let before = self.bytes_by_days.range(..days);
        before.fold((0, 0.0), |(bytes, byte_days), (stays, part)| {
            (bytes + part, byte_days + *part as f64 * f64::from(days - stays))
        })
    }

    /// Of an item whose size is known.
    pub(super) fn of_item(item: &Item, keeping: &Keeping, runs_month: f64) -> Option<Self> {
        let change = item.change.unwrap_or(item.kind.usual_change());
        let ratio = item.kind.usual_ratio();
        let of = Self::of(item.bytes?, ratio, change, keeping.days, keeping.months, runs_month);
        let bytes_by_days = BTreeMap::from([(keeping.days_least, of.bytes_month)]);
        Some(Self { bytes_by_days, ..of })
    }

    /// Two together.
    pub(super) fn and(mut self, other: Self) -> Self {
        for (days, bytes) in other.bytes_by_days {
            let known = self.bytes_by_days.entry(days).or_default();
            *known = known.saturating_add(bytes);
        }
        Self {
            bytes_first: self.bytes_first.saturating_add(other.bytes_first),
            bytes_month: self.bytes_month.saturating_add(other.bytes_month),
            bytes_kept: self.bytes_kept.saturating_add(other.bytes_kept),
            writes_month: self.writes_month.saturating_add(other.writes_month),
            objects_kept: self.objects_kept.saturating_add(other.objects_kept),
            bytes_by_days: self.bytes_by_days,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_first_backup_and_each_days_change_for_as_long_as_it_stays() {
        let gigabytes = |bytes: u64| bytes / 1_000_000_000;
        let volume = Volume::of(100_000_000_000, 0.5, 0.02, 30, 0, 30.0);
        assert_eq!((gigabytes(volume.bytes_first), gigabytes(volume.bytes_month)), (50, 30));
        assert_eq!(gigabytes(volume.bytes_kept), 80);
        // Nine months beyond the ninety days, 30 GB each.
        assert_eq!(gigabytes(Volume::of(100_000_000_000, 0.5, 0.02, 90, 12, 30.0).bytes_kept), 50 + 90 + 9 * 30);
        let both = volume.and(Volume::of(10_000_000_000, 1.0, 0.1, 3, 0, 30.0));
        assert_eq!((both.early(30), both.early(31).0), ((30_000_000_000, 27.0 * 30e9), 60_000_000_000));
        // A month cannot show more than everything.
        assert_eq!(gigabytes(Volume::of(100_000_000_000, 0.5, 0.5, 30, 12, 30.0).bytes_kept), 50 + 750 + 11 * 50);
    }
}
