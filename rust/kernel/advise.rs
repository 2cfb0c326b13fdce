//! What the operating system is told about memory.
#![allow(unsafe_code)]

use std::io;

/// Ask for the pages of `values` to be read from disk soon, where they are mapped from a file. This does not wait.
///
/// # Errors
/// If the system refuses; nothing but speed is lost then.
#[cfg(unix)]
pub fn will_need<T>(values: &[T]) -> io::Result<()> {
    advise(values, libc::MADV_WILLNEED)
}

/// Elsewhere the system reads ahead as it sees fit.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn will_need<T>(_values: &[T]) -> io::Result<()> {
    Ok(())
}

/// Ask for the pages of `values` to be large ones, where they are touched for the first time: fewer are then asked for.
///
/// # Errors
/// If the system refuses; nothing but speed is lost then.
#[cfg(target_os = "linux")]
pub fn large_pages<T>(values: &[T]) -> io::Result<()> {
    advise(values, libc::MADV_HUGEPAGE)
}

/// Elsewhere pages are as large as the system sees fit.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn large_pages<T>(_values: &[T]) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn advise<T>(values: &[T], advice: libc::c_int) -> io::Result<()> {
    // SAFETY: only asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
        .max(1)
        .cast_unsigned() as usize;
    let into_page = values.as_ptr().addr() % page;
    let start = values.as_ptr().wrapping_byte_sub(into_page);
    let bytes = size_of_val(values) + into_page;
    // SAFETY: the pages hold borrowed, hence mapped, memory, and neither advice changes what is in it.
    match unsafe { libc::madvise(start.cast_mut().cast(), bytes, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::{large_pages, will_need};

    #[test]
    fn any_slice_will_do() {
        let values = vec![1_u32; 100_000];
        for range in [0..100_000, 1..2, 77_777..99_999, 5..5, 100_000..100_000] {
            will_need(&values[range.clone()]).unwrap();
            // Kernels that are built without large pages refuse.
            let _ = large_pages(&values[range]);
        }
        assert!(values.iter().all(|&value| value == 1));
    }
}
