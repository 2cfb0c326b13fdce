//! Float32 products as whole numbers: three signed bytes a number ([`super::Words::Digits`]), products of bytes exact.
//!
//! ```text
//! x = a (65536 x0 + 256 x1 + x2),   y alike with b
//! <x, y> ~ 2^16 a b (65536 <x0, y0> + 256 (<x0, y1> + <x1, y0>) + <x0, y2> + <x1, y1> + <x2, y0>)
//! ```
//!
//! What is left out is about 2^-24 of the largest x times the largest y, as much as float32 rounds off. Sums are of
//! 32 bits and exact: 384 products of bytes stay below 2^25. At each step two tiles of x in three digits meet one of y
//! in three, 32 rows by 16 columns of sums of three orders: a unit. While the tiles multiply, the vector instructions put
//! the sums of the unit before together. One after the other, a product takes 13 % longer and a sweep 7 %.
//!
//! Lines come to the first cache at one every other cycle. So the digits of a tile of rows, 36 KB, stay in it while columns
//! pass by, each line of which is asked for once; block by block of rows, it was the digits of columns that stayed, and a
//! sweep took a third longer. What bounds it now are the tiles: of noise a product of two takes 7.4 ns, of zeros 6.1, for
//! the clock falls with what they have to do; a unit's 72 come to 0.53 us of some 0.6 (by scripts that are not kept). Where
//! products need only be close, the last order is left out: half of the tiles' products, a quarter of a sweep (n 100,000,
//! m 1,000, d 384).
//!
//! Tried: two bfloat16 a number and three products. A sweep (n 100,000, m 1,000, d 384) takes a sixth less, but costs
//! are off by 1e-5 in place of 1e-6. Calling columns into the first cache ahead of time makes a product a third slower, and
//! order after order, of 32 columns at a time, a sixth. Larger pages gain nothing in a sweep. Nor does all that comes after a
//! product, logits, exponentials and their sums, beside the tiles as well (by a trial that took any number for a row's
//! maximum), nor the next block's rows called from memory meanwhile: 1 %.

use std::arch::asm;
use std::mem::offset_of;

use super::{BELOW, Holds, PackedRow, ROWS, SIDE, STRIDE, Shapes};
use crate::kernel::DIGITS;

/// Tiles 0 to 5 hold sums, an order's upper and lower rows after the other's; 6 holds x, 7 y.
pub(super) const TILES: [Holds; 8] = {
    use Holds::{Sums, X, Y};
    [Sums, Sums, Sums, Sums, Sums, Sums, X, Y]
};

/// Columns of a unit, a panel.
pub(super) const COLUMNS: usize = SIDE;

/// So many panels pass by all rows of a block before the next: they and the rows stay in the second-level cache.
const PANELS: usize = 24;

/// Sums of a unit, order by order.
#[repr(C, align(64))]
pub(super) struct Orders(pub(super) [[[i32; COLUMNS]; ROWS]; DIGITS]);

/// What multiplies one tile of rows; see [`multiply`].
pub(super) type Multiply =
    fn(&[PackedRow; ROWS], (&[f32], usize), &mut Orders, (&mut [f32], usize), bool, bool);

/// Tiles of rows times panels y, each (depth, columns).
#[inline(always)]
pub(super) fn product(
    multiply: Multiply,
    x: &[PackedRow],
    (y, depth): (&[f32], usize),
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
    close: bool,
) {
    let panel = depth * COLUMNS;
    let mut sums = Orders([[[0; COLUMNS]; ROWS]; DIGITS]);
    for (part, y) in y.chunks(PANELS * panel).enumerate() {
        let out = &mut out[part * PANELS * COLUMNS..];
        for (x, out) in x.as_chunks().0.iter().zip(out.chunks_mut(ROWS * ld)) {
            multiply(x, (y, depth), &mut sums, (out, ld), accumulate, close);
            let last = y.len() - panel;
            let out = &mut out[last / depth..];
            weigh(&sums, x, &y[last..], (out, ld), accumulate);
        }
    }
}

/// Put the orders of a unit's sums together, times both sides' factors.
#[inline(always)]
pub(super) fn weigh(
    Orders([first, second, third]): &Orders,
    x: &[PackedRow; ROWS],
    panel: &[f32],
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    let (digits, factors) = panel.split_at(panel.len() - COLUMNS);
    for r in 0..ROWS {
        let out = &mut out[r * ld..][..COLUMNS];
        for c in 0..COLUMNS {
            let [high, middle, low] =
                [first[r][c], second[r][c], third[r][c]].map(|sum| sum as f32);
            let dot = high.mul_add(65536.0, middle.mul_add(256.0, low));
            let dot = dot * x[r][digits.len() / COLUMNS] * (65536.0 * factors[c]);
            out[c] = if accumulate { out[c] + dot } else { dot };
        }
    }
}

