//! A share of a whole, and how sure one can be of it.

use serde::Serialize;

/// So many of so many, with the interval in which the true share lies with 95 % confidence if the cases were independent
/// (Wilson's score interval; E. B. Wilson, JASA 22, 1927).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// Lower end, 0 to 1.
    pub low: f64,
    /// Upper end, 0 to 1.
    pub high: f64,
}

/// The 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_964;

impl Share {
    /// `count` of `of`. Of nothing: the share may be anything.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a statistic, not money")]
    pub fn new(count: u64, of: u64) -> Self {
        if of == 0 {
            return Self { count, of, low: 0.0, high: 1.0 };
        }
        let (n, p) = (of as f64, count as f64 / of as f64);
        let square = Z * Z / n;
        let middle = (p + square / 2.0) / (1.0 + square);
        let half = Z / (1.0 + square) * (p * (1.0 - p) / n + square / (4.0 * n)).sqrt();
        Self { count, of, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }

    /// The share itself, 0 to 1; of nothing, none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a statistic, not money")]
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(count: u64, of: u64) -> (f64, f64) {
        let share = Share::new(count, of);
        ((share.low * 1e4).round() / 1e4, (share.high * 1e4).round() / 1e4)
    }

    /// Figures of Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    #[test]
    fn the_interval_is_wilsons() {
        assert_eq!(ends(81, 263), (0.2553, 0.3662));
        assert_eq!(ends(15, 148), (0.0624, 0.1605));
        assert_eq!(ends(0, 20), (0.0, 0.1611));
        assert_eq!(ends(1, 29), (0.0061, 0.1718));
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        assert_eq!((ends(0, 0), Share::new(0, 0).value()), ((0.0, 1.0), None));
        assert_eq!(ends(20, 20).1, 1.0);
    }
}
