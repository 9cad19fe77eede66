//! Who begins when: things are spread over the night, one after the other.

use jiff::SignedDuration;

/// A moment of a week that a schedule is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// From Sunday, 0, to Saturday, 6.
    pub(super) weekday: u8,
    /// Of the month, from 1 to 28, which every month has.
    pub(super) day: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
}

/// Slots, given out one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    /// The first minute of a day.
    begins: u32,
    /// How many minutes are spread over.
    minutes: u32,
    /// How many minutes have been given out.
    given: u32,
    count: u32,
}

/// The least time between two that begin, in minutes.
const APART_MIN: u32 = 15;

impl Calendar {
    /// The night of backups: from ten past three, after the hours in which clocks change (in Europe and America that is
    /// done by three), for two hours and a half. Ten past, because at the full hour everybody begins.
    pub(super) fn of_backups() -> Self {
        Self { begins: 3 * 60 + 10, minutes: 150, given: 0, count: 0 }
    }

    /// The morning of drills: when the backups of the night are there.
    pub(super) fn of_drills() -> Self {
        Self { begins: 6 * 60 + 10, minutes: 120, given: 0, count: 0 }
    }

    /// The evening in which repositories are read back.
    pub(super) fn of_checks() -> Self {
        Self { begins: 20 * 60 + 10, minutes: 60, given: 0, count: 0 }
    }

    /// The next slot, for something that takes so long.
    pub(super) fn next(&mut self, takes: Option<SignedDuration>) -> Slot {
        let at = self.begins + self.given % self.minutes;
        let takes = takes.map_or(0, |takes| u32::try_from(takes.as_mins().clamp(0, 24 * 60)).unwrap_or_default());
        self.given += takes.max(APART_MIN).next_multiple_of(5);
        let small = |number: u32| u8::try_from(number).unwrap_or_default();
        // The first weekday is Sunday, when there is the least to disturb.
        let slot = Slot {
            weekday: small(self.count % 7),
            day: small(1 + self.count * 5 % 28),
            hour: small(at / 60),
            minute: small(at % 60),
        };
        self.count += 1;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_apart_by_what_things_take_and_stay_in_the_night() {
        let mut calendar = Calendar::of_backups();
        let mut next = |minutes| {
            let slot = calendar.next(Some(SignedDuration::from_mins(minutes)));
            (slot.hour, slot.minute)
        };
        assert_eq!([next(1), next(48), next(0), next(1_000)], [(3, 10), (3, 25), (4, 15), (4, 30)]);
        for _ in 0..100 {
            let (hour, _) = next(7);
            assert!((3..6).contains(&hour));
        }
    }
}