/// What the assembly keeps in memory, for want of registers. Lengths are in bytes.
#[repr(C)]
struct Order {
    shapes: Shapes,
    /// The rows, their factors, and where the product of the next unit goes.
    x: *const PackedRow,
    factors: *const f32,
    out: *mut f32,
    sums: *mut Orders,
    /// From a digit to the next, in x and in y.
    x_digit: usize,
    y_digit: usize,
    /// Steps of a unit, and those left.
    depth: usize,
    steps: usize,
    /// Rows that are put together in a step.
    rows: usize,
    /// Units left.
    units: usize,
    /// A bit for each column where there is a product already.
    accumulate: usize,
    /// Whether the last order is left at zero.
    close: usize,
}

/// A tile of rows times panels; the sums of the last one are left, to be put together.
#[allow(clippy::too_many_lines)] // one loop of assembly
pub(super) fn multiply(
    x: &[PackedRow; ROWS],
    (y, depth): (&[f32], usize),
    sums: &mut Orders,
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
    close: bool,
) {
    let (digit, panels) = (depth / DIGITS, y.len() / (depth * COLUMNS));
    assert!(
        digit > 0 && digit.is_multiple_of(SIDE) && depth == DIGITS * digit + 1 && depth < STRIDE,
        "the depth is not one of three digits of whole steps, and factors"
    );
    assert!(
        panels > 0 && ld >= panels * COLUMNS && out.len() >= (ROWS - 1) * ld + panels * COLUMNS,
        "the product is larger than where it goes"
    );
    let word = size_of::<f32>();
    let mut order = Order {
        shapes: Shapes::new(TILES, SIDE),
        x: x.as_ptr(),
        factors: x[0][DIGITS * digit..].as_ptr(),
        out: out.as_mut_ptr(),
        sums,
        x_digit: word * digit,
        y_digit: word * COLUMNS * digit,
        depth: digit / SIDE,
        steps: 0,
        rows: ROWS.div_ceil(digit / SIDE),
        units: panels,
        accumulate: if accumulate { 0xFFFF } else { 0 },
        close: usize::from(close),
    };
    // SAFETY: `detect` found the instructions and the permission. Rows have all words of the depth and a factor after
    // them, so have the panels, and all that is written of the product is there, as just seen.
    unsafe {
        asm!(
            "ldtilecfg [{order}]",
            "mov {at}, 0x43800000", // 256
            "vpbroadcastd zmm3, {at:e}",
            "mov {at}, 0x47800000", // 65536
            "vpbroadcastd zmm4, {at:e}",
            "mov {at}, [{order} + {accumulate}]",
            "kmovw k1, {at:e}",
            // No unit is before the first.
            "xor {left:e}, {left:e}",
            // A unit.
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "mov {x}, [{order} + {x_at}]",
            "mov {at}, [{order} + {depth}]",
            "mov [{order} + {steps}], {at}",
            // A step of depth: each digit of y, which then may leave the first cache, meets those of x whose order is one
            // of three, or where they may be close of the first two.
            "3:",
            "tileloaddt1 tmm7, [{y} + {line}*1]",
            "cmp qword ptr [{order} + {close}], 0",
            "jne 6f",
            "mov {at}, [{order} + {x_digit}]",
            "lea {at}, [{x} + 2*{at}]",
            "tileloadd tmm6, [{at} + {x_stride}*1]",
            "tdpbssd tmm4, tmm6, tmm7",
            "tileloadd tmm6, [{at} + {x_stride}*1 + {below}]",
            "tdpbssd tmm5, tmm6, tmm7",
            "6:",
            "mov {at}, [{order} + {x_digit}]",
            "add {at}, {x}",
            "tileloadd tmm6, [{at} + {x_stride}*1]",
            "tdpbssd tmm2, tmm6, tmm7",
            "tileloadd tmm6, [{at} + {x_stride}*1 + {below}]",
            "tdpbssd tmm3, tmm6, tmm7",
            "tileloadd tmm6, [{x} + {x_stride}*1]",
            "tdpbssd tmm0, tmm6, tmm7",
            "tileloadd tmm6, [{x} + {x_stride}*1 + {below}]",
            "tdpbssd tmm1, tmm6, tmm7",
            "mov {from}, [{order} + {y_digit}]",
            "add {from}, {y}",
            "tileloaddt1 tmm7, [{from} + {line}*1]",
            "tileloadd tmm6, [{x} + {x_stride}*1]",
            "tdpbssd tmm2, tmm6, tmm7",
            "tileloadd tmm6, [{x} + {x_stride}*1 + {below}]",
            "tdpbssd tmm3, tmm6, tmm7",
            "cmp qword ptr [{order} + {close}], 0",
            "jne 7f",
            "tileloadd tmm6, [{at} + {x_stride}*1]",
            "tdpbssd tmm4, tmm6, tmm7",
            "tileloadd tmm6, [{at} + {x_stride}*1 + {below}]",
            "tdpbssd tmm5, tmm6, tmm7",
            "add {from}, [{order} + {y_digit}]",
            "tileloaddt1 tmm7, [{from} + {line}*1]",
            "tileloadd tmm6, [{x} + {x_stride}*1]",
            "tdpbssd tmm4, tmm6, tmm7",
            "tileloadd tmm6, [{x} + {x_stride}*1 + {below}]",
            "tdpbssd tmm5, tmm6, tmm7",
            "7:",
            "add {x}, {line}",
            "add {y}, {tile}",
            // Meanwhile some rows of the unit before: its orders put together, times both sides' factors.
            "mov {from}, [{order} + {rows}]",
            "4:",
            "test {left}, {left}",
            "jz 5f",
            "vcvtdq2ps zmm0, [{sums}]",
            "vcvtdq2ps zmm1, [{sums} + 2*{tile}]",
            "vcvtdq2ps zmm2, [{sums} + 4*{tile}]",
            "vfmadd213ps zmm1, zmm3, zmm2",
            "vfmadd213ps zmm0, zmm4, zmm1",
            "vmulps zmm0, zmm0, dword ptr [{factor}]{{1to16}}",
            "vmulps zmm0, zmm0, zmm5",
            "vaddps zmm0{{k1}}, zmm0, [{out}]",
            "vmovups [{out}], zmm0",
            "add {sums}, {line}",
            "add {factor}, {x_stride}",
            "add {out}, {ld}",
            "dec {left}",
            "dec {from}",
            "jnz 4b",
            "5:",
            "dec qword ptr [{order} + {steps}]",
            "jnz 3b",
            // The sums of this unit are done, and are put together next.
            "mov {sums}, [{order} + {sums_at}]",
            "tilestored [{sums} + {line}*1], tmm0",
            "tilestored [{sums} + {line}*1 + {tile}], tmm1",
            "tilestored [{sums} + {line}*1 + 2*{tile}], tmm2",
            "tilestored [{sums} + {line}*1 + 3*{tile}], tmm3",
            "tilestored [{sums} + {line}*1 + 4*{tile}], tmm4",
            "tilestored [{sums} + {line}*1 + 5*{tile}], tmm5",
            "mov {factor}, [{order} + {factors}]",
            "mov {out}, [{order} + {out_at}]",
            "add [{order} + {out_at}], {line}",
            "mov {at}, [{order} + {y_digit}]",
            "lea {y}, [{y} + 2*{at}]",
            "vmulps zmm5, zmm4, [{y}]",
            "add {y}, {line}",
            "mov {left:e}, {unit_rows}",
            "dec qword ptr [{order} + {units}]",
            "jnz 2b",
            "tilerelease",
            order = in(reg) &raw mut order,
            y = inout(reg) y.as_ptr() => _,
            x_stride = in(reg) size_of::<PackedRow>(),
            line = in(reg) size_of::<[f32; SIDE]>(),
            ld = in(reg) word * ld,
            x = out(reg) _,
            at = out(reg) _,
            from = out(reg) _,
            left = out(reg) _,
            sums = out(reg) _,
            factor = out(reg) _,
            out = out(reg) _,
            x_at = const offset_of!(Order, x),
            factors = const offset_of!(Order, factors),
            out_at = const offset_of!(Order, out),
            sums_at = const offset_of!(Order, sums),
            x_digit = const offset_of!(Order, x_digit),
            y_digit = const offset_of!(Order, y_digit),
            depth = const offset_of!(Order, depth),
            steps = const offset_of!(Order, steps),
            rows = const offset_of!(Order, rows),
            units = const offset_of!(Order, units),
            accumulate = const offset_of!(Order, accumulate),
            close = const offset_of!(Order, close),
            below = const BELOW,
            unit_rows = const ROWS,
            tile = const size_of::<[[i32; SIDE]; SIDE]>(),
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _, out("k1") _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
