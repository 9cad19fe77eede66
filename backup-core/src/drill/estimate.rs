//! How long a restore would take, from the drills that there were: stage by stage, and with its confidence said.
//!
//! A stage that grows with the data costs `a + b × bytes`. From four drills on, whose sizes differ by a factor of two at
//! least, `a` and `b` are those of Theil and Sen: the median of the slopes between any two drills, and the median of what
//! is left; a slow drill moves neither. With less than that the stages that grow are scaled from the drill of the nearest
//! size, and the figure is called what it is: low.

use std::time::Duration;

use super::stages::StageName;

/// A drill that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Logical bytes that it restored.
    pub bytes: u64,
    /// Its stages with their milliseconds.
    pub stages: Vec<(StageName, u64)>,
}

/// How long a restore would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// As likely to be longer as to be shorter.
    pub median: Duration,
    /// Nine times of ten it is shorter.
    pub ninety: Duration,
    /// How far that can be trusted.
    pub confidence: Confidence,
    /// Why the confidence is not high.
    pub reasons: Vec<String>,
}

/// How far an estimate can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// A guess from too little.
    Low,
    /// Fitted to drills, within three times the largest.
    High,
}

/// Fewer drills than this are no ground for a line.
const SAMPLES_MIN: usize = 4;
/// Nor are sizes that differ by less than this factor.
const SPREAD_MIN: u64 = 2;
/// Beyond so many times the largest size that was drilled, nothing is known.
const BEYOND_MAX: u64 = 3;
/// What is added for nine times of ten when there is no line, in tenths.
const MARGIN_TENTHS: u64 = 15;

/// How long `counts`' stages of a restore of `bytes` would take; `None` without a drill.
pub fn estimate(samples: &[Sample], bytes: u64, counts: impl Fn(StageName) -> bool) -> Option<Estimate> {
    let smallest = samples.iter().map(|sample| sample.bytes).min()?;
    let largest = samples.iter().map(|sample| sample.bytes).max()?;
    let mut reasons = Vec::new();
    if samples.len() < SAMPLES_MIN {
        let (verb, ending) = if samples.len() == 1 { ("is", "") } else { ("are", "s") };
        reasons.push(format!("there {verb} {} drill{ending}, and a line takes {SAMPLES_MIN}", samples.len()));
    }
    if largest < smallest.saturating_mul(SPREAD_MIN) {
        reasons.push("the drills were all of nearly the same size".to_owned());
    }
    let (median, ninety) =
        if reasons.is_empty() { by_line(samples, bytes, &counts) } else { by_proportion(samples, bytes, &counts) };
    if bytes > largest.saturating_mul(BEYOND_MAX) {
        reasons.push(format!("it is more than {BEYOND_MAX} times the largest that was drilled"));
    }
    let confidence = if reasons.is_empty() { Confidence::High } else { Confidence::Low };
    let (median, ninety) = (Duration::from_millis(median), Duration::from_millis(ninety));
    Some(Estimate { median, ninety, confidence, reasons })
}

/// Milliseconds that a sample's stages took.
fn spent(sample: &Sample, counts: impl Fn(StageName) -> bool) -> u64 {
    sample.stages.iter().filter(|(name, _)| counts(*name)).map(|(_, duration)| duration).sum()
}

