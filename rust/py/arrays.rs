//! What crosses the border: errors on their way out, arrays that are borrowed, each refused by its name if it does not do.

use half::{bf16, f16};
use numpy::ndarray::{Dimension, Ix1};
use numpy::{
    PyArray, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::error::Error;
use crate::pool::{Shard, Values};
use crate::rule::PerRow;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        raise(
            if error.is_usage() {
                "UsageError"
            } else {
                "DataError"
            },
            &error.to_string(),
        )
    }
}

/// An exception of the family in `gapsel.errors`.
pub(super) fn raise(class: &str, message: &str) -> PyErr {
    Python::attach(|py| {
        match py
            .import("gapsel.errors")
            .and_then(|errors| errors.getattr(class)?.call1((message,)))
        {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    })
}

pub(super) enum ShardArray<'py> {
    F16(PyReadonlyArray2<'py, f16>),
    BF16(PyReadonlyArray2<'py, bf16>),
    F32(PyReadonlyArray2<'py, f32>),
}

impl<'py> ShardArray<'py> {
    pub(super) fn new(index: usize, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = array.extract() {
            return Ok(Self::F32(array));
        }
        if let Ok(array) = array.extract() {
            return Ok(Self::F16(array));
        }
        if is_bfloat16(array) {
            return Ok(Self::BF16(array.extract()?));
        }
        let found = match array.cast::<PyUntypedArray>() {
            Ok(array) => format!("{} with {} axes", array.dtype(), array.ndim()),
            Err(_) => array.get_type().to_string(),
        };
        Err(raise(
            "DataError",
            &format!(
                "shard {index} is {found}: give a float16, bfloat16 or float32 array (rows, d)"
            ),
        ))
    }

    pub(super) fn view(&self, index: usize) -> PyResult<Shard<'_>> {
        let (shape, values) = match self {
            Self::F16(array) => (array.shape(), array.as_slice().map(Values::F16)),
            Self::BF16(array) => (array.shape(), array.as_slice().map(Values::BF16)),
            Self::F32(array) => (array.shape(), array.as_slice().map(Values::F32)),
        };
        let values = values.map_err(|_| contiguous(&format!("shard {index}")))?;
        Ok(Shard {
            values,
            rows: shape[0],
            d: shape[1],
        })
    }
}

/// NumPy has no bfloat16 of its own, and to ask for it by name fails until a package (ml_dtypes) has brought it.
pub(super) fn is_bfloat16(array: &Bound<'_, PyAny>) -> bool {
    let name = array
        .getattr("dtype")
        .and_then(|dtype| dtype.getattr("name"));
    name.is_ok_and(|name| name.eq("bfloat16").unwrap_or(false))
}

pub(super) enum RowArray<'py> {
    Same(f64),
    Each(PyReadonlyArray1<'py, f64>),
    EachSingle(PyReadonlyArray1<'py, f32>),
}

impl<'py> RowArray<'py> {
    pub(super) fn new(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = value.extract() {
            return Ok(Self::Each(array));
        }
        if let Ok(array) = value.extract() {
            return Ok(Self::EachSingle(array));
        }
        let number = if value.cast::<PyUntypedArray>().is_ok() {
            None
        } else {
            value.extract().ok()
        };
        let message = || {
            raise(
                "DataError",
                &format!("{name} is neither a number nor an array (n,) of float64 or float32"),
            )
        };
        number.map(Self::Same).ok_or_else(message)
    }

    pub(super) fn view(&self, name: &str) -> PyResult<PerRow<'_>> {
        let contiguous = |_| contiguous(name);
        Ok(match self {
            Self::Same(value) => PerRow::Same(*value),
            Self::Each(array) => PerRow::Each(array.as_slice().map_err(contiguous)?),
            Self::EachSingle(array) => PerRow::EachSingle(array.as_slice().map_err(contiguous)?),
        })
    }
}

pub(super) fn contiguous(name: &str) -> PyErr {
    raise(
        "DataError",
        &format!("{name} is not C-contiguous: pass numpy.ascontiguousarray of it"),
    )
}

pub(super) type Output<'py, T, D = Ix1> = Option<PyReadwriteArray<'py, T, D>>;

/// Borrow an output for writing.
pub(super) fn output<'py, T: numpy::Element, D: Dimension>(
    name: &str,
    array: Option<&Bound<'py, PyArray<T, D>>>,
) -> PyResult<Output<'py, T, D>> {
    let borrow = |array: &Bound<'py, PyArray<T, D>>| {
        array.try_readwrite().map_err(|error| {
            raise(
                "UsageError",
                &format!("{name} cannot be written ({error}): pass an array of its own"),
            )
        })
    };
    array.map(borrow).transpose()
}

/// The numbers of an output.
pub(super) fn numbers<'a, T: numpy::Element, D: Dimension>(
    name: &str,
    array: &'a mut Output<'_, T, D>,
) -> PyResult<Option<&'a mut [T]>> {
    array
        .as_mut()
        .map(|array| array.as_slice_mut().map_err(|_| contiguous(name)))
        .transpose()
}
