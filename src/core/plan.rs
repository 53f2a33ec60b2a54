//! The decision, as one table: what a pod is doing now, against what is wanted
//! of it. It reads nothing else and changes nothing.

/// What a pod is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing, and nothing has been decided.
    Fresh,
    /// Waiting for a restart deadline that has not passed.
    Waiting,
    /// The restart deadline has passed.
    Due,
    /// Ended for good.
    Terminal,
    /// Any of the above, while a run that nobody asked for is there.
    Littered,
    /// Nothing has been decided, and a run of an earlier program lives.
    Found,
    /// That run is being taken over.
    Adopting,
    /// A start is in flight.
    Launching,
    /// A start is in flight and has been told to give up.
    Cancelled,
    /// A run lives.
    Running,
    /// A run lives, and its limits are being changed.
    Adjusting,
    /// A stop, a sweep or a removal is in flight, or failed and waits for the
    /// next resync.
    Ending,
}

/// What is wanted of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// It is no longer desired.
    Gone,
    /// What it has.
    Same,
    /// What it has, with other limits or another restart policy.
    Adjusted,
    /// A run of another spec, or a fresh run of the same.
    New,
    /// Nothing: a verdict was passed on this very generation.
    Finished,
    /// No new run; what lives goes on.
    Hold,
    /// No run at all.
    Halt,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Leave it.
    Nothing,
    /// Launch a run.
    Start,
    /// Tell the start in flight to give up.
    Cancel,
    /// Take over the run that was found.
    Adopt,
    /// Let the live run go on by what is wanted now.
    Adjust,
    /// End the live run.
    Stop,
    /// End a run that nobody asked for.
    Sweep,
    /// Remove what the pod left behind.
    Remove,
    /// Keep the verdict that was passed earlier.
    Retire,
}

/// The table. Whatever is in flight is left to finish; its outcome asks again.
pub(super) fn next(doing: Doing, want: Want) -> Step {
    use {Doing as D, Step as S, Want as W};
    match (doing, want) {
        (D::Fresh, W::Gone) => S::Remove,
        (D::Fresh, W::Same | W::Adjusted | W::New) => S::Start,
        (D::Fresh, W::Finished) => S::Retire,
        (D::Fresh, W::Hold | W::Halt) => S::Nothing,

        // What it is fit for shows once it is ours.
        (D::Found, W::Gone | W::Same | W::Adjusted | W::New | W::Finished | W::Halt) => S::Adopt,
        (D::Found, W::Hold) => S::Nothing,

        (D::Waiting | D::Terminal, W::Gone) => S::Remove,
        (D::Waiting | D::Terminal, W::Adjusted | W::New) => S::Start,
        (D::Waiting | D::Terminal, W::Same | W::Finished | W::Hold | W::Halt) => S::Nothing,

        (D::Due, W::Gone) => S::Remove,
        (D::Due, W::Same | W::Adjusted | W::New) => S::Start,
        (D::Due, W::Finished | W::Hold | W::Halt) => S::Nothing,

        (D::Littered, W::Hold) => S::Nothing,
        (D::Littered, W::Gone | W::Same | W::Adjusted | W::New | W::Finished | W::Halt) => S::Sweep,

        (D::Adopting, W::Same | W::Adjusted | W::Finished) => S::Nothing,
        (D::Adopting, W::Gone | W::New | W::Hold | W::Halt) => S::Cancel,

        (D::Launching, W::Same | W::Finished) => S::Nothing,
        (D::Launching, W::Gone | W::Adjusted | W::New | W::Hold | W::Halt) => S::Cancel,

        (D::Running, W::Same | W::Finished | W::Hold) => S::Nothing,
        (D::Running, W::Adjusted) => S::Adjust,
        (D::Running, W::Gone | W::New | W::Halt) => S::Stop,

        (D::Cancelled | D::Adjusting | D::Ending, _) => S::Nothing,
    }
}
