//! Latencies of a load: counted in microseconds, asked for by percentile.

use std::time::Duration;

/// What a load measured.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    micros: Vec<u32>,
    sorted: bool,
}

impl Latencies {
    /// Adds one request's time in microseconds; over 71 minutes counts as 71 minutes.
    pub fn add(&mut self, micros: u128) {
        self.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.micros.extend_from_slice(&other.micros);
        self.sorted = false;
    }

    /// How many were counted.
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// What a load of this length came to, as the programs that make one print it.
    pub fn figures(&mut self, elapsed: Duration) -> serde_json::Value {
        let elapsed = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let per_second = self.count() as f64 / elapsed;
        serde_json::json!({
            "requests": self.count(),
            "seconds": elapsed,
            "per_second": per_second,
            "p50_us": self.percentile(50.0),
            "p99_us": self.percentile(99.0),
        })
    }

    /// The time that `percent` of requests did not exceed, in microseconds; 0 for none.
    pub fn percentile(&mut self, percent: f64) -> u32 {
        if !self.sorted {
            self.micros.sort_unstable();
            self.sorted = true;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among at most some millions of samples"
        )]
        let rank = ((percent / 100.0 * self.micros.len() as f64).ceil() as usize).saturating_sub(1);
        self.micros.get(rank).or(self.micros.last()).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(99.0), 0);
        (1..=100).for_each(|n| latencies.add(n));
        assert_eq!((latencies.percentile(50.0), latencies.percentile(99.0)), (50, 99));
        assert_eq!(latencies.percentile(100.0), 100);
    }
}
