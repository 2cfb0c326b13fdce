//! The tile and the strip: everything that touches n x m numbers.
//!
//! The algorithm stands once, in `tile`, `strip` and `row`, over the small vector trait `Simd`; `avx512`, `avx2`,
//! `neon` and `portable` give the trait its instructions and the tile its size, and `amx` is another way to a product.
//! A [`Kernel`] is one of them behind a pointer, so that the sweep is compiled once and the choice is made at run time.
//!
//! The operands of a tile are 32-bit [`Words`]. A word is one float32, or two neighbours of a row: of bfloat16 for rough
//! products, of whole numbers for close ones. The tile is the same but for the instruction that multiplies, and what the
//! sums are. Where bytes are multiplied so much faster that six such products cost less than one of float32, a float32
//! goes as three bytes.
//!
//! Every lane of every tile sees the same operations in the same order whatever its place, and tiles are always
//! full (rows and columns that do not exist are zero), so a row's results do not depend on its neighbours.

pub mod advise;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod codes;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod row;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // others have no faster products of them
mod shorts;
mod strip;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

pub use isa::{Isa, Precision, available, choose, kernels};

/// How many words of a row one packed block holds: a tile of rows then stays near the first cache.
///
/// Tried: 256 costs 3 to 6 % above 1000 dimensions (the strip is read and written more often), 512 changes nothing.
pub const DEPTH: usize = 384;

/// The packed row's stride: an odd number of cache lines, so that the rows of a tile spread over all cache sets.
pub const STRIDE: usize = DEPTH + 16;

/// One pool row, or its part within one block of dimensions, ready for the tile.
pub type PackedRow = [f32; STRIDE];

/// What a 32-bit word of an operand holds. Words travel as float32, whose bits are copied and never computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// One float32.
    Singles,
    /// Two bfloat16, neighbours in the row, the first in the low half.
    Pairs,
    /// Four signed bytes, neighbours in the row, the first lowest: the first digits, to base 256, of all numbers of a
    /// block, then their second and third ones. After these a word is the float32 that they are multiplied by.
    Digits,
    /// Two signed numbers of 16 bits, neighbours in the row; after those of a block a word is the float32 that they are
    /// multiplied by.
    Shorts,
}

/// Which operand of a product a vector is: one of its rows, or one of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Of the pool.
    Row,
    /// Of the target.
    Column,
}

/// Digits of a number.
pub const DIGITS: usize = 3;

/// Words that one digit of at most a block of numbers takes: whole steps of depth of AMX.
#[must_use]
pub const fn digit_words(numbers: usize) -> usize {
    numbers.div_ceil(4).next_multiple_of(16)
}

impl Words {
    /// Numbers of a whole block.
    #[must_use]
    pub const fn block(self) -> usize {
        match self {
            Self::Singles | Self::Digits => DEPTH,
            Self::Pairs | Self::Shorts => 2 * DEPTH,
        }
    }

    /// Words that a row of so many numbers takes, block by block.
    #[must_use]
    pub const fn of(self, numbers: usize) -> usize {
        match self {
            Self::Singles => numbers,
            Self::Pairs => numbers.div_ceil(2),
            Self::Shorts => numbers.div_ceil(2) + numbers.div_ceil(2 * DEPTH),
            Self::Digits => {
                let (whole, rest) = (numbers / DEPTH, digit_words(numbers % DEPTH));
                let factors = numbers.div_ceil(DEPTH);
                DIGITS * (whole * digit_words(DEPTH) + rest) + factors
            }
        }
    }

    /// Rows that a word of [`Kernel::stack`] has a number of.
    #[must_use]
    pub const fn stacked(self) -> usize {
        match self {
            Self::Singles | Self::Digits | Self::Shorts => 1,
            Self::Pairs => 2,
        }
    }
}

