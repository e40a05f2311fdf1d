//! Locks of this workspace.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also where a thread has panicked that held the lock: what these guard is whole after every statement, and the panic is
/// reported where the thread is joined.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
