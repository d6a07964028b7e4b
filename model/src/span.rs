//! Spans of time as people write them in flags: `500ms`, `90s`, `15m`, `12h`, `30d`.

use std::time::Duration;

/// Milliseconds of each unit, the largest first.
const UNITS: [(u128, &str); 4] =
    [(24 * 60 * 60 * 1000, "d"), (60 * 60 * 1000, "h"), (60 * 1000, "m"), (1000, "s")];

/// A span as it is written, in the largest unit it is a whole number of; less than a millisecond is left away.
pub fn span_text(span: Duration) -> String {
    let ms = span.as_millis();
    let unit = UNITS.iter().find(|(scale, _)| ms >= *scale && ms.is_multiple_of(*scale));
    unit.map_or_else(|| format!("{ms}ms"), |(scale, unit)| format!("{}{unit}", ms / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_in_the_largest_unit_it_is_whole_in() {
        let rows = [
            (0, "0ms"),
            (100, "100ms"),
            (1500, "1500ms"),
            (1000, "1s"),
            (90_000, "90s"),
            (1_800_000, "30m"),
            (129_600_000, "36h"),
            (86_400_000, "1d"),
        ];
        for (ms, text) in rows {
            assert_eq!(span_text(Duration::from_millis(ms)), text);
        }
    }
}
