//! Work on many items at once, with results in the items' order and in bounded memory.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// How far any worker may be ahead of the result that is taken next.
const AHEAD: usize = 256;

/// Calls `work` on every item, `jobs` at a time, and `take` with each result, in the order of the items.
/// At most a few hundred results wait at any time. Stops at the first error of `take`.
///
/// # Errors
/// That of `take`.
pub(crate) fn in_order<T: Sync, R: Send, E>(
    items: &[T],
    jobs: NonZeroUsize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let shared = Shared { state: Mutex::new(State::new(items.len())), changed: Condvar::new() };
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(items.len()) {
            scope.spawn(|| {
                // A worker that panics must not leave the others, and who takes, waiting for ever.
                let guard = OnPanic(&shared);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    if !shared.wait_for_turn(index) {
                        break;
                    }
                    shared.put(index, work(item));
                }
                drop(guard);
            });
        }
        for index in 0..items.len() {
            let Some(result) = shared.get(index) else { return Ok(()) };
            if let Err(error) = take(result) {
                shared.stop();
                return Err(error);
            }
        }
        Ok(())
    })
}

struct State<R> {
    /// Results not yet taken, at their index modulo [`AHEAD`].
    ready: Vec<Option<R>>,
    taken: usize,
    stopped: bool,
}

impl<R> State<R> {
    fn new(items: usize) -> State<R> {
        State { ready: (0..AHEAD.min(items)).map(|_| None).collect(), taken: 0, stopped: false }
    }
}

struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

impl<R> Shared<R> {
    /// Waits until the result of `index` has a place; false if nobody takes results any more.
    fn wait_for_turn(&self, index: usize) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = |state: &mut State<R>| !state.stopped && index >= state.taken + AHEAD;
        let state = self.changed.wait_while(state, early).unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }

    fn put(&self, index: usize, result: R) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = state.ready.len();
        state.ready[index % slots] = Some(result);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the result of `index`; none if a worker panicked.
    fn get(&self, index: usize) -> Option<R> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = state.ready.len();
        let missing = |state: &mut State<R>| !state.stopped && state.ready[index % slots].is_none();
        let mut state =
            self.changed.wait_while(state, missing).unwrap_or_else(PoisonError::into_inner);
        let result = state.ready[index % slots].take();
        state.taken = index + 1;
        drop(state);
        self.changed.notify_all();
        result
    }

    fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.changed.notify_all();
    }
}

struct OnPanic<'a, R>(&'a Shared<R>);

impl<R> Drop for OnPanic<'_, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        let items: Vec<u64> = (0..2000).collect();
        for count in [1, 2, 7, 64] {
            let mut seen = Vec::new();
            let slow = |&item: &u64| {
                if item % 97 == 0 {
                    thread::sleep(std::time::Duration::from_millis(1));
                }
                item * 2
            };
            in_order(&items, jobs(count), slow, |r| {
                seen.push(r);
                Ok::<(), ()>(())
            })
            .unwrap();
            assert_eq!(seen, items.iter().map(|i| i * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_runs_far_ahead_and_an_error_ends_it() {
        let items: Vec<usize> = (0..100_000).collect();
        let started = AtomicUsize::new(0);
        let mut taken = 0;
        let result = in_order(
            &items,
            jobs(4),
            |_| started.fetch_add(1, Ordering::Relaxed),
            |_| {
                taken += 1;
                assert!(started.load(Ordering::Relaxed) <= taken + AHEAD + 4);
                if taken == 1000 { Err("full") } else { Ok(()) }
            },
        );
        assert_eq!(result, Err("full"));
        assert!(started.load(Ordering::Relaxed) < 1000 + AHEAD + 8);
    }

    #[test]
    fn no_items_no_threads() {
        in_order(&[] as &[u8], jobs(3), |_| (), |()| Err(())).unwrap();
    }

    #[test]
    fn a_panic_is_passed_on_and_does_not_hang() {
        let items: Vec<u32> = (0..1000).collect();
        let run = || in_order(&items, jobs(3), |&i| assert_ne!(i, 500), |()| Ok::<(), ()>(()));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
