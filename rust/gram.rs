//! The Gram matrix G = sum_i w_i p_i p_i', (m, m), as a packed product of its own.
//!
//! The rows that thinning leaves of some blocks are gathered to about five hundred, a group, and packed twice:
//! v = sqrt(|w|) p in panels of a tile's columns, and u, the same with the sign of w, in panels of a tile's rows; in
//! bfloat16 pairs where the machine multiplies those. Rounded alike, u and v make the Gram of a plan nearby, which bends
//! steps as well. Tried: u = w p rounded on its own is a matrix of no plan, and where eta is small against eps the last
//! digits of the marginal error are not reached.
//!
//! Rows of few columns (`left`) go straight into the float64 sums, pair by pair of these.
//!
//! Where a selection has all the mass, thinning leaves but two or three rows of a block. As groups of 16 blocks, each
//! filled up to AMX's 32 rows, they took a look at a kept plan 43 ms in place of 23 (n 100,000, m 1,000, mass 1; by a
//! script that is not kept).
//!
//! Each panel of columns of G belongs to one thread, which computes the tiles on and below the diagonal. Sums run in
//! float32 within a group, in float64 from group to group of a span and from span to span, always in the order of the
//! rows; a span's last group ends with it.

use rayon::prelude::*;

use crate::aligned::Aligned;
use crate::kernel::Kernel;
use crate::kernel::advise::large_pages;
use crate::left::{FewColumns, Left};
use crate::sizes::stride;

/// Rows that are summed in float32, about.
const GROUP_ROWS: usize = 512;

/// A matrix is turned by squares of so many rows, which the first cache holds.
const SQUARE: usize = 32;

/// Panels that one thread takes at a time.
const SHARE: usize = 2;

/// The packed p of a group of blocks.
#[derive(Debug, Default)]
struct PackedPlan {
    /// Words a column.
    depth: usize,
    u: Aligned,
    v: Aligned,
}

impl PackedPlan {
    /// Pack rows of `width` columns; their stride leaves room to read beyond the width.
    fn pack(&mut self, group: &[Left], width: usize, kernel: &dyn Kernel) {
        let (height, panel) = kernel.tile();
        let rows: Vec<&[f32]> = group
            .iter()
            .flat_map(|left| left.rows.chunks_exact(stride(width)))
            .collect();
        if rows.is_empty() {
            self.depth = 0;
            return;
        }
        let weights = || group.iter().flat_map(|left| &left.weights);
        let roots: Vec<f32> = weights().map(|w| w.abs().sqrt()).collect();
        let signed: Vec<f32> = weights()
            .zip(&roots)
            .map(|(w, root)| root.copysign(*w))
            .collect();
        let words = rows.len().div_ceil(kernel.words().stacked());
        self.depth = words.next_multiple_of(kernel.step());
        self.u.fit(width.next_multiple_of(height) * self.depth);
        self.v.fit(width.next_multiple_of(panel) * self.depth);
        let tiles = self.u.as_mut().par_chunks_mut(self.depth * height);
        tiles.enumerate().for_each(|(tile, u)| {
            kernel.stack(&rows, tile * height..(tile + 1) * height, &signed, u);
            kernel.turn(u);
        });
        let panels = self.v.as_mut().par_chunks_mut(self.depth * panel);
        panels.enumerate().for_each(|(index, v)| {
            kernel.stack(&rows, index * panel..(index + 1) * panel, &roots, v);
        });
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
    width: usize,
    panels: Vec<Vec<f64>>,
    packed: Vec<PackedPlan>,
    open: Vec<Left>,
    open_rows: usize,
    spare: Vec<Left>,
    tile: (usize, usize),
    tile_rows: usize,
}

impl Gram {
    /// G (m, m), all zeros. In small pages it would take a first look 11 ms of some 70 to touch them (m 1,000; by a script
    /// that is not kept).
    #[must_use]
    pub fn zeros(m: usize) -> Vec<f64> {
        let zeros = vec![0.0; m * m];
        // If the system refuses, small ones will do.
        let _ = large_pages(&zeros);
        zeros
    }

    /// Zeros for `width` columns.
    #[must_use]
    pub fn new(width: usize, tile: (usize, usize)) -> Self {
        let tile_rows = width.div_ceil(tile.0);
        let rows_from = |panel| (tile_rows - first_tile(panel, tile)) * tile.0;
        let panels = (0..width.div_ceil(tile.1))
            .map(|panel| vec![0.0; rows_from(panel) * tile.1])
            .collect();
        Self {
            width,
            panels,
            packed: Vec::new(),
            open: Vec::new(),
            open_rows: 0,
            spare: Vec::new(),
            tile,
            tile_rows,
        }
    }

