//! The Gram's tile: bfloat16 pairs of rows, 32 rows by 32 columns of sums, over all blocks of a group while these lie in
//! the tiles.
//!
//! A block has few rows left when it is thinned, often but one step of 32. `turn` lays each step of u out as two tiles
//! in one piece; v is read where it is.

use std::arch::asm;
use std::mem::offset_of;

use super::{Block, COLUMNS, Holds, ROWS, SIDE, Shapes};

/// Words of depth of a step.
pub const STEP: usize = SIDE;

/// Tiles 0 to 3 hold sums, 4 and 5 u, 6 and 7 v.
pub(super) const TILES: [Holds; 8] = super::pairs::TILES;

/// Blocks that one round of assembly goes through.
const MOST_BLOCKS: usize = 16;

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

/// A tile of sums over blocks.
#[inline(always)]
pub(super) fn product(
    mut multiply: impl FnMut(&[Block<'_>], &mut [f32], bool),
    blocks: &mut dyn Iterator<Item = Block<'_>>,
    out: &mut [f32],
) {
    let mut list: [Block; MOST_BLOCKS] = [(&[], &[]); MOST_BLOCKS];
    let mut accumulate = false;
    loop {
        let mut count = 0;
        for (place, block) in list.iter_mut().zip(&mut *blocks) {
            *place = block;
            count += 1;
        }
        if count > 0 || !accumulate {
            multiply(&list[..count], out, accumulate);
        }
        if count < MOST_BLOCKS {
            break;
        }
        accumulate = true;
    }
}

/// A block, as the assembly finds it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    u: *const f32,
    v: *const f32,
    steps: usize,
}

/// The sums of up to sixteen blocks.
pub(super) fn multiply(blocks: &[Block<'_>], out: &mut [f32], accumulate: bool) {
    let mut places = [Place {
        u: std::ptr::null(),
        v: std::ptr::null(),
        steps: 0,
    }; MOST_BLOCKS];
    let mut count = 0;
    for (u, v) in blocks.iter().filter(|(u, _)| !u.is_empty()) {
        assert!(
            u.len() == v.len() && u.len().is_multiple_of(STEP * ROWS),
            "a block's depth is not one of whole steps"
        );
        places[count] = Place {
            u: u.as_ptr(),
            v: v.as_ptr(),
            steps: u.len() / (STEP * ROWS),
        };
        count += 1;
    }
    assert!(out.len() >= ROWS * COLUMNS, "the tile has no room");
    let shapes = Shapes::new(TILES, STEP);
    // SAFETY: `detect` found the instructions and the permission. u and v have the words of all steps, as just seen,
    // and `out` a tile.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "test {accumulate}, {accumulate}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{out} + {wide}*1]",
            "tileloadd tmm1, [{out} + {wide}*1 + 64]",
            "tileloadd tmm2, [{out} + {wide}*1 + {below}]",
            "tileloadd tmm3, [{out} + {wide}*1 + {below} + 64]",
            "3:",
            "test {count}, {count}",
            "jz 6f",
            // A block, which has at least a step.
            "4:",
            "mov {u}, [{place} + {u_at}]",
            "mov {v}, [{place} + {v_at}]",
            "mov {steps}, [{place} + {steps_at}]",
            "5:",
            "tileloadd tmm4, [{u} + {narrow}*1]",
            "tileloadd tmm6, [{v} + {wide}*1]",
            "tileloadd tmm7, [{v} + {wide}*1 + 64]",
            "tileloadd tmm5, [{u} + {narrow}*1 + {tile}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {u}, 2*{tile}",
            "add {v}, {below}",
            "dec {steps}",
            "jnz 5b",
            "add {place}, {next}",
            "dec {count}",
            "jnz 4b",
            "6:",
            "tilestored [{out} + {wide}*1], tmm0",
            "tilestored [{out} + {wide}*1 + 64], tmm1",
            "tilestored [{out} + {wide}*1 + {below}], tmm2",
            "tilestored [{out} + {wide}*1 + {below} + 64], tmm3",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            accumulate = in(reg) usize::from(accumulate),
            place = inout(reg) places.as_ptr() => _,
            count = inout(reg) count => _,
            out = in(reg) out.as_mut_ptr(),
            wide = in(reg) size_of::<[f32; COLUMNS]>(),
            narrow = in(reg) size_of::<[f32; STEP]>(),
            u = out(reg) _,
            v = out(reg) _,
            steps = out(reg) _,
            u_at = const offset_of!(Place, u),
            v_at = const offset_of!(Place, v),
            steps_at = const offset_of!(Place, steps),
            next = const size_of::<Place>(),
            tile = const size_of::<[[f32; STEP]; SIDE]>(),
            below = const SIDE * size_of::<[f32; COLUMNS]>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
