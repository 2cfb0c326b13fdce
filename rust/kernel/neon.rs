//! NEON: four numbers a register, 24 of the 32 registers hold the tile.
#![allow(unsafe_code, clippy::wildcard_imports)]
// NEON belongs to every aarch64 machine, so that on most systems its instructions are safe to use.
#![allow(unused_unsafe)]

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::*;

/// Proof that the machine has NEON.
#[derive(Clone, Copy)]
struct Neon(());

pub fn detect() -> Option<Isa> {
    is_aarch64_feature_detected!("neon").then_some(Isa::exact("neon", &Neon(())))
}

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    operations! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        load(x: &[f32]) -> float32x4_t = vld1q_f32(x[..4].as_ptr());
        store(v: float32x4_t, x: &mut [f32]) = vst1q_f32(x[..4].as_mut_ptr(), v);
        add(x: float32x4_t, y: float32x4_t) -> float32x4_t = vaddq_f32(x, y);
        sub(x: float32x4_t, y: float32x4_t) -> float32x4_t = vsubq_f32(x, y);
        mul_add(x: float32x4_t, y: float32x4_t, z: float32x4_t) -> float32x4_t = vfmaq_f32(z, x, y);
        max(x: float32x4_t, y: float32x4_t) -> float32x4_t = vmaxq_f32(x, y);
        sqrt(x: float32x4_t) -> float32x4_t = vsqrtq_f32(x);
        select_gt(x: float32x4_t, y: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t =
            vbslq_f32(vcgtq_f32(x, y), yes, no);
        scale_exponent(x: float32x4_t, exponent: float32x4_t) -> float32x4_t = vreinterpretq_f32_s32(vaddq_s32(
            vreinterpretq_s32_f32(x),
            vshlq_n_s32::<23>(vreinterpretq_s32_f32(exponent)),
        ));
        decode(codes: &[u8]) -> float32x4_t = {
            let bytes = vcreate_u8(u64::from(u32::from_le_bytes([codes[0], codes[1], codes[2], codes[3]])));
            let words = vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
            vreinterpretq_f32_u32(vshlq_n_u32::<{ codes::DROPPED.cast_signed() }>(words))
        };
    }
}

implement_kernel!(Neon, "neon", 6 x 4, "neon");
