//! Any machine: plain loops over eight numbers, left to the compiler to vectorise.
#![allow(unsafe_code, clippy::wildcard_imports)]

use super::*;

#[derive(Clone, Copy)]
struct Portable;

pub const ISA: Isa = Isa::exact("portable", &Portable);

type Eight = [f32; 8];

#[inline(always)]
fn map(x: Eight, y: Eight, op: impl Fn(f32, f32) -> f32) -> Eight {
    let mut out = x;
    for (out, y) in out.iter_mut().zip(y) {
        *out = op(*out, y);
    }
    out
}

impl Simd for Portable {
    type V = Eight;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Eight {
        [x; 8]
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Eight {
        let mut out = [0.0; 8];
        out.copy_from_slice(&x[..8]);
        out
    }

    #[inline(always)]
    fn store(self, v: Eight, x: &mut [f32]) {
        x[..8].copy_from_slice(&v);
    }

    #[inline(always)]
    fn add(self, x: Eight, y: Eight) -> Eight {
        map(x, y, |x, y| x + y)
    }

    #[inline(always)]
    fn sub(self, x: Eight, y: Eight) -> Eight {
        map(x, y, |x, y| x - y)
    }

    // Not `f32::mul_add`: where the machine has no such instruction that is a call into the C library.
    #[inline(always)]
    fn mul_add(self, x: Eight, y: Eight, z: Eight) -> Eight {
        map(map(x, y, |x, y| x * y), z, |xy, z| xy + z)
    }

    #[inline(always)]
    fn max(self, x: Eight, y: Eight) -> Eight {
        map(x, y, |x, y| if x > y { x } else { y })
    }

    #[inline(always)]
    fn sqrt(self, x: Eight) -> Eight {
        x.map(f32::sqrt)
    }

    #[inline(always)]
    fn select_gt(self, x: Eight, y: Eight, yes: Eight, no: Eight) -> Eight {
        std::array::from_fn(|lane| {
            if x[lane] > y[lane] {
                yes[lane]
            } else {
                no[lane]
            }
        })
    }

    #[inline(always)]
    fn scale_exponent(self, x: Eight, exponent: Eight) -> Eight {
        map(x, exponent, |x, exponent| {
            f32::from_bits(x.to_bits().wrapping_add(exponent.to_bits() << 23))
        })
    }

    #[inline(always)]
    fn decode(self, codes: &[u8]) -> Eight {
        std::array::from_fn(|lane| f32::from_bits(u32::from(codes[lane]) << codes::DROPPED))
    }
}

implement_kernel!(Portable, "portable", 4 x 1);