/// A few float32 numbers that one instruction handles.
///
/// A value of an implementing type is a proof that the instruction set is there: only its `detect` makes one.
trait Simd: Copy {
    /// The register.
    type V: Copy;
    /// Numbers in it.
    const LANES: usize;
    /// What the operands of `multiply` hold.
    const WORDS: Words = Words::Singles;
    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32]) -> Self::V;
    fn store(self, v: Self::V, x: &mut [f32]);
    fn add(self, x: Self::V, y: Self::V) -> Self::V;
    fn sub(self, x: Self::V, y: Self::V) -> Self::V;
    /// x y + z, fused where the instruction set can.
    fn mul_add(self, x: Self::V, y: Self::V, z: Self::V) -> Self::V;
    /// A step of a dot product: sum + x y over the numbers in each word of x and y.
    #[inline(always)]
    fn multiply(self, x: Self::V, y: Self::V, sum: Self::V) -> Self::V {
        self.mul_add(x, y, sum)
    }
    /// [`Kernel::product`], for a tile of R rows and V vectors.
    #[inline(always)]
    fn product<const R: usize, const V: usize>(
        self,
        x: &[PackedRow],
        y: (&[f32], usize),
        out: (&mut [f32], usize),
        accumulate: bool,
    ) {
        tile::product::<_, tile::OfFloats, R, V>(self, x, y, out, accumulate);
    }
    /// [`Kernel::step`]
    const STEP: usize = 1;
    /// [`Kernel::turn`]
    #[inline(always)]
    fn turn(self, _u: &mut [f32]) {}
    /// [`Kernel::outer`], for a tile of R rows and V vectors.
    #[inline(always)]
    fn outer<const R: usize, const V: usize>(self, u: &[f32], v: &[f32], out: &mut [f32]) {
        tile::outer::<_, R, V>(self, u, v, out);
    }
    fn max(self, x: Self::V, y: Self::V) -> Self::V;
    fn sqrt(self, x: Self::V) -> Self::V;
    /// The sum of a register's numbers.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        strip::folded(self, v, |x, y| x + y)
    }
    /// The largest of them.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        strip::folded(self, v, |x, y| if x > y { x } else { y })
    }
    /// `yes` where x > y, `no` elsewhere.
    fn select_gt(self, x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// x 2^i, where i is the integer in the low bits of `exponent`.
    fn scale_exponent(self, x: Self::V, exponent: Self::V) -> Self::V;
    /// Call a line of memory into the first cache, where the processor can be told to.
    #[inline(always)]
    fn prefetch(self, _line: &[u8]) {}
    /// The float32 whose upper bits, but for `codes::DROPPED`, are the codes.
    fn decode(self, codes: &[u8]) -> Self::V;
}

/// What the columns add to a row of dot products; all (m rounded up to the tile,).
#[derive(Debug, Default)]
pub struct Columns {
    /// What to add to a logit, in log2 units; far below everything in columns that do not exist.
    pub bias: Vec<f32>,
    /// The same without the column's weight, for the hard minimum; empty where all weigh the same, and nothing differs.
    pub hard_bias: Vec<f32>,
    /// |y_j|^2 for the Euclidean cost, empty otherwise.
    pub squared: Vec<f32>,
    /// Factor of the dot product (of the distance, for the Euclidean cost), in log2 units.
    pub scale: f32,
}

/// The best of one row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Highest logit.
    pub soft: f32,
    /// Highest logit without weights.
    pub hard: f32,
    /// Lowest column that reaches `hard`; 0 unless asked for.
    pub nearest: usize,
}

/// A number of a row, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    column: u32,
    /// The number.
    pub e: f32,
}

impl Entry {
    /// Its place in the row.
    #[must_use]
    pub const fn column(self) -> usize {
        self.column as usize
    }
}

/// The operations on rows, tiles and strips, one implementation per instruction set.
pub trait Kernel: Sync {
    /// The kernel's name.
    fn name(&self) -> &'static str;

    /// Rows and columns of a tile.
    fn tile(&self) -> (usize, usize);

    /// What the operands of `product` and `outer` hold.
    fn words(&self) -> Words;

