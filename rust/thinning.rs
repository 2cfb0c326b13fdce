//! Which rows the Gram is taken from, and for how many of their kind each of them stands.

/// The Gram is taken from about this many rows a column: more cost more than what they do for a step; but more are
/// taken as long as it costs about a quarter of the product, 2 n d m, and the exponentials, which cost as much as 32
/// dimensions more.
const GRAM_ROWS: f64 = 32.0;
const GRAM_COST: f64 = 1.0;
const EXPONENTIALS: f64 = 32.0;

/// Of a kept plan, whose rows cost next to nothing, fewer are taken, and it is looked at more often. Tried: 8 take more
/// than twice the looks at an eps of .01 of the mean cost.
const GRAM_ROWS_OF_PLAN: f64 = 16.0;

/// Rows of less mass than this, in units of 1/n, are thinned even where rows are few.
const GRAM_MASS: f64 = 0.25;

/// T: a row of this mass, in units of 1/n, is worth its cost in the Gram, if it is one of many columns (`left`).
///
/// `columns` are the targets that weigh something, `n` the rows of the whole pool, `d` dimensions, none of a kept plan.
#[must_use]
pub fn worthy(columns: usize, n: usize, d: Option<usize>) -> f64 {
    let (n, m) = (n as f64, columns as f64);
    let least = match d {
        Some(d) => (n / (GRAM_ROWS * m)).min(GRAM_COST * m / (d as f64 + EXPONENTIALS)),
        None => n / (GRAM_ROWS_OF_PLAN * m),
    };
    least.max(GRAM_MASS)
}

/// How many rows of its mass, in units of 1/n, a row stands for in the Gram, 0 if it is left out.
///
/// It stays with probability min(1, mass / T), so that each row that stays is worth its cost and the Gram is right in
/// the mean.
#[must_use]
pub fn stands_for(row: usize, mass: f64, worthy: f64) -> f64 {
    let share = (mass / worthy).min(1.0);
    if dice(row) < share {
        share.recip()
    } else {
        0.0
    }
}

/// A number in [0, 1) that depends on the row alone (the mixing of SplitMix64).
fn dice(row: usize) -> f64 {
    let mut x = (row as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
