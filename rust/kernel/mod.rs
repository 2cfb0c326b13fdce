//! The tile and the strip: everything that touches n x m numbers.
//!
//! The algorithm stands once, in `tile` and `strip`, over the small vector trait `Simd`; `avx512`, `avx2` and
//! `portable` give the trait its instructions and the tile its size. A [`Kernel`] is one of the three, behind a
//! pointer, so that the sweep is compiled once and the choice is made at run time.
//!
//! Every lane of every tile sees the same operations in the same order whatever its place, and tiles are always
//! full (rows and columns that do not exist are zero), so a row's results do not depend on its neighbours.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod strip;
#[cfg(test)]
mod tests;
mod tile;

use crate::error::Error;

/// How many dimensions of a row one packed block holds: a tile of rows then stays near the first cache.
///
/// Tried: 256 costs 3 to 6 % above 1000 dimensions (the strip is read and written more often), 512 changes nothing.
pub const DEPTH: usize = 384;

/// The packed row's stride: an odd number of cache lines, so that the rows of a tile spread over all cache sets.
pub const STRIDE: usize = DEPTH + 16;

/// One pool row, or its part within one block of dimensions, ready for the tile.
pub type PackedRow = [f32; STRIDE];

/// A few float32 numbers that one instruction handles.
///
/// A value of an implementing type is a proof that the instruction set is there: only its `detect` makes one.
trait Simd: Copy {
    /// The register.
    type V: Copy;
    /// Numbers in it.
    const LANES: usize;
    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32]) -> Self::V;
    fn store(self, v: Self::V, x: &mut [f32]);
    fn add(self, x: Self::V, y: Self::V) -> Self::V;
    fn sub(self, x: Self::V, y: Self::V) -> Self::V;
    /// x y + z, fused where the instruction set can.
    fn mul_add(self, x: Self::V, y: Self::V, z: Self::V) -> Self::V;
    fn max(self, x: Self::V, y: Self::V) -> Self::V;
    fn sqrt(self, x: Self::V) -> Self::V;
    /// `yes` where x > y, `no` elsewhere.
    fn select_gt(self, x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// x 2^i, where i is the integer in the low bits of `exponent`.
    fn scale_exponent(self, x: Self::V, exponent: Self::V) -> Self::V;
}

/// What the columns add to a row of dot products; all (m rounded up to the tile,).
#[derive(Debug, Default)]
pub struct Columns {
    /// What to add to a logit, in log2 units; far below everything in columns that do not exist.
    pub bias: Vec<f32>,
    /// The same without the column's weight, for the hard minimum.
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

/// The operations on tiles and strips, one implementation per instruction set.
pub trait Kernel: Sync {
    /// The instruction set's name.
    fn name(&self) -> &'static str;

    /// Rows and columns of a tile.
    fn tile(&self) -> (usize, usize);

    /// Multiply packed rows with one panel: `out[r * ld + c] (+)= sum_k x[r][k] y[k][c]`.
    ///
    /// `x` holds whole tiles of rows; `y` is (depth, tile columns), depth at most `DEPTH`. With `accumulate` the
    /// products are added to `out`, otherwise they replace it.
    fn product(&self, x: &[PackedRow], y: &[f32], out: &mut [f32], ld: usize, accumulate: bool);

    /// One tile of sum_i u_i v_i' over several blocks of rows: `u` (rows, tile rows), `v` (rows, tile columns).
    fn outer(&self, blocks: &mut dyn Iterator<Item = (&[f32], &[f32])>, out: &mut [f32]);

    /// Turn a row of dot products `z` into logits, in place; `squared` is |x_i|^2 (Euclidean cost only).
    fn logits(&self, z: &mut [f32], columns: &Columns, squared: f32, nearest: bool) -> Peak;

    /// Turn logits into e = 2^(z - top), in place; return sum_j e_j and sum_j e_j (z_j - top).
    fn exponentials(&self, z: &mut [f32], top: f32) -> (f32, f32);

