//! Close products: two whole numbers of 16 bits a word ([`super::Words::Shorts`]), whose products and sums are exact.
//!
//! ```text
//! x ~ a p,  |p| <= ROW     y ~ b q,  |q| <= COLUMN, each q_k of 16 bits     <x, y> ~ a b <p, q>
//! ```
//!
//! Lengths are such that no sum leaves 32 bits: by Cauchy and Schwarz none of its parts does either. An instruction has
//! twice the products of one of float32, so that a product takes half the time. Columns are rounded the less, since all
//! rows meet what is rounded off them: a pool's errors in its rows cancel in q, those of a column do not.

use super::tile::Terms;
use super::{Side, Simd};

/// The length of a row in its steps, and that of a column; rounding adds half a step a number.
const ROW: f32 = 14_000.0;
const COLUMN: f32 = 131_000.0;

/// The largest whole number of 16 bits.
const LARGEST: f32 = 32_767.0;

/// A block that is shorter is taken for zeros: its squares are none in float32.
const SHORTEST: f32 = 1e-15;

/// Instructions on words of two shorts, and on sums of 32 bits.
pub trait Shorts: Simd {
    /// sum + x y, over both shorts in each word.
    fn multiply_shorts(self, x: Self::V, y: Self::V, sum: Self::V) -> Self::V;
    /// Whole numbers as float32.
    fn numbers(self, whole: Self::V) -> Self::V;
}

/// Terms of shorts, whose factors are the last words.
pub struct OfShorts;

impl<S: Shorts> Terms<S> for OfShorts {
    const FACTORS: usize = 1;

    #[inline(always)]
    fn add(s: S, x: S::V, y: S::V, sum: S::V) -> S::V {
        s.multiply_shorts(x, y, sum)
    }

    #[inline(always)]
    fn total(s: S, sum: S::V, x: f32, y: S::V) -> S::V {
        let zero = s.splat(0.0);
        let weighed = s.mul_add(s.numbers(sum), s.splat(x), zero);
        s.mul_add(weighed, y, zero)
    }
}

/// Lay a block of numbers out: shorts two by two, and the factor after them. `norm` is the block's.
#[inline(always)]
pub fn pack(side: Side, x: &[f32], norm: f32, out: &mut [f32]) {
    let (words, factor) = (x.len().div_ceil(2), &mut out[x.len().div_ceil(2)]);
    let length = match side {
        Side::Row => ROW,
        Side::Column => {
            let bits = x.iter().map(|x| x.abs().to_bits());
            let largest = f32::from_bits(bits.fold(0, u32::max));
            COLUMN.min(LARGEST * (norm / largest))
        }
    };
    let inverse = if norm > SHORTEST {
        *factor = norm / length;
        length / norm
    } else {
        *factor = 0.0;
        0.0
    };
    let (pairs, rest) = x.as_chunks::<2>();
    let out = &mut out[..words];
    for (out, [low, high]) in out.iter_mut().zip(pairs) {
        *out = word(low * inverse, high * inverse);
    }
    if let [low] = rest {
        out[pairs.len()] = word(low * inverse, 0.0);
    }
}

/// Two shorts, the nearest whole numbers.
#[inline(always)]
fn word(low: f32, high: f32) -> f32 {
    // Added to a number below 2^22, this leaves the nearest whole one in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let [low, high] = [low, high].map(|x| (x + ROUND).to_bits());
    f32::from_bits(high << 16 | low & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorts_are_the_number_to_a_step_and_no_sum_overflows() {
        for d in [1, 2, 37, 384, 768] {
            for flat in [0.0, 0.9, 1.0] {
                let x: Vec<f32> = (0_i16..d)
                    .map(|k| f32::powi(flat, k.into()) * if k % 3 == 0 { -1e-3 } else { 1e-3 })
                    .collect();
                let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
                let mut lengths = [Side::Row, Side::Column].map(|side| {
                    let mut words = vec![7.0; x.len().div_ceil(2) + 1];
                    pack(side, &x, norm, &mut words);
                    let factor = f64::from(words[x.len().div_ceil(2)]);
                    let mut length = 0.0;
                    for (k, &x) in x.iter().enumerate() {
                        let bits = words[k / 2].to_bits() >> (16 * (k % 2));
                        let whole = f64::from(bits as u16 as i16);
                        let error = (whole * factor - f64::from(x)).abs();
                        assert!(error <= 0.51 * factor, "{x}: {whole} times {factor}");
                        length += whole * whole;
                    }
                    length
                });
                lengths.sort_by(f64::total_cmp);
                assert!((lengths[0] * lengths[1]).sqrt() < f64::from(i32::MAX));
            }
        }
    }

    #[test]
    fn shorts_of_nothing_are_nothing() {
        for side in [Side::Row, Side::Column] {
            let mut words = [7.0; 2];
            pack(side, &[0.0, 0.0], 0.0, &mut words);
            assert_eq!(words.map(f32::to_bits), [0; 2]);
        }
    }
}
