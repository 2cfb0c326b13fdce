//! The Gram matrix G = sum_i w_i p_i p_i', (m, m), as a packed product of its own.
//!
//! While a block of rows is at hand its p are packed twice: v = sqrt(|w|) p in panels of a tile's columns, and u, the
//! same with the sign of w, in panels of a tile's rows; in bfloat16 pairs where the machine multiplies those. Rounded
//! alike, u and v make the Gram of a plan nearby, which bends steps as well. Tried: u = w p rounded on its own is a
//! matrix of no plan, and where eta is small against eps the last digits of the marginal error are not reached.
//!
//! When a super-block is complete, each panel of columns of G belongs to one thread, which computes the tiles on and below
//! the diagonal. Sums run in float32 within a group of blocks in which about five hundred rows are left, in float64 from
//! group to group of a span and from span to span, always in the order of the rows.

use rayon::prelude::*;

use crate::aligned::Aligned;
use crate::kernel::Kernel;

/// Panels that one thread takes at a time: a tile's rows of u come from afar once for all of them.
const SHARE: usize = 2;

/// The packed p of one block of rows.
#[derive(Debug, Default)]
pub struct PackedPlan {
    /// Words a column.
    depth: usize,
    u: Aligned,
    v: Aligned,
    words: Vec<f32>,
}

impl PackedPlan {
    /// Pack `strip` (rows, ld), whose first `width` columns hold p, with weights w (rows,); rows of weight 0 are left out.
    pub fn pack(
        &mut self,
        strip: &[f32],
        ld: usize,
        width: usize,
        weights: &[f32],
        kernel: &dyn Kernel,
    ) {
        let numbers = kernel.words().stacked();
        let kept: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] != 0.0).collect();
        let filled = kept.len().div_ceil(numbers);
        self.depth = filled.next_multiple_of(kernel.step());
        self.u
            .fit(width.next_multiple_of(kernel.tile().0) * self.depth);
        self.v.fit(width * self.depth);
        for (k, rows) in kept.chunks(numbers).enumerate() {
            // Without a partner the last row is its own, with weight 0.
            let [i, j] = [rows[0], rows[rows.len() - 1]];
            let one = if rows.len() == numbers { 1.0 } else { 0.0 };
            let rows = [i, j].map(|i| &strip[i * ld..][..ld]);
            self.lay_out(k, rows, [weights[i], one * weights[j]], kernel);
        }
        self.finish(filled, kernel);
    }

    /// Fill up with zeros what is beyond the words that are `filled`, and turn u.
    fn finish(&mut self, filled: usize, kernel: &dyn Kernel) {
        let (height, panel) = kernel.tile();
        for u in self.u.as_mut().chunks_mut((self.depth * height).max(1)) {
            u[filled * height..].fill(0.0);
            kernel.turn(u);
        }
        for v in self.v.as_mut().chunks_mut((self.depth * panel).max(1)) {
            v[filled * panel..].fill(0.0);
        }
    }

    /// Write the words of one step of depth; the strip's stride leaves room to read beyond the width.
    fn lay_out(&mut self, k: usize, rows: [&[f32]; 2], weights: [f32; 2], kernel: &dyn Kernel) {
        let (height, panel) = kernel.tile();
        let roots = weights.map(|w| w.abs().sqrt());
        let signed = [0, 1].map(|i| roots[i].copysign(weights[i]));
        let words = &mut self.words;
        words.resize(rows[0].len(), 0.0);
        kernel.stack(rows, signed, words);
        let u_parts = self.u.as_mut().chunks_mut(self.depth * height);
        for (u, words) in u_parts.zip(words.chunks_exact(height)) {
            u[k * height..][..height].copy_from_slice(words);
        }
        if signed.map(f32::to_bits) != roots.map(f32::to_bits) {
            kernel.stack(rows, roots, words);
        }
        let v_parts = self.v.as_mut().chunks_mut(self.depth * panel);
        for (v, words) in v_parts.zip(words.chunks_exact(panel)) {
            v[k * panel..][..panel].copy_from_slice(words);
        }
    }

    fn part(&self, tile_row: usize, panel_index: usize, tile: (usize, usize)) -> (&[f32], &[f32]) {
        let (u, v) = (self.depth * tile.0, self.depth * tile.1);
        (
            &self.u.as_ref()[tile_row * u..][..u],
            &self.v.as_ref()[panel_index * v..][..v],
        )
    }
}

/// The lower half of G within a span so far, one piece per panel of columns.
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
        let rows_from = |panel| (tile_rows - first_tile(panel, tile)) * tile.0;
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
        let size = tile.0 * tile.1;
        let shares = self.panels.par_chunks_mut(SHARE).enumerate();
        shares.with_max_len(1).for_each(|(share, panels)| {
            let mut out = vec![0.0; size];
            for row in first_tile(share * SHARE, tile)..tile_rows {
                for (panel, sums) in (share * SHARE..).zip(panels.iter_mut()) {
                    let Some(at) = row.checked_sub(first_tile(panel, tile)) else {
                        continue;
                    };
                    // The tile's sums come from afar once for all groups.
                    let sums = &mut sums[at * size..][..size];
                    for group in groups {
                        let mut parts = group.iter().map(|plan| plan.part(row, panel, tile));
                        kernel.outer(&mut parts, &mut out);
                        kernel.add_up(sums, &out);
                    }
                }
            }
        });
    }

    /// Add the lower half of G times `scale` to `out` (m, m), where column c stands for `keep[c]`; and begin at zero
    /// again.
    pub fn end_span(&mut self, keep: &[usize], scale: f64, out: &mut [f64]) {
        let rows = out.par_chunks_mut(out.len().isqrt()).enumerate();
        rows.for_each(|(j, out)| {
            if let Ok(row) = keep.binary_search(&j) {
                for (&column, sum) in keep[..=row].iter().zip(self.row(row)) {
                    out[column] += sum * scale;
                }
            }
        });
        self.panels.par_iter_mut().for_each(|panel| panel.fill(0.0));
    }

    /// A row of G, as far as its last panel reaches.
    fn row(&self, row: usize) -> impl Iterator<Item = f64> {
        let (height, width) = self.tile;
        let own = row / width;
        let start = move |panel| (row - first_tile(panel, (height, width)) * height) * width;
        let panels = self.panels[..=own].iter().enumerate();
        panels.flat_map(move |(panel, sums)| sums[start(panel)..][..width].iter().copied())
    }
}

/// Copy the lower half of a matrix (m, m) to the upper.
pub fn mirror(matrix: &mut [f64], m: usize) {
    for j in 0..m {
        for column in j + 1..m {
            matrix[j * m + column] = matrix[column * m + j];
        }
    }
}

/// The first tile of rows that reaches the diagonal in a panel of columns.
fn first_tile(panel: usize, tile: (usize, usize)) -> usize {
    panel * tile.1 / tile.0
}