    /// `q[j] += sum_i weights[i] strip[i * ld + j]`.
    fn add_rows(&self, q: &mut [f32], strip: &[f32], ld: usize, weights: &[f32]);
}

/// Give [`Kernel`] to an instruction set: each method enters a function compiled for it, once per call.
macro_rules! implement_kernel {
    ($isa:ty, $name:literal, $rows:literal x $vectors:literal $(, $features:literal)?) => {
        // The portable set needs no features, and then its `enter` is safe to call.
        #[allow(unused_unsafe)]
        impl $crate::kernel::Kernel for $isa {
            fn name(&self) -> &'static str {
                $name
            }

            fn tile(&self) -> (usize, usize) {
                ($rows, $vectors * <$isa as $crate::kernel::Simd>::LANES)
            }

            fn product(&self, x: &[$crate::kernel::PackedRow], y: &[f32], out: &mut [f32], ld: usize, accumulate: bool) {
                $(#[target_feature(enable = $features)])?
                fn enter(s: $isa, x: &[$crate::kernel::PackedRow], y: &[f32], out: &mut [f32], ld: usize, accumulate: bool) {
                    $crate::kernel::tile::product::<_, $rows, $vectors>(s, x, y, out, ld, accumulate);
                }
                // SAFETY: `self` exists, so the instruction set was detected.
                unsafe { enter(*self, x, y, out, ld, accumulate) }
            }

            fn outer(&self, blocks: &mut dyn Iterator<Item = (&[f32], &[f32])>, out: &mut [f32]) {
                $(#[target_feature(enable = $features)])?
                fn enter(s: $isa, blocks: &mut dyn Iterator<Item = (&[f32], &[f32])>, out: &mut [f32]) {
                    $crate::kernel::tile::outer::<_, $rows, $vectors>(s, blocks, out);
                }
                // SAFETY: as in `product`.
                unsafe { enter(*self, blocks, out) }
            }

            fn logits(&self, z: &mut [f32], columns: &$crate::kernel::Columns, squared: f32, nearest: bool) -> $crate::kernel::Peak {
                $(#[target_feature(enable = $features)])?
                fn enter(s: $isa, z: &mut [f32], columns: &$crate::kernel::Columns, squared: f32, nearest: bool) -> $crate::kernel::Peak {
                    $crate::kernel::strip::logits(s, z, columns, squared, nearest)
                }
                // SAFETY: as in `product`.
                unsafe { enter(*self, z, columns, squared, nearest) }
            }

            fn exponentials(&self, z: &mut [f32], top: f32) -> (f32, f32) {
                $(#[target_feature(enable = $features)])?
                fn enter(s: $isa, z: &mut [f32], top: f32) -> (f32, f32) {
                    $crate::kernel::strip::exponentials(s, z, top)
                }
                // SAFETY: as in `product`.
                unsafe { enter(*self, z, top) }
            }

            fn add_rows(&self, q: &mut [f32], strip: &[f32], ld: usize, weights: &[f32]) {
                $(#[target_feature(enable = $features)])?
                fn enter(s: $isa, q: &mut [f32], strip: &[f32], ld: usize, weights: &[f32]) {
                    $crate::kernel::strip::add_rows(s, q, strip, ld, weights);
                }
                // SAFETY: as in `product`.
                unsafe { enter(*self, q, strip, ld, weights) }
            }
        }
    };
}
use implement_kernel;

/// The kernels that this machine can run, best first.
#[must_use]
pub fn available() -> Vec<&'static dyn Kernel> {
    let mut kernels: Vec<&'static dyn Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(avx512::detect());
        kernels.extend(avx2::detect());
    }
    kernels.push(portable::KERNEL);
    kernels
}

/// The kernel of that name, or the best one.
///
/// # Errors
/// If the name is unknown or the machine cannot run it.
pub fn choose(name: Option<&str>) -> Result<&'static dyn Kernel, Error> {
    let kernels = available();
    match name {
        None => Ok(kernels[0]),
        Some(name) => kernels
            .iter()
            .copied()
            .find(|kernel| kernel.name() == name)
            .ok_or_else(|| Error::Unknown {
                what: "instruction set",
                name: name.to_owned(),
                choices: kernels
                    .iter()
                    .map(|kernel| kernel.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
    }
}
