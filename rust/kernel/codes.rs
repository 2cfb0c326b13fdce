//! Exponentials in eight bits: the upper bits of their float32, five of exponent and three of fraction.
//!
//! Of a row whose largest exponential is 1, a code tells 2^-30 from 0, and is off by 1 part in 16 at most.

use super::Simd;
use super::strip::folded;

/// Bits of a float32 below those that are kept. A code is a float32 again when it stands above them.
pub const DROPPED: u32 = 20;
/// What is added before they are dropped, so that a number goes to the nearest code.
const HALF: u32 = 1 << (DROPPED - 1);
/// A 1 is coded as the largest code, 1.875 times a power of two: no code above it is wasted.
const LARGEST: f32 = 1.875;
/// What is taken off the exponent, so that what is left of it fits in five bits; and the bits of the smallest number
/// that is not 0 then.
const LOWERED: u32 = (127 - 31) << 23;
const SMALLEST: u32 = LOWERED + (1 << 23);
/// A decoded number times this is an exponential again.
pub const UNIT: f32 = f32::from_bits((127 << 23) + LOWERED) / LARGEST;

/// Numbers that a row of codes is filled up to a multiple of.
pub const LANES: usize = 16;

/// See [`super::Kernel::keep`]; a plain loop, which the compiler vectorises for the instruction set that enters it.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // e is at most 1, and so the code at most 255
pub fn keep(e: &[f32], codes: &mut [u8]) {
    for (code, &e) in codes.iter_mut().zip(e) {
        let bits = (e * LARGEST).to_bits() + HALF;
        *code = if bits < SMALLEST {
            0
        } else {
            ((bits - LOWERED) >> DROPPED) as u8
        };
    }
}

/// See [`super::Kernel::recall`].
#[inline(always)]
pub(super) fn recall<S: Simd>(s: S, codes: &[u8], factors: &[f32], e: &mut [f32]) -> (f32, f32) {
    let (mut before, mut now) = (s.splat(0.0), s.splat(0.0));
    let columns = codes.chunks_exact(S::LANES);
    let columns = columns.zip(factors.chunks_exact(S::LANES));
    for ((codes, factors), e) in columns.zip(e.chunks_exact_mut(S::LANES)) {
        let kept = s.decode(codes);
        let exponential = s.mul_add(kept, s.load(factors), s.splat(0.0));
        s.store(exponential, e);
        before = s.add(before, kept);
        now = s.add(now, exponential);
    }
    let total = |v| folded(s, v, |x, y| x + y);
    (total(before), total(now))
}
