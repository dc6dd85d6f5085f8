//! Segments from looks: which component's meter ran from when to when, with what we can know of the boundaries.

use crate::domain::instance::{Billed, Instance, InstanceStatus, PriceSeen};
use crate::domain::meter::Segment;
use crate::domain::money::Rate;
use crate::domain::offer::{Component, Price};
use crate::domain::time::{Look, Time};
use std::time::Duration;

/// The accepted create: what bills from then on begins.
pub(super) fn begun(row: &mut Instance, call: Look) {
    for (component, billed) in row.billing.clone() {
        if matches!(billed, Billed::WhileExisting | Billed::WhileOnline) {
            open(row, component, call.sent, call.answered);
        }
    }
}

/// It was seen doing something. Between two looks further apart than `unseen_after` nobody knows what it did.
pub(super) fn observed(row: &mut Instance, status: InstanceStatus, look: Look, unseen_after: Duration) {
    let before = last_look(row);
    for (component, billed) in row.billing.clone() {
        match (billed.runs(status), running(row, component)) {
            (Some(true), Some(at)) => {
                let segment = &mut row.segments[at];
                if billed != Billed::WhileExisting && look.sent.since(segment.to) > unseen_after {
                    let (from, rate) = (segment.to, segment.rate);
                    segment.to_high = Some(from);
                    push(row, component, rate, from, from);
                    if let Some(unseen) = row.segments.last_mut() {
                        (unseen.to, unseen.to_high, unseen.presumed) = (look.sent, Some(look.sent), true);
                    }
                    open(row, component, look.sent, look.sent);
                } else {
                    segment.to = segment.to.max(look.sent);
                }
            }
            (Some(true), None) => open(row, component, before, look.answered),
            (Some(false), Some(at)) => {
                let segment = &mut row.segments[at];
                segment.to_high = Some(look.answered.max(segment.to));
            }
            (Some(false) | None, None) => {
                // Seen standing where it stood, it may have come back and gone again where nobody looked for long.
                let unseen = look.sent.since(before) > unseen_after && may_have_run(row, None);
                if billed != Billed::WhileExisting && (unseen || may_have_run(row, Some(status))) {
                    doubt(row, component, before, look.answered);
                }
            }
            (None, Some(_)) => {}
        }
    }
}

/// When it was last looked at, or ordered.
fn last_look(row: &Instance) -> Time {
    row.seen.as_ref().map(|s| s.look.sent).or(row.launched.map(|l| l.sent)).unwrap_or(row.intended_at)
}

/// Whether a machine that did not run at the last look may have run since, and be seen doing this (`None`: gone) now.
fn may_have_run(row: &Instance, now: Option<InstanceStatus>) -> bool {
    use InstanceStatus as S;
    match (row.seen.as_ref().map_or(S::Scheduled, |s| s.status), now) {
        // Where it stood, or on its way and still on its way: one that never ran has not run meanwhile.
        (S::Scheduled, Some(S::Scheduled | S::Starting)) | (S::Starting, Some(S::Starting)) | (S::Stopped, Some(S::Stopped)) => has_run(row),
        (S::Failed | S::Deleting | S::Gone, _) => false,
        (S::Scheduled | S::Starting | S::Running | S::Stopped | S::Offline | S::Unknown, _) => true,
    }
}

/// Whether it was ever seen running, where that makes a difference.
fn has_run(row: &Instance) -> bool {
    let while_running = |component| row.billing.contains(&(component, Billed::WhileRunning));
    row.segments.iter().any(|s| !is_doubt(s) && while_running(s.component))
}

