//! The tile: a few rows times a few columns, kept in registers while k runs.
//!
//! With R rows and V vectors of columns, each step of k loads V vectors of y, broadcasts R numbers of x and does R V
//! multiplications into R V registers. Rows of x lie one after the other (a broadcast can read from anywhere, so
//! nothing is transposed in packing); y lies in panels of one tile's columns, k by k.

use super::{PackedRow, STRIDE, Simd};

/// See [`super::Kernel::product`].
#[inline(always)]
pub fn product<S: Simd, const R: usize, const V: usize>(
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
            for (k, y) in (0..STRIDE).zip(y.chunks_exact(columns)) {
                step(s, &mut sums, |r| rows[r][k], y);
            }
            for (sums, out) in sums.iter().zip(out.chunks_mut(ld)) {
                for (&sum, out) in sums.iter().zip(out.chunks_exact_mut(S::LANES)) {
                    let sum = if accumulate {
                        s.add(s.load(out), sum)
                    } else {
                        sum
                    };
                    s.store(sum, out);
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
        step(s, &mut sums, |r| u[r], v);
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
fn step<S: Simd, const R: usize, const V: usize>(
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
            *sum = s.multiply(x, column, *sum);
        }
    }
}
