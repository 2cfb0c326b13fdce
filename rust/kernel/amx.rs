//! AMX: the processor's own matrix product, 16 x 16 sums of bfloat16 pairs at a time.
//!
//! Packed rows and panels are already what `TDPBF16PS` reads: a tile of x is 14 rows of 16 words, a tile of y 16 words
//! deep and 16 columns wide, each read straight from the packed buffer with its stride. One block of assembly does a
//! whole tile of the kernel, from `LDTILECFG` to `TILERELEASE`, so that no tile outlives it.
//!
//! The instructions have no stable intrinsics, and few machines have them. So each machine is examined before it may
//! use them: a small product of whole numbers must come out exactly.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::{PackedRow, STRIDE};

/// Rows and columns of the kernel's tile: those of AVX-512, which does all but the product.
const ROWS: usize = 14;
const COLUMNS: usize = 32;

/// Words of depth in a tile, and columns of a tile.
const SIDE: usize = 16;

type Sums = [[f32; COLUMNS]; ROWS];

/// Whether the processor has AMX, the system lets this process use it, and it gives the right answer.
pub fn detect() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| processor_has_it() && system_permits_it() && examination(multiply))
}

#[allow(unused_unsafe)] // older compilers still ask for it
fn processor_has_it() -> bool {
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    // SAFETY: a processor with AVX512-BF16 has this page of features.
    is_x86_feature_detected!("avx512bf16")
        && unsafe { __cpuid_count(7, 0) }.edx & BF16_AND_TILE == BF16_AND_TILE
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

/// See [`super::Kernel::product`].
pub fn product(x: &[PackedRow], y: &[f32], out: &mut [f32], ld: usize, accumulate: bool) {
    let mut sums = [[0.0; COLUMNS]; ROWS];
    let (tiles, _) = x.as_chunks::<ROWS>();
    for (rows, out) in tiles.iter().zip(out.chunks_mut(ROWS * ld)) {
        multiply(rows, y, &mut sums);
        for (sums, out) in sums.iter().zip(out.chunks_mut(ld)) {
            for (sum, out) in sums.iter().zip(out) {
                *out = if accumulate { *out + sum } else { *sum };
            }
        }
    }
}

/// The shapes of the eight tiles, as `LDTILECFG` reads them.
///
/// 0 and 1 hold the sums of the left and the right half; 2 a tile of x, 3 and 4 of y's halves; 5 to 7 the same for the
/// `rest` of the depth, less than a whole tile.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    fn new(rest: usize) -> Self {
        let mut shapes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let (x, y) = ((ROWS, SIDE), (SIDE, SIDE));
        let tiles = [x, x, x, y, y, (ROWS, rest), (rest, SIDE), (rest, SIDE)];
        let used = if rest == 0 { 5 } else { 8 };
        for (tile, &(rows, words)) in tiles[..used].iter().enumerate() {
            shapes.rows[tile] = rows as u8;
            shapes.row_bytes[tile] = (size_of::<f32>() * words) as u16;
        }
        shapes
    }
}

