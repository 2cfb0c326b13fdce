//! Every way a call can be wrong, with the value and the row that are.

use thiserror::Error;

/// What was wrong with a call. Rows are counted across the shards.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum Error {
    /// Nothing to work on.
    #[error("the {0} is empty: give it at least one row")]
    Empty(&'static str),
    /// A shard's width differs from the target's.
    #[error(
        "shard {shard} has {found} dimensions, the target has {expected}: both must come from one embedder"
    )]
    Width {
        /// Which shard, counted from 0.
        shard: usize,
        /// Its width.
        found: usize,
        /// The target's width d.
        expected: usize,
    },
    /// An array's length does not fit n or m.
    #[error("{name} has {found} entries, expected {expected}")]
    Length {
        /// The argument.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The length that fits.
        expected: usize,
    },
    /// A vector holds NaN or an infinity.
    #[error(
        "{side} row {row} holds {value} at dimension {column}: remove the row or embed it again"
    )]
    NotFinite {
        /// `pool` or `target`.
        side: &'static str,
        /// The row.
        row: usize,
        /// The dimension.
        column: usize,
        /// The value found.
        value: f32,
    },
    /// A zero vector cannot be normalised.
    #[error("{side} row {row} has norm 0: it cannot be scaled to unit length; remove the row")]
    ZeroRow {
        /// `pool` or `target`.
        side: &'static str,
        /// The row.
        row: usize,
    },
    /// A cost over eps leaves the range of float32.
    #[error(
        "{side} row {row}: its costs over eps reach {value:e}, beyond float32; scale the vectors down or raise eps"
    )]
    Range {
        /// `pool` or `target`.
        side: &'static str,
        /// The row.
        row: usize,
        /// The bound on |logit| that was exceeded.
        value: f64,
    },
    /// An entry of a weight or a potential is out of its range.
    #[error("{name}[{row}] is {value}: {expected}")]
    Entry {
        /// The argument.
        name: &'static str,
        /// The entry.
        row: usize,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// All target weights are zero.
    #[error("all weights b are zero: at least one target row must weigh something")]
    NoWeight,
    /// eps or eta is not a positive number.
    #[error("{name} is {value}: it must be positive and finite")]
    Positive {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// More rows are wanted than there are.
    #[error("k is {k} but there are only {n} rows: ask for at most {n}")]
    TooMany {
        /// Rows wanted.
        k: usize,
        /// Rows there are.
        n: usize,
    },
    /// Rows that are neither a whole pool nor one span of it.
    #[error(
        "{rows} rows from row {first} of {n} are no span of the pool: give all of it, or {span} rows from a multiple of {span} (fewer at its end)"
    )]
    Span {
        /// The first row.
        first: usize,
        /// How many rows.
        rows: usize,
        /// Rows of the whole pool.
        n: usize,
        /// Rows of a span.
        span: usize,
    },
    /// A name that is not one of the known ones.
    #[error("{what} {name:?} is unknown or not available here: choose one of {choices}")]
    Unknown {
        /// The kind of name.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names that would do, separated by commas.
        choices: String,
    },
    /// The operating system refused threads.
    #[error("cannot start {count} threads: {reason}")]
    Threads {
        /// Threads wanted.
        count: usize,
        /// What the system said.
        reason: String,
    },
}

impl Error {
    /// Whether a setting is wrong, rather than the data.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Positive { .. }
                | Self::TooMany { .. }
                | Self::Span { .. }
                | Self::Unknown { .. }
                | Self::Threads { .. }
        )
    }
}
