//! The Gram's tile: bfloat16 pairs of rows, 32 rows by 32 columns of sums.
//!
//! `turn` lays each step of u out as two tiles in one piece; v is read where it is, and stays in the first cache, which u
//! passes by.

use std::arch::asm;

use super::{COLUMNS, Holds, ROWS, SIDE, Shapes};

/// Words of depth of a step.
pub const STEP: usize = SIDE;

/// Tiles 0 to 3 hold sums, 4 and 5 u, 6 and 7 v.
pub(super) const TILES: [Holds; 8] = super::pairs::TILES;

/// See [`crate::kernel::Kernel::turn`]: each step of u as (rows, step).
pub fn turn(u: &mut [f32]) {
    for step in u.as_chunks_mut::<{ STEP * ROWS }>().0 {
        let words = *step;
        for (r, row) in step.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
            for (k, word) in row.iter_mut().enumerate() {
                *word = words[k * ROWS + r];
            }
        }
    }
}

/// A tile of sums.
pub(super) fn multiply(u: &[f32], v: &[f32], out: &mut [f32]) {
    assert!(
        u.len() == v.len() && u.len().is_multiple_of(STEP * ROWS),
        "the depth is not one of whole steps"
    );
    assert!(out.len() >= ROWS * COLUMNS, "the tile has no room");
    let shapes = Shapes::new(TILES, STEP);
    // SAFETY: `detect` found the instructions and the permission. u and v have the words of all steps, as just seen,
    // and `out` a tile.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloaddt1 tmm4, [{u} + {narrow}*1]",
            "tileloadd tmm6, [{v} + {wide}*1]",
            "tileloadd tmm7, [{v} + {wide}*1 + 64]",
            "tileloaddt1 tmm5, [{u} + {narrow}*1 + {tile}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {u}, 2*{tile}",
            "add {v}, {below}",
            "dec {steps}",
            "jnz 2b",
            "3:",
            "tilestored [{out} + {wide}*1], tmm0",
            "tilestored [{out} + {wide}*1 + 64], tmm1",
            "tilestored [{out} + {wide}*1 + {below}], tmm2",
            "tilestored [{out} + {wide}*1 + {below} + 64], tmm3",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            steps = inout(reg) u.len() / (STEP * ROWS) => _,
            u = inout(reg) u.as_ptr() => _,
            v = inout(reg) v.as_ptr() => _,
            out = in(reg) out.as_mut_ptr(),
            wide = in(reg) size_of::<[f32; COLUMNS]>(),
            narrow = in(reg) size_of::<[f32; STEP]>(),
            tile = const size_of::<[[f32; STEP]; SIDE]>(),
            below = const SIDE * size_of::<[f32; COLUMNS]>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