    /// Take `centre` off `x`.
    fn subtract(&self, x: &mut [f32], centre: &[f32]);

    /// Multiply `x` by `factor`.
    fn scale(&self, x: &mut [f32], factor: f32);

    /// The sum of squares.
    fn squared_norm(&self, x: &[f32]) -> f32;

    /// Round finite numbers to what `pack` makes of them, but for digits, whose rounding is less than a product's, and for
    /// shorts, which round by the block.
    fn round(&self, x: &mut [f32]);

    /// Lay finite numbers out in words, at most a block of them; a last word is filled up with zero.
    fn pack(&self, side: Side, x: &[f32], out: &mut [f32]);

    /// Lay some columns of rows, times their factors, out for `outer`: `out` (depth, columns) in words of one row or two,
    /// the rest zeros.
    fn stack(&self, rows: &[&[f32]], columns: Range<usize>, factors: &[f32], out: &mut [f32]);

    /// Multiply packed rows with panels: `out[r * ld + c] (+)= sum_k x[r][k] y[k][c]`.
    ///
    /// `x` holds whole tiles of rows; `y` is panels one after the other, each (depth, tile columns), of at most `DEPTH`
    /// words of depth. With `accumulate` the products are added to `out`, otherwise they replace it.
    fn product(
        &self,
        x: &[PackedRow],
        y: &[f32],
        depth: usize,
        out: &mut [f32],
        ld: usize,
        accumulate: bool,
    );

    /// Words of depth that `outer` takes at once; its operands have whole steps.
    fn step(&self) -> usize;

    /// Lay `u` (depth, tile rows), whole steps, out as `outer` reads it.
    fn turn(&self, u: &mut [f32]);

    /// One tile of sum_i u_i v_i': `u` (depth, tile rows), turned; `v` (depth, tile columns).
    ///
    /// A word holds one row's number, or those of two rows.
    fn outer(&self, u: &[f32], v: &[f32], out: &mut [f32]);

    /// `sums[i] += numbers[i]`.
    fn add_up(&self, sums: &mut [f64], numbers: &[f32]);

    /// Turn a row of dot products `z` into logits, in place; `squared` is |x_i|^2 (Euclidean cost only).
    fn logits(&self, z: &mut [f32], columns: &Columns, squared: f32, nearest: bool) -> Peak;

    /// Turn logits into e = 2^(z - top), in place; return sum_j e_j and sum_j e_j (z_j - top).
    fn exponentials(&self, z: &mut [f32], top: f32) -> (f32, f32);

    /// `q[j] += sum_i weights[i] strip[i * ld + j]`.
    fn add_rows(&self, q: &mut [f32], strip: &[f32], ld: usize, weights: &[f32]);

    /// Append the numbers of a row that are above `least`, in their order, and return their sum; of more than `most` none,
    /// and 0.
    fn above(&self, row: &[f32], least: f32, most: usize, out: &mut Vec<Entry>) -> f32;

    /// Write a row of exponentials, 1 the largest, in eight bits each; see [`codes`].
    fn keep(&self, e: &[f32], codes: &mut [u8]);

    /// Turn a row of `codes`, whole [`codes::LANES`] of them, back into exponentials, column j times `factors[j]`:
    /// where these hold [`codes::UNIT`] times what changed since. Return the sums of the decoded numbers and of e.
    /// Meanwhile the codes `ahead` are called from memory.
    fn recall(&self, codes: &[u8], ahead: &[u8], factors: &[f32], e: &mut [f32]) -> (f32, f32);
}

/// Methods of [`Simd`], each an expression of intrinsics.
macro_rules! operations {
    ($($name:ident($($arg:ident: $kind:ty),*) $(-> $out:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $kind),*) $(-> $out)? {
            // SAFETY: `self` exists, so the instruction set was detected; slices are cut to a register's length first.
            unsafe { $body }
        }
    )*};
}
use operations;

