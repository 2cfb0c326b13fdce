//! AMX: the processor's own matrix product, 16 x 16 sums at a time, of bfloat16 (`pairs`; `outer` for the Gram) or of
//! bytes (`digits`).
//!
//! Packed rows and panels are already what its instructions read: a tile of x is 16 rows of 16 words, a tile of y 16
//! words deep and 16 columns wide, each read straight from the packed buffer with its stride. One block of assembly takes
//! a tile of rows through some panels, from `LDTILECFG` to `TILERELEASE`, so that no tile outlives it.
//!
//! The instructions have no stable intrinsics, and few machines have them. So each machine is examined before it may
//! use them (`examination`): small products of whole numbers must come out exactly.
#![allow(unsafe_code)]

mod digits;
mod examination;
mod outer;
mod pairs;

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::{PackedRow, STRIDE, Words};

/// Rows and columns of the kernel's tile: two of the processor's tiles each way, but of digits one column of them.
const ROWS: usize = 32;
const COLUMNS: usize = 32;

/// Rows of a tile, its words of depth, its columns.
const SIDE: usize = 16;

/// Bytes from a tile of packed rows to the one below it.
const BELOW: usize = SIDE * size_of::<PackedRow>();

/// Whether the processor has AMX, the system lets this process use it, and it gives the right answer.
pub fn detect() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| {
        processor_has_it()
            && system_permits_it()
            && examination::passed_by(pairs::multiply, digits::multiply, outer::multiply)
    })
}

#[allow(unused_unsafe)] // older compilers still ask for it
fn processor_has_it() -> bool {
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    // SAFETY: a processor with AVX512-BF16 has this page of features.
    is_x86_feature_detected!("avx512bf16")
        && unsafe { __cpuid_count(7, 0) }.edx & BF16_TILE_INT8 == BF16_TILE_INT8
}

/// Linux hands out the tiles' large register state on request, for all threads of the process.
#[cfg(target_os = "linux")]
fn system_permits_it() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers, and touches no memory of ours.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    };
    refused == 0
}

/// Elsewhere nobody has tried.
#[cfg(not(target_os = "linux"))]
fn system_permits_it() -> bool {
    false
}

/// See [`super::Kernel::product`]; x and y hold `words`, of whose last digits nothing is asked where it may be `close`.
#[inline(always)]
pub fn product(
    (words, close): (Words, bool),
    x: &[PackedRow],
    y: (&[f32], usize),
    out: (&mut [f32], usize),
    accumulate: bool,
) {
    match words {
        Words::Digits => digits::product(digits::multiply, x, y, out, accumulate, close),
        _ => pairs::product(pairs::multiply, x, y, out, accumulate),
    }
}

pub use outer::{STEP, turn};

/// See [`super::Kernel::outer`]; of pairs.
#[inline(always)]
pub fn outer(u: &[f32], v: &[f32], out: &mut [f32]) {
    outer::multiply(u, v, out);
}

/// Steps through the depth: `count` of them, of `side` words, from word `first` on.
#[derive(Clone, Copy, Debug)]
struct Steps {
    first: usize,
    count: usize,
    side: usize,
}

impl Steps {
    /// Those that fill a tile, and one for the rest of the depth; either may be missing.
    fn through(depth: usize) -> impl Iterator<Item = Self> {
        let (whole, rest) = (depth / SIDE, depth % SIDE);
        let wholes = (whole > 0).then_some(Self {
            first: 0,
            count: whole,
            side: SIDE,
        });
        let rest = (rest > 0).then_some(Self {
            first: whole * SIDE,
            count: 1,
            side: rest,
        });
        wholes.into_iter().chain(rest)
    }

    /// The word after the last.
    const fn end(self) -> usize {
        self.first + (self.count - 1) * SIDE + self.side
    }
}

/// What a tile holds.
#[derive(Clone, Copy)]
enum Holds {
    Sums,
    X,
    Y,
}

/// The shapes of the eight tiles, as `LDTILECFG` reads them.
#[derive(Debug)]
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// For steps of `side` words of depth.
    fn new(tiles: [Holds; 8], side: usize) -> Self {
        let mut shapes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for (tile, holds) in tiles.into_iter().enumerate() {
            let (rows, words) = match holds {
                Holds::Sums => (SIDE, SIDE),
                Holds::X => (SIDE, side),
                Holds::Y => (side, SIDE),
            };
            shapes.rows[tile] = rows as u8;
            shapes.row_bytes[tile] = (size_of::<f32>() * words) as u16;
        }
        shapes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_lie_as_the_processor_reads_them() {
        assert_eq!(size_of::<Shapes>(), 64);
        assert_eq!(std::mem::offset_of!(Shapes, row_bytes), 16);
        assert_eq!(std::mem::offset_of!(Shapes, rows), 48);
        let [sums, x, y] = [Holds::Sums, Holds::X, Holds::Y];
        let shapes = Shapes::new([sums, x, y, sums, sums, sums, sums, sums], 5);
        assert_eq!(shapes.rows[..4], [16, 16, 5, 16]);
        assert_eq!(shapes.row_bytes[..4], [64, 20, 64, 64]);
    }

    #[test]
    fn steps_take_every_word_once() {
        for depth in [1, 15, 16, 17, 96, 101] {
            let words: Vec<usize> = Steps::through(depth)
                .flat_map(|steps| steps.first..steps.end())
                .collect();
            assert_eq!(words, (0..depth).collect::<Vec<_>>());
        }
    }
}
