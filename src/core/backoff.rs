//! How long to wait before the next run, and whether there is one at all.

use super::spec::RestartPolicy;
use super::status::Exit;

/// `min(base * 2^retries, cap)`, for any number of retries.
pub(super) fn delay_ms(base_ms: u64, cap_ms: u64, retries: u32) -> u64 {
    let factor = 1_u64.checked_shl(retries).unwrap_or(u64::MAX);
    base_ms.saturating_mul(factor).min(cap_ms)
}

/// Whether a run that ended so is followed by another.
pub(super) fn restarts_after(policy: RestartPolicy, exit: &Exit) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => !exit.is_clean(),
        RestartPolicy::Never => false,
    }
}

/// A delay as a person reads it: whole seconds as `10s`, all else as `250ms`.
pub(super) fn delay_text(delay_ms: u64) -> String {
    match delay_ms % 1000 {
        0 if delay_ms > 0 => format!("{}s", delay_ms / 1000),
        _ => format!("{delay_ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_until_the_cap_and_never_overflows() {
        let delays: Vec<u64> = (0..7).map(|n| delay_ms(10_000, 300_000, n)).collect();
        assert_eq!(delays, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        for retries in [63, 64, 65, 1_000, u32::MAX] {
            assert_eq!(delay_ms(10_000, 300_000, retries), 300_000);
            assert_eq!(delay_ms(3, u64::MAX, retries), delay_ms(3, u64::MAX, 63));
        }
    }

    #[test]
    fn a_cap_below_the_base_wins() {
        assert_eq!(delay_ms(10_000, 500, 0), 500);
        assert_eq!(delay_ms(0, 500, u32::MAX), 0);
    }

    #[test]
    fn policies_tell_clean_from_abnormal() {
        let clean = Exit::Exited(0);
        for abnormal in [Exit::Exited(1), Exit::Signaled(9), Exit::OutOfMemory] {
            assert!(restarts_after(RestartPolicy::Always, &abnormal));
            assert!(restarts_after(RestartPolicy::OnFailure, &abnormal));
            assert!(!restarts_after(RestartPolicy::Never, &abnormal));
        }
        assert!(restarts_after(RestartPolicy::Always, &clean));
        assert!(!restarts_after(RestartPolicy::OnFailure, &clean));
        assert!(!restarts_after(RestartPolicy::Never, &clean));
    }

    #[test]
    fn delays_read_well() {
        assert_eq!(delay_text(10_000), "10s");
        assert_eq!(delay_text(1_500), "1500ms");
        assert_eq!(delay_text(0), "0ms");
    }
}