    /// Take what is left of the next blocks of a span, and add the groups that these complete.
    pub fn add<'a>(&mut self, blocks: impl Iterator<Item = &'a mut Left>, kernel: &dyn Kernel) {
        let mut groups = Vec::new();
        for left in blocks.filter(|left| !left.is_empty()) {
            self.open_rows += left.weights.len();
            let spare = self.spare.pop().unwrap_or_default();
            self.open.push(std::mem::replace(left, spare));
            if self.open_rows >= GROUP_ROWS {
                groups.push(self.close());
            }
        }
        self.add_groups(groups, kernel);
    }

    /// What was gathered, whole or not.
    fn close(&mut self) -> Vec<Left> {
        self.open_rows = 0;
        std::mem::take(&mut self.open)
    }

    /// Add groups, each of which is summed in float32.
    fn add_groups(&mut self, groups: Vec<Vec<Left>>, kernel: &dyn Kernel) {
        if groups.is_empty() {
            return;
        }
        self.packed.resize_with(groups.len(), PackedPlan::default);
        for (packed, group) in self.packed.iter_mut().zip(&groups) {
            packed.pack(group, self.width, kernel);
        }
        let (packed, tile, tile_rows) = (&self.packed, self.tile, self.tile_rows);
        let size = tile.0 * tile.1;
        let shares = self.panels.par_chunks_mut(SHARE).enumerate();
        shares.with_max_len(1).for_each(|(share, panels)| {
            let mut out = vec![0.0; size];
            // Tile by tile down a panel, whose v then stays in the first cache: the other way around, a look at a kept plan
            // with its Gram takes a tenth longer.
            for (panel, sums) in (share * SHARE..).zip(panels.iter_mut()) {
                for (plan, group) in packed.iter().zip(&groups) {
                    let rows = (first_tile(panel, tile)..tile_rows).zip(sums.chunks_mut(size));
                    for (row, sums) in rows.filter(|_| plan.depth > 0) {
                        let (u, v) = plan.part(row, panel, tile);
                        kernel.outer(u, v, &mut out);
                        kernel.add_up(sums, &out);
                    }
                    for left in group {
                        add_few(&left.few, panel, tile, sums);
                    }
                }
            }
        });
        self.spare.extend(groups.into_iter().flatten());
    }

    /// Add the lower half of G times `scale` to `out` (m, m), where column c stands for `keep[c]`; and begin at zero
    /// again.
    pub fn end_span(&mut self, keep: &[usize], scale: f64, out: &mut [f64], kernel: &dyn Kernel) {
        if !self.open.is_empty() {
            let last = self.close();
            self.add_groups(vec![last], kernel);
        }
        let rows = out.par_chunks_mut(out.len().isqrt()).enumerate();
        rows.for_each(|(j, out)| {
            if let Ok(row) = keep.binary_search(&j) {
                for (columns, sums) in keep[..=row].chunks(self.tile.1).zip(self.row(row)) {
                    for (&column, sum) in columns.iter().zip(sums) {
                        out[column] += sum * scale;
                    }
                }
            }
        });
        self.panels.par_iter_mut().for_each(|panel| panel.fill(0.0));
    }

    /// A row of G, panel by panel, as far as its last one reaches.
    fn row(&self, row: usize) -> impl Iterator<Item = &[f64]> {
        let (height, width) = self.tile;
        let own = row / width;
        let start = move |panel| (row - first_tile(panel, (height, width)) * height) * width;
        let panels = self.panels[..=own].iter().enumerate();
        panels.map(move |(panel, sums)| &sums[start(panel)..][..width])
    }
}

/// Numbers of G that are smaller in size count for nothing, and are taken as 0: as float32 they would have fewer digits,
/// which processors multiply a hundred times as slowly. At eps .0044 of the mean cost conjugate gradients for 2,700
/// targets took up to 245 ms with them, and take 26 (by a script that is not kept).
const NOTHING: f64 = 1e-30;

/// Copy the lower half of a matrix (m, m) to the upper, and what is nothing as 0 to both.
pub fn mirror(matrix: &mut [f64], m: usize) {
    let starts = || (0..m).step_by(SQUARE);
    for (first_row, first_column) in
        starts().flat_map(|row| starts().map(move |column| (row, column)))
    {
        for j in first_row..m.min(first_row + SQUARE) {
            for column in first_column.max(j + 1)..m.min(first_column + SQUARE) {
                let below = &mut matrix[column * m + j];
                if below.abs() < NOTHING {
                    *below = 0.0;
                }
                matrix[j * m + column] = *below;
            }
        }
    }
}