/// A stretch in which a meter may have run, and nobody knows: it costs nothing, and raises the upper bound. One that goes on where
/// the last one ended makes that longer.
fn doubt(row: &mut Instance, component: Component, from: Time, to: Time) {
    let rate = row.price.of(component);
    let last = row.segments.iter_mut().rfind(|s| s.component == component);
    if let Some(last) = last.filter(|s| is_doubt(s) && s.rate == rate && (s.from_low..=s.to).contains(&from)) {
        if to > last.to {
            (last.from, last.to, last.to_high) = (to, to, Some(to));
        }
        return;
    }
    if from < to {
        let count = row.segments.len();
        open(row, component, from, to);
        if let Some(segment) = row.segments.get_mut(count) {
            segment.to_high = Some(to);
        }
    }
}

fn is_doubt(segment: &Segment) -> bool {
    !segment.presumed && segment.from_low < segment.from && segment.to == segment.from && segment.to_high == Some(segment.from)
}

/// A machine that nobody has ever seen may have existed, and run, for all of a time.
pub(super) fn may_have_been(row: &mut Instance, from: Time, to: Time) {
    for (component, _) in row.billing.clone() {
        doubt(row, component, from, to);
    }
}

/// The vendor took a destroy: the machine existed when it was asked.
pub(super) fn existed(row: &mut Instance, at: Time) {
    for (component, billed) in row.billing.clone() {
        if billed == Billed::WhileExisting
            && let Some(index) = running(row, component)
        {
            let segment = &mut row.segments[index];
            segment.to = segment.to.max(at);
        }
    }
}

/// The debt is settled: every meter stood by `off_by`.
pub(super) fn ended(row: &mut Instance, off_by: Time) {
    if row.native_id.is_some() && may_have_run(row, None) {
        let idle: Vec<Component> = row.billing.iter().filter(|(_, billed)| *billed != Billed::WhileExisting).map(|(c, _)| *c).collect();
        for component in idle.into_iter().filter(|c| running(row, *c).is_none()).collect::<Vec<_>>() {
            doubt(row, component, last_look(row), off_by);
        }
    }
    for segment in row.segments.iter_mut().filter(|s| s.to_high.is_none()) {
        segment.to_high = Some(off_by.max(segment.to));
    }
}

/// A latecomer came back: the last boundaries are open again.
pub(super) fn reopened(row: &mut Instance) {
    for component in Component::ALL {
        if let Some(last) = row.segments.iter_mut().rev().find(|s| s.component == component && !is_doubt(s)) {
            last.to_high = None;
        }
    }
}

/// Takes over the price that the provider states; true when it differs from the one known so far.
///
/// The first stated price counts from the beginning; a later change begins a new segment, and since the last look that
/// stated the old one nobody knows which held: the lower of the two is surely owed.
pub(super) fn priced(row: &mut Instance, stated: PriceSeen, look: Look) -> bool {
    let price = match stated {
        PriceSeen::Parts(price) => price,
        PriceSeen::Total(total) if row.price.total() == total => row.price,
        PriceSeen::Total(total) => row.price.with_total(total),
    };
    if price == row.price {
        return false;
    }
    let old = std::mem::replace(&mut row.price, price);
    for component in Component::ALL {
        if old.of(component) == price.of(component) {
            continue;
        }
        let Some(last) = row.priced_at else {
            row.segments.iter_mut().filter(|s| s.component == component).for_each(|s| s.rate = price.of(component));
            if row.segments.iter().all(|s| s.component != component) {
                missed(row, component);
            }
            continue;
        };
        if let Some(at) = running(row, component) {
            let segment = &mut row.segments[at];
            let (since, ran_until) = (segment.to.min(last).max(segment.from), segment.to);
            segment.to_high = Some(look.answered.max(ran_until));
            if price.of(component) >= old.of(component) {
                open(row, component, since, look.answered);
                continue;
            }
            segment.to = since;
            let count = row.segments.len();
            open(row, component, since, since);
            if let Some(cheaper) = row.segments.get_mut(count) {
                cheaper.to = ran_until;
            }
        }
    }
    true
}

