//! The target, packed once per sweep: y in panels for the tile, and what each column adds to a logit.
//!
//! Both sides are prepared alike, and norms are taken from the rounded numbers that are then multiplied, so that a
//! cost is a true distance between two vectors close to the given ones. Only 2 - 2 <x, y> on unit vectors goes without:
//! there the norms are known, and what rough products round off them would shift whole columns. Where the cost does not
//! change under a shift, the mean of y is taken off both sides first, so that a large common offset does not eat
//! float32's digits; for unit vectors nothing is gained by that.

use std::f64::consts::LOG2_E;
use std::str::FromStr;

use crate::aligned::Aligned;
use crate::error::Error;
use crate::kernel::{Columns, Kernel, Side};

/// The bias of a column that only fills up a tile: below every true logit, and finite.
const ABSENT: f32 = -1e38;

/// Logits stay within this, so that differences of them are finite.
const LARGEST_LOGIT: f64 = 1e37;

/// The kind of ground cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostKind {
    /// |x - y|^2
    SqEuclidean,
    /// 1 - cos(x, y)
    Cosine,
    /// |x - y|
    Euclidean,
}

impl FromStr for CostKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "sqeuclidean" => Ok(Self::SqEuclidean),
            "cosine" => Ok(Self::Cosine),
            "euclidean" => Ok(Self::Euclidean),
            _ => Err(Error::Unknown {
                what: "cost",
                name: name.to_owned(),
                choices: "sqeuclidean, cosine, euclidean".to_owned(),
            }),
        }
    }
}

/// The ground cost: its kind, and whether vectors are scaled to unit norm first (always, for the cosine).
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The kind.
    pub kind: CostKind,
    /// Scale both sides to unit norm.
    pub normalize: bool,
}

/// The target as the caller holds it.
#[derive(Clone, Copy, Debug)]
pub struct TargetView<'a> {
    /// (m, d)
    pub y: &'a [f32],
    /// (m,), not negative, not all zero
    pub b: &'a [f64],
    /// (m,)
    pub g: &'a [f64],
    /// Dimensions.
    pub d: usize,
}

/// What is done to a vector of either side before it is multiplied.
pub struct Preparation {
    kernel: &'static dyn Kernel,
    unit: bool,
    centre: Vec<f32>,
    norm_of_rounded: bool,
}

impl Preparation {
    fn new(cost: Cost, view: &TargetView, keep: &[usize], kernel: &'static dyn Kernel) -> Self {
        let unit = cost.normalize || cost.kind == CostKind::Cosine;
        let mut mean = vec![0.0; if unit { 0 } else { view.d }];
        for &j in keep {
            for (mean, &y) in mean.iter_mut().zip(&view.y[j * view.d..]) {
                *mean += f64::from(y) / keep.len() as f64;
            }
        }
        Self {
            kernel,
            unit,
            centre: mean.into_iter().map(|mean| mean as f32).collect(),
            norm_of_rounded: !unit || cost.kind == CostKind::Euclidean,
        }
    }

    /// Centre or scale `x` (d,) in place and return its squared norm; `side` and `row` are for messages.
    ///
    /// # Errors
    /// If a number is not finite, or a vector to be scaled is zero.
    pub fn apply(&self, x: &mut [f32], side: &'static str, row: usize) -> Result<f32, Error> {
        self.kernel.subtract(x, &self.centre);
        let squared = self.kernel.squared_norm(x);
        if !squared.is_finite() {
            check_finite(x, side, row)?;
        }
        if self.unit {
            self.scale_to_unit(x, squared, side, row)?;
        }
        if self.norm_of_rounded {
            self.kernel.round(x);
        }
        Ok(self.kernel.squared_norm(x))
    }

    fn scale_to_unit(
        &self,
        x: &mut [f32],
        squared: f32,
        side: &'static str,
        row: usize,
    ) -> Result<(), Error> {
        let squared = if (1e-30..1e30).contains(&squared) {
            squared
        } else {
            bring_near_one(x, side, row)?;
            self.kernel.squared_norm(x)
        };
        self.kernel.scale(x, 1.0 / squared.sqrt());
        Ok(())
    }
}

