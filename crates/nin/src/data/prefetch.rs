//! Items made ahead of time on threads of their own, handed out in order.
//!
//! Thread t of T makes items t, t + T, t + 2T, ... into a channel of its own, and the consumer takes from the
//! channels in turn: the order needs no sorting and cannot depend on which thread is faster. A channel without
//! room holds a thread that is an item ahead; closing it ends the thread.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The threads that make the items of a range, and what they have ready.
#[derive(Debug)]
pub(super) struct Prefetch<T> {
    workers: Vec<Worker<T>>,
    turn: usize,
}

#[derive(Debug)]
struct Worker<T> {
    /// `None` once it is sent home.
    ready: Option<Receiver<T>>,
    /// The system may refuse a thread. `None` once its end is known.
    thread: Option<io::Result<JoinHandle<()>>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts `threads` threads, each with a maker of its own, that make the items of `range` in order, each
    /// keeping one ready.
    pub(super) fn start<F>(threads: usize, range: Range<usize>, maker: impl Fn() -> F) -> Self
    where
        F: FnMut(usize) -> T + Send + 'static,
    {
        let workers = (0..threads).map(|t| {
            // The item that is ready is held by the thread.
            let (sender, receiver) = sync_channel(0);
            let mut make = maker();
            let mut items = range.clone().skip(t).step_by(threads);
            let spawned = Builder::new().name(format!("loader-{t}")).spawn(move || {
                // An error to send means that the consumer has gone, and the rest is not wanted.
                while let Some(Ok(())) = items.next().map(|item| sender.send(make(item))) {}
            });
            Worker { ready: Some(receiver), thread: Some(spawned) }
        });
        Prefetch { workers: workers.collect(), turn: 0 }
    }

    /// The next item, waiting for it if need be. To be called no more often than the range has items.
    ///
    /// # Errors
    /// The message of the panic that ended the thread, or the system's reason for refusing one.
    pub(super) fn next(&mut self) -> Result<T, String> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.workers.len().max(1);
        let Some(worker) = self.workers.get_mut(turn) else {
            return Err("there is no loader thread".to_owned());
        };
        if let Some(item) = worker.ready.as_ref().and_then(|ready| ready.recv().ok()) {
            return Ok(item);
        }
        worker.ready = None;
        Err(match worker.thread.take().map(|thread| thread.map(JoinHandle::join)) {
            Some(Err(refused)) => format!("cannot start a loader thread: {refused}"),
            Some(Ok(Err(panic))) => panic_message(&*panic),
            _ => "the loader thread has ended".to_owned(),
        })
    }
}

impl<T> Drop for Prefetch<T> {
    /// Closes all channels, so that every thread ends at its next item, then waits for them.
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.ready = None;
        }
        for worker in &mut self.workers {
            if let Some(Ok(thread)) = worker.thread.take() {
                // A panic of a thread whose items nobody wants any more has no one to tell.
                let _ = thread.join();
            }
        }
    }
}

/// The message of a panic, on one line.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_thread_is_more_than_an_item_ahead() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let mut prefetch = Prefetch::start(1, 0..1000, move || {
            let counter = Arc::clone(&counter);
            move |item| {
                counter.fetch_add(1, Ordering::SeqCst);
                item
            }
        });
        for taken in 1..=10 {
            prefetch.next().unwrap();
            // No waiting for the thread here, so only the upper bound can be told.
            assert!(made.load(Ordering::SeqCst) <= taken + 1);
        }
        drop(prefetch);
        assert!(made.load(Ordering::SeqCst) <= 11, "dropping early ends the thread");
        assert_eq!(Arc::strong_count(&made), 1, "nothing of the threads is left");
    }

    #[test]
    fn a_panic_is_an_error_at_its_item() {
        for threads in [1, 3] {
            let mut prefetch = Prefetch::start(threads, 0..10, || {
                |item| {
                    assert!(item != 4, "item {item}\nis bad");
                    item
                }
            });
            for item in 0..4 {
                assert_eq!(prefetch.next(), Ok(item));
            }
            assert_eq!(prefetch.next(), Err("panicked: item 4 is bad".to_owned()));
        }
        let mut none = Prefetch::start(1, 0..0, || |item| item);
        assert!(none.next().is_err(), "an item too many is an error, not a hang");
    }
}
