//! Latencies by their logarithm: 128 buckets for each doubling of nanoseconds, so that each is within 1 %.

use std::time::Duration;

use serde::Serialize;

const SUB_BUCKETS: usize = 128;
const BUCKETS: usize = 64 * SUB_BUCKETS;

/// How many latencies were how long.
#[derive(Clone)]
pub(super) struct Histogram(Vec<u64>);

/// What a histogram comes to, in microseconds; zeroes if nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0; BUCKETS])
    }
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        self.0[bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, part)| *sum += part);
    }

    pub(super) fn summary(&self) -> Latency {
        let total: u64 = self.0.iter().sum();
        let sum: f64 =
            self.0.iter().enumerate().map(|(bucket, count)| middle_us(bucket) * *count as f64).sum();
        let mean = if total == 0 { 0.0 } else { sum / total as f64 };
        let quantile = |share| self.quantile(share, total);
        Latency {
            mean,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: quantile(1.0),
        }
    }

    /// The latency that this share of all is not above.
    fn quantile(&self, share: f64, total: u64) -> f64 {
        let mut seen = 0;
        let reached = self.0.iter().position(|count| {
            seen += count;
            *count > 0 && seen as f64 >= share * total as f64
        });
        reached.map_or(0.0, middle_us)
    }
}

fn bucket(ns: u64) -> usize {
    let exponent = (ns.max(1).ilog2() as usize).saturating_sub(SUB_BUCKETS.ilog2() as usize - 1);
    match exponent {
        0 => ns as usize,
        _ => exponent * SUB_BUCKETS + ((ns >> (exponent - 1)) as usize & (SUB_BUCKETS - 1)),
    }
}

/// The middle of a bucket, in microseconds.
fn middle_us(bucket: usize) -> f64 {
    let (exponent, sub) = (bucket / SUB_BUCKETS, (bucket % SUB_BUCKETS) as f64);
    match exponent {
        0 => sub / 1e3,
        _ => (SUB_BUCKETS as f64 + sub + 0.5) * 2f64.powi(exponent as i32 - 1) / 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_within_one_percent() {
        for shift in 0..63 {
            for ns in [1u64 << shift, (1 << shift) + (1 << shift) / 3] {
                let mut histogram = Histogram::default();
                histogram.add(Duration::from_nanos(ns));
                let shown = histogram.summary().p50 * 1e3;
                assert!((shown - ns as f64).abs() <= ns as f64 / 100.0, "{ns} became {shown}");
            }
        }
    }

    #[test]
    fn quantiles_and_the_mean_are_those_of_what_was_counted() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.add(Duration::from_micros(us)));
        let Latency { mean, p50, p90, p99, p999, max } = histogram.summary();
        for (found, expected) in
            [(mean, 500.5), (p50, 500.0), (p90, 900.0), (p99, 990.0), (p999, 999.0), (max, 1000.0)]
        {
            assert!((found - expected).abs() <= expected / 100.0, "{found} for {expected}");
        }
        assert_eq!(Histogram::default().summary().max, 0.0);
    }
}
