//! Float32 products as whole numbers: three signed bytes a number ([`super::Words::Digits`]), products of bytes exact.
//!
//! ```text
//! x = a (65536 x0 + 256 x1 + x2),   y alike with b
//! <x, y> ~ 2^16 a b (65536 <x0, y0> + 256 (<x0, y1> + <x1, y0>) + <x0, y2> + <x1, y1> + <x2, y0>)
//! ```
//!
//! What is left out is about 2^-24 of the largest x times the largest y, as much as float32 rounds off. Sums are of
//! 32 bits and exact: 384 products of bytes stay below 2^25. At each step two tiles of x in three digits meet one of y
//! in three, 32 rows by 16 columns of sums of three orders.
//!
//! Tried: two bfloat16 a number and three products. A sweep (n 100,000, m 1,000, d 384) takes a sixth less, but costs
//! are off by 1e-5 in place of 1e-6. Panels of 16 columns, whose tiles lie in one piece, gain 5 %.

use std::arch::asm;
use std::mem::offset_of;

use super::{BELOW, COLUMNS, Holds, PackedRow, ROWS, SIDE, STRIDE, Shapes, Steps};
use crate::kernel::DIGITS;

/// Tiles 0 to 5 hold sums, an order's upper and lower rows after the other's; 6 holds x, 7 y.
pub(super) const TILES: [Holds; 8] = {
    use Holds::{Sums, X, Y};
    [Sums, Sums, Sums, Sums, Sums, Sums, X, Y]
};

/// Columns that are done at once.
const WIDE: usize = SIDE;

/// Sums of a tile of rows, order by order.
pub(super) type Orders = [[[i32; WIDE]; ROWS]; DIGITS];

/// Kernel's tiles of rows that are done at once: their sums stay in the first cache. One or six are no faster.
const MOST_TILES: usize = 2;

/// Tiles of rows times a panel y (depth, columns).
#[inline(always)]
pub(super) fn product(
    mut multiply: impl FnMut(Steps, &[PackedRow], &[f32], usize, &mut [Orders], bool),
    x: &[PackedRow],
    y: &[f32],
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    let depth = y.len() / COLUMNS / DIGITS;
    let factors = y[y.len() - COLUMNS..].as_chunks::<WIDE>().0;
    let mut sums = [[[[0; WIDE]; ROWS]; DIGITS]; MOST_TILES];
    let blocks = x.chunks(MOST_TILES * ROWS);
    for (x, out) in blocks.zip(out.chunks_mut(MOST_TILES * ROWS * ld)) {
        let (tiles, _) = x.as_chunks::<ROWS>();
        for (column, factors) in (0..).step_by(WIDE).zip(factors) {
            for steps in Steps::through(depth) {
                multiply(steps, x, y, column, &mut sums, steps.first > 0);
            }
            let out = out[column..].chunks_mut(ROWS * ld);
            for ((x, sums), out) in tiles.iter().zip(&sums).zip(out) {
                weigh(sums, x, depth, factors, (out, ld), accumulate);
            }
        }
    }
}

/// Put the orders of sums together, times both sides' factors.
#[inline(always)]
fn weigh(
    [first, second, third]: &Orders,
    x: &[PackedRow; ROWS],
    depth: usize,
    factors: &[f32; WIDE],
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    for r in 0..ROWS {
        let factor = 65536.0 * x[r][DIGITS * depth];
        let out = &mut out[r * ld..][..WIDE];
        for c in 0..WIDE {
            let [high, middle, low] =
                [first[r][c], second[r][c], third[r][c]].map(|sum| sum as f32);
            let dot = high.mul_add(65536.0, middle.mul_add(256.0, low)) * factor * factors[c];
            out[c] = if accumulate { out[c] + dot } else { dot };
        }
    }
}

/// What the assembly keeps in memory, for want of registers.
#[repr(C)]
struct Order {
    shapes: Shapes,
    y: *const f32,
    steps: usize,
    /// Kernel's tiles of rows.
    tiles: usize,
    accumulate: usize,
}