fn check_finite(x: &[f32], side: &'static str, row: usize) -> Result<(), Error> {
    match x.iter().position(|x| !x.is_finite()) {
        Some(column) => Err(Error::NotFinite {
            side,
            row,
            column,
            value: x[column],
        }),
        None => Ok(()),
    }
}

/// Bring a vector whose squared norm leaves float32 to a largest entry of 1.
fn bring_near_one(x: &mut [f32], side: &'static str, row: usize) -> Result<(), Error> {
    let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    if largest == 0.0 {
        return Err(Error::ZeroRow { side, row });
    }
    for x in x.iter_mut() {
        *x = (f64::from(*x) / f64::from(largest)) as f32;
    }
    Ok(())
}

/// The target, ready for the kernel. Columns of zero weight are left out.
pub struct Target {
    /// Rows of y that weigh something, in order.
    pub keep: Vec<usize>,
    /// Columns, rounded up to whole panels.
    pub width: usize,
    /// What columns add to logits.
    pub columns: Columns,
    /// What is done to pool rows.
    pub preparation: Preparation,
    panels: Aligned,
    depth: usize,
    block_depth: usize,
    kind: CostKind,
    largest_norm: f64,
    log2_unit: f64,
    shift: f64,
    hard_shift: f64,
}

impl Target {
    /// Pack y at potentials g for a kernel.
    ///
    /// # Errors
    /// If a length, a weight, a potential or a vector is wrong.
    pub fn new(
        view: &TargetView,
        cost: Cost,
        eps: f64,
        kernel: &'static dyn Kernel,
    ) -> Result<Self, Error> {
        if view.y.len() != view.b.len() * view.d {
            return Err(Error::Length {
                name: "y",
                found: view.y.len(),
                expected: view.b.len() * view.d,
            });
        }
        if view.d == 0 {
            return Err(Error::Empty("target"));
        }
        let keep = weighty(view.b, view.g)?;
        let preparation = Preparation::new(cost, view, &keep, kernel);
        let panel = kernel.tile().1;
        let depth = kernel.words().of(view.d);
        let block_depth = kernel.words().of(kernel.words().block());
        let width = keep.len().next_multiple_of(panel);
        let mut panels = Aligned::zeros(width * depth);
        let mut squared = Vec::with_capacity(keep.len());
        let mut scratch = vec![0.0; view.d];
        let mut words = vec![0.0; depth];
        for (column, &j) in keep.iter().enumerate() {
            scratch.copy_from_slice(&view.y[j * view.d..(j + 1) * view.d]);
            squared.push(preparation.apply(&mut scratch, "target", j)?);
            let blocks = scratch.chunks(kernel.words().block());
            let parts = panels.as_mut().chunks_mut(width * block_depth);
            for ((y, words), part) in blocks.zip(words.chunks_mut(block_depth)).zip(parts) {
                kernel.pack(Side::Column, y, words);
                let first = column / panel * panel * words.len() + column % panel;
                for (slot, &word) in part[first..].iter_mut().step_by(panel).zip(&*words) {
                    *slot = word;
                }
            }
        }
        let log2_unit = LOG2_E / eps;
        let largest_norm = squared.iter().fold(0.0_f32, |largest, &s| largest.max(s));
        let mut target = Self {
            width,
            columns: Columns::default(),
            preparation,
            panels,
            depth,
            block_depth,
            kind: cost.kind,
            largest_norm: f64::from(largest_norm).sqrt(),
            log2_unit,
            shift: 0.0,
            hard_shift: 0.0,
            keep,
        };
        target.set_columns(view, &squared)?;
        Ok(target)
    }