/// A meter that was thought to cost nothing has run all the while: as long as one that runs like it, or since the launch.
fn missed(row: &mut Instance, component: Component) {
    let Some(billed) = row.billing.iter().find(|(c, _)| *c == component).map(|(_, billed)| *billed) else { return };
    let alike = |of: &Component| row.billing.contains(&(*of, billed));
    let rate = row.price.of(component);
    let like = row.segments.iter().map(|s| s.component).find(alike);
    let stretches: Vec<Segment> = row.segments.iter().filter(|s| Some(s.component) == like).cloned().collect();
    for stretch in stretches {
        push(row, component, rate, stretch.from_low, stretch.from);
        if let Some(own) = row.segments.last_mut() {
            (own.to, own.to_high, own.presumed) = (stretch.to, stretch.to_high, stretch.presumed);
        }
    }
    if let (None, Billed::WhileExisting | Billed::WhileOnline, Some(call)) = (like, billed, row.launched) {
        open(row, component, call.sent, call.answered);
    }
}

fn running(row: &Instance, component: Component) -> Option<usize> {
    row.segments.iter().rposition(|s| s.component == component && s.to_high.is_none())
}

fn open(row: &mut Instance, component: Component, from_low: Time, from: Time) {
    let rate: Rate = row.price.of(component);
    let free = |p: &Price| p.of(component) == Rate::ZERO;
    // A machine whose price nobody has told yet is metered at no rate, until somebody tells.
    let untold = row.priced_at.is_none() && row.offered.total() == Rate::ZERO;
    if free(&row.price) && free(&row.offered) && !untold {
        return;
    }
    push(row, component, rate, from_low, from);
}

