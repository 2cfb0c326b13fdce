//! AVX-512: sixteen numbers a register, 28 of the 32 registers hold the tile.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::*;

/// Proof that the machine has AVX-512F, AVX-512DQ and FMA; with `BF16` AVX512-BF16 too, which then multiplies, and with
/// `AMX` AMX, which then takes over the product: of bfloat16 with `BF16`, of float32 as digits without, where `CLOSE`
/// leaves out the last ones. `CLOSE` alone: AVX512-VNNI too, which multiplies shorts.
#[derive(Clone, Copy)]
struct Avx512<const BF16: bool, const AMX: bool, const CLOSE: bool = false>(());

/// The instruction sets that have AVX-512 in them, best first.
pub fn detect() -> impl Iterator<Item = Isa> {
    let exact = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("fma");
    let bf16 = exact && is_x86_feature_detected!("avx512bf16");
    let vnni = exact && is_x86_feature_detected!("avx512vnni");
    let singles: &dyn Kernel = &Avx512::<false, false, false>(());
    let pairs: &dyn Kernel = &Avx512::<true, false, false>(());
    let shorts: &dyn Kernel = &Avx512::<false, false, true>(());
    let close = vnni.then_some(shorts);
    let tiles: &dyn Kernel = &Avx512::<true, true, false>(());
    let amx = Isa {
        name: "amx",
        exact: &Avx512::<false, true, false>(()),
        close: Some(&Avx512::<false, true, true>(())),
        rough: Some(tiles),
        outer: tiles,
    };
    let avx512bf16 = Isa {
        name: "avx512bf16",
        exact: singles,
        close,
        rough: Some(pairs),
        outer: pairs,
    };
    let avx512 = Isa {
        close,
        ..Isa::exact("avx512", singles)
    };
    let present = [
        (bf16 && amx::detect(), amx),
        (bf16, avx512bf16),
        (exact, avx512),
    ];
    let present = present.into_iter().filter(|(present, _)| *present);
    present.map(|(_, isa)| isa)
}

impl<const BF16: bool, const AMX: bool, const CLOSE: bool> Simd for Avx512<BF16, AMX, CLOSE> {
    type V = __m512;
    const LANES: usize = 16;
    const WORDS: Words = match (BF16, AMX, CLOSE) {
        (false, false, false) => Words::Singles,
        (false, false, true) => Words::Shorts,
        (true, _, _) => Words::Pairs,
        (false, true, _) => Words::Digits,
    };
    #[inline(always)]
    fn product<const R: usize, const V: usize>(
        self,
        x: &[PackedRow],
        y: (&[f32], usize),
        out: (&mut [f32], usize),
        accumulate: bool,
    ) {
        if AMX {
            amx::product((Self::WORDS, CLOSE), x, y, out, accumulate);
        } else if Self::WORDS == Words::Shorts {
            tile::product::<_, shorts::OfShorts, R, V>(self, x, y, out, accumulate);
        } else {
            tile::product::<_, tile::OfFloats, R, V>(self, x, y, out, accumulate);
        }
    }
    const STEP: usize = if BF16 && AMX { amx::STEP } else { 1 };
    #[inline(always)]
    fn turn(self, u: &mut [f32]) {
        if BF16 && AMX {
            amx::turn(u);
        }
    }
    #[inline(always)]
    fn outer<const R: usize, const V: usize>(self, u: &[f32], v: &[f32], out: &mut [f32]) {
        if BF16 && AMX {
            amx::outer(u, v, out);
        } else {
            tile::outer::<_, R, V>(self, u, v, out);
        }
    }

    operations! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        load(x: &[f32]) -> __m512 = _mm512_loadu_ps(x[..16].as_ptr());
        store(v: __m512, x: &mut [f32]) = _mm512_storeu_ps(x[..16].as_mut_ptr(), v);
        add(x: __m512, y: __m512) -> __m512 = _mm512_add_ps(x, y);
        sub(x: __m512, y: __m512) -> __m512 = _mm512_sub_ps(x, y);
        mul_add(x: __m512, y: __m512, z: __m512) -> __m512 = _mm512_fmadd_ps(x, y, z);
        multiply(x: __m512, y: __m512, sum: __m512) -> __m512 = if BF16 {
            _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(x), transmute::<__m512, __m512bh>(y))
        } else {
            _mm512_fmadd_ps(x, y, sum)
        };
        max(x: __m512, y: __m512) -> __m512 = _mm512_max_ps(x, y);
        sum(v: __m512) -> f32 = _mm512_reduce_add_ps(v);
        largest(v: __m512) -> f32 = _mm512_reduce_max_ps(v);
        sqrt(x: __m512) -> __m512 = _mm512_sqrt_ps(x);
        select_gt(x: __m512, y: __m512, yes: __m512, no: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, y), no, yes);
        scale_exponent(x: __m512, exponent: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(x),
            _mm512_slli_epi32::<23>(_mm512_castps_si512(exponent)),
        ));
        prefetch(line: &[u8]) = _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        decode(codes: &[u8]) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<{ codes::DROPPED }>(
            _mm512_cvtepu8_epi32(_mm_loadu_si128(codes[..16].as_ptr().cast())),
        ));
    }
}

impl<const BF16: bool, const AMX: bool, const CLOSE: bool> shorts::Shorts
    for Avx512<BF16, AMX, CLOSE>
{
    operations! {
        multiply_shorts(x: __m512, y: __m512, sum: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_dpwssd_epi32(
            _mm512_castps_si512(sum),
            _mm512_castps_si512(x),
            _mm512_castps_si512(y),
        ));
        numbers(whole: __m512) -> __m512 = _mm512_cvtepi32_ps(_mm512_castps_si512(whole));
    }
}

// Tried on Zen 4: 12 x 2 is 5 % slower; 8 x 3 and 6 x 4 differ by less than the noise (2 %) and pad narrow targets more.
implement_kernel!(Avx512<false, false>, "avx512", 14 x 2, "avx512f,avx512dq,fma");
implement_kernel!(Avx512<false, false, true>, "avx512, shorts", 14 x 2, "avx512f,avx512dq,avx512vnni,fma");
implement_kernel!(Avx512<true, false>, "avx512bf16", 14 x 2, "avx512f,avx512dq,avx512bf16,fma");
implement_kernel!(Avx512<true, true>, "amx", 32 x 2, "avx512f,avx512dq,avx512bf16,fma");
implement_kernel!(Avx512<false, true>, "amx, digits", 32 x 1, "avx512f,avx512dq,fma");
implement_kernel!(Avx512<false, true, true>, "amx, first digits", 32 x 1, "avx512f,avx512dq,fma");