/// Some steps of the sums of sixteen columns, from `column` on; x and y hold three parts and the factors.
#[allow(clippy::too_many_lines)] // one loop of assembly
pub(super) fn multiply(
    steps: Steps,
    x: &[PackedRow],
    y: &[f32],
    column: usize,
    sums: &mut [Orders],
    accumulate: bool,
) {
    let tiles = x.len() / ROWS;
    if tiles == 0 {
        return;
    }
    let depth = y.len() / COLUMNS / DIGITS;
    assert!(
        steps.end() <= depth && DIGITS * depth <= STRIDE && column + WIDE <= COLUMNS,
        "steps go beyond a row of x or the panel"
    );
    assert!(sums.len() >= tiles, "more tiles than sums");
    let mut order = Order {
        shapes: Shapes::new(TILES, steps.side),
        y: y[steps.first * COLUMNS + column..].as_ptr(),
        steps: steps.count,
        tiles,
        accumulate: usize::from(accumulate),
    };
    // SAFETY: `detect` found the instructions and the permission. All words that the steps read of whole tiles of rows
    // and of the panel are there, as just seen, and so are all sums.
    unsafe {
        asm!(
            "ldtilecfg [{order}]",
            // A tile of rows: the sums so far.
            "2:",
            "cmp qword ptr [{order} + {accumulate}], 0",
            "jne 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "jmp 4f",
            "3:",
            "tileloadd tmm0, [{sums} + {wide}*1]",
            "tileloadd tmm1, [{sums} + {wide}*1 + {tile}]",
            "tileloadd tmm2, [{sums} + {wide}*1 + 2*{tile}]",
            "tileloadd tmm3, [{sums} + {wide}*1 + 3*{tile}]",
            "tileloadd tmm4, [{sums} + {wide}*1 + 4*{tile}]",
            "tileloadd tmm5, [{sums} + {wide}*1 + 5*{tile}]",
            "4:",
            "mov {x0}, {x}",
            "lea {x1}, [{x0} + {part}*4]",
            "lea {x2}, [{x1} + {part}*4]",
            "mov {y0}, [{order} + {y}]",
            "mov {y2}, {part}",
            "shl {y2}, 7",
            "lea {y1}, [{y0} + {y2}]",
            "add {y2}, {y1}",
            "mov {steps}, [{order} + {count}]",
            // A step of depth: each digit of y meets those of x whose order is one of three.
            "5:",
            "tileloadd tmm7, [{y0} + {y_stride}*1]",
            "tileloadd tmm6, [{x2} + {x_stride}*1]",
            "tdpbssd tmm4, tmm6, tmm7",
            "tileloadd tmm6, [{x2} + {x_stride}*1 + {below}]",
            "tdpbssd tmm5, tmm6, tmm7",
            "tileloadd tmm6, [{x1} + {x_stride}*1]",
            "tdpbssd tmm2, tmm6, tmm7",
            "tileloadd tmm6, [{x1} + {x_stride}*1 + {below}]",
            "tdpbssd tmm3, tmm6, tmm7",
            "tileloadd tmm6, [{x0} + {x_stride}*1]",
            "tdpbssd tmm0, tmm6, tmm7",
            "tileloadd tmm6, [{x0} + {x_stride}*1 + {below}]",
            "tdpbssd tmm1, tmm6, tmm7",
            "tileloadd tmm7, [{y1} + {y_stride}*1]",
            "tileloadd tmm6, [{x1} + {x_stride}*1]",
            "tdpbssd tmm4, tmm6, tmm7",
            "tileloadd tmm6, [{x1} + {x_stride}*1 + {below}]",
            "tdpbssd tmm5, tmm6, tmm7",
            "tileloadd tmm6, [{x0} + {x_stride}*1]",
            "tdpbssd tmm2, tmm6, tmm7",
            "tileloadd tmm6, [{x0} + {x_stride}*1 + {below}]",
            "tdpbssd tmm3, tmm6, tmm7",
            "tileloadd tmm7, [{y2} + {y_stride}*1]",
            "tileloadd tmm6, [{x0} + {x_stride}*1]",
            "tdpbssd tmm4, tmm6, tmm7",
            "tileloadd tmm6, [{x0} + {x_stride}*1 + {below}]",
            "tdpbssd tmm5, tmm6, tmm7",
            "add {x0}, {x_step}",
            "add {x1}, {x_step}",
            "add {x2}, {x_step}",
            "add {y0}, {y_step}",
            "add {y1}, {y_step}",
            "add {y2}, {y_step}",
            "dec {steps}",
            "jnz 5b",
            // The sums of this tile are done.
            "tilestored [{sums} + {wide}*1], tmm0",
            "tilestored [{sums} + {wide}*1 + {tile}], tmm1",
            "tilestored [{sums} + {wide}*1 + 2*{tile}], tmm2",
            "tilestored [{sums} + {wide}*1 + 3*{tile}], tmm3",
            "tilestored [{sums} + {wide}*1 + 4*{tile}], tmm4",
            "tilestored [{sums} + {wide}*1 + 5*{tile}], tmm5",
            "add {sums}, 6*{tile}",
            "add {x}, 2*{below}",
            "dec qword ptr [{order} + {tiles}]",
            "jnz 2b",
            "tilerelease",
            order = in(reg) &raw mut order,
            x = inout(reg) x.as_flattened()[steps.first..].as_ptr() => _,
            sums = inout(reg) sums.as_mut_ptr() => _,
            part = in(reg) depth,
            wide = in(reg) size_of::<[i32; WIDE]>(),
            x_stride = in(reg) size_of::<PackedRow>(),
            y_stride = in(reg) size_of::<[f32; COLUMNS]>(),
            x0 = out(reg) _,
            x1 = out(reg) _,
            x2 = out(reg) _,
            y0 = out(reg) _,
            y1 = out(reg) _,
            y2 = out(reg) _,
            steps = out(reg) _,
            y = const offset_of!(Order, y),
            count = const offset_of!(Order, steps),
            tiles = const offset_of!(Order, tiles),
            accumulate = const offset_of!(Order, accumulate),
            tile = const size_of::<[[i32; WIDE]; SIDE]>(),
            below = const BELOW,
            x_step = const size_of::<[f32; SIDE]>(),
            y_step = const SIDE * size_of::<[f32; COLUMNS]>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
