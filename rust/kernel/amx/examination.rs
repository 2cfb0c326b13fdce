//! What a machine has to answer before its AMX is used.

use std::ops::Range;

use super::{COLUMNS, PackedRow, ROWS, SIDE, STEP, STRIDE, Steps, digits, outer, pairs};
use crate::kernel::DIGITS;

/// Depths that are one step or several, whole or with a rest.
const DEPTHS: [usize; 3] = [1, SIDE, 2 * SIDE + 5];

/// Kernel's tiles of rows that are asked for, and panels.
const TILES: usize = 2;
const PANELS: usize = 2;

/// Whether products of small whole numbers come out exactly.
pub(super) fn passed_by(
    of_pairs: impl Fn(Steps, &[PackedRow; ROWS], (&[f32], usize), (&mut [f32], usize), bool),
    of_digits: digits::Multiply,
    of_outer: impl Fn(&[f32], &[f32], &mut [f32]),
) -> bool {
    pairs_are_right(of_pairs) && digits_are_right(of_digits) && outer_is_right(of_outer)
}

fn pairs_are_right(
    of_pairs: impl Fn(Steps, &[PackedRow; ROWS], (&[f32], usize), (&mut [f32], usize), bool),
) -> bool {
    DEPTHS.into_iter().all(|depth| {
        let x = rows(depth, pair_of);
        let firsts = (0..PANELS).map(|panel| panel * COLUMNS);
        let y = firsts.flat_map(|first| panel(depth, first..first + COLUMNS, pair_of));
        let (y, ld) = (y.collect::<Vec<_>>(), PANELS * COLUMNS);
        let found = answer(ld, |out| {
            pairs::product(&of_pairs, &x, (&y, depth), (out, ld), true);
        });
        let right = |r, c| {
            let numbers = 0..2 * depth;
            numbers.map(|k| x_at(r, k) * y_at(k, c)).sum::<i32>() as f32
        };
        agree(&found, ld, right)
    })
}

fn digits_are_right(of_digits: digits::Multiply) -> bool {
    let asked = DEPTHS
        .into_iter()
        .flat_map(|depth| [(depth, false), (depth, true)]);
    asked.into_iter().all(|(part, close)| {
        let part = part.next_multiple_of(SIDE);
        let depth = DIGITS * part;
        let mut x = rows(depth, bytes_of);
        for x in &mut x {
            x[depth] = 1.0 / 256.0;
        }
        let columns = digits::COLUMNS;
        let mut y = Vec::new();
        for first in (0..PANELS).map(|panel| panel * columns) {
            y.extend(panel(depth, first..first + columns, bytes_of));
            y.extend([1.0 / 256.0; digits::COLUMNS]);
        }
        let ld = PANELS * columns;
        let found = answer(ld, |out| {
            digits::product(of_digits, &x, (&y, depth + 1), (out, ld), true, close);
        });
        let order = |r, c, order: usize| {
            let pairs = (0..=order).map(|i| (4 * part * i, 4 * part * (order - i)));
            let dot = |(i, j)| {
                (0..4 * part)
                    .map(|k| x_at(r, i + k) * y_at(j + k, c))
                    .sum::<i32>()
            };
            pairs.map(dot).sum::<i32>() as f32
        };
        let [high, middle, low] = [0, 1, 2].map(|index| move |r, c| order(r, c, index));
        agree(&found, ld, |r, c| {
            let low = if close { 0.0 } else { low(r, c) };
            high(r, c).mul_add(65536.0, middle(r, c).mul_add(256.0, low))
        })
    })
}

fn outer_is_right(of_outer: impl Fn(&[f32], &[f32], &mut [f32])) -> bool {
    [0, 1, 3].into_iter().all(|steps| {
        let v = panel(steps * STEP, 0..COLUMNS, pair_of);
        let words = (0..steps * STEP).flat_map(|word| (0..ROWS).map(move |r| (word, r)));
        let mut u: Vec<f32> = words
            .map(|(word, r)| pair_of(word, &|k| x_at(r, k)))
            .collect();
        outer::turn(&mut u);
        let mut found = vec![7.0; ROWS * COLUMNS];
        of_outer(&u, &v, &mut found);
        agree(&found, COLUMNS, |r, c| {
            let numbers = 0..2 * STEP * steps;
            numbers.map(|k| x_at(r, k) * y_at(k, c)).sum::<i32>() as f32 - 1.0
        })
    })
}

/// What comes out where 1 was, in rows of `ld`.
fn answer(ld: usize, multiply: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = vec![1.0; TILES * ROWS * ld];
    multiply(&mut out);
    out
}

fn agree(found: &[f32], ld: usize, right: impl Fn(usize, usize) -> f32) -> bool {
    found
        .iter()
        .enumerate()
        .all(|(place, found)| found.to_bits() == (1.0 + right(place / ld, place % ld)).to_bits())
}

fn x_at(r: usize, k: usize) -> i32 {
    ((r * 101 + k) * 7919 % 13) as i32 - 6
}

