//! Idleness: what a look at a machine says about whether anybody uses it, and the clock that such looks drive.
//!
//! Pure: [`readings`] turns what was measured into one reading for each signal, [`judge`] says which of them decides, and
//! [`IdleClock::note`] what follows. Whatever is not known counts as use. No single look ends anything: idleness takes
//! two looks in a row to be believed, a warning at one look and the end at a later one. Time in which nobody looked does
//! not count.

use crate::domain::session::{Truth, words};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::time::Duration;

/// A GPU that computes at least this share of the time is in use, percent; below it is noise of drivers and desktops.
const BUSY_PERCENT: u32 = 5;
/// A GPU with at least this much memory in use has a process on it, MiB: containers often hide the process itself.
const BUSY_MEMORY_MIB: u32 = 200;
/// The longest time between two looks.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest threshold that can be asked for.
pub const SHORTEST_THRESHOLD: Duration = Duration::from_secs(60);
/// The longest threshold that can be asked for.
pub const LONGEST_THRESHOLD: Duration = Duration::from_secs(24 * 3600);

words! {
    /// What can tell of use, in the order in which one of them is named when several do: the steadiest first.
    Signal {
        /// The session was handed over.
        HandedOver = "handed_over",
        /// Its user said that it is in use.
        KeepAlive = "keep_alive",
        /// The look at the machine itself.
        Look = "look",
        /// SSH connections beside the one that looked: logins and forwards.
        SshConnections = "ssh_connections",
        /// Processes that compute on a GPU.
        GpuProcesses = "gpu_processes",
        /// GPU memory in use.
        GpuMemory = "gpu_memory",
        /// How much of the time the busiest GPU computes.
        GpuUtilization = "gpu_utilization",
        /// The same as the provider tells it.
        ProviderUtilization = "provider_utilization",
    }
}

/// What one look at a machine measured; `None` = it could not be told.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// How much of the time the busiest GPU computes, percent.
    pub gpu_percent: Option<u32>,
    /// Memory in use on the GPU that has the most in use, MiB.
    pub gpu_memory_mib: Option<u32>,
    /// Processes that compute on a GPU, as far as the machine shows them.
    pub gpu_processes: Option<u32>,
    /// Logged-in SSH connections, the one that looked left out.
    pub connections: Option<u32>,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which signal.
    pub signal: Signal,
    /// Whether it speaks of idleness: true = nothing, false = use, unknown = it can't be told.
    pub idle: Truth,
    /// Its value: percent, MiB or a count.
    pub value: Option<u32>,
}

/// One reading for each signal of a look, in the order of [`Signal`]. The provider's is there only when it told one; the
/// list of processes may be missing, since the memory tells of them too.
#[must_use]
pub fn readings(activity: &Activity, provider_percent: Option<u32>) -> Vec<Reading> {
    let read = |signal, value: Option<u32>, busy: u32| {
        let idle = match value {
            None => Truth::Unknown,
            Some(value) if value >= busy => Truth::False,
            Some(_) => Truth::True,
        };
        Reading { signal, idle, value }
    };
    let mut all = vec![read(Signal::SshConnections, activity.connections, 1)];
    if activity.gpu_processes.is_some() || activity.gpu_memory_mib.is_none() {
        all.push(read(Signal::GpuProcesses, activity.gpu_processes, 1));
    }
    all.push(read(Signal::GpuMemory, activity.gpu_memory_mib, BUSY_MEMORY_MIB));
    all.push(read(Signal::GpuUtilization, activity.gpu_percent, BUSY_PERCENT));
    if provider_percent.is_some() {
        all.push(read(Signal::ProviderUtilization, provider_percent, BUSY_PERCENT));
    }
    all
}

/// What all readings of a look come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the machine is idle.
    pub idle: Truth,
    /// The signal that decides it: the first that speaks of use, else the first that can't be told; when all speak of
    /// idleness there is none.
    pub signal: Option<Signal>,
}

/// Use outweighs what can't be told, and that outweighs idleness. No reading at all tells nothing.
#[must_use]
pub fn judge(readings: &[Reading]) -> Finding {
    let first = |idle: Truth| readings.iter().find(|r| r.idle == idle).map(|r| r.signal);
    match (first(Truth::False), first(Truth::Unknown)) {
        (Some(signal), _) => Finding { idle: Truth::False, signal: Some(signal) },
        (None, Some(signal)) => Finding { idle: Truth::Unknown, signal: Some(signal) },
        (None, None) if readings.is_empty() => Finding { idle: Truth::Unknown, signal: Some(Signal::Look) },
        (None, None) => Finding { idle: Truth::True, signal: None },
    }
}

/// How often a machine is looked at: at most every minute, at least five times within the threshold.
#[must_use]
pub fn interval(threshold: Duration) -> Duration {
    (threshold / 5).min(LONGEST_INTERVAL)
}

