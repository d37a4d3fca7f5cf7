//! Measuring on a machine that others use too.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of this thread's processor time: waits for a processor do not count.
pub(crate) fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// How long `work` takes.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let start = nanoseconds();
    let result = work();
    (nanoseconds() - start, result)
}

/// The median.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
