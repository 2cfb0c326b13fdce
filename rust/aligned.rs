//! Buffers that start on a cache line.

/// Zeros that start on a cache line, so that no vector of a panel or strip crosses one.
#[derive(Debug, Default)]
pub struct Aligned {
    numbers: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let numbers = vec![0.0_f32; len + 16];
        let start = numbers.as_ptr().align_offset(64).min(16);
        Self {
            numbers,
            start,
            len,
        }
    }

    /// Make room for `len` numbers; what they are is then left open.
    pub fn fit(&mut self, len: usize) {
        if self.start + len > self.numbers.len() {
            *self = Self::zeros(len);
        }
        self.len = len;
    }
}

impl AsRef<[f32]> for Aligned {
    fn as_ref(&self) -> &[f32] {
        &self.numbers[self.start..self.start + self.len]
    }
}

impl AsMut<[f32]> for Aligned {
    fn as_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..self.start + self.len]
    }
}