/// Add rows by their few columns to a panel's sums.
fn add_few(few: &FewColumns, panel: usize, tile: (usize, usize), sums: &mut [f64]) {
    let (height, width) = tile;
    let columns = panel * width..(panel + 1) * width;
    let above = first_tile(panel, tile) * height;
    for (entries, weight) in few.rows() {
        let begin = entries.partition_point(|entry| entry.column() < columns.start);
        for (at, entry) in (begin..).zip(&entries[begin..]) {
            if entry.column() >= columns.end {
                break;
            }
            let factor = f64::from(weight) * f64::from(entry.e);
            for below in &entries[at..] {
                let place = (below.column() - above) * width + entry.column() - columns.start;
                sums[place] += factor * f64::from(below.e);
            }
        }
    }
}

/// The first tile of rows that reaches the diagonal in a panel of columns.
fn first_tile(panel: usize, tile: (usize, usize)) -> usize {
    panel * tile.1 / tile.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::available;
    use crate::left::Bend;
    use crate::left::tests::{COLUMNS, row};

    #[test]
    fn rows_of_few_columns_and_of_many_make_one_gram() {
        for isa in available() {
            let kernel = isa.outer;
            let (height, panel) = kernel.tile();
            let width = COLUMNS.next_multiple_of(panel);
            let ld = stride(width);
            let mut gram = Gram::new(width, (height, panel));
            let mut exact = vec![0.0; COLUMNS * COLUMNS];
            let mut blocks: Vec<Left> = Vec::new();
            for block in 0..12 {
                let rows: Vec<usize> = (100 * block..100 * (block + 1)).collect();
                let strip: Vec<f32> = rows.iter().flat_map(|&r| row(r, ld)).collect();
                let weights: Vec<f32> = rows.iter().map(|&r| (r % 7) as f32 - 2.0).collect();
                let mut left = Left::default();
                for ((&row, e), &weight) in rows.iter().zip(strip.chunks(ld)).zip(&weights) {
                    let bend = Bend {
                        row,
                        mass: 1.0,
                        weight: weight.into(),
                        surplus: 0.0,
                        sum: e.iter().sum(),
                    };
                    let stands_for = left.take((e, COLUMNS), &bend, 1.0, kernel);
                    assert!((stands_for - 1.0).abs() < 1e-12);
                }
                let weighing = rows.iter().filter(|&&r| r % 7 != 2);
                let (many, few): (Vec<usize>, Vec<usize>) = weighing.partition(|&r| r % 3 == 0);
                assert_eq!(left.weights.len(), many.len());
                assert_eq!(left.few.rows().count(), few.len());
                for (row, &weight) in strip.chunks(ld).zip(&weights) {
                    for j in 0..COLUMNS {
                        for h in 0..=j {
                            exact[j * COLUMNS + h] +=
                                f64::from(weight) * f64::from(row[j]) * f64::from(row[h]);
                        }
                    }
                }
                blocks.push(left);
            }
            let keep: Vec<usize> = (0..COLUMNS).collect();
            let mut found = vec![0.0; COLUMNS * COLUMNS];
            for blocks in blocks.chunks_mut(5) {
                gram.add(blocks.iter_mut(), kernel);
            }
            gram.end_span(&keep, 0.5, &mut found, kernel);
            let largest = exact.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            for (found, exact) in found.iter().zip(&exact) {
                assert!(
                    (found - 0.5 * exact).abs() < 2e-3 * largest,
                    "{}: {found} in place of {}",
                    kernel.name(),
                    0.5 * exact
                );
            }
        }
    }

    #[test]
    fn what_is_nothing_is_zero_in_both_halves() {
        let m = 70;
        let entry = |j: usize, h: usize| [1e-31, 2.0, -1e-40, -3e-29][(j * 7 + h) % 4];
        let mut matrix = vec![0.0; m * m];
        for j in 0..m {
            for h in 0..=j {
                matrix[j * m + h] = if j == h { 1.0 } else { entry(j, h) };
            }
        }
        mirror(&mut matrix, m);
        for (j, h) in (0..m).flat_map(|j| (0..m).map(move |h| (j, h))) {
            let entry = entry(j.max(h), j.min(h));
            let expected = match entry {
                _ if j == h => 1.0,
                1e-31 | -1e-40 => 0.0,
                _ => entry,
            };
            assert_eq!(matrix[j * m + h].to_bits(), f64::to_bits(expected));
        }
    }
}