/// The line through all samples, and how far above it nine of ten stay.
fn by_line(samples: &[Sample], bytes: u64, counts: &impl Fn(StageName) -> bool) -> (u64, u64) {
    let growing: Vec<_> = samples
        .iter()
        .map(|sample| (real(sample.bytes), real(spent(sample, |name| counts(name) && name.grows()))))
        .collect();
    let slopes = growing.iter().enumerate().flat_map(|(index, one)| {
        growing[index + 1..]
            .iter()
            .filter(move |other| other.0 != one.0)
            .map(move |other| (other.1 - one.1) / (other.0 - one.0))
    });
    // More data never takes less time: a slope below zero is noise.
    let slope = middle(slopes.collect()).max(0.0);
    let base = middle(growing.iter().map(|(size, time)| time - slope * size).collect()).max(0.0);
    let fixed =
        middle(samples.iter().map(|sample| real(spent(sample, |name| counts(name) && !name.grows()))).collect());
    let line = |size: f64| fixed + base + slope * size;
    let mut above: Vec<f64> =
        samples.iter().map(|sample| real(spent(sample, counts)) - line(real(sample.bytes))).collect();
    above.sort_by(f64::total_cmp);
    // The smallest that nine of ten do not exceed.
    let rank = (samples.len() * 9).div_ceil(10).saturating_sub(1);
    let slack = above.get(rank).copied().unwrap_or_default().max(0.0);
    let median = line(real(bytes));
    (whole(median), whole(median + slack))
}

/// The drill of the nearest size, with the stages that grow scaled up; never down.
fn by_proportion(samples: &[Sample], bytes: u64, counts: &impl Fn(StageName) -> bool) -> (u64, u64) {
    let Some(nearest) = samples.iter().min_by_key(|sample| sample.bytes.abs_diff(bytes)) else { return (0, 0) };
    let fixed = spent(nearest, |name| counts(name) && !name.grows());
    let grows = spent(nearest, |name| counts(name) && name.grows());
    let factor = (real(bytes) / real(nearest.bytes.max(1))).max(1.0);
    let median = fixed.saturating_add(whole(real(grows) * factor));
    (median, median.saturating_mul(MARGIN_TENTHS) / 10)
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
fn real(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and the cast saturates")]
fn whole(number: f64) -> u64 {
    number.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// A drill that takes 100 ms, and 2 ms for each megabyte.
    fn sample(megabytes: u64) -> Sample {
        let stages = vec![(StageName::Open, 100), (StageName::Restore, 2 * megabytes), (StageName::Ask, 9_999)];
        Sample { bytes: megabytes * MB, stages }
    }

    fn of(samples: &[Sample], megabytes: u64) -> Estimate {
        estimate(samples, megabytes * MB, StageName::is_technical).unwrap()
    }

    #[test]
    fn a_line_is_found_and_one_slow_drill_does_not_move_it() {
        let mut samples: Vec<_> = [100, 200, 300, 400, 500].map(sample).to_vec();
        assert_eq!(of(&samples, 1_000).median, Duration::from_millis(2_100));
        assert_eq!(of(&samples, 1_000).confidence, Confidence::High);
        samples.push(Sample { stages: vec![(StageName::Open, 100), (StageName::Restore, 60_000)], ..sample(300) });
        let slow = of(&samples, 1_000);
        assert!(slow.median.abs_diff(Duration::from_millis(2_100)) < Duration::from_millis(50), "{slow:?}");
        assert!(slow.ninety > slow.median, "nine of ten must bear the slow one");
    }

    #[test]
    fn few_drills_or_drills_of_one_size_give_a_low_figure_with_a_margin_and_say_so() {
        let one = of(&[sample(100)], 300);
        assert_eq!(one.median, Duration::from_millis(100 + 600), "what does not grow is not scaled");
        assert_eq!((one.ninety, one.confidence), (Duration::from_millis(1_050), Confidence::Low));
        assert_eq!(one.reasons.len(), 2);
        let alike = of(&[100, 101, 102, 103, 104].map(sample), 100);
        assert_eq!((alike.confidence, alike.reasons.len()), (Confidence::Low, 1));
        assert_eq!(of(&[sample(100)], 50).median, Duration::from_millis(300), "never scaled down");
    }

    #[test]
    fn far_beyond_what_was_drilled_is_a_guess() {
        let samples = [100, 200, 300, 400].map(sample);
        assert_eq!(of(&samples, 1_200).confidence, Confidence::High);
        assert_eq!(of(&samples, 1_201).confidence, Confidence::Low);
        assert_eq!(estimate(&[], 5, StageName::is_technical), None);
    }
}
