//! Every kernel the machine has against one naive float64 twin.
#![allow(clippy::float_cmp)] // maxima and zeros are exact

use super::{Columns, DEPTH, Kernel, STRIDE, Side, Words, codes, kernels};

/// A reproducible number in -1..1.
fn noise(seed: usize) -> f32 {
    let mut x = (seed as u32).wrapping_mul(0x9E37_79B9) ^ 0x85EB_CA6B;
    x = (x ^ (x >> 15)).wrapping_mul(0x2C1B_3C6D);
    x = (x ^ (x >> 12)).wrapping_mul(0x297A_2D39);
    (x >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// Rows of noise (rows, d), rounded to what the kernel multiplies.
fn rounded(kernel: &dyn Kernel, rows: usize, d: usize, seed: usize) -> Vec<f32> {
    let mut x: Vec<f32> = (0..rows * d).map(|i| noise(i + seed)).collect();
    kernel.round(&mut x);
    x
}

/// A panel (depth, width) of the columns (width, d).
fn panel(kernel: &dyn Kernel, columns: &[f32], d: usize) -> Vec<f32> {
    let (width, depth) = (columns.len() / d, kernel.words().of(d));
    let mut panel = vec![0.0; depth * width];
    let mut words = vec![0.0; depth];
    for (c, column) in columns.chunks(d).enumerate() {
        kernel.pack(Side::Column, column, &mut words);
        for (k, &word) in words.iter().enumerate() {
            panel[k * width + c] = word;
        }
    }
    panel
}

fn close(found: f32, exact: f64, tolerance: f64, what: &str, kernel: &dyn Kernel) {
    let error = (f64::from(found) - exact).abs();
    assert!(
        error <= tolerance * (1.0 + exact.abs()),
        "{} {what}: {found} for {exact}",
        kernel.name()
    );
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn product_is_the_sum_of_products() {
    for kernel in kernels() {
        let (height, width) = kernel.tile();
        for d in [1, 2, 37, DEPTH, kernel.words().block()] {
            let (rows, panels) = (2 * height, 3);
            let ld = panels * width + 3;
            let (x, y) = (
                rounded(kernel, rows, d, 0),
                rounded(kernel, panels * width, d, 1_000_003),
            );
            let mut packed = vec![[0.0; STRIDE]; rows];
            for (packed, x) in packed.iter_mut().zip(x.chunks(d)) {
                kernel.pack(Side::Row, x, packed);
            }
            let y_panels = y.chunks(width * d).flat_map(|y| panel(kernel, y, d));
            let (y_panels, depth) = (y_panels.collect::<Vec<_>>(), kernel.words().of(d));
            let mut out = vec![7.0; rows * ld];
            kernel.product(&packed, &y_panels, depth, &mut out, ld, false);
            kernel.product(&packed, &y_panels, depth, &mut out, ld, true);
            for (x, out) in x.chunks(d).zip(out.chunks(ld)) {
                for (y, &found) in y.chunks(d).zip(out) {
                    let terms = x.iter().zip(y);
                    let exact: f64 = terms.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    let tolerance = match kernel.words() {
                        // Numbers of one row are rounded alike, the small ones too.
                        Words::Digits if kernel.name().contains("first") => {
                            5e-5 * (1.0 + norm(x) * norm(y))
                        }
                        // Several times their half steps, which add up as noise does.
                        Words::Shorts => 3e-4 * (1.0 + norm(x) * norm(y)),
                        Words::Digits => 5e-7 * (1.0 + norm(x) * norm(y)),
                        _ => 1e-5,
                    };
                    close(found, 2.0 * exact, tolerance, "product", kernel);
                }
                assert!(
                    out[panels * width..].iter().all(|&v| v == 7.0),
                    "wrote beyond the panels"
                );
            }
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_word() {
    for kernel in kernels() {
        let pairs = kernel.words() == Words::Pairs;
        // Eight binary digits: half a unit in the last place, seen from the lower end of an octave.
        let tolerance = if pairs { 0.5_f32.powi(8) } else { 0.0 };
        let scales = (-30..30).map(|power| 10_f32.powi(power));
        let x: Vec<f32> = scales.enumerate().map(|(i, s)| s * noise(i)).collect();
        let mut found = x.clone();
        kernel.round(&mut found);
        for (&x, &found) in x.iter().zip(&found) {
            assert!((x - found).abs() <= tolerance * x.abs(), "{x}: {found}");
        }
        if pairs {
            let mut ties = [257.0, 259.0, -257.0];
            kernel.round(&mut ties);
            assert_eq!(ties, [256.0, 260.0, -256.0]);
        }
    }
}

#[test]
fn rows_are_shifted_scaled_and_measured() {
    for kernel in kernels() {
        for d in [1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..d).map(noise).collect();
            let centre: Vec<f32> = (0..d).map(|k| noise(k + 50)).collect();
            let mut found = x.clone();
            kernel.subtract(&mut found, &centre);
            kernel.scale(&mut found, 3.0);
            let mut norm = 0.0;
            for ((&found, &x), &centre) in found.iter().zip(&x).zip(&centre) {
                assert_eq!(found, (x - centre) * 3.0);
                norm += f64::from(found).powi(2);
            }
            close(kernel.squared_norm(&found), norm, 1e-6, "norm", kernel);
        }
    }
}

/// Columns of rows (rows, width) as `outer` reads them, each times its factor, from the second on.
fn stacked(kernel: &dyn Kernel, x: &[f32], width: usize, factors: &[f32]) -> Vec<f32> {
    let rows: Vec<&[f32]> = x.chunks(width + 1).collect();
    let words = rows.len().div_ceil(kernel.words().stacked());
    let mut out = vec![7.0; words.next_multiple_of(kernel.step()) * width];
    kernel.stack(&rows, 1..width + 1, factors, &mut out);
    out
}

#[test]
fn outer_sums_over_all_rows() {
    for kernel in kernels() {
        let (height, width) = kernel.tile();
        for count in [1, 5, 64, 67] {
            // Powers of two, so that what is rounded stays what it is.
            let factors: Vec<f32> = (0..count).map(|i| [2.0, -0.5, 1.0][i % 3]).collect();
            let x = rounded(kernel, count, height + 1, count);
            let y = rounded(kernel, count, width + 1, 77 * count);
            let mut u = stacked(kernel, &x, height, &factors);
            kernel.turn(&mut u);
            let v = stacked(kernel, &y, width, &vec![1.0; count]);
            let mut out = vec![7.0; height * width];
            kernel.outer(&u, &v, &mut out);
            for r in 0..height {
                for c in 0..width {
                    let rows = x.chunks(height + 1).zip(y.chunks(width + 1)).zip(&factors);
                    let exact = rows
                        .map(|((x, y), &factor)| f64::from(factor * x[r + 1]) * f64::from(y[c + 1]))
                        .sum();
                    close(out[r * width + c], exact, 1e-5, "outer", kernel);
                }
            }
        }
    }
}

#[test]
fn logits_and_peaks_follow_the_formula() {
    for kernel in kernels() {
        let m = 7 * kernel.tile().1;
        for (euclidean, even) in [(false, false), (false, true), (true, false), (true, true)] {
            let hard_bias: Vec<f32> = (0..m).map(|j| 3.0 * noise(j + m)).collect();
            let columns = Columns {
                bias: (0..m).map(|j| 3.0 * noise(j)).collect(),
                hard_bias: if even { Vec::new() } else { hard_bias },
                squared: if euclidean {
                    (0..m).map(|j| 2.0 + noise(j + 2 * m)).collect()
                } else {
                    Vec::new()
                },
                scale: if euclidean { -20.0 } else { 20.0 },
            };
            let dots: Vec<f32> = (0..m).map(|j| noise(j + 5)).collect();
            let mut z = dots.clone();
            let peak = kernel.logits(&mut z, &columns, 1.5, true);
            let value = |j: usize| match columns.squared.get(j) {
                Some(&squared) => (1.5 + f64::from(squared) - 2.0 * f64::from(dots[j]))
                    .max(0.0)
                    .sqrt(),
                None => f64::from(dots[j]),
            };
            let logit =
                |bias: &[f32], j: usize| f64::from(columns.scale) * value(j) + f64::from(bias[j]);
            for (j, &z) in z.iter().enumerate() {
                close(z, logit(&columns.bias, j), 1e-5, "logit", kernel);
            }
            let hard_bias = if even {
                &columns.bias
            } else {
                &columns.hard_bias
            };
            let hard: Vec<f64> = (0..m).map(|j| logit(hard_bias, j)).collect();
            let nearest = (0..m).fold(0, |best, j| if hard[j] > hard[best] { j } else { best });
            assert_eq!(peak.nearest, nearest);
            close(peak.hard, hard[nearest], 1e-5, "hard", kernel);
            assert_eq!(
                peak.soft,
                z.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
            assert_eq!(
                kernel.logits(&mut dots.clone(), &columns, 1.5, false).hard,
                peak.hard
            );
        }
    }
}

#[test]
fn ties_go_to_the_lowest_column() {
    for kernel in kernels() {
        let m = 3 * kernel.tile().1;
        for first in [0, 1, m / 2, m - 1] {
            let hard_bias: Vec<f32> = (0..m).map(|j| if j >= first { 2.0 } else { 1.0 }).collect();
            let columns = Columns {
                bias: vec![0.0; m],
                hard_bias,
                squared: Vec::new(),
                scale: 1.0,
            };
            assert_eq!(
                kernel
                    .logits(&mut vec![0.0; m], &columns, 0.0, true)
                    .nearest,
                first
            );
        }
    }
}

#[test]
fn exponentials_are_within_a_millionth() {
    for kernel in kernels() {
        let m = 64 * kernel.tile().1;
        let logits: Vec<f32> = (0..m)
            .map(|j| 900.0 - (j * j) as f32 / (m * m) as f32 * 140.0)
            .collect();
        let mut e = logits.clone();
        let (sum, moment) = kernel.exponentials(&mut e, 900.0);
        for (&e, &z) in e.iter().zip(&logits) {
            let t = f64::from(z) - 900.0;
            if t > -125.0 {
                assert!(
                    (f64::from(e) / t.exp2() - 1.0).abs() < 5e-7,
                    "{}: 2^{t} gave {e}",
                    kernel.name()
                );
            } else {
                assert_eq!(e, 0.0);
            }
        }
        close(
            sum,
            e.iter().map(|&e| f64::from(e)).sum(),
            1e-6,
            "sum",
            kernel,
        );
        close(
            moment,
            e.iter()
                .zip(&logits)
                .map(|(&e, &z)| f64::from(e) * (f64::from(z) - 900.0))
                .sum(),
            1e-6,
            "moment",
            kernel,
        );
        let mut far = vec![f32::NEG_INFINITY; kernel.tile().1];
        assert_eq!(kernel.exponentials(&mut far, 1e37), (0.0, 0.0));
    }
}

#[test]
fn add_rows_weights_each_row() {
    for kernel in kernels() {
        let width = kernel.tile().1;
        let ld = width + 16;
        for rows in [1, 3, 4, 5, 11] {
            let strip: Vec<f32> = (0..rows * ld).map(noise).collect();
            let weights: Vec<f32> = (0..rows).map(|r| noise(r + 9)).collect();
            let mut q = vec![1.0; width];
            kernel.add_rows(&mut q, &strip, ld, &weights);
            for (j, &q) in q.iter().enumerate() {
                let sum: f64 = (0..rows)
                    .map(|r| f64::from(weights[r]) * f64::from(strip[r * ld + j]))
                    .sum();
                close(q, 1.0 + sum, 1e-6, "q", kernel);
            }
        }
    }
}

/// The number that a code stands for, over that of the largest.
fn decoded(code: u8) -> f64 {
    let fraction = 1.0 + f64::from(code & 7) / 8.0;
    if code == 0 {
        0.0
    } else {
        fraction / 1.875 * f64::from(i32::from(code >> 3) - 31).exp2()
    }
}

#[test]
fn what_is_kept_is_the_nearest_of_eight_bits() {
    for kernel in kernels() {
        let m = 4096;
        let e: Vec<f32> = (0..m).map(|j| (-0.01 * j as f32).exp2()).collect();
        let mut kept = vec![7; m];
        kernel.keep(&e, &mut kept);
        assert_eq!(kept[0], 255);
        for (&e, &code) in e.iter().zip(&kept) {
            let (e, found) = (f64::from(e), decoded(code));
            if e < 0.5_f64.powi(31) {
                assert_eq!(code, 0, "{} kept {e}", kernel.name());
            } else if e > 0.5_f64.powi(30) {
                let error = (found / e - 1.0).abs();
                assert!(error <= 1.0 / 16.0, "{}: {e} is {found}", kernel.name());
            }
        }
        kernel.keep(&[0.0; 16], &mut kept[..16]);
        assert_eq!(kept[..16], [0; 16]);
    }
}

#[test]
fn what_is_recalled_is_what_was_kept_times_its_factor() {
    for kernel in kernels() {
        let kept: Vec<u8> = (0..=255).filter(|code| !(1..8).contains(code)).collect();
        let kept = &kept[..240];
        let factors: Vec<f32> = (0..kept.len())
            .map(|j| codes::UNIT * (1.0 + noise(j)))
            .collect();
        let mut e = vec![7.0; kept.len()];
        let (before, now) = kernel.recall(kept, kept, &factors, &mut e);
        let mut sums = (0.0, 0.0);
        for ((&code, &factor), &e) in kept.iter().zip(&factors).zip(&e) {
            let plain = decoded(code);
            let exact = plain * f64::from(factor) / f64::from(codes::UNIT);
            close(e, exact, 1e-6, "recalled", kernel);
            sums = (sums.0 + plain, sums.1 + exact);
        }
        close(before * codes::UNIT, sums.0, 1e-5, "sum before", kernel);
        close(now, sums.1, 1e-5, "sum now", kernel);
    }
}

#[test]
fn what_is_above_is_found_in_its_order() {
    for kernel in kernels() {
        for columns in [1, 15, 64, 65, 300, 1000] {
            let row: Vec<f32> = (0..columns).map(|j| noise(3 * j + 1)).collect();
            for least in [-1.0, 0.0, 0.3, 0.49, 2.0] {
                let expected: Vec<(usize, f32)> = row
                    .iter()
                    .copied()
                    .enumerate()
                    .filter(|&(_, e)| e > least)
                    .collect();
                let mut out = Vec::new();
                let sum = kernel.above(&row, least, expected.len(), &mut out);
                let found: Vec<(usize, f32)> =
                    out.iter().map(|one| (one.column(), one.e)).collect();
                assert_eq!(found, expected, "{}", kernel.name());
                let exact: f64 = expected.iter().map(|&(_, e)| f64::from(e)).sum();
                close(sum, exact, 1e-5, "sum", kernel);
                if let Some(most) = expected.len().checked_sub(1) {
                    let sum = kernel.above(&row, least, most, &mut out);
                    assert_eq!((sum, out.len()), (0.0, expected.len()));
                }
            }
        }
    }
}
