//! AVX2 with FMA: eight numbers a register, 12 of the 16 registers hold the tile.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;

use super::*;

/// Proof that the machine has AVX2 and FMA; with `CLOSE` products are of shorts.
#[derive(Clone, Copy)]
struct Avx2<const CLOSE: bool>(());

pub fn detect() -> Option<Isa> {
    let present = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    present.then_some(Isa {
        close: Some(&Avx2::<true>(())),
        ..Isa::exact("avx2", &Avx2::<false>(()))
    })
}

impl<const CLOSE: bool> Simd for Avx2<CLOSE> {
    type V = __m256;
    const LANES: usize = 8;
    const WORDS: Words = if CLOSE { Words::Shorts } else { Words::Singles };
    #[inline(always)]
    fn product<const R: usize, const V: usize>(
        self,
        x: &[PackedRow],
        y: (&[f32], usize),
        out: (&mut [f32], usize),
        accumulate: bool,
    ) {
        if CLOSE {
            tile::product::<_, shorts::OfShorts, R, V>(self, x, y, out, accumulate);
        } else {
            tile::product::<_, tile::OfFloats, R, V>(self, x, y, out, accumulate);
        }
    }

    operations! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        load(x: &[f32]) -> __m256 = _mm256_loadu_ps(x[..8].as_ptr());
        store(v: __m256, x: &mut [f32]) = _mm256_storeu_ps(x[..8].as_mut_ptr(), v);
        add(x: __m256, y: __m256) -> __m256 = _mm256_add_ps(x, y);
        sub(x: __m256, y: __m256) -> __m256 = _mm256_sub_ps(x, y);
        mul_add(x: __m256, y: __m256, z: __m256) -> __m256 = _mm256_fmadd_ps(x, y, z);
        max(x: __m256, y: __m256) -> __m256 = _mm256_max_ps(x, y);
        sqrt(x: __m256) -> __m256 = _mm256_sqrt_ps(x);
        select_gt(x: __m256, y: __m256, yes: __m256, no: __m256) -> __m256 =
            _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(x, y));
        scale_exponent(x: __m256, exponent: __m256) -> __m256 = _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_castps_si256(x),
            _mm256_slli_epi32::<23>(_mm256_castps_si256(exponent)),
        ));
        prefetch(line: &[u8]) = _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        decode(codes: &[u8]) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<{ codes::DROPPED.cast_signed() }>(
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes[..8].as_ptr().cast())),
        ));
    }
}

impl<const CLOSE: bool> shorts::Shorts for Avx2<CLOSE> {
    operations! {
        multiply_shorts(x: __m256, y: __m256, sum: __m256) -> __m256 = _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_castps_si256(sum),
            _mm256_madd_epi16(_mm256_castps_si256(x), _mm256_castps_si256(y)),
        ));
        numbers(whole: __m256) -> __m256 = _mm256_cvtepi32_ps(_mm256_castps_si256(whole));
    }
}

implement_kernel!(Avx2<false>, "avx2", 6 x 2, "avx2,fma");
implement_kernel!(Avx2<true>, "avx2, shorts", 6 x 2, "avx2,fma");
