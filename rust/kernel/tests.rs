//! Every kernel the machine has against one naive float64 twin.
#![allow(clippy::float_cmp)] // maxima and zeros are exact

use super::{Columns, DEPTH, Kernel, PackedRow, STRIDE, available};

/// A reproducible number in -1..1.
fn noise(seed: usize) -> f32 {
    let mut x = (seed as u32).wrapping_mul(0x9E37_79B9) ^ 0x85EB_CA6B;
    x = (x ^ (x >> 15)).wrapping_mul(0x2C1B_3C6D);
    x = (x ^ (x >> 12)).wrapping_mul(0x297A_2D39);
    (x >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn packed(rows: usize, depth: usize) -> Vec<PackedRow> {
    (0..rows)
        .map(|r| {
            std::array::from_fn(|k| {
                if k < depth {
                    noise(r * STRIDE + k)
                } else {
                    0.0
                }
            })
        })
        .collect()
}

fn close(found: f32, exact: f64, tolerance: f64, what: &str, kernel: &dyn Kernel) {
    let error = (f64::from(found) - exact).abs();
    assert!(
        error <= tolerance * (1.0 + exact.abs()),
        "{} {what}: {found} for {exact}",
        kernel.name()
    );
}

#[test]
fn product_is_the_sum_of_products() {
    for kernel in available() {
        let (height, width) = kernel.tile();
        for depth in [1, 2, 37, DEPTH] {
            let (rows, ld) = (2 * height, width + 3);
            let x = packed(rows, depth);
            let y: Vec<f32> = (0..depth * width).map(|i| noise(i + 1_000_003)).collect();
            let mut out = vec![7.0; rows * ld];
            kernel.product(&x, &y, &mut out, ld, false);
            kernel.product(&x, &y, &mut out, ld, true);
            for r in 0..rows {
                for c in 0..width {
                    let exact: f64 = (0..depth)
                        .map(|k| f64::from(x[r][k]) * f64::from(y[k * width + c]))
                        .sum();
                    close(out[r * ld + c], 2.0 * exact, 1e-5, "product", kernel);
                }
                assert!(
                    out[r * ld + width..(r + 1) * ld].iter().all(|&v| v == 7.0),
                    "wrote beyond the panel"
                );
            }
        }
    }
}

#[test]
fn outer_sums_over_all_blocks() {
    for kernel in available() {
        let (height, width) = kernel.tile();
        let blocks: Vec<(Vec<f32>, Vec<f32>)> = [1, 5, 64]
            .iter()
            .map(|rows| {
                let u = (0..rows * height).map(|i| noise(i + rows));
                (
                    u.collect(),
                    (0..rows * width).map(|i| noise(i + 77 * rows)).collect(),
                )
            })
            .collect();
        let mut out = vec![0.0; height * width];
        kernel.outer(&mut blocks.iter().map(|(u, v)| (&u[..], &v[..])), &mut out);
        for r in 0..height {
            for c in 0..width {
                let exact: f64 = blocks
                    .iter()
                    .flat_map(|(u, v)| u.chunks(height).zip(v.chunks(width)))
                    .map(|(u, v)| f64::from(u[r]) * f64::from(v[c]))
                    .sum();
                close(out[r * width + c], exact, 1e-5, "outer", kernel);
            }
        }
    }
}

#[test]
fn logits_and_peaks_follow_the_formula() {
    for kernel in available() {
        let m = 7 * kernel.tile().1;
        for euclidean in [false, true] {
            let columns = Columns {
                bias: (0..m).map(|j| 3.0 * noise(j)).collect(),
                hard_bias: (0..m).map(|j| 3.0 * noise(j + m)).collect(),
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
            let hard: Vec<f64> = (0..m).map(|j| logit(&columns.hard_bias, j)).collect();
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
    for kernel in available() {
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
    for kernel in available() {
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
    for kernel in available() {
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
