//! Exponentials in eight bits: the upper bits of their float32, five of exponent and three of fraction.
//!
//! Of a row whose largest exponential is 1, a code tells 2^-30 from 0, and is off by 1 part in 16 at most.

use super::Simd;

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

/// Sums that are made side by side, so that none waits for the addition before.
const CHAINS: usize = 4;

/// Bytes that come from memory at once.
const LINE: usize = 64;

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
pub(super) fn recall<S: Simd>(
    s: S,
    codes: &[u8],
    ahead: &[u8],
    factors: &[f32],
    e: &mut [f32],
) -> (f32, f32) {
    for line in ahead.chunks(LINE) {
        s.prefetch(line);
    }
    let mut sums = [[s.splat(0.0); 2]; CHAINS];
    let (wide, lanes) = (CHAINS * S::LANES, S::LANES);
    let whole = codes.len() / wide * wide;
    let columns = codes.chunks_exact(wide).zip(factors.chunks_exact(wide));
    for ((codes, factors), e) in columns.zip(e.chunks_exact_mut(wide)) {
        for (chain, sums) in sums.iter_mut().enumerate() {
            let (from, to) = (chain * lanes, (chain + 1) * lanes);
            *sums = decoded(
                s,
                &codes[from..to],
                &factors[from..to],
                &mut e[from..to],
                *sums,
            );
        }
    }
    let columns = codes[whole..].chunks_exact(lanes);
    let columns = columns.zip(factors[whole..].chunks_exact(lanes));
    for ((codes, factors), e) in columns.zip(e[whole..].chunks_exact_mut(lanes)) {
        sums[0] = decoded(s, codes, factors, e, sums[0]);
    }
    let total = |which: usize| {
        let parts = sums.iter().map(|part| part[which]);
        s.sum(parts.fold(s.splat(0.0), |sum, part| s.add(sum, part)))
    };
    (total(0), total(1))
}

/// Some codes as exponentials, and two sums with them.
#[inline(always)]
fn decoded<S: Simd>(
    s: S,
    codes: &[u8],
    factors: &[f32],
    e: &mut [f32],
    sums: [S::V; 2],
) -> [S::V; 2] {
    let kept = s.decode(codes);
    let exponential = s.mul_add(kept, s.load(factors), s.splat(0.0));
    s.store(exponential, e);
    [s.add(sums[0], kept), s.add(sums[1], exponential)]
}
