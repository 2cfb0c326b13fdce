//! Thread pools, one per size, started once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;

/// Keyed by process as well: after a fork the child's copy of a pool has no threads left.
type Pools = HashMap<(u32, usize), Arc<ThreadPool>>;
static POOLS: Mutex<Option<Pools>> = Mutex::new(None);

/// Run `work` on `threads` threads; 0 means all the cores that the process may use.
///
/// # Errors
/// If the threads cannot be started.
pub fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let count = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    Ok(pool(count)?.install(work))
}

fn pool(count: usize) -> Result<Arc<ThreadPool>, Error> {
    let mut guard = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let pools = guard.get_or_insert_default();
    let key = (std::process::id(), count);
    if let Some(pool) = pools.get(&key) {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|index| format!("gapsel-{index}"))
        .build()
        .map_err(|error| Error::Threads {
            count,
            reason: error.to_string(),
        })?;
    Ok(Arc::clone(pools.entry(key).or_insert(Arc::new(pool))))
}
