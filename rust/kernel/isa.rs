//! The instruction sets of this machine, and which kernel of theirs answers what.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{Kernel, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::error::Error;

/// How far the products of a sweep may be off. A machine may always be more precise than it is asked to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As float32's are.
    #[default]
    Exact,
    /// Costs of unit vectors by some 4e-5.
    Close,
    /// By some 2e-4, as in bfloat16.
    Rough,
}

/// An instruction set by name, and what it multiplies with.
#[derive(Clone, Copy)]
pub struct Isa {
    /// The name: what may be used, so "avx512bf16" and "amx" are AVX-512 with these on top, for rough products.
    pub name: &'static str,
    pub(super) exact: &'static dyn Kernel,
    pub(super) close: Option<&'static dyn Kernel>,
    pub(super) rough: Option<&'static dyn Kernel>,
    /// The kernel of the Gram, which only bends steps: the fastest.
    pub outer: &'static dyn Kernel,
}

impl Isa {
    /// With one kernel for all.
    pub(super) const fn exact(name: &'static str, kernel: &'static dyn Kernel) -> Self {
        Self {
            name,
            exact: kernel,
            close: None,
            rough: None,
            outer: kernel,
        }
    }

    /// Whether it has rough products.
    #[must_use]
    pub fn is_rough(&self) -> bool {
        self.rough.is_some()
    }

    /// The fastest kernel that is precise enough.
    #[must_use]
    pub fn kernel(&self, precision: Precision) -> &'static dyn Kernel {
        let found = match precision {
            Precision::Exact => None,
            Precision::Close => self.close,
            Precision::Rough => self.rough.or(self.close),
        };
        found.unwrap_or(self.exact)
    }
}

/// The instruction sets that this machine can run, best first.
#[must_use]
pub fn available() -> Vec<Isa> {
    let mut isas = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        isas.extend(avx512::detect());
        isas.extend(avx2::detect());
    }
    #[cfg(target_arch = "aarch64")]
    isas.extend(neon::detect());
    isas.push(portable::ISA);
    isas
}

/// Every kernel of this machine once, rough ones first.
#[must_use]
pub fn kernels() -> Vec<&'static dyn Kernel> {
    let mut kernels: Vec<&'static dyn Kernel> = Vec::new();
    for isa in available() {
        for precision in [Precision::Rough, Precision::Close, Precision::Exact] {
            let kernel = isa.kernel(precision);
            if kernels.iter().all(|known| known.name() != kernel.name()) {
                kernels.push(kernel);
            }
        }
    }
    kernels
}

/// The instruction set of that name, or the best one.
///
/// # Errors
/// If the name is unknown or the machine cannot run it.
pub fn choose(name: Option<&str>) -> Result<Isa, Error> {
    let isas = available();
    let Some(name) = name else {
        return Ok(isas[0]);
    };
    let names: Vec<&str> = isas.iter().map(|isa| isa.name).collect();
    let unknown = || Error::Unknown {
        what: "instruction set",
        name: name.to_owned(),
        choices: names.join(", "),
    };
    let found = isas.iter().find(|isa| isa.name == name);
    found.copied().ok_or_else(unknown)
}