/// How long before the end the warning comes: 5 minutes or a tenth of the threshold, but never more than half of it.
#[must_use]
pub fn warning_lead(threshold: Duration) -> Duration {
    Duration::from_secs(300).max(threshold / 10).min(threshold / 2)
}

/// Looks that lie further apart than this leave a gap in which nobody looked.
fn patience(threshold: Duration) -> Duration {
    (interval(threshold) * 3).max(Duration::from_secs(60))
}

/// What a look leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Stay,
    /// It ends soon unless somebody uses it.
    Warn,
    /// It was idle for long enough.
    End,
}

/// What is remembered of looks. Kept with the session, so that a restart costs nothing but the time it took.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdleClock {
    /// Since when it is idle, later by the time in which nobody looked; `None` while it is used or nobody knows.
    pub since: Option<Time>,
    /// Idle looks in a row, without a gap between them.
    pub looks: u32,
    /// The warning was given for this idleness.
    pub warned: bool,
    /// The last look, well or not.
    pub looked_at: Option<Time>,
    /// Nobody looked for a while: what comes next does not follow on what was before.
    pub interrupted: bool,
    /// When the next look is due; `None` = one is under way, or none is wanted.
    pub next_look: Option<Time>,
    /// What the last look measured; `None` when it failed.
    pub activity: Option<Activity>,
    /// The last signal of use, or that could not be told.
    pub last: Option<Signal>,
    /// Since when that signal has decided, or did until the idleness began.
    pub last_since: Option<Time>,
    /// The GPU's utilisation as the provider told it last, percent, and when.
    pub provider: Option<(u32, Time)>,
    /// When its user last said that it is in use.
    pub kept_alive_at: Option<Time>,
}

impl IdleClock {
    /// The clock of a session that has just been handed over.
    #[must_use]
    pub fn begin(threshold: Duration, now: Time) -> Self {
        let next_look = (!threshold.is_zero()).then(|| now + interval(threshold));
        Self { next_look, last: Some(Signal::HandedOver), last_since: Some(now), ..Self::default() }
    }

    /// What the provider has told since the last look, percent.
    #[must_use]
    pub fn provider_percent(&self) -> Option<u32> {
        self.provider.filter(|(_, at)| self.looked_at.is_none_or(|looked| *at >= looked)).map(|(percent, _)| percent)
    }

    /// Takes a look into account.
    pub fn note(&mut self, found: Finding, threshold: Duration, now: Time) -> Turn {
        let gap = self.looked_at.map_or(Duration::ZERO, |at| now.since(at));
        let unseen = std::mem::take(&mut self.interrupted) || gap > patience(threshold);
        self.looked_at = Some(now);
        if found.idle != Truth::True {
            let signal = found.signal.unwrap_or(Signal::Look);
            if self.last != Some(signal) || self.since.is_some() || self.last_since.is_none() {
                self.last_since = Some(now);
            }
            self.last = Some(signal);
            self.rest();
            return Turn::Stay;
        }
        let since = match self.since {
            Some(since) if unseen => since + gap,
            Some(since) => since,
            None => now,
        };
        self.looks = if unseen || self.since.is_none() { 1 } else { self.looks.saturating_add(1) };
        self.since = Some(since);
        let idle_for = now.since(since);
        if self.looks < 2 || idle_for < threshold.saturating_sub(warning_lead(threshold)) {
            Turn::Stay
        } else if !self.warned {
            self.warned = true;
            Turn::Warn
        } else if idle_for >= threshold {
            Turn::End
        } else {
            Turn::Stay
        }
    }

    /// Whether idleness is believed: one look is not enough.
    #[must_use]
    pub fn believed(&self) -> bool {
        self.since.is_some() && self.looks >= 2
    }

    /// Its user says that it is in use.
    pub fn keep_alive(&mut self, now: Time) {
        self.rest();
        self.kept_alive_at = Some(now);
        self.last = Some(Signal::KeepAlive);
        self.last_since = Some(now);
    }

    /// The server was away.
    pub fn resume(&mut self, threshold: Duration, now: Time) {
        self.interrupted = true;
        self.looks = 0;
        self.next_look = (!threshold.is_zero()).then_some(now);
    }

