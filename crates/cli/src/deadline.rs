//! An answer within a time, or none: a gate must not hang on a pipe that nobody fills, a file system that does
//! not answer, or a slow read of `/proc`.

use std::panic;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::args::Limit;

/// What a limit is for: each takes its own time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Reading and judging: milliseconds.
    Rules,
    /// Running a kernel, once for each producer that is possible; each run has a limit of its own.
    Runs,
}

/// The limit for reading `source`: as given, else a minute, or five where kernels are run. For standard input there
/// is none by itself: it comes as fast as somebody types.
pub(crate) fn of(limit: Limit, source: &str, kind: Kind) -> Option<Duration> {
    let usual = match (source, kind) {
        ("-", _) => 0,
        (_, Kind::Rules) => 60,
        (_, Kind::Runs) => 300,
    };
    let seconds = limit.timeout.unwrap_or(usual);
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// What `work` returns, if it does within `limit`. If not, it is left to itself: it may never end, and must
/// neither write anything nor hold anything that others wait for.
pub(crate) fn within<T: Send + 'static>(
    limit: Option<Duration>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let Some(limit) = limit else { return Some(work()) };
    let (sender, receiver) = sync_channel(1);
    let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(work());
    });
    // Without memory for a thread there is none for an answer either.
    let thread = thread.ok()?;
    match receiver.recv_timeout(limit) {
        Ok(answer) => Some(answer),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panicked) => panic::resume_unwind(panicked),
            Ok(()) => None,
        },
    }
}

/// As the main thread has by default.
const STACK: usize = 8 << 20;

/// What is said where there was no answer.
pub(crate) fn message(limit: Option<Duration>) -> String {
    let seconds = limit.map_or(0, |limit| limit.as_secs());
    format!("no answer within {seconds} s: cannot tell (--timeout SECONDS waits longer)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_time_is_given_and_one_that_never_comes_is_not() {
        let limit = Some(Duration::from_millis(50));
        assert_eq!(within(limit, || 7), Some(7));
        assert_eq!(within(None, || 7), Some(7));
        let never = within(limit, || {
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        });
        assert_eq!(never, None::<()>);
    }

    #[test]
    #[should_panic(expected = "as it was said")]
    fn a_panic_is_no_timeout() {
        within(Some(Duration::from_secs(50)), || panic!("as it was said"));
    }

    #[test]
    fn the_usual_limits() {
        let of = |timeout, source, kind| of(Limit { timeout }, source, kind).map(|d| d.as_secs());
        assert_eq!(of(None, "live", Kind::Rules), Some(60));
        assert_eq!(of(None, "live", Kind::Runs), Some(300));
        assert_eq!(of(None, "-", Kind::Rules), None);
        assert_eq!(of(Some(5), "-", Kind::Rules), Some(5));
        assert_eq!(of(Some(0), "live", Kind::Rules), None);
    }
}