/// `sums[r][c] = sum_k x[r][k] y[k][c]` for a panel y (depth, columns) of at most `DEPTH` words.
fn multiply(x: &[PackedRow; ROWS], y: &[f32], sums: &mut Sums) {
    let depth = y.len() / COLUMNS;
    assert!(
        depth <= STRIDE,
        "a packed row holds {STRIDE} words, y is {depth} deep"
    );
    let shapes = Shapes::new(depth % SIDE);
    // SAFETY: `detect` found the instructions and the permission. Whole steps and the rest together read `depth` words
    // of each row of x and `depth` rows of y, both of which are there; `sums` has the rows and the stride of a panel.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm2, [{x} + {x_stride}*1]",
            "tileloadd tmm3, [{y} + {y_stride}*1]",
            "tileloadd tmm4, [{y} + {y_stride}*1 + 64]",
            "tdpbf16ps tmm0, tmm2, tmm3",
            "tdpbf16ps tmm1, tmm2, tmm4",
            "add {x}, {x_step}",
            "add {y}, {y_step}",
            "dec {steps}",
            "jnz 2b",
            "3:",
            "test {rest}, {rest}",
            "jz 4f",
            "tileloadd tmm5, [{x} + {x_stride}*1]",
            "tileloadd tmm6, [{y} + {y_stride}*1]",
            "tileloadd tmm7, [{y} + {y_stride}*1 + 64]",
            "tdpbf16ps tmm0, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm5, tmm7",
            "4:",
            "tilestored [{sums} + {y_stride}*1], tmm0",
            "tilestored [{sums} + {y_stride}*1 + 64], tmm1",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            sums = in(reg) sums.as_mut_ptr(),
            x = inout(reg) x.as_ptr() => _,
            y = inout(reg) y.as_ptr() => _,
            steps = inout(reg) depth / SIDE => _,
            rest = in(reg) depth % SIDE,
            x_stride = in(reg) size_of::<PackedRow>(),
            y_stride = in(reg) size_of::<[f32; COLUMNS]>(),
            x_step = const size_of::<[f32; SIDE]>(),
            y_step = const SIDE * size_of::<[f32; COLUMNS]>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Whether products of small whole numbers, which bfloat16 and float32 hold, come out exactly.
fn examination(multiply: impl Fn(&[PackedRow; ROWS], &[f32], &mut Sums)) -> bool {
    [1, SIDE, 2 * SIDE + 5].into_iter().all(|depth| {
        let (x, y) = questions(depth);
        let mut sums = [[f32::NAN; COLUMNS]; ROWS];
        multiply(&x.as_chunks().0[0], &y, &mut sums);
        let mut places = (0..ROWS).flat_map(|r| (0..COLUMNS).map(move |c| (r, c)));
        places.all(|(r, c)| {
            let exact: i32 = (0..2 * depth).map(|k| x_at(r, k) * y_at(k, c)).sum();
            sums[r][c].to_bits() == (exact as f32).to_bits()
        })
    })
}

fn x_at(r: usize, k: usize) -> i32 {
    ((r * 101 + k) * 7919 % 13) as i32 - 6
}

fn y_at(k: usize, c: usize) -> i32 {
    ((k * 37 + c) * 7919 % 11) as i32 - 5
}

/// Rows of x and a panel of y, as they are packed.
fn questions(depth: usize) -> (Vec<PackedRow>, Vec<f32>) {
    let pair = |low: i32, high: i32| {
        f32::from_bits((high as f32).to_bits() | (low as f32).to_bits() >> 16)
    };
    let mut x = vec![[0.0; STRIDE]; ROWS];
    for (r, x) in x.iter_mut().enumerate() {
        for (k, word) in x[..depth].iter_mut().enumerate() {
            *word = pair(x_at(r, 2 * k), x_at(r, 2 * k + 1));
        }
    }
    let places = (0..depth).flat_map(|k| (0..COLUMNS).map(move |c| (2 * k, c)));
    let y = places.map(|(k, c)| pair(y_at(k, c), y_at(k + 1, c)));
    (x, y.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile register: what of its 16 rows of 16 words its shape takes in.
    type Tile = [[f32; SIDE]; SIDE];

    /// `multiply`, with the instructions written out as Intel's manual describes them.
    struct Twin {
        shapes: Shapes,
        tiles: [Tile; 8],
    }

    impl Twin {
        fn load(&mut self, tile: usize, from: &[f32], stride: usize) {
            let words = usize::from(self.shapes.row_bytes[tile]) / 4;
            self.tiles[tile] = [[0.0; SIDE]; SIDE];
            for r in 0..usize::from(self.shapes.rows[tile]) {
                self.tiles[tile][r][..words].copy_from_slice(&from[r * stride..][..words]);
            }
        }

        fn dot(&mut self, c: usize, a: usize, b: usize) {
            let Shapes {
                rows, row_bytes, ..
            } = self.shapes;
            assert_eq!((rows[a], row_bytes[b]), (rows[c], row_bytes[c]));
            assert_eq!(row_bytes[a] / 4, u16::from(rows[b]));
            for r in 0..usize::from(rows[c]) {
                for k in 0..usize::from(rows[b]) {
                    for n in 0..usize::from(row_bytes[c]) / 4 {
                        let (x, y) = (self.tiles[a][r][k], self.tiles[b][k][n]);
                        self.tiles[c][r][n] += high(x) * high(y) + low(x) * low(y);
                    }
                }
            }
        }
    }

    fn high(word: f32) -> f32 {
        f32::from_bits(word.to_bits() & 0xFFFF_0000)
    }

    fn low(word: f32) -> f32 {
        f32::from_bits(word.to_bits() << 16)
    }

    fn twin(x: &[PackedRow; ROWS], y: &[f32], sums: &mut Sums) {
        let (steps, rest) = (y.len() / COLUMNS / SIDE, y.len() / COLUMNS % SIDE);
        let mut twin = Twin {
            shapes: Shapes::new(rest),
            tiles: [[[0.0; SIDE]; SIDE]; 8],
        };
        for step in 0..steps + usize::from(rest > 0) {
            let first = if step < steps { 2 } else { 5 };
            let y = &y[step * SIDE * COLUMNS..];
            twin.load(first, &x.as_flattened()[step * SIDE..], STRIDE);
            twin.load(first + 1, y, COLUMNS);
            twin.load(first + 2, &y[SIDE..], COLUMNS);
            twin.dot(0, first, first + 1);
            twin.dot(1, first, first + 2);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            sums[..SIDE].copy_from_slice(&twin.tiles[0][r]);
            sums[SIDE..].copy_from_slice(&twin.tiles[1][r]);
        }
    }

    #[test]
    fn the_instructions_pass_their_examination() {
        assert!(examination(twin));
    }

    #[test]
    fn a_wrong_product_does_not_pass() {
        assert!(!examination(|_, _, _| ()));
        assert!(!examination(|x, y, sums| {
            twin(x, y, sums);
            sums[13][31] += 1.0;
        }));
    }

    #[test]
    fn shapes_lie_as_the_processor_reads_them() {
        assert_eq!(size_of::<Shapes>(), 64);
        assert_eq!(std::mem::offset_of!(Shapes, row_bytes), 16);
        assert_eq!(std::mem::offset_of!(Shapes, rows), 48);
        let shapes = Shapes::new(0);
        assert_eq!((shapes.rows[5], shapes.row_bytes[5]), (0, 0));
    }
}
