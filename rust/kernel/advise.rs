//! What the operating system is told about memory.
#![allow(unsafe_code)]

use std::io;

/// Ask for the pages of `values` to be read from disk soon, where they are mapped from a file. This does not wait.
///
/// # Errors
/// If the system refuses; nothing but speed is lost then.
#[cfg(unix)]
pub fn will_need<T>(values: &[T]) -> io::Result<()> {
    // SAFETY: only asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
        .max(1)
        .cast_unsigned() as usize;
    let into_page = values.as_ptr().addr() % page;
    let start = values.as_ptr().wrapping_byte_sub(into_page);
    let bytes = size_of_val(values) + into_page;
    // SAFETY: the pages hold borrowed, hence mapped, memory, and this advice never changes what is in it.
    match unsafe { libc::madvise(start.cast_mut().cast(), bytes, libc::MADV_WILLNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Elsewhere the system reads ahead as it sees fit.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn will_need<T>(_values: &[T]) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::will_need;

    #[test]
    fn any_slice_will_do() {
        let values = vec![1_u32; 100_000];
        for range in [0..100_000, 1..2, 77_777..99_999, 5..5, 100_000..100_000] {
            will_need(&values[range]).unwrap();
        }
        assert!(values.iter().all(|&value| value == 1));
    }
}
