//! Small plots, as SVG inside a page: a bar for each value, the newest at the right.
//!
//! Nothing here needs a script, a font or another file, and every bar says in words what it shows.

use std::fmt::Write as _;

use backup_core::runbook::escaped;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    /// How high it is.
    pub(super) value: f64,
    /// What it shows, for who points at it, or listens.
    pub(super) words: String,
    /// Whether it is drawn as one that looks wrong.
    pub(super) is_odd: bool,
}

/// At most this many are drawn: more are thinner than a line on a phone.
pub(super) const BARS_MAX: usize = 30;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 48.0;

/// A plot of the newest of `bars` with what it shows below it; nothing, where there are not two to compare.
pub(super) fn plot(title: &str, bars: &[Bar]) -> String {
    let bars = &bars[bars.len().saturating_sub(BARS_MAX)..];
    let highest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    if bars.len() < 2 || highest <= 0.0 {
        return String::new();
    }
    let last = bars.last().map_or("", |bar| bar.words.as_str());
    let title = escaped(title);
    let mut out = format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}; the last: {}\">",
        escaped(last)
    );
    let step = WIDTH / BARS_MAX as f64;
    let left = WIDTH - step * bars.len() as f64;
    for (at, bar) in bars.iter().enumerate() {
        // What is little is still to be seen, and nothing is not.
        let height = if bar.value > 0.0 { (bar.value / highest * (HEIGHT - 2.0)).max(1.0) } else { 0.0 };
        let class = if bar.is_odd { " class=\"odd\"" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "<rect{class} x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
            left + step * at as f64,
            HEIGHT - height,
            step - 1.5,
            escaped(&bar.words)
        );
    }
    let _ = write!(
        out,
        "<line x1=\"0\" y1=\"{HEIGHT}\" x2=\"{WIDTH}\" y2=\"{HEIGHT}\"/></svg><figcaption>{title}: {}</figcaption></figure>",
        escaped(last)
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64) -> Bar {
        Bar { value, words: format!("{value} <MiB>"), is_odd: value < 2.0 }
    }

    #[test]
    fn the_highest_bar_fills_the_plot_and_little_ones_are_seen() {
        let plot = plot("size", &[bar(0.0), bar(1.0), bar(1_000.0)]);
        assert!(plot.contains("height=\"46.0\""), "{plot}");
        assert!(plot.contains("<rect class=\"odd\" x=\"280.0\" y=\"47.0\" width=\"8.5\" height=\"1.0\">"), "{plot}");
        assert!(plot.contains("height=\"0.0\""), "{plot}");
        assert!(plot.contains("aria-label=\"size; the last: 1000 &lt;MiB&gt;\""), "{plot}");
    }

    #[test]
    fn the_newest_are_drawn_and_one_alone_is_not() {
        let many: Vec<_> = (0..100).map(|value| bar(f64::from(value))).collect();
        assert_eq!(plot("size", &many).matches("<rect").count(), BARS_MAX);
        assert!(plot("size", &many).contains("99 &lt;MiB&gt;"));
        assert_eq!(plot("size", &[bar(5.0)]), "");
        assert_eq!(plot("size", &[bar(0.0), bar(0.0)]), "");
    }
}
