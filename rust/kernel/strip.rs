//! The strip: a row of dot products becomes logits, then exponentials, then a part of the column sums.
//!
//! ```text
//! z_ij = (g_j - c_ij) / eps log2(e) + log2 b_j     less what is the same for the whole row or all columns
//!      = scale <x_i, y_j> + bias_j                 squared Euclidean and cosine
//!      = scale |x_i - y_j| + bias_j                Euclidean (scale < 0)
//! e_ij = 2^(z_ij - max_j z_ij),   p_ij = e_ij / sum_j e_ij
//! ```
//!
//! A row is short enough to stay in the first cache between the passes over it.

use super::{Columns, Peak, Simd};

/// 2^t on |t| <= 1/2 as a polynomial: the minimax fit of degree 5 that is exact at 0, relative error 9.2e-8.
#[allow(clippy::approx_constant)] // 0.693147 is the fit's, not a rounded ln 2
const EXP2: [f32; 6] = [
    1.0,
    0.693_147,
    0.240_222_42,
    0.055_507_336,
    0.009_671_513,
    0.001_326_472_7,
];

/// Below this power of two an exponential is taken as 0: its exponent would leave the normal numbers.
const SMALLEST: f32 = -125.0;

/// Adding 1.5 2^23 leaves the nearest integer in a float's low bits.
const ROUND: f32 = 12_582_912.0;

/// See [`super::Kernel::logits`].
#[inline(always)]
pub fn logits<S: Simd>(
    s: S,
    z: &mut [f32],
    columns: &Columns,
    squared: f32,
    nearest: bool,
) -> Peak {
    if columns.squared.is_empty() {
        peak(s, z, columns, nearest, |dot, _| dot)
    } else {
        peak(s, z, columns, nearest, |dot, j| {
            distance(s, dot, j, columns, squared)
        })
    }
}

#[inline(always)]
fn distance<S: Simd>(s: S, dot: S::V, j: usize, columns: &Columns, squared: f32) -> S::V {
    let sum = s.add(s.splat(squared), s.load(&columns.squared[j..j + S::LANES]));
    s.sqrt(s.max(s.mul_add(s.splat(-2.0), dot, sum), s.splat(0.0)))
}

#[inline(always)]
fn peak<S: Simd>(
    s: S,
    z: &mut [f32],
    columns: &Columns,
    nearest: bool,
    value: impl Fn(S::V, usize) -> S::V,
) -> Peak {
    match (nearest, columns.hard_bias.is_empty()) {
        (false, false) => peaks::<S, false, false>(s, z, columns, value),
        (false, true) => peaks::<S, false, true>(s, z, columns, value),
        (true, false) => peaks::<S, true, false>(s, z, columns, value),
        (true, true) => peaks::<S, true, true>(s, z, columns, value),
    }
}

/// Every other register of a row has its own maxima, so that they need not wait for each other.
const CHAINS: usize = 2;

/// Maxima so far, lane by lane, and the register where the hard one was first met.
#[derive(Clone, Copy)]
struct Maxima<V> {
    soft: V,
    hard: V,
    met: V,
}

#[inline(always)]
fn peaks<S: Simd, const NEAREST: bool, const EVEN: bool>(
    s: S,
    z: &mut [f32],
    columns: &Columns,
    value: impl Fn(S::V, usize) -> S::V,
) -> Peak {
    let scale = s.splat(columns.scale);
    let least = s.splat(f32::NEG_INFINITY);
    let mut chains = [Maxima {
        soft: least,
        hard: least,
        met: s.splat(0.0),
    }; CHAINS];
    // Registers are counted in float32, exact up to 2^24.
    let mut count = s.splat(0.0);
    for first in (0..z.len()).step_by(CHAINS * S::LANES) {
        for (chain, seen) in chains.iter_mut().enumerate() {
            let begin = first + chain * S::LANES;
            if begin == z.len() {
                break;
            }
            let lanes = begin..begin + S::LANES;
            let value = value(s.load(&z[lanes.clone()]), begin);
            let logit = s.mul_add(scale, value, s.load(&columns.bias[lanes.clone()]));
            s.store(logit, &mut z[lanes.clone()]);
            seen.soft = s.max(seen.soft, logit);
            if NEAREST || !EVEN {
                let reduced = if EVEN {
                    logit
                } else {
                    s.mul_add(scale, value, s.load(&columns.hard_bias[lanes]))
                };
                if NEAREST {
                    seen.met = s.select_gt(reduced, seen.hard, count, seen.met);
                    count = s.add(count, s.splat(1.0));
                }
                seen.hard = s.max(seen.hard, reduced);
            }
        }
    }
    let soft = s.largest(s.max(chains[0].soft, chains[1].soft));
    let hard = if NEAREST || !EVEN {
        s.largest(s.max(chains[0].hard, chains[1].hard))
    } else {
        soft
    };
    let nearest = if NEAREST { first(s, hard, &chains) } else { 0 };
    Peak {
        soft,
        hard,
        nearest,
    }
}