    fn rest(&mut self) {
        self.since = None;
        self.looks = 0;
        self.warned = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGIN: Time = Time::from_millis(1_795_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);
    const IDLE: Finding = Finding { idle: Truth::True, signal: None };
    const USED: Finding = Finding { idle: Truth::False, signal: Some(Signal::GpuUtilization) };

    fn nothing() -> Activity {
        Activity { gpu_percent: Some(0), gpu_memory_mib: Some(4), gpu_processes: Some(0), connections: Some(0) }
    }

    fn found(activity: Activity, provider: Option<u32>) -> (Truth, Option<Signal>) {
        let finding = judge(&readings(&activity, provider));
        (finding.idle, finding.signal)
    }

    #[test]
    fn one_signal_of_use_is_enough_and_the_steadiest_is_named() {
        use Signal as S;
        let idle = nothing();
        for (activity, provider, expected) in [
            (idle, None, (Truth::True, None)),
            (idle, Some(4), (Truth::True, None)),
            (idle, Some(5), (Truth::False, Some(S::ProviderUtilization))),
            (Activity { gpu_percent: Some(4), ..idle }, None, (Truth::True, None)),
            (Activity { gpu_percent: Some(5), ..idle }, None, (Truth::False, Some(S::GpuUtilization))),
            (Activity { gpu_memory_mib: Some(199), ..idle }, None, (Truth::True, None)),
            (Activity { gpu_memory_mib: Some(200), ..idle }, None, (Truth::False, Some(S::GpuMemory))),
            (Activity { gpu_processes: Some(1), ..idle }, None, (Truth::False, Some(S::GpuProcesses))),
            (Activity { connections: Some(1), ..idle }, None, (Truth::False, Some(S::SshConnections))),
            (Activity { connections: Some(1), gpu_percent: Some(99), ..idle }, Some(99), (Truth::False, Some(S::SshConnections))),
            // What is used is used, whatever else can't be told.
            (Activity { gpu_percent: Some(99), ..Activity::default() }, None, (Truth::False, Some(S::GpuUtilization))),
            (Activity::default(), Some(99), (Truth::False, Some(S::ProviderUtilization))),
        ] {
            assert_eq!(found(activity, provider), expected, "{activity:?} {provider:?}");
        }
    }

    #[test]
    fn what_can_not_be_told_is_never_idle() {
        use Signal as S;
        let idle = nothing();
        for (activity, expected) in [
            (Activity { gpu_percent: None, ..idle }, S::GpuUtilization),
            (Activity { gpu_memory_mib: None, ..idle }, S::GpuMemory),
            (Activity { connections: None, ..idle }, S::SshConnections),
            (Activity { gpu_processes: None, gpu_memory_mib: None, ..idle }, S::GpuProcesses),
            (Activity::default(), S::SshConnections),
        ] {
            assert_eq!(found(activity, None), (Truth::Unknown, Some(expected)), "{activity:?}");
        }
        // Containers hide processes; the memory that they use stays to be seen.
        assert_eq!(found(Activity { gpu_processes: None, ..idle }, None), (Truth::True, None));
        assert_eq!(judge(&[]), Finding { idle: Truth::Unknown, signal: Some(S::Look) });
    }

    /// Looks every `interval` until something other than Stay comes, at most for a day.
    fn look_until(clock: &mut IdleClock, from: Time, threshold: Duration) -> (Time, Turn) {
        let mut now = from;
        loop {
            now = now + interval(threshold);
            assert!(now.since(from) < 24 * HOUR, "nothing happens");
            match clock.note(IDLE, threshold, now) {
                Turn::Stay => {}
                turn => return (now, turn),
            }
        }
    }

    #[test]
    fn a_warning_comes_first_and_the_end_at_the_threshold() {
        for minutes in [1, 2, 5, 10, 30, 60, 240, 1440] {
            let threshold = MINUTE * minutes;
            let mut clock = IdleClock::begin(threshold, BEGIN);
            let (warned, turn) = look_until(&mut clock, BEGIN, threshold);
            assert_eq!(turn, Turn::Warn, "{minutes}");
            let since = clock.since.unwrap();
            assert!(warned.since(since) >= threshold - warning_lead(threshold), "{minutes}: warned after {:?}", warned.since(since));
            let (ended, turn) = look_until(&mut clock, warned, threshold);
            assert_eq!(turn, Turn::End, "{minutes}");
            let took = ended.since(since);
            assert!(took >= threshold && took <= threshold + interval(threshold), "{minutes}: ended after {took:?}");
            assert_eq!(clock.since, Some(since));
        }
    }

    #[test]
    fn any_use_begins_it_anew() {
        let mut clock = IdleClock::begin(HOUR, BEGIN);
        let (warned, _) = look_until(&mut clock, BEGIN, HOUR);
        for again in [USED, Finding { idle: Truth::Unknown, signal: Some(Signal::SshConnections) }] {
            assert_eq!(clock.note(again, HOUR, warned + MINUTE), Turn::Stay);
            assert_eq!((clock.since, clock.looks, clock.warned, clock.last), (None, 0, false, again.signal));
        }
        let (next, turn) = look_until(&mut clock, warned + MINUTE, HOUR);
        assert_eq!(turn, Turn::Warn);
        assert!(next.since(warned) >= HOUR - warning_lead(HOUR));
        clock.keep_alive(next);
        assert_eq!((clock.since, clock.warned, clock.last, clock.kept_alive_at), (None, false, Some(Signal::KeepAlive), Some(next)));
    }

    #[test]
    fn a_signal_that_goes_on_has_decided_since_it_began() {
        let mut clock = IdleClock::begin(HOUR, BEGIN);
        clock.note(USED, HOUR, BEGIN + MINUTE);
        clock.note(USED, HOUR, BEGIN + MINUTE * 2);
        assert_eq!((clock.last, clock.last_since), (Some(Signal::GpuUtilization), Some(BEGIN + MINUTE)));
        clock.note(IDLE, HOUR, BEGIN + MINUTE * 3);
        assert_eq!((clock.last, clock.since, clock.believed()), (Some(Signal::GpuUtilization), Some(BEGIN + MINUTE * 3), false));
        clock.note(IDLE, HOUR, BEGIN + MINUTE * 4);
        assert!(clock.believed());
        clock.note(USED, HOUR, BEGIN + MINUTE * 5);
        assert_eq!(clock.last_since, Some(BEGIN + MINUTE * 5), "the same signal, but a new use");
    }

    #[test]
    fn time_that_nobody_saw_does_not_count() {
        // A restart of any length, and a gap that is too long without one.
        for (away, restart) in [(Duration::from_secs(10), true), (HOUR * 3, true), (HOUR, false)] {
            let mut clock = IdleClock::begin(HOUR, BEGIN);
            let mut now = BEGIN;
            for _ in 0..30 {
                now = now + MINUTE;
                clock.note(IDLE, HOUR, now);
            }
            let before = now.since(clock.since.unwrap());
            now = now + away;
            if restart {
                clock.resume(HOUR, now);
                assert_eq!(clock.next_look, Some(now));
            }
            assert_eq!(clock.note(IDLE, HOUR, now), Turn::Stay, "one look after a gap decides nothing");
            assert_eq!(now.since(clock.since.unwrap()), before, "{away:?}");
            assert_eq!(look_until(&mut clock, now, HOUR).1, Turn::Warn);
        }
    }

    #[test]
    fn after_a_gap_not_even_a_long_warned_idleness_ends_at_one_look() {
        let mut clock = IdleClock::begin(HOUR, BEGIN);
        let (warned, _) = look_until(&mut clock, BEGIN, HOUR);
        let late = warned + HOUR;
        clock.since = Some(BEGIN - HOUR);
        clock.resume(HOUR, late);
        assert_eq!(clock.note(IDLE, HOUR, late), Turn::Stay);
        assert_eq!(clock.note(IDLE, HOUR, late + MINUTE), Turn::End);
    }

    #[test]
    fn only_what_the_provider_told_since_the_last_look_counts() {
        let mut clock = IdleClock::begin(HOUR, BEGIN);
        clock.provider = Some((80, BEGIN));
        assert_eq!(clock.provider_percent(), Some(80));
        clock.note(USED, HOUR, BEGIN + MINUTE);
        assert_eq!(clock.provider_percent(), None);
    }

    proptest! {
        /// Whatever is seen and however it is spaced: the end comes only after a warning at an earlier look, two idle looks
        /// in a row and a whole threshold of looks without use.
        #[test]
        fn no_end_without_its_reasons(
            minutes in 1_u32..90,
            looks in proptest::collection::vec((0_u8..12, 1_u64..100), 1..400),
        ) {
            let threshold = MINUTE * minutes;
            let mut clock = IdleClock::begin(threshold, BEGIN);
            let (mut now, mut quiet, mut in_a_row, mut warned) = (BEGIN, Duration::ZERO, 0, false);
            let mut last: Option<Time> = None;
            for (what, gap) in looks {
                let gap = interval(threshold).mul_f64(gap as f64 / 50.0);
                now = now + gap;
                match what {
                    0 => { clock.keep_alive(now); (quiet, in_a_row, warned, last) = (Duration::ZERO, 0, false, None); continue; }
                    1 => { clock.resume(threshold, now); in_a_row = 0; last = None; continue; }
                    2 => { clock.note(USED, threshold, now); (quiet, in_a_row, warned, last) = (Duration::ZERO, 0, false, None); continue; }
                    _ => {}
                }
                quiet += last.map_or(Duration::ZERO, |at| now.since(at));
                last = Some(now);
                in_a_row += 1;
                match clock.note(IDLE, threshold, now) {
                    Turn::Stay => {}
                    Turn::Warn => warned = true,
                    Turn::End => {
                        prop_assert!(warned && in_a_row >= 2 && quiet >= threshold, "{warned} {in_a_row} {quiet:?}");
                        break;
                    }
                }
            }
        }
    }
}
