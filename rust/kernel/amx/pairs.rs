//! Rough products: bfloat16 pairs. Two tiles of x meet two of y at each step, 32 rows by 32 columns of sums.

use std::arch::asm;
use std::mem::offset_of;

use super::{BELOW, COLUMNS, Holds, PackedRow, ROWS, SIDE, STRIDE, Shapes, Steps};

/// Tiles 0 to 3 hold sums, 4 and 5 x, 6 and 7 y.
pub(super) const TILES: [Holds; 8] = {
    use Holds::{Sums, X, Y};
    [Sums, Sums, Sums, Sums, X, X, Y, Y]
};

/// So many panels pass by all rows of a block before the next: they and the rows stay in the second-level cache.
const PANELS: usize = 16;

/// Tiles of rows times panels y, each (depth, columns).
#[inline(always)]
pub(super) fn product(
    mut multiply: impl FnMut(Steps, &[PackedRow; ROWS], (&[f32], usize), (&mut [f32], usize), bool),
    x: &[PackedRow],
    (y, depth): (&[f32], usize),
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    for (part, y) in y.chunks(PANELS * depth * COLUMNS).enumerate() {
        let out = &mut out[part * PANELS * COLUMNS..];
        for (x, out) in x.as_chunks().0.iter().zip(out.chunks_mut(ROWS * ld)) {
            for steps in Steps::through(depth) {
                let accumulate = accumulate || steps.first > 0;
                multiply(steps, x, (y, depth), (&mut *out, ld), accumulate);
            }
        }
    }
}

/// What the assembly keeps in memory, for want of registers.
#[repr(C)]
struct Order {
    shapes: Shapes,
    x: *const f32,
    steps: usize,
    /// Bytes from an upper tile of sums to the lower one.
    below: usize,
    /// Panels left.
    panels: usize,
    accumulate: usize,
}

/// Some steps of the product of a tile of rows with panels.
pub(super) fn multiply(
    steps: Steps,
    x: &[PackedRow; ROWS],
    (y, depth): (&[f32], usize),
    (out, ld): (&mut [f32], usize),
    accumulate: bool,
) {
    let panels = y.len() / (depth * COLUMNS);
    assert!(
        steps.end() <= depth && depth <= STRIDE,
        "steps go beyond a row of x or the panel"
    );
    assert!(
        panels > 0 && ld >= panels * COLUMNS && out.len() >= (ROWS - 1) * ld + panels * COLUMNS,
        "the product is larger than where it goes"
    );
    let mut order = Order {
        shapes: Shapes::new(TILES, steps.side),
        x: x.as_flattened()[steps.first..].as_ptr(),
        steps: steps.count,
        below: SIDE * size_of::<f32>() * ld,
        panels,
        accumulate: usize::from(accumulate),
    };
    // SAFETY: `detect` found the instructions and the permission. All words that the steps read of the rows and of the
    // panels are there, as just seen, and so is all that is written.
    unsafe {
        asm!(
            "ldtilecfg [{order}]",
            // A panel: the sums so far.
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
            "mov {rows}, [{order} + {x_at}]",
            "mov {at}, {y}",
            "mov {steps}, [{order} + {count}]",
            // A step of depth. The rows stay in the first cache, and columns need not.
            "5:",
            "tileloadd tmm4, [{rows} + {x_stride}*1]",
            "tileloaddt1 tmm6, [{at} + {y_stride}*1]",
            "tileloaddt1 tmm7, [{at} + {y_stride}*1 + 64]",
            "tileloadd tmm5, [{rows} + {x_stride}*1 + {x_below}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {rows}, {x_step}",
            "add {at}, {y_step}",
            "dec {steps}",
            "jnz 5b",
            // The sums of this panel are done.
            "tilestored [{out} + {ld}*1], tmm0",
            "tilestored [{out} + {ld}*1 + 64], tmm1",
            "tilestored [{below} + {ld}*1], tmm2",
            "tilestored [{below} + {ld}*1 + 64], tmm3",
            "add {out}, {y_stride}",
            "add {y}, {panel}",
            "dec qword ptr [{order} + {panels}]",
            "jnz 2b",
            "tilerelease",
            order = in(reg) &raw mut order,
            y = inout(reg) y[steps.first * COLUMNS..].as_ptr() => _,
            out = inout(reg) out.as_mut_ptr() => _,
            ld = in(reg) size_of::<f32>() * ld,
            x_stride = in(reg) size_of::<PackedRow>(),
            y_stride = in(reg) size_of::<[f32; COLUMNS]>(),
            panel = in(reg) depth * size_of::<[f32; COLUMNS]>(),
            below = out(reg) _,
            rows = out(reg) _,
            at = out(reg) _,
            steps = out(reg) _,
            x_at = const offset_of!(Order, x),
            count = const offset_of!(Order, steps),
            out_below = const offset_of!(Order, below),
            panels = const offset_of!(Order, panels),
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
