//! One vector before it is multiplied: shifted, scaled, measured, laid out in words.
//!
//! Plain loops for the most part, which the compiler vectorises for the instruction set that enters them.

use std::ops::Range;

use super::{DEPTH, DIGITS, Entry, Side, Simd, Words, digit_words, shorts};

/// See [`super::Kernel::subtract`].
#[inline(always)]
pub fn subtract(x: &mut [f32], centre: &[f32]) {
    for (x, centre) in x.iter_mut().zip(centre) {
        *x -= centre;
    }
}

/// See [`super::Kernel::scale`].
#[inline(always)]
pub fn scale(x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

/// See [`super::Kernel::squared_norm`]; four registers of partial sums, so that no addition waits for the one before.
#[inline(always)]
pub fn squared_norm<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mut rounds = x.chunks_exact(4 * S::LANES);
    for x in &mut rounds {
        for (x, sum) in x.chunks_exact(S::LANES).zip(&mut sums) {
            let x = s.load(x);
            *sum = s.mul_add(x, x, *sum);
        }
    }
    for (x, sum) in rounds.remainder().chunks(S::LANES).zip(&mut sums) {
        let mut filled = [0.0; 16];
        filled[..x.len()].copy_from_slice(x);
        let x = s.load(&filled);
        *sum = s.mul_add(x, x, *sum);
    }
    let [a, b, c, d] = sums;
    s.sum(s.add(s.add(a, b), s.add(c, d)))
}

/// See [`super::Kernel::round`].
#[inline(always)]
pub fn round(words: Words, x: &mut [f32]) {
    match words {
        Words::Singles | Words::Digits | Words::Shorts => (),
        Words::Pairs => x
            .iter_mut()
            .for_each(|x| *x = f32::from_bits(bfloat16(*x) << 16)),
    }
}

/// See [`super::Kernel::pack`].
#[inline(always)]
pub fn pack<S: Simd>(s: S, side: Side, x: &[f32], out: &mut [f32]) {
    match S::WORDS {
        Words::Singles => out[..x.len()].copy_from_slice(x),
        Words::Pairs => {
            let (pairs, rest) = x.as_chunks::<2>();
            for (out, [low, high]) in out.iter_mut().zip(pairs) {
                *out = word(*low, *high);
            }
            if let [low] = rest {
                out[pairs.len()] = f32::from_bits(bfloat16(*low));
            }
        }
        Words::Digits => digits(x, out),
        Words::Shorts => shorts::pack(side, x, squared_norm(s, x).sqrt(), out),
    }
}

/// The largest whole number of three digits whose first is not above 127.
const LARGEST: f32 = 127.0 * 65536.0;

/// A block whose largest number is smaller is taken for zeros: its squares are none in float32.
const SMALLEST: f32 = 1e-30;

/// Numbers as multiples q of about a 2^-23rd of the largest, and q = 65536 d0 + 256 d1 + d2 with digits in -128..=127.
#[inline(always)]
fn digits(x: &[f32], out: &mut [f32]) {
    // Bits of positive numbers are in the order of the numbers, and their maximum is found in any order.
    let bits = x.iter().map(|x| x.abs().to_bits());
    let largest = f32::from_bits(bits.fold(0, u32::max));
    let (factor, inverse) = if largest > SMALLEST {
        (largest / LARGEST, LARGEST / largest)
    } else {
        (0.0, 0.0)
    };
    let mut bytes = [[0_u8; DEPTH]; DIGITS];
    let [first, second, third] = &mut bytes;
    for (((x, d0), d1), d2) in x.iter().zip(first).zip(second).zip(third) {
        let q = whole(x * inverse);
        let q1 = (q + 128) >> 8;
        let q0 = (q1 + 128) >> 8;
        [*d0, *d1, *d2] = [q0, q1, q].map(|q| q.to_le_bytes()[0]);
    }
    let depth = digit_words(x.len());
    for (out, bytes) in out.chunks_mut(depth).zip(&bytes) {
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *out = f32::from_bits(u32::from_le_bytes(*bytes));
        }
    }
    out[DIGITS * depth] = factor;
}

/// The nearest whole number of one below 2^23, by additions alone, which compilers know to do for many at once.
#[inline(always)]
fn whole(x: f32) -> i32 {
    // Added to a number below 2^22, this leaves the nearest whole one in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let whole = |rounded: f32| rounded.to_bits().cast_signed() - ROUND.to_bits().cast_signed();
    let half = 0.5 * x + ROUND;
    let rest = x - 2.0 * (half - ROUND);
    2 * whole(half) + whole(rest + ROUND)
}