    fn set_columns(&mut self, view: &TargetView, squared: &[f32]) -> Result<(), Error> {
        let of_square = if self.kind == CostKind::SqEuclidean {
            1.0
        } else {
            0.0
        };
        let reduced = |column: usize| {
            (view.g[self.keep[column]] - of_square * f64::from(squared[column])) * self.log2_unit
        };
        let hard: Vec<f64> = (0..self.keep.len()).map(reduced).collect();
        let soft: Vec<f64> = hard
            .iter()
            .zip(&self.keep)
            .map(|(hard, &j)| hard + view.b[j].log2())
            .collect();
        let scale = self.log2_unit
            * match self.kind {
                CostKind::SqEuclidean => 2.0,
                CostKind::Cosine => 1.0,
                CostKind::Euclidean => -1.0,
            };
        (self.columns.bias, self.shift) = self.shifted(&soft)?;
        (self.columns.hard_bias, self.hard_shift) = self.shifted(&hard)?;
        let mut weights = self.keep.iter().map(|&j| view.b[j].to_bits());
        let first = weights.next();
        if weights.all(|weight| Some(weight) == first) {
            self.columns.hard_bias.clear();
        }
        self.columns.scale = scale as f32;
        if self.kind == CostKind::Euclidean {
            self.columns.squared = squared.to_vec();
            self.columns.squared.resize(self.width, 0.0);
        }
        Ok(())
    }

    /// The biases less their maximum, in float32 and filled up to whole panels, and that maximum.
    fn shifted(&self, bias: &[f64]) -> Result<(Vec<f32>, f64), Error> {
        let shift = bias.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if let Some(column) = bias
            .iter()
            .position(|bias| !(0.0..=LARGEST_LOGIT).contains(&(shift - bias)))
        {
            return Err(Error::Range {
                side: "target",
                row: self.keep[column],
                value: shift - bias[column],
            });
        }
        let mut out: Vec<f32> = bias.iter().map(|bias| (bias - shift) as f32).collect();
        out.resize(self.width, ABSENT);
        Ok((out, shift))
    }

    /// Blocks of words that a row is cut into.
    #[must_use]
    pub fn depth_blocks(&self) -> usize {
        self.depth.div_ceil(self.block_depth)
    }

    /// For each block of words all panels of y, one after the other, and how deep they are.
    pub fn panels(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let parts = self.panels.as_ref().chunks(self.width * self.block_depth);
        parts.map(|part| (part, part.len() / self.width))
    }

    /// Refuse a pool row whose logits would leave float32.
    ///
    /// # Errors
    /// If they would.
    pub fn check_range(&self, squared: f32, row: usize) -> Result<(), Error> {
        let norm = f64::from(squared).sqrt();
        let value = 2.0 * self.log2_unit * (norm * self.largest_norm).max(norm + self.largest_norm);
        if value <= LARGEST_LOGIT {
            Ok(())
        } else {
            Err(Error::Range {
                side: "pool",
                row,
                value,
            })
        }
    }

    /// Soft minimum f_i and hard minimum h_i of a row, from its peaks and the sum of its exponentials.
    #[must_use]
    pub fn minima(&self, squared: f32, soft: f32, hard: f32, sum: f32) -> (f64, f64) {
        let of_row = match self.kind {
            CostKind::SqEuclidean => f64::from(squared),
            CostKind::Cosine => 1.0,
            CostKind::Euclidean => 0.0,
        };
        let f = of_row - (f64::from(soft) + f64::from(sum).log2() + self.shift) / self.log2_unit;
        let h = of_row - (f64::from(hard) + self.hard_shift) / self.log2_unit;
        (f, h)
    }
}

/// The columns of positive weight, after checking b and g.
///
/// # Errors
/// If there is none, a weight is negative, or a potential is not finite.
pub fn weighty(b: &[f64], g: &[f64]) -> Result<Vec<usize>, Error> {
    let m = b.len();
    if m == 0 {
        return Err(Error::Empty("target"));
    }
    if g.len() != m {
        return Err(Error::Length {
            name: "g",
            found: g.len(),
            expected: m,
        });
    }
    if let Some(row) = b.iter().position(|b| !(*b >= 0.0 && b.is_finite())) {
        return Err(Error::Entry {
            name: "b",
            row,
            value: b[row],
            expected: "a weight is finite and not negative",
        });
    }
    let keep: Vec<usize> = (0..m).filter(|&j| b[j] > 0.0).collect();
    if keep.is_empty() {
        return Err(Error::NoWeight);
    }
    match keep.iter().find(|&&j| !g[j].is_finite()) {
        Some(&row) => Err(Error::Entry {
            name: "g",
            row,
            value: g[row],
            expected: "a potential is finite",
        }),
        None => Ok(keep),
    }
}
