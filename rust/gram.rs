//! The Gram matrix G = sum_i w_i p_i p_i', (m, m), as a packed product of its own.
//!
//! While a block of rows is at hand its p are packed twice: v = p in panels of a tile's columns, u = w p in panels of a
//! tile's rows. When a super-block is complete, each panel of columns of G belongs to one thread, which computes the
//! tiles on and below the diagonal. Sums run in float32 within a group of about a thousand rows and in float64 from
//! group to group, always in the order of the rows.

use rayon::prelude::*;

use crate::kernel::Kernel;

/// The packed p of one block of rows.
#[derive(Debug, Default)]
pub struct PackedPlan {
    rows: usize,
    u: Vec<f32>,
    v: Vec<f32>,
}

impl PackedPlan {
    /// Pack `strip` (rows, ld), whose first `width` columns hold p, with weights w (rows,).
    pub fn pack(
        &mut self,
        strip: &[f32],
        ld: usize,
        width: usize,
        weights: &[f32],
        tile: (usize, usize),
    ) {
        let (height, panel) = tile;
        self.rows = weights.len();
        self.u
            .resize(width.next_multiple_of(height) * self.rows, 0.0);
        self.v.resize(width * self.rows, 0.0);
        for (i, (row, &w)) in strip.chunks(ld).zip(weights).enumerate() {
            let (u_parts, v_parts) = (
                self.u.chunks_mut(self.rows * height),
                self.v.chunks_mut(self.rows * panel),
            );
            // The strip's stride leaves room for the last part to read beyond the width.
            for (u, p) in u_parts.zip(row.chunks(height)) {
                for (u, p) in u[i * height..].iter_mut().zip(p) {
                    *u = w * p;
                }
            }
            for (v, p) in v_parts.zip(row.chunks(panel)) {
                v[i * panel..(i + 1) * panel].copy_from_slice(p);
            }
        }
    }

    fn part(&self, tile_row: usize, panel_index: usize, tile: (usize, usize)) -> (&[f32], &[f32]) {
        let (u, v) = (self.rows * tile.0, self.rows * tile.1);
        (
            &self.u[tile_row * u..][..u],
            &self.v[panel_index * v..][..v],
        )
    }
}

/// The lower half of G so far, one piece per panel of columns.
#[derive(Debug)]
pub struct Gram {
    panels: Vec<Vec<f64>>,
    tile: (usize, usize),
    tile_rows: usize,
}

impl Gram {
    /// Zeros for `width` columns.
    #[must_use]
    pub fn new(width: usize, tile: (usize, usize)) -> Self {
        let tile_rows = width.div_ceil(tile.0);
        let rows_from = |panel: usize| (tile_rows - panel * tile.1 / tile.0) * tile.0;
        let panels = (0..width / tile.1)
            .map(|panel| vec![0.0; rows_from(panel) * tile.1])
            .collect();
        Self {
            panels,
            tile,
            tile_rows,
        }
    }

    /// Add groups of blocks; each group is summed in float32.
    pub fn add(&mut self, groups: &[Vec<&PackedPlan>], kernel: &dyn Kernel) {
        let (tile, tile_rows) = (self.tile, self.tile_rows);
        self.panels
            .par_iter_mut()
            .enumerate()
            .with_max_len(1)
            .for_each(|(panel, sums)| {
                let mut out = vec![0.0; tile.0 * tile.1];
                let first = panel * tile.1 / tile.0;
                for group in groups {
                    for (row, sums) in
                        (first..tile_rows).zip(sums.chunks_exact_mut(tile.0 * tile.1))
                    {
                        kernel.outer(
                            &mut group.iter().map(|plan| plan.part(row, panel, tile)),
                            &mut out,
                        );
                        for (sum, &part) in sums.iter_mut().zip(&out) {
                            *sum += f64::from(part);
                        }
                    }
                }
            });
    }

    /// G times `scale` as (m, m), both halves, where column c stands for `keep[c]`.
    #[must_use]
    pub fn finish(self, keep: &[usize], m: usize, scale: f64) -> Vec<f64> {
        let (height, width) = self.tile;
        let mut out = vec![0.0; m * m];
        for (panel, sums) in self.panels.into_iter().enumerate() {
            let first = panel * width / height * height;
            for (row, sums) in (first..keep.len()).zip(sums.chunks_exact(width)) {
                for (column, sum) in (panel * width..=row).zip(sums) {
                    out[keep[row] * m + keep[column]] = sum * scale;
                    out[keep[column] * m + keep[row]] = sum * scale;
                }
            }
        }
        out
    }
}