/// One method of [`Kernel`]: it enters a function compiled for the instruction set, once per call.
macro_rules! enter {
    ([$($features:literal)?] fn $name:ident($s:ident: $isa:ty $(, $arg:ident: $kind:ty)*) $(-> $out:ty)? = $body:expr) => {
        fn $name(&self $(, $arg: $kind)*) $(-> $out)? {
            $(#[target_feature(enable = $features)])?
            fn compiled($s: $isa $(, $arg: $kind)*) $(-> $out)? {
                $body
            }
            // SAFETY: `self` exists, so the instruction set was detected.
            unsafe { compiled(*self $(, $arg)*) }
        }
    };
}
use enter;

/// Give [`Kernel`] to an instruction set.
macro_rules! implement_kernel {
    ($isa:ty, $name:literal, $rows:literal x $vectors:literal $(, $features:literal)?) => {
        // The portable set needs no features, and then its functions are safe to call.
        #[allow(unused_unsafe)]
        impl Kernel for $isa {
            fn name(&self) -> &'static str {
                $name
            }

            fn tile(&self) -> (usize, usize) {
                ($rows, $vectors * <$isa as Simd>::LANES)
            }

            fn words(&self) -> Words {
                <$isa as Simd>::WORDS
            }

            fn step(&self) -> usize {
                <$isa as Simd>::STEP
            }

            enter!([$($features)?] fn subtract(_s: $isa, x: &mut [f32], centre: &[f32]) = row::subtract(x, centre));
            enter!([$($features)?] fn scale(_s: $isa, x: &mut [f32], factor: f32) = row::scale(x, factor));
            enter!([$($features)?] fn squared_norm(s: $isa, x: &[f32]) -> f32 = row::squared_norm(s, x));
            enter!([$($features)?] fn round(_s: $isa, x: &mut [f32]) = row::round(<$isa as Simd>::WORDS, x));
            enter!([$($features)?] fn pack(s: $isa, side: Side, x: &[f32], out: &mut [f32]) = row::pack(s, side, x, out));
            enter!([$($features)?] fn stack(_s: $isa, rows: &[&[f32]], columns: Range<usize>, factors: &[f32], out: &mut [f32])
                = row::stack(<$isa as Simd>::WORDS, rows, columns, factors, out));
            enter!([$($features)?] fn product(s: $isa, x: &[PackedRow], y: &[f32], depth: usize, out: &mut [f32], ld: usize, accumulate: bool)
                = s.product::<$rows, $vectors>(x, (y, depth), (out, ld), accumulate));
            enter!([$($features)?] fn turn(s: $isa, u: &mut [f32]) = s.turn(u));
            enter!([$($features)?] fn outer(s: $isa, u: &[f32], v: &[f32], out: &mut [f32])
                = s.outer::<$rows, $vectors>(u, v, out));
            enter!([$($features)?] fn add_up(_s: $isa, sums: &mut [f64], numbers: &[f32]) = row::add_up(sums, numbers));
            enter!([$($features)?] fn logits(s: $isa, z: &mut [f32], columns: &Columns, squared: f32, nearest: bool) -> Peak
                = strip::logits(s, z, columns, squared, nearest));
            enter!([$($features)?] fn exponentials(s: $isa, z: &mut [f32], top: f32) -> (f32, f32)
                = strip::exponentials(s, z, top));
            enter!([$($features)?] fn add_rows(s: $isa, q: &mut [f32], strip: &[f32], ld: usize, weights: &[f32])
                = strip::add_rows(s, q, strip, ld, weights));
            enter!([$($features)?] fn above(_s: $isa, row: &[f32], least: f32, most: usize, out: &mut Vec<Entry>) -> f32
                = row::above(row, least, most, out));
            enter!([$($features)?] fn keep(_s: $isa, e: &[f32], codes: &mut [u8]) = codes::keep(e, codes));
            enter!([$($features)?] fn recall(s: $isa, codes: &[u8], ahead: &[u8], factors: &[f32], e: &mut [f32]) -> (f32, f32)
                = codes::recall(s, codes, ahead, factors, e));
        }
    };
}
use implement_kernel;
