//! One vector before it is multiplied: shifted, scaled, measured, laid out in words.
//!
//! Plain loops, which the compiler vectorises for the instruction set that enters them.

use super::Words;

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

/// See [`super::Kernel::squared_norm`]; sixteen interleaved partial sums.
#[inline(always)]
pub fn squared_norm(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}

/// See [`super::Kernel::round`].
#[inline(always)]
pub fn round(words: Words, x: &mut [f32]) {
    if words == Words::Pairs {
        for x in x {
            *x = f32::from_bits(bfloat16(*x) << 16);
        }
    }
}

/// See [`super::Kernel::pack`].
#[inline(always)]
pub fn pack(words: Words, x: &[f32], out: &mut [f32]) {
    match words {
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
    }
}

/// See [`super::Kernel::stack`].
#[inline(always)]
pub fn stack(words: Words, x: [&[f32]; 2], factors: [f32; 2], out: &mut [f32]) {
    let numbers = x[0].iter().zip(x[1]);
    match words {
        Words::Singles => {
            for (out, (x, _)) in out.iter_mut().zip(numbers) {
                *out = x * factors[0];
            }
        }
        Words::Pairs => {
            for (out, (low, high)) in out.iter_mut().zip(numbers) {
                *out = word(low * factors[0], high * factors[1]);
            }
        }
    }
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