fn y_at(k: usize, c: usize) -> i32 {
    ((k * 37 + c) * 7919 % 11) as i32 - 5
}

/// Makes a word from the numbers at their places in a row or column.
type WordOf = fn(usize, &dyn Fn(usize) -> i32) -> f32;

/// A word of two bfloat16.
fn pair_of(word: usize, at: &dyn Fn(usize) -> i32) -> f32 {
    let [low, high] = [0, 1].map(|k| (at(2 * word + k) as f32).to_bits());
    f32::from_bits(high | low >> 16)
}

/// A word of four bytes.
fn bytes_of(word: usize, at: &dyn Fn(usize) -> i32) -> f32 {
    let bytes = [0, 1, 2, 3].map(|k| at(4 * word + k).to_le_bytes()[0]);
    f32::from_bits(u32::from_le_bytes(bytes))
}

/// Rows of x, as they are packed.
fn rows(depth: usize, word_of: WordOf) -> Vec<PackedRow> {
    let mut x = vec![[0.0; STRIDE]; TILES * ROWS];
    for (r, x) in x.iter_mut().enumerate() {
        for (word, x) in x[..depth].iter_mut().enumerate() {
            *x = word_of(word, &|k| x_at(r, k));
        }
    }
    x
}

/// A panel of some columns of y, as it is packed.
fn panel(depth: usize, columns: Range<usize>, word_of: WordOf) -> Vec<f32> {
    let places = (0..depth).flat_map(|word| columns.clone().map(move |c| (word, c)));
    places
        .map(|(word, c)| word_of(word, &|k| y_at(k, c)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{BELOW, Holds, Shapes};
    use super::*;

    /// A tile register: what of its 16 rows of 16 words its shape takes in.
    type Tile = [[u32; SIDE]; SIDE];

    /// The eight tiles, with the instructions written out as Intel's manual describes them.
    struct Twin {
        shapes: Shapes,
        tiles: [Tile; 8],
    }

    impl Twin {
        fn new(tiles: [Holds; 8], side: usize) -> Self {
            Self {
                shapes: Shapes::new(tiles, side),
                tiles: [[[0; SIDE]; SIDE]; 8],
            }
        }

        fn words(&self, tile: usize) -> usize {
            usize::from(self.shapes.row_bytes[tile]) / 4
        }

        fn rows(&self, tile: usize) -> usize {
            usize::from(self.shapes.rows[tile])
        }

        fn load(&mut self, tile: usize, word: impl Fn(usize, usize) -> u32) {
            self.tiles[tile] = [[0; SIDE]; SIDE];
            for r in 0..self.rows(tile) {
                for k in 0..self.words(tile) {
                    self.tiles[tile][r][k] = word(r, k);
                }
            }
        }

        fn load_floats(&mut self, tile: usize, from: &[f32], stride: usize) {
            self.load(tile, |r, k| from[r * stride + k].to_bits());
        }

        fn store_floats(&self, tile: usize, to: &mut [f32], stride: usize) {
            for (r, sums) in self.tiles[tile].iter().enumerate() {
                to[r * stride..][..SIDE].copy_from_slice(&sums.map(f32::from_bits));
            }
        }

        /// `dot` makes a new sum of the old one and two words.
        fn multiply(&mut self, [c, a, b]: [usize; 3], dot: impl Fn(u32, u32, u32) -> u32) {
            assert_eq!((self.rows(a), self.words(b)), (self.rows(c), self.words(c)));
            assert_eq!(self.words(a), self.rows(b));
            for r in 0..self.rows(c) {
                for n in 0..self.words(c) {
                    for k in 0..self.rows(b) {
                        let (x, y) = (self.tiles[a][r][k], self.tiles[b][k][n]);
                        self.tiles[c][r][n] = dot(self.tiles[c][r][n], x, y);
                    }
                }
            }
        }
    }

    /// `TDPBF16PS`, of one word.
    fn dot_of_pairs(sum: u32, x: u32, y: u32) -> u32 {
        let [high, low] = [
            |word| f32::from_bits(word & 0xFFFF_0000),
            |word| f32::from_bits(word << 16),
        ];
        let sum = f32::from_bits(sum) + low(x) * low(y);
        (sum + high(x) * high(y)).to_bits()
    }

    /// `TDPBSSD`, of one word.
    fn dot_of_bytes(sum: u32, x: u32, y: u32) -> u32 {
        let pairs = x.to_le_bytes().into_iter().zip(y.to_le_bytes());
        let products = pairs.map(|(x, y)| i32::from(x as i8) * i32::from(y as i8));
        (sum.cast_signed() + products.sum::<i32>()).cast_unsigned()
    }

    fn pairs_twin(
        steps: Steps,
        x: &[PackedRow; ROWS],
        (y, depth): (&[f32], usize),
        (out, ld): (&mut [f32], usize),
        accumulate: bool,
    ) {
        for (panel, y) in y.chunks(depth * COLUMNS).enumerate() {
            let places = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)];
            let places = places.map(|(row, column)| row * ld + column + panel * COLUMNS);
            let mut twin = Twin::new(pairs::TILES, steps.side);
            for (tile, place) in places.into_iter().enumerate().filter(|_| accumulate) {
                twin.load_floats(tile, &out[place..], ld);
            }
            for step in 0..steps.count {
                let word = steps.first + step * SIDE;
                twin.load_floats(4, &x.as_flattened()[word..], STRIDE);
                twin.load_floats(5, &x.as_flattened()[word + BELOW / 4..], STRIDE);
                twin.load_floats(6, &y[word * COLUMNS..], COLUMNS);
                twin.load_floats(7, &y[word * COLUMNS + SIDE..], COLUMNS);
                for tiles in [[0, 4, 6], [1, 4, 7], [2, 5, 6], [3, 5, 7]] {
                    twin.multiply(tiles, dot_of_pairs);
                }
            }
            for (tile, place) in places.into_iter().enumerate() {
                twin.store_floats(tile, &mut out[place..], ld);
            }
        }
    }

    /// The sums of a unit.
    fn unit(rows: &[PackedRow; ROWS], y: &[f32], depth: usize, close: bool) -> digits::Orders {
        let digit = depth / DIGITS;
        let mut twin = Twin::new(digits::TILES, SIDE);
        for word in (0..digit).step_by(SIDE) {
            let pairs = [(0, 2), (0, 1), (0, 0), (1, 1), (1, 0), (2, 0)];
            for (j, i) in pairs.into_iter().filter(|(j, i)| !close || i + j < 2) {
                let columns = digits::COLUMNS;
                twin.load_floats(7, &y[(j * digit + word) * columns..], columns);
                for half in 0..2 {
                    let from = i * digit + word + half * BELOW / 4;
                    twin.load_floats(6, &rows.as_flattened()[from..], STRIDE);
                    twin.multiply([2 * (i + j) + half, 6, 7], dot_of_bytes);
                }
            }
        }
        let sums = |order: usize, r: usize| twin.tiles[2 * order + r / SIDE][r % SIDE];
        digits::Orders(std::array::from_fn(|order| {
            std::array::from_fn(|r| sums(order, r).map(u32::cast_signed))
        }))
    }

    fn digits_twin(
        x: &[PackedRow; ROWS],
        (y, depth): (&[f32], usize),
        sums: &mut digits::Orders,
        (out, ld): (&mut [f32], usize),
        accumulate: bool,
        close: bool,
    ) {
        let panels: Vec<&[f32]> = y.chunks(depth * digits::COLUMNS).collect();
        *sums = unit(x, panels[0], depth, close);
        for (index, pair) in panels.windows(2).enumerate() {
            let out = &mut out[index * digits::COLUMNS..];
            digits::weigh(sums, x, pair[0], (out, ld), accumulate);
            *sums = unit(x, pair[1], depth, close);
        }
    }

    fn outer_twin(u: &[f32], v: &[f32], out: &mut [f32]) {
        let mut twin = Twin::new(outer::TILES, STEP);
        for (u, v) in u.chunks(STEP * ROWS).zip(v.chunks(STEP * COLUMNS)) {
            twin.load_floats(4, u, STEP);
            twin.load_floats(5, &u[SIDE * STEP..], STEP);
            twin.load_floats(6, v, COLUMNS);
            twin.load_floats(7, &v[SIDE..], COLUMNS);
            for tiles in [[0, 4, 6], [1, 4, 7], [2, 5, 6], [3, 5, 7]] {
                twin.multiply(tiles, dot_of_pairs);
            }
        }
        let places = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)];
        for (tile, (row, column)) in places.into_iter().enumerate() {
            twin.store_floats(tile, &mut out[row * COLUMNS + column..], COLUMNS);
        }
    }

    #[test]
    fn the_instructions_pass() {
        assert!(passed_by(pairs_twin, digits_twin, outer_twin));
    }

    #[test]
    fn wrong_products_do_not_pass() {
        assert!(!pairs_are_right(|_, _, _, _, _| ()));
        assert!(!pairs_are_right(|steps, x, y, (out, ld), accumulate| {
            pairs_twin(steps, x, y, (&mut *out, ld), accumulate);
            out[31 * ld + 63] += 1.0;
        }));
        assert!(!digits_are_right(|_, _, _, _, _, _| ()));
        assert!(!digits_are_right(
            |x, y, sums, (out, ld), accumulate, close| {
                digits_twin(x, y, sums, (&mut *out, ld), accumulate, close);
                sums.0[2][31][15] += 1;
            }
        ));
        assert!(!digits_are_right(
            |x, y, sums, (out, ld), accumulate, close| {
                digits_twin(x, y, sums, (&mut *out, ld), accumulate, close);
                out[31 * ld + 15] = 0.0;
            }
        ));
        assert!(!outer_is_right(|_, _, _| ()));
        assert!(!outer_is_right(|u, v, out| {
            outer_twin(u, v, out);
            out[ROWS * COLUMNS - 1] += 1.0;
        }));
    }
}
