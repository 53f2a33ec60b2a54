//! Tells whoever reads the log what becomes of pods, for `TANK_LOG=info`. The
//! client is told the same in notices, and needs no log for it.

use crate::core::action::Notice;

/// A line for each thing that happened; statuses, which follow from it, are for
/// `debug`.
pub(super) fn narrate(notice: &Notice) {
    match notice {
        Notice::RunStarted { pod, incarnation, host_pid, is_adopted, .. } => {
            let what = if *is_adopted { "taken over" } else { "started" };
            tracing::info!(%pod, run = incarnation.0, host_pid, "{what}");
        }
        Notice::RunEnded { pod, incarnation, exit, .. } => {
            tracing::info!(%pod, run = incarnation.0, ?exit, "ended");
        }
        Notice::StartFailed { pod, incarnation, failure, .. } => {
            tracing::info!(%pod, run = incarnation.0, %failure, "could not be started");
        }
        Notice::StatusChanged { pod, status } => {
            let reason = status.reason.as_deref().unwrap_or_default();
            tracing::debug!(%pod, phase = status.phase.name(), reason, "status");
        }
        Notice::PodGone { pod } => tracing::info!(%pod, "gone"),
    }
}