/// The lowest column among the lanes that reach the top.
#[inline(always)]
#[allow(clippy::float_cmp, clippy::cast_sign_loss)] // the top is one of the lanes; registers are counts
fn first<S: Simd>(s: S, top: f32, chains: &[Maxima<S::V>]) -> usize {
    let columns = chains.iter().flat_map(|seen| {
        let (hard, met) = (lanes(s, seen.hard), lanes(s, seen.met));
        let reaching = (0..S::LANES).filter(move |&lane| hard[lane] == top);
        reaching.map(move |lane| met[lane] as usize * S::LANES + lane)
    });
    columns.min().unwrap_or(0)
}

/// A register's numbers, and zeros beyond its lanes.
#[inline(always)]
fn lanes<S: Simd>(s: S, v: S::V) -> [f32; 16] {
    let mut out = [0.0; 16];
    s.store(v, &mut out[..S::LANES]);
    out
}

/// One number of all in a register, half with half: one after the other they would take as long as a row of columns.
#[inline(always)]
pub(super) fn folded<S: Simd>(s: S, v: S::V, operation: impl Fn(f32, f32) -> f32) -> f32 {
    let mut x = lanes(s, v);
    let mut width = S::LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            x[i] = operation(x[i], x[i + width]);
        }
    }
    x[0]
}

/// See [`super::Kernel::exponentials`].
#[inline(always)]
pub fn exponentials<S: Simd>(s: S, z: &mut [f32], top: f32) -> (f32, f32) {
    let top = s.splat(top);
    let (mut sum, mut moment) = (s.splat(0.0), s.splat(0.0));
    for z in z.chunks_exact_mut(S::LANES) {
        let t = s.sub(s.load(z), top);
        let e = exp2(s, t);
        s.store(e, z);
        sum = s.add(sum, e);
        // Where e is 0, t may be -inf: their product is 0 all the same.
        moment = s.mul_add(e, s.max(t, s.splat(SMALLEST)), moment);
    }
    (s.sum(sum), s.sum(moment))
}

/// 2^t for t <= 0: t = i + rest with |rest| <= 1/2, a polynomial for 2^rest, then i is added to the exponent.
#[inline(always)]
fn exp2<S: Simd>(s: S, t: S::V) -> S::V {
    let rounded = s.add(t, s.splat(ROUND));
    let rest = s.sub(t, s.sub(rounded, s.splat(ROUND)));
    let mut power = s.splat(EXP2[5]);
    for &coefficient in EXP2[..5].iter().rev() {
        power = s.mul_add(power, rest, s.splat(coefficient));
    }
    s.select_gt(
        t,
        s.splat(SMALLEST),
        s.scale_exponent(power, rounded),
        s.splat(0.0),
    )
}

/// See [`super::Kernel::add_rows`]; four rows at a time, so that q is read and written a quarter as often.
#[inline(always)]
pub fn add_rows<S: Simd>(s: S, q: &mut [f32], strip: &[f32], ld: usize, weights: &[f32]) {
    let (fours, rest) = weights.as_chunks::<4>();
    for (w, rows) in fours.iter().zip(strip.chunks(4 * ld)) {
        let w = w.map(|w| s.splat(w));
        for (j, q) in q.chunks_exact_mut(S::LANES).enumerate() {
            let mut sum = s.load(q);
            for (r, &w) in w.iter().enumerate() {
                sum = s.mul_add(w, s.load(&rows[r * ld + j * S::LANES..][..S::LANES]), sum);
            }
            s.store(sum, q);
        }
    }
    for (&w, row) in rest.iter().zip(strip.chunks(ld).skip(4 * fours.len())) {
        for (q, e) in q.chunks_exact_mut(S::LANES).zip(row.chunks_exact(S::LANES)) {
            s.store(s.mul_add(s.splat(w), s.load(e), s.load(q)), q);
        }
    }
}
