//! The k best of a stream: lowest value first, ties to the lower row.
//!
//! Values gather in a buffer of about 2k entries; when it is full, a selection keeps the k best and its worst becomes
//! the bar that later entries must beat. The order (value, row) is total, so neither the order of arrival nor the way
//! a stream is cut changes the answer.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::error::Error;

/// A value and the row it belongs to.
pub type Entry = (f32, usize);

/// The k best entries seen so far.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    entries: Vec<Entry>,
    bar: Option<Entry>,
}

impl TopK {
    /// Keep the `k` best.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            k,
            entries: Vec::new(),
            bar: None,
        }
    }

    /// Offer one entry; the value is not NaN.
    #[inline]
    pub fn push(&mut self, value: f32, row: usize) {
        if self.k == 0
            || self
                .bar
                .is_some_and(|bar| order(&(value, row), &bar).is_gt())
        {
            return;
        }
        self.entries.push((value, row));
        if self.entries.len() >= 2 * self.k + 1024 {
            self.shrink();
        }
    }

    /// The k best of both.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for &(value, row) in &other.entries {
            self.push(value, row);
        }
        self
    }

    /// The k best, in order.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Entry> {
        self.entries.sort_unstable_by(order);
        self.entries.truncate(self.k);
        self.entries
    }

    fn shrink(&mut self) {
        self.entries.select_nth_unstable_by(self.k - 1, order);
        self.entries.truncate(self.k);
        self.bar = Some(self.entries[self.k - 1]);
    }
}

fn order(left: &Entry, right: &Entry) -> Ordering {
    left.0
        .partial_cmp(&right.0)
        .unwrap_or(Ordering::Equal)
        .then(left.1.cmp(&right.1))
}

/// The rows of the k lowest of `values` (n,), in order of (value, row).
///
/// # Errors
/// If k exceeds n, or a value is NaN.
pub fn topk(values: &[f32], k: usize) -> Result<Vec<usize>, Error> {
    const CHUNK: usize = 1 << 16;
    if k > values.len() {
        return Err(Error::TooMany { k, n: values.len() });
    }
    if let Some(row) = values.iter().position(|value| value.is_nan()) {
        return Err(Error::Entry {
            name: "values",
            row,
            value: f64::NAN,
            expected: "it must be a number",
        });
    }
    let best = values
        .par_chunks(CHUNK)
        .enumerate()
        .fold(
            || TopK::new(k),
            |mut best, (chunk, part)| {
                for (offset, &value) in part.iter().enumerate() {
                    best.push(value, chunk * CHUNK + offset);
                }
                best
            },
        )
        .reduce(|| TopK::new(k), |left, right| left.merge(&right));
    Ok(best.into_sorted().into_iter().map(|(_, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few distinct values, so that most comparisons are ties.
    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i * 7919 % 13) as f32 - 6.0).collect()
    }

    #[test]
    fn agrees_with_a_stable_sort() {
        for n in [1, 2, 100, 5000, 200_000] {
            let values = values(n);
            let mut sorted: Vec<usize> = (0..n).collect();
            sorted.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
            for k in [0, 1, n / 3, n] {
                assert_eq!(topk(&values, k).unwrap(), sorted[..k], "n={n} k={k}");
            }
        }
    }

    #[test]
    fn merging_parts_equals_one_stream() {
        let values = values(10_000);
        let (mut left, mut right) = (TopK::new(77), TopK::new(77));
        for (row, &value) in values.iter().enumerate().rev() {
            if row % 3 == 0 {
                left.push(value, row);
            } else {
                right.push(value, row);
            }
        }
        let rows: Vec<usize> = left
            .merge(&right)
            .into_sorted()
            .into_iter()
            .map(|(_, row)| row)
            .collect();
        assert_eq!(rows, topk(&values, 77).unwrap());
    }

    #[test]
    fn zeros_of_either_sign_tie() {
        assert_eq!(topk(&[0.0, -0.0, 0.0], 2).unwrap(), [0, 1]);
    }

    #[test]
    fn refuses_too_many_and_nan() {
        assert_eq!(topk(&[1.0], 2), Err(Error::TooMany { k: 2, n: 1 }));
        assert!(matches!(
            topk(&[1.0, f32::NAN], 1),
            Err(Error::Entry { row: 1, .. })
        ));
    }
}
