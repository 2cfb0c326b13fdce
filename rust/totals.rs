//! What blocks yield, added up in the order of the rows: within a span, and then span after span.
//!
//! A span's sums are divided by n where it ends. So what is known of one span alone is in the units of the whole, and
//! the whole is the plain float64 sum of its spans, whoever adds them up.

use crate::block::Part;
use crate::frame::Frame;
use crate::gram::{Gram, mirror};
use crate::problem::Wanted;
use crate::sweep::Sweep;
use crate::topk::TopK;

/// The sums of the span at hand, by column of the packed target.
#[derive(Debug)]
struct Span {
    q: Vec<f64>,
    /// sum_i v_i (r_i - w_i) p_i
    surplus: Vec<f64>,
    value: f64,
    hard: f64,
    entropy: f64,
}

impl Span {
    fn new(columns: usize) -> Self {
        Self {
            q: vec![0.0; columns],
            surplus: vec![0.0; columns],
            value: 0.0,
            hard: 0.0,
            entropy: 0.0,
        }
    }

    fn add(&mut self, part: &Part) {
        for (q, &part) in self.q.iter_mut().zip(&part.q) {
            *q += f64::from(part);
        }
        for (surplus, &part) in self.surplus.iter_mut().zip(&part.surplus) {
            *surplus += f64::from(part);
        }
        self.value += part.value;
        self.hard += part.hard_value;
        self.entropy += part.entropy;
    }
}

/// All that a sweep has gathered so far.
pub struct Totals<'a> {
    frame: &'a Frame<'a>,
    span: Span,
    gram: Option<Gram>,
    sweep: Sweep,
    top: TopK,
}

impl<'a> Totals<'a> {
    /// Nothing is added yet.
    #[must_use]
    pub fn new(frame: &'a Frame<'a>, wanted: &Wanted) -> Self {
        let m = frame.m;
        Self {
            frame,
            span: Span::new(frame.keep.len()),
            gram: wanted
                .gram
                .then(|| Gram::new(frame.width, frame.outer.tile())),
            sweep: Sweep {
                q: vec![0.0; m],
                value: 0.0,
                hard: 0.0,
                entropy: 0.0,
                gram: wanted.gram.then(|| (Gram::zeros(m), vec![0.0; m])),
                top: Vec::new(),
            },
            top: TopK::new(wanted.k),
        }
    }

    /// Add the next blocks of a span.
    pub fn add(&mut self, parts: &mut [Part]) {
        if let Some(gram) = &mut self.gram {
            let blocks = parts.iter_mut().map(|part| &mut part.left);
            gram.add(blocks, self.frame.outer);
        }
        for part in parts {
            self.span.add(part);
            for (r, &f) in part.f.iter().enumerate() {
                self.top
                    .push(f, self.frame.place.first + part.first_row + r);
            }
        }
    }

    /// Add the span to the whole, and begin another.
    pub fn end_span(&mut self) {
        let (keep, scale) = (self.frame.keep, 1.0 / self.frame.place.n as f64);
        let span = std::mem::replace(&mut self.span, Span::new(keep.len()));
        let sweep = &mut self.sweep;
        sweep.value += span.value;
        sweep.hard += span.hard;
        sweep.entropy += span.entropy;
        for (column, &j) in keep.iter().enumerate() {
            sweep.q[j] += span.q[column] * scale;
        }
        if let (Some(gram), Some((out, surplus))) = (&mut self.gram, &mut sweep.gram) {
            gram.end_span(keep, scale, out, self.frame.outer);
            for (column, &j) in keep.iter().enumerate() {
                surplus[j] += span.surplus[column] * scale;
            }
        }
    }

    /// What the sweep gives.
    #[must_use]
    pub fn finish(self) -> Sweep {
        let mut sweep = self.sweep;
        if let Some((gram, _)) = &mut sweep.gram {
            mirror(gram, sweep.q.len());
        }
        sweep.top = self.top.into_sorted();
        sweep
    }
}
