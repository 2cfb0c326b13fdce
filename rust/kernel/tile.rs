//! The tile: a few rows times a few columns, kept in registers while k runs.
//!
//! With R rows and V vectors of columns, each step of k loads V vectors of y, broadcasts R numbers of x and does R V
//! multiplications into R V registers. Rows of x lie one after the other (a broadcast can read from anywhere, so
//! nothing is transposed in packing); y lies in panels of one tile's columns, k by k.

use super::{PackedRow, STRIDE, Simd};

/// What a product adds up.
pub trait Terms<S: Simd> {
    /// Words at the end of the depth that are no terms but factors of the sum.
    const FACTORS: usize;
    /// sum + x y, over the numbers in each word.
    fn add(s: S, x: S::V, y: S::V, sum: S::V) -> S::V;
    /// What a sum comes to, with the last words of x and y.
    fn total(s: S, sum: S::V, x: f32, y: S::V) -> S::V;
}

/// Terms that [`Simd::multiply`] multiplies, in float32.
pub struct OfFloats;

impl<S: Simd> Terms<S> for OfFloats {
    const FACTORS: usize = 0;

    #[inline(always)]
    fn add(s: S, x: S::V, y: S::V, sum: S::V) -> S::V {
        s.multiply(x, y, sum)
    }

    #[inline(always)]
    fn total(_s: S, sum: S::V, _x: f32, _y: S::V) -> S::V {
        sum
    }
}

/// See [`super::Kernel::product`].
#[inline(always)]
pub fn product<S: Simd, T: Terms<S>, const R: usize, const V: usize>(
    s: S,
    x: &[PackedRow],
    (y, depth): (&[f32], usize),
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    let columns = V * S::LANES;
    for (panel, y) in y.chunks_exact(depth * columns).enumerate() {
        let out = out[panel * columns..].chunks_mut(R * ld);
        for (rows, out) in x.as_chunks::<R>().0.iter().zip(out) {
            let mut sums = [[s.splat(0.0); V]; R];
            let (terms, _) = y.split_at((depth - T::FACTORS) * columns);
            for (k, y) in (0..STRIDE).zip(terms.chunks_exact(columns)) {
                step::<S, T, R, V>(s, &mut sums, |r| rows[r][k], y);
            }
            let last = &y[(depth - 1) * columns..];
            for ((sums, row), out) in sums.iter().zip(rows).zip(out.chunks_mut(ld)) {
                let places = last
                    .chunks_exact(S::LANES)
                    .zip(out.chunks_exact_mut(S::LANES));
                for (&sum, (y, out)) in sums.iter().zip(places) {
                    let total = T::total(s, sum, row[depth - 1], s.load(y));
                    let total = if accumulate {
                        s.add(s.load(out), total)
                    } else {
                        total
                    };
                    s.store(total, out);
                }
            }
        }
    }
}

/// See [`super::Kernel::outer`].
#[inline(always)]
pub fn outer<S: Simd, const R: usize, const V: usize>(s: S, u: &[f32], v: &[f32], out: &mut [f32]) {
    let mut sums = [[s.splat(0.0); V]; R];
    let steps = u.as_chunks::<R>().0.iter();
    for (u, v) in steps.zip(v.chunks_exact(V * S::LANES)) {
        step::<S, OfFloats, R, V>(s, &mut sums, |r| u[r], v);
    }
    for (&sum, out) in sums
        .as_flattened()
        .iter()
        .zip(out.chunks_exact_mut(S::LANES))
    {
        s.store(sum, out);
    }
}

#[inline(always)]
fn step<S: Simd, T: Terms<S>, const R: usize, const V: usize>(
    s: S,
    sums: &mut [[S::V; V]; R],
    x: impl Fn(usize) -> f32,
    y: &[f32],
) {
    let mut columns = [s.splat(0.0); V];
    for (column, y) in columns.iter_mut().zip(y.chunks_exact(S::LANES)) {
        *column = s.load(y);
    }
    for (r, sums) in sums.iter_mut().enumerate() {
        let x = s.splat(x(r));
        for (sum, &column) in sums.iter_mut().zip(&columns) {
            *sum = T::add(s, x, column, *sum);
        }
    }
}
