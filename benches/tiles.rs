//! The tiles and what follows them, kernel beside kernel: `cargo bench`, or `cargo bench -- product/avx512` for some.
//!
//! A block of 672 rows (whole tiles of every kernel) meets columns of 384 dimensions; rows are 1,024 long. Rates are
//! multiply-adds per second for products, and numbers per second for the rest. Operands are 1, which makes the right
//! answer plain, and each is looked at before it is timed.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gapsel::aligned::Aligned;
use gapsel::kernel::codes::UNIT;
use gapsel::kernel::{Columns, Kernel, STRIDE, Side, Words, kernels};

const ROWS: usize = 672;
/// Columns of a product: its sums stay in the second-level cache.
const WIDE: usize = 256;
const LD: usize = WIDE + 16;
const M: usize = 1024;
const D: usize = 384;

/// Columns of ones, word by word, as `product` reads them.
fn columns(kernel: &dyn Kernel, width: usize) -> Vec<f32> {
    let mut words = vec![0.0; kernel.words().of(D)];
    kernel.pack(Side::Column, &[1.0; D], &mut words);
    let rows = words
        .iter()
        .flat_map(|word| std::iter::repeat_n(*word, width));
    rows.collect()
}

/// Rows of ones, as `outer` reads them.
fn stacked(kernel: &dyn Kernel, width: usize) -> Vec<f32> {
    let ones = vec![1.0; width];
    let mut words = vec![0.0; ROWS / kernel.words().stacked() * width];
    kernel.stack(&[&ones[..]; ROWS], 0..width, &[1.0; ROWS], &mut words);
    words
}

fn rows(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("pack");
    group.throughput(Throughput::Elements(D as u64));
    for kernel in kernels() {
        let mut row: Vec<f32> = (0..D).map(|k| (k % 7) as f32).collect();
        let mut words = [0.0; STRIDE];
        let mut pack = || {
            let norm = kernel.squared_norm(&row);
            kernel.scale(&mut row, 1.0 / norm.sqrt());
            kernel.pack(Side::Row, &row, &mut words);
            kernel.squared_norm(&row)
        };
        assert!((pack() - 1.0).abs() < 1e-5);
        group.bench_function(kernel.name(), |bench| bench.iter(&mut pack));
    }
}

fn product(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("product");
    group.throughput(Throughput::Elements((ROWS * WIDE * D) as u64));
    for kernel in kernels() {
        let panel = kernel.tile().1;
        let (mut x, mut strip) = (Aligned::zeros(ROWS * STRIDE), Aligned::zeros(ROWS * LD));
        let (x, strip) = (x.as_mut().as_chunks_mut().0, strip.as_mut());
        for x in x.iter_mut() {
            kernel.pack(Side::Row, &[1.0; D], x);
        }
        let (depth, words) = (kernel.words().of(D), columns(kernel, panel));
        let words = words.repeat(WIDE / panel);
        let mut y = Aligned::zeros(words.len());
        y.as_mut().copy_from_slice(&words);
        let mut multiply = || {
            kernel.product(x, y.as_ref(), depth, strip, LD, false);
            strip[WIDE - 1]
        };
        if kernel.words() == Words::Shorts {
            // A row of ones is rounded by a 2,000th, all alike.
            assert!((multiply() / D as f32 - 1.0).abs() < 1e-3);
        } else {
            assert_eq!(multiply().to_bits(), (D as f32).to_bits());
        }
        group.bench_function(kernel.name(), |bench| bench.iter(&mut multiply));
    }
}

fn outer(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("outer");
    for kernel in kernels() {
        let (height, width) = kernel.tile();
        group.throughput(Throughput::Elements((ROWS * height * width) as u64));
        let (u, v) = (stacked(kernel, height), stacked(kernel, width));
        let mut out = vec![0.0; height * width];
        kernel.outer(&u, &v, &mut out);
        assert!(
            out.iter()
                .all(|sum| sum.to_bits() == (ROWS as f32).to_bits())
        );
        group.bench_function(kernel.name(), |bench| {
            bench.iter(|| kernel.outer(&u, &v, &mut out));
        });
    }
}

/// A row from dot products to its share of the column sums.
fn strip(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("strip");
    group.throughput(Throughput::Elements(M as u64));
    let columns = Columns {
        bias: vec![0.0; M],
        hard_bias: vec![0.0; M],
        squared: Vec::new(),
        scale: 30.0,
    };
    for kernel in kernels() {
        let (mut z, mut q) = (vec![0.0; M], vec![0.0; M]);
        let mut row = |dot: f32| {
            z.fill(dot);
            let peak = kernel.logits(&mut z, &columns, 1.0, false);
            let (sum, _) = kernel.exponentials(&mut z, peak.soft);
            kernel.add_rows(&mut q, &z, M, &[1.0]);
            sum
        };
        assert_eq!(row(0.5).to_bits(), (M as f32).to_bits());
        group.bench_function(kernel.name(), |bench| bench.iter(|| row(black_box(0.5))));
    }
}

/// A row of a kept plan to its share of the column sums.
fn recall(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("recall");
    group.throughput(Throughput::Elements(M as u64));
    for kernel in kernels() {
        let (mut codes, mut e, mut q) = (vec![0; M], vec![1.0; M], vec![0.0; M]);
        kernel.keep(&e, &mut codes);
        let mut row = |factor: f32| {
            let (_, sum) = kernel.recall(&codes, &codes, &[factor * UNIT; M], &mut e);
            kernel.add_rows(&mut q, &e, M, &[1.0]);
            sum
        };
        assert!((row(1.0) / M as f32 - 1.0).abs() < 1e-6);
        group.bench_function(kernel.name(), |bench| bench.iter(|| row(black_box(1.0))));
    }
}

criterion_group!(benches, rows, product, outer, strip, recall);
criterion_main!(benches);