fn push(row: &mut Instance, component: Component, rate: Rate, from_low: Time, from: Time) {
    row.segments.push(Segment {
        session: row.label.session,
        attempt: row.label.attempt,
        ordinal: u32::try_from(row.segments.len()).unwrap_or(u32::MAX),
        component,
        rate,
        from_low: from_low.min(from),
        from,
        to: from,
        to_high: None,
        presumed: false,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Label, SessionId, Tag};
    use crate::domain::offer::sample;

    fn at(second: i64) -> Time {
        Time::from_millis(1_000 * second)
    }

    fn look(second: i64) -> Look {
        Look { sent: at(second), answered: at(second) + Duration::from_millis(500) }
    }

    /// A machine of an offer with a GPU's price alone, whose launch took from the tenth second on.
    fn launched(billing: Vec<(Component, Billed)>) -> Instance {
        let offer = sample("a");
        let label = Label { tag: Tag::from_hash([7; 5]), session: SessionId::new(at(0), 1), attempt: 1 };
        let mut row = Instance::intended(label, "account".to_owned(), &offer, offer.base, billing, at(0));
        row.launched = Some(look(10));
        begun(&mut row, look(10));
        row
    }

    /// A host that is offline at several looks, a minute and half an hour apart.
    #[test]
    fn a_machine_that_was_away_at_two_looks_may_have_run_between() {
        let mut row = launched(vec![(Component::Gpu, Billed::WhileOnline)]);
        for (second, status) in [(100, InstanceStatus::Running), (130, InstanceStatus::Offline), (190, InstanceStatus::Offline)] {
            observed(&mut row, status, look(second), Duration::from_secs(900));
            row.seen = Some(crate::domain::instance::Seen { look: look(second), status, raw: String::new() });
        }
        let times = |row: &Instance| row.segments.iter().map(|s| (s.from_low, s.from, s.to, s.to_high)).collect::<Vec<_>>();
        let ran = (at(10), look(10).answered, at(100), Some(look(130).answered));
        // It costs nothing, or all of it, and is one stretch, however many looks there are.
        let unseen = |to: Time| (at(130), to, to, Some(to));
        assert_eq!(times(&row), [ran, unseen(look(190).answered)]);
        for second in [220, 2_000] {
            observed(&mut row, InstanceStatus::Offline, look(second), Duration::from_secs(900));
            row.seen = Some(crate::domain::instance::Seen { look: look(second), status: InstanceStatus::Offline, raw: String::new() });
            assert_eq!(times(&row), [ran, unseen(look(second).answered)]);
        }
        observed(&mut row, InstanceStatus::Running, look(2_030), Duration::from_secs(900));
        assert_eq!(times(&row), [ran, unseen(look(2_000).answered), (at(2_000), look(2_030).answered, look(2_030).answered, None)]);
    }

    #[test]
    fn a_machine_that_never_ran_has_not_run_while_it_stood() {
        let mut row = launched(vec![(Component::Gpu, Billed::WhileRunning)]);
        for (second, status) in [(20, InstanceStatus::Starting), (50, InstanceStatus::Stopped)] {
            observed(&mut row, status, look(second), Duration::from_secs(900));
            row.seen = Some(crate::domain::instance::Seen { look: look(second), status, raw: String::new() });
        }
        // It may have run before it was stopped, once.
        let before = row.segments.clone();
        assert_eq!(before.iter().map(|s| (s.from_low, s.to_high)).collect::<Vec<_>>(), [(at(20), Some(look(50).answered))]);
        observed(&mut row, InstanceStatus::Stopped, look(80), Duration::from_secs(900));
        assert_eq!(row.segments, before);
    }

    /// A vendor that tells no state of a machine for a while, as it does of one that has no container yet.
    #[test]
    fn a_machine_that_has_run_may_run_while_nothing_is_told_of_it() {
        let mut row = launched(vec![(Component::Gpu, Billed::WhileRunning)]);
        let mut see = |second, status| {
            observed(&mut row, status, look(second), Duration::from_secs(900));
            row.seen = Some(crate::domain::instance::Seen { look: look(second), status, raw: String::new() });
            row.segments.iter().map(|s| (s.from_low, s.from, s.to, s.to_high)).collect::<Vec<_>>()
        };
        assert_eq!([see(20, InstanceStatus::Scheduled), see(50, InstanceStatus::Scheduled)], [[], []], "it was never there");
        see(80, InstanceStatus::Running);
        let ran = (at(50), look(80).answered, look(80).answered, Some(look(110).answered));
        assert_eq!(see(110, InstanceStatus::Scheduled), [ran]);
        let untold = (at(110), look(170).answered, look(170).answered, Some(look(170).answered));
        see(140, InstanceStatus::Scheduled);
        assert_eq!(see(170, InstanceStatus::Scheduled), [ran, untold]);
    }

    #[test]
    fn what_the_first_stated_price_adds_was_billed_from_the_beginning() {
        let billing = vec![
            (Component::Gpu, Billed::WhileOnline),
            (Component::Cpu, Billed::WhileOnline),
            (Component::Memory, Billed::WhileRunning),
            (Component::Disk, Billed::WhileExisting),
        ];
        let mut row = launched(billing);
        observed(&mut row, InstanceStatus::Running, look(100), Duration::from_secs(900));
        let parts = Price { gpu: Rate(100), cpu: Rate(20), memory: Rate(30), disk: Rate(4) };
        assert!(priced(&mut row, PriceSeen::Parts(parts), look(200)));
        let of = |component| {
            let segments: Vec<&Segment> = row.segments.iter().filter(|s| s.component == component).collect();
            let [one] = segments.as_slice() else { panic!("{component:?}: {segments:?}") };
            (one.rate, one.from_low, one.from, one.to, one.to_high)
        };
        let since_launch = (at(10), look(10).answered, at(100));
        assert_eq!(of(Component::Gpu), (Rate(100), since_launch.0, since_launch.1, since_launch.2, None));
        assert_eq!(of(Component::Cpu), (Rate(20), since_launch.0, since_launch.1, since_launch.2, None), "as long as the GPU, which is billed alike");
        assert_eq!(of(Component::Disk), (Rate(4), at(10), look(10).answered, look(10).answered, None), "since the launch");
        assert!(row.segments.iter().all(|s| s.component != Component::Memory), "when it ran is for the next look to say");
    }
}