/// See [`super::Kernel::add_up`].
#[inline(always)]
pub fn add_up(sums: &mut [f64], numbers: &[f32]) {
    for (sum, &number) in sums.iter_mut().zip(numbers) {
        *sum += f64::from(number);
    }
}

/// See [`super::Kernel::stack`].
#[inline(always)]
pub fn stack(
    words: Words,
    rows: &[&[f32]],
    columns: Range<usize>,
    factors: &[f32],
    out: &mut [f32],
) {
    let numbers = words.stacked();
    let (filled, rest) = out.split_at_mut(rows.len().div_ceil(numbers) * columns.len());
    rest.fill(0.0);
    let steps = rows.chunks(numbers).zip(factors.chunks(numbers));
    for ((rows, factors), out) in steps.zip(filled.chunks_exact_mut(columns.len())) {
        let x = &rows[0][columns.clone()];
        match (words, rows.get(1)) {
            (Words::Singles | Words::Digits | Words::Shorts, _) => {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = x * factors[0];
                }
            }
            (Words::Pairs, Some(partner)) => {
                for (out, (low, high)) in
                    out.iter_mut().zip(x.iter().zip(&partner[columns.clone()]))
                {
                    *out = word(low * factors[0], high * factors[1]);
                }
            }
            (Words::Pairs, None) => {
                for (out, low) in out.iter_mut().zip(x) {
                    *out = word(low * factors[0], 0.0);
                }
            }
        }
    }
}

/// So many numbers of a row are counted, and then looked at, together.
const COUNTED: usize = 256;
const TOGETHER: usize = 64;

/// See [`super::Kernel::above`].
#[inline(always)]
pub fn above(row: &[f32], least: f32, most: usize, out: &mut Vec<Entry>) -> f32 {
    let count = |numbers: &[f32]| numbers.iter().map(|&e| u32::from(e > least)).sum::<u32>();
    let mut found = 0;
    for numbers in row.chunks(COUNTED) {
        found += count(numbers) as usize;
        if found > most {
            return 0.0;
        }
    }
    let mut sum = 0.0;
    for (part, numbers) in row.chunks(TOGETHER).enumerate() {
        if count(numbers) > 0 {
            for (column, &e) in (TOGETHER * part..).zip(numbers) {
                if e > least {
                    let column = column as u32;
                    out.push(Entry { column, e });
                    sum += e;
                }
            }
        }
    }
    sum
}

/// Two numbers as bfloat16.
#[inline(always)]
fn word(low: f32, high: f32) -> f32 {
    f32::from_bits(bfloat16(high) << 16 | bfloat16(low))
}

/// The sixteen bits of the nearest bfloat16, ties to even; x is finite and far from overflow.
#[inline(always)]
fn bfloat16(x: f32) -> u32 {
    let bits = x.to_bits();
    (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_the_number_to_a_float32_of_the_largest() {
        for d in [1, 2, 3, 4, 37, 384] {
            for scale in [1e-29, 1e-3, 1.0, 1e20] {
                let x: Vec<f32> = (0_i16..d)
                    .map(|k| scale * (f32::from(k) * 1.7).sin() * 0.97_f32.powi(k.into()))
                    .collect();
                let x = [&[scale], &x[1..]].concat();
                let depth = digit_words(x.len());
                let mut words = vec![7.0; Words::Digits.of(x.len())];
                digits(&x, &mut words);
                let digit = |order: usize, k: usize| {
                    let bytes = words[order * depth + k / 4].to_bits().to_le_bytes();
                    f64::from(i8::from_le_bytes([bytes[k % 4]]))
                };
                for (k, &x) in x.iter().enumerate() {
                    let q = 65536.0 * digit(0, k) + 256.0 * digit(1, k) + digit(2, k);
                    let found = q * f64::from(words[DIGITS * depth]);
                    let error = (found - f64::from(x)).abs() / f64::from(scale);
                    assert!(error < 2.0_f64.powi(-23), "{x} of {scale}: {found}");
                }
            }
        }
    }

    #[test]
    fn digits_of_nothing_are_nothing() {
        for tiny in [0.0, 1e-38, -1e-31] {
            let mut words = [7.0; 49];
            digits(&[tiny, 0.0], &mut words);
            assert_eq!(words.map(f32::to_bits), [0; 49]);
        }
    }
}
