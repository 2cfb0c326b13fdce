//! Rough products: bfloat16 pairs. Two tiles of x meet two of y at each step, 32 rows by 32 columns of sums.

use std::arch::asm;
use std::mem::offset_of;

use super::{BELOW, COLUMNS, Holds, PackedRow, ROWS, SIDE, STRIDE, Shapes, Steps};

/// Tiles 0 to 3 hold sums, 4 and 5 x, 6 and 7 y.
pub(super) const TILES: [Holds; 8] = {
    use Holds::{Sums, X, Y};
    [Sums, Sums, Sums, Sums, X, X, Y, Y]
};

/// Tiles of rows times a panel y (depth, columns).
#[inline(always)]
pub(super) fn product(
    mut multiply: impl FnMut(Steps, &[PackedRow], &[f32], (&mut [f32], usize), bool),
    x: &[PackedRow],
    y: &[f32],
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    let depth = y.len() / COLUMNS;
    for steps in Steps::through(depth) {
        multiply(steps, x, y, (out, ld), accumulate || steps.first > 0);
    }
}

/// What the assembly keeps in memory, for want of registers.
#[repr(C)]
struct Order {
    shapes: Shapes,
    y: *const f32,
    steps: usize,
    /// Bytes from a tile of sums to the one below it.
    below: usize,
    /// Kernel's tiles of rows.
    tiles: usize,
    accumulate: usize,
}

/// Some steps of the product.
pub(super) fn multiply(
    steps: Steps,
    x: &[PackedRow],
    y: &[f32],
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    let tiles = x.len() / ROWS;
    if tiles == 0 {
        return;
    }
    assert!(
        steps.end() <= STRIDE && steps.end() * COLUMNS <= y.len(),
        "steps go beyond a row of x or the panel"
    );
    assert!(
        ld >= COLUMNS && out.len() >= (tiles * ROWS - 1) * ld + COLUMNS,
        "the product is larger than where it goes"
    );
    let mut order = Order {
        shapes: Shapes::new(TILES, steps.side),
        y: y[steps.first * COLUMNS..].as_ptr(),
        steps: steps.count,
        below: SIDE * size_of::<f32>() * ld,
        tiles,
        accumulate: usize::from(accumulate),
    };
    // SAFETY: `detect` found the instructions and the permission. All words that the steps read of whole tiles of rows
    // and of the panel are there, as just seen, and so is all that is written.
    unsafe {
        asm!(
            "ldtilecfg [{order}]",
            // A tile of rows: the sums so far.
            "2:",
            "mov {below}, [{order} + {out_below}]",
            "add {below}, {out}",
            "cmp qword ptr [{order} + {accumulate}], 0",
            "jne 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 4f",
            "3:",
            "tileloadd tmm0, [{out} + {ld}*1]",
            "tileloadd tmm1, [{out} + {ld}*1 + 64]",
            "tileloadd tmm2, [{below} + {ld}*1]",
            "tileloadd tmm3, [{below} + {ld}*1 + 64]",
            "4:",
            "mov {rows}, {x}",
            "mov {panel}, [{order} + {y}]",
            "mov {steps}, [{order} + {count}]",
            // A step of depth.
            "5:",
            "tileloadd tmm4, [{rows} + {x_stride}*1]",
            "tileloadd tmm6, [{panel} + {y_stride}*1]",
            "tileloadd tmm7, [{panel} + {y_stride}*1 + 64]",
            "tileloadd tmm5, [{rows} + {x_stride}*1 + {x_below}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {rows}, {x_step}",
            "add {panel}, {y_step}",
            "dec {steps}",
            "jnz 5b",
            // The sums of this tile are done.
            "tilestored [{out} + {ld}*1], tmm0",
            "tilestored [{out} + {ld}*1 + 64], tmm1",
            "tilestored [{below} + {ld}*1], tmm2",
            "tilestored [{below} + {ld}*1 + 64], tmm3",
            "mov {out}, [{order} + {out_below}]",
            "add {out}, {below}",
            "add {x}, 2*{x_below}",
            "dec qword ptr [{order} + {tiles}]",
            "jnz 2b",
            "tilerelease",
            order = in(reg) &raw mut order,
            x = inout(reg) x.as_flattened()[steps.first..].as_ptr() => _,
            out = inout(reg) out.as_mut_ptr() => _,
            ld = in(reg) size_of::<f32>() * ld,
            x_stride = in(reg) size_of::<PackedRow>(),
            y_stride = in(reg) size_of::<[f32; COLUMNS]>(),
            below = out(reg) _,
            rows = out(reg) _,
            panel = out(reg) _,
            steps = out(reg) _,
            y = const offset_of!(Order, y),
            count = const offset_of!(Order, steps),
            out_below = const offset_of!(Order, below),
            tiles = const offset_of!(Order, tiles),
            accumulate = const offset_of!(Order, accumulate),
            x_below = const BELOW,
            x_step = const size_of::<[f32; SIDE]>(),
            y_step = const SIDE * size_of::<[f32; COLUMNS]>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
