//! What is left of a block in the Gram: rows by all of their columns, or by the few that count.
//!
//! Where eps is small a row has all of its mass on few columns: five of 1,000 have more than 1.5e-5 of it each at eps
//! .0044 of the mean cost, and two more than 1e-2 (100,000 documents). Such a row goes straight into the float64 sums, pair
//! by pair of these columns: a sweep of 87,000 rows with 2,700 targets, of 0.26 s, took 0.8 to 1.2 s with its Gram, and
//! takes 0.38 to 0.46 (by a script that is not kept).

use crate::kernel::{Entry, Kernel};
use crate::thinning::stands_for;

/// A row that has nearly all of its mass on one column in so many goes into the sums by these alone.
const SPARSE: usize = 32;

/// The least share of its mass that such a column has, and the most that all others have together.
const LEAST: f32 = 1.0 / 65536.0;
const LOST: f32 = 1e-4;

/// Such a row costs as much less than one of many columns as there are fewer pairs of them, but no less than this of it:
/// they have to be found, too. (Where it has one column in 32, both cost about the same.)
const LEAST_COST: f64 = 1.0 / 16.0;

/// What a row of exponentials e, of sum e.1, does to the Hessian: its mass is what it is thinned by.
#[derive(Clone, Copy, Debug)]
pub struct Bend {
    /// Its number in the pool.
    pub row: usize,
    /// n r
    pub mass: f64,
    /// n w / (e.1)^2, before it stands for others.
    pub weight: f64,
    /// n (r - w) / e.1
    pub surplus: f64,
    /// e.1
    pub sum: f32,
}

/// Rows of a block that are left in the Gram: e, and by what they weigh.
#[derive(Debug, Default)]
pub struct Left {
    /// Those of many columns (rows, ld), and what they weigh (rows,).
    pub rows: Vec<f32>,
    /// See there.
    pub weights: Vec<f32>,
    /// All others.
    pub few: FewColumns,
}

/// Rows by their few columns that count.
#[derive(Debug, Default)]
pub struct FewColumns {
    /// Row after row, in the order of the columns.
    entries: Vec<Entry>,
    /// Where each row ends in these, and what it weighs.
    rows: Vec<(usize, f32)>,
}

impl Left {
    /// Begin anew.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.weights.clear();
        self.few.entries.clear();
        self.few.rows.clear();
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty() && self.few.rows.is_empty()
    }

    /// Take a row e (ld,) of so many columns over, if it is to stand for some, and return for how many.
    ///
    /// What is `worthy` is said for rows of many columns. One of few costs less, and so more of them are taken.
    pub fn take(
        &mut self,
        (e, columns): (&[f32], usize),
        bend: &Bend,
        worthy: f64,
        kernel: &dyn Kernel,
    ) -> f64 {
        let stands_for = |cost: f64| stands_for(bend.row, bend.mass, cost * worthy);
        if bend.weight != 0.0
            && stands_for(LEAST_COST) > 0.0
            && let Some(cost) = self.few.find(&e[..columns], bend.sum, kernel)
        {
            let stands_for = stands_for(cost);
            self.few.close((bend.weight * stands_for) as f32);
            return stands_for;
        }
        let stands_for = stands_for(1.0);
        let weight = (bend.weight * stands_for) as f32;
        if weight != 0.0 {
            self.rows.extend_from_slice(e);
            self.weights.push(weight);
        }
        stands_for
    }
}

impl FewColumns {
    /// Find a row's columns that count, if they are few, and return what it costs beside a row of many.
    fn find(&mut self, row: &[f32], sum: f32, kernel: &dyn Kernel) -> Option<f64> {
        let (begin, most) = (self.end(), row.len() / SPARSE);
        let found = kernel.above(row, LEAST * sum, most, &mut self.entries);
        let count = self.entries.len() - begin;
        if found < (1.0 - LOST) * sum {
            self.entries.truncate(begin);
            return None;
        }
        Some((count as f64 / most as f64).powi(2).max(LEAST_COST))
    }

    /// Take the row that was found over, unless it weighs nothing.
    fn close(&mut self, weight: f32) {
        if weight == 0.0 {
            self.entries.truncate(self.end());
        } else {
            self.rows.push((self.entries.len(), weight));
        }
    }

    /// Where the rows so far end.
    fn end(&self) -> usize {
        self.rows.last().map_or(0, |&(end, _)| end)
    }

    /// Each row's entries and weight.
    pub fn rows(&self) -> impl Iterator<Item = (&[Entry], f32)> {
        let mut begin = 0;
        self.rows.iter().map(move |&(end, weight)| {
            let entries = &self.entries[begin..end];
            begin = end;
            (entries, weight)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::available;
    use crate::sizes::stride;

    pub(crate) const COLUMNS: usize = 200;

    /// Row `r` (ld,): nearly all of it on five columns, or, of every third one, spread.
    pub(crate) fn row(r: usize, ld: usize) -> Vec<f32> {
        let mut row = vec![0.0; ld];
        for (j, e) in row[..COLUMNS].iter_mut().enumerate() {
            let far = (j * 37 + r * 61) % COLUMNS;
            *e = match (far, r % 3) {
                (0, _) => 1.0,
                (_, 0) => 0.9_f32.powi(far as i32),
                (1..5, _) => 0.03 * far as f32,
                _ => 1e-8,
            };
        }
        row
    }

    #[test]
    fn more_rows_of_few_columns_are_taken_than_of_many() {
        let kernel = available()[0].outer;
        let ld = stride(COLUMNS.next_multiple_of(kernel.tile().1));
        let mut left = Left::default();
        let mut stood = [0.0; 2];
        for number in 0..6400 {
            let e = row(number, ld);
            let bend = Bend {
                row: number,
                mass: 1.0,
                weight: 1.0,
                surplus: 0.0,
                sum: e.iter().sum(),
            };
            let many = usize::from(number % 3 == 0);
            stood[many] += left.take((&e, COLUMNS), &bend, 32.0, kernel);
        }
        // Five columns, where six would cost as much as many: 1 in 22 such rows, and 1 in 32 of the others.
        let cost = (5.0_f64 / 6.0).powi(2);
        let [few, many] = [left.few.rows.len(), left.weights.len()].map(|count| count as f64);
        assert!((few / 192.0 - 1.0).abs() < 0.3, "{few} of few columns");
        assert!((many / 66.7 - 1.0).abs() < 0.4, "{many} of many");
        assert!((stood[0] / (few * 32.0 * cost) - 1.0).abs() < 1e-12);
        assert!((stood[1] / (32.0 * many) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_row_that_loses_more_than_a_little_is_not_one_of_few_columns() {
        let kernel = available()[0].outer;
        let mut few = FewColumns::default();
        let row = |rest: f32| {
            let mut row = [rest / COLUMNS as f32; COLUMNS];
            row[17] = 1.0;
            row
        };
        for (rest, taken) in [(0.5 * LOST, true), (2.0 * LOST, false)] {
            let row = row(rest);
            let sum = row.iter().sum();
            assert_eq!(few.find(&row, sum, kernel).is_some(), taken);
            assert_eq!(few.entries.len(), usize::from(taken));
            few.close(0.0);
            assert!(few.entries.is_empty());
        }
    }
}
