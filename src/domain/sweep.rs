//! Whose is it? Compares a complete list of an account's machines with the rows that should account for them.
//!
//! Pure, takes no hints, and is dull to run twice. It judges one list at a time: absence becomes a verdict elsewhere, by
//! several lists and a direct look (`lifecycle/debts.rs`), and nothing is destroyed here. What it tells apart:
//!
//! * *seen*: a row's machine;
//! * *missing*: a row without one in this list;
//! * *duplicate*: carries the label of a row that has another machine: one of them is too many;
//! * *unknown*: a label of this deployment that none of the given rows has: a latecomer of an ended session if the disk
//!   knows it, otherwise a *stray*, which can't come from this database, since rows precede launches;
//! * *foreign*: everything else on the account. Reported, never touched.

use crate::domain::ids::{Label, Tag};
use crate::domain::instance::{Instance, InstanceStatus, Sighting};
use crate::domain::lifecycle::{Input, LookBy};
use crate::domain::time::Look;
use std::collections::{BTreeMap, BTreeSet};

/// What a list is compared with: one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its label.
    pub label: Label,
    /// Its machine, once known.
    pub native_id: Option<String>,
    /// That id is more than a launch's answer ([`crate::domain::instance::Instance::named`]).
    pub named: bool,
    /// No look has shown that id with the label yet (not [`crate::domain::instance::Instance::touchable`]): whatever carries the
    /// label is its machine.
    pub unseen: bool,
    /// Still owed: absence means something.
    pub open: bool,
}

/// A list, sorted. Each sighting is in exactly one of `seen`, `duplicates`, `unknown` and `foreign`, or is over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sorted<'a> {
    /// Machines of rows.
    pub seen: Vec<(Label, &'a Sighting)>,
    /// Open rows without a machine in this list.
    pub missing: Vec<Label>,
    /// Machines with a row's label, beside the row's own.
    pub duplicates: Vec<(Label, &'a Sighting)>,
    /// Machines with a label of ours that no given row has.
    pub unknown: Vec<(Label, &'a Sighting)>,
    /// Machines that are not ours, with the label where it is another deployment's.
    pub foreign: Vec<(Option<Label>, &'a Sighting)>,
    /// How many machines of ours the list has: the fleet.
    pub fleet: usize,
}

/// Sorts a complete list. Ours is what carries a whole label of this deployment, or is a row's machine by id.
#[must_use]
pub fn sort<'a>(known: &[Known], tag: Tag, sightings: &'a [Sighting]) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    // Of two rows with one id, the one whose machine was seen with its label has it: the other's launch was answered wrongly.
    let ids = |named| known.iter().filter(move |k| k.named == named).filter_map(|k| Some((k.native_id.as_deref()?, k)));
    let by_id: BTreeMap<&str, &Known> = ids(false).chain(ids(true)).collect();
    let by_label: BTreeMap<Label, &Known> = known.iter().map(|k| (k.label, k)).collect();
    let carried: BTreeSet<Label> = sightings.iter().filter_map(|s| s.label.as_deref().and_then(Label::parse)).collect();
    let mut found: BTreeSet<Label> = BTreeSet::new();
    // A vendor's order of rows must not decide which of two machines is kept.
    let mut all: Vec<&Sighting> = sightings.iter().collect();
    all.sort_by(|a, b| a.native_id.cmp(&b.native_id));
    all.dedup_by(|a, b| a.native_id == b.native_id);
    for sighting in all {
        let over = matches!(sighting.status, InstanceStatus::Gone | InstanceStatus::Deleting);
        let label = sighting.label.as_deref().and_then(Label::parse);
        let ours = label.filter(|label| label.tag == tag);
        let named = by_id.get(sighting.native_id.as_str());
        // Without a label, it is the row's only where nothing carries that: else a launch's answer has named a stranger's.
        let named = named.filter(|row| !row.unseen || sighting.is_labelled() || !carried.contains(&row.label));
        if let Some(row) = named {
            sorted.fleet += 1;
            // Of another label, it is another's, which a launch's answer named: the row's own may be in the list as well.
            if row.named || ours == Some(row.label) || !sighting.is_labelled() {
                found.insert(row.label);
            }
            sorted.seen.push((row.label, sighting));
        } else if let Some(label) = ours {
            sorted.fleet += usize::from(!over);
            match by_label.get(&label) {
                Some(row) if (row.native_id.is_none() || row.unseen) && found.insert(label) => sorted.seen.push((label, sighting)),
                Some(_) if !over => sorted.duplicates.push((label, sighting)),
                None if !over => sorted.unknown.push((label, sighting)),
                Some(_) | None => {}
            }
        } else if !over {
            sorted.foreign.push((label, sighting));
        }
    }
    sorted.missing = known.iter().filter(|k| k.open && !found.contains(&k.label)).map(|k| k.label).collect();
    sorted
}

/// What a list that shows a row's machine says of the row. What is listed as gone is missing like what is not listed; and an
/// unlabelled machine that only a launch's answer named is the row's once `quorum` lists have shown nothing with its label.
#[must_use]
pub fn shown(row: Option<&Instance>, label: Label, sighting: &Sighting, look: Look, quorum: u8) -> Input {
    let missing = |by| Input::Missing { attempt: label.attempt, look, by };
    if sighting.status == InstanceStatus::Gone {
        return missing(LookBy::List);
    }
    let mut sighting = Box::new(sighting.clone());
    if let Some(row) = row.filter(|row| row.unclaimed(&sighting)) {
        if !row.vouched_by(quorum) {
            return missing(LookBy::Label);
        }
        sighting.label = Some(label.to_string());
    }
    Input::Seen { attempt: label.attempt, sighting, look }
}

/// How much may be destroyed without anybody asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// In a minute.
    pub per_minute: u32,
    /// At one look, as a share of the fleet, percent. More is a sign that our rows are wrong, not the machines.
    pub share_percent: u32,
    /// That many are never too many.
    pub at_least: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { per_minute: 10, share_percent: 20, at_least: 3 }
    }
}

impl Caps {
    /// Whether destroying so many of a fleet at one look is suspicious.
    #[must_use]
    pub fn suspicious(&self, wanted: usize, fleet: usize) -> bool {
        let share = fleet.saturating_mul(usize::try_from(self.share_percent).unwrap_or(usize::MAX)) / 100;
        wanted > share.max(self.at_least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::SessionId;
    use crate::domain::time::Time;

    fn label(tag: &str, session: u128, attempt: u8) -> Label {
        Label { tag: Tag::parse(tag).unwrap(), session: SessionId::new(Time::from_millis(0), session), attempt }
    }

    fn machine(id: &str, label: Option<&str>, status: InstanceStatus) -> Sighting {
        Sighting {
            native_id: id.to_owned(),
            label: label.map(str::to_owned),
            status,
            raw_status: String::new(),
            progress: None,
            endpoints: Vec::new(),
            ports: Vec::new(),
            public_host: None,
            price: None,
            interruptible: None,
            gpu_percent: None,
            machine: None,
        }
    }

    const OURS: &str = "5abn2v1n";

    #[test]
    fn each_machine_has_one_place() {
        let (a, b, c) = (label(OURS, 1, 1), label(OURS, 2, 1), label(OURS, 3, 2));
        let running = InstanceStatus::Running;
        let known = [
            Known { label: a, native_id: Some("10".to_owned()), named: true, unseen: false, open: true },
            Known { label: b, native_id: None, named: true, unseen: false, open: true },
            Known { label: c, native_id: Some("30".to_owned()), named: true, unseen: false, open: true },
        ];
        let other = label("6c9bd5at", 9, 1);
        let list = [
            machine("10", Some("renamed by hand"), running),
            machine("11", Some(&a.to_string()), running),
            machine("21", Some(&b.to_string()), running),
            machine("20", Some(&b.to_string()), running),
            machine("40", Some(&label(OURS, 4, 1).to_string()), running),
            machine("50", Some(&other.to_string()), running),
            machine("51", Some(&format!("{a}-copy")), running),
            machine("52", Some("gs-5abn2v1n"), running),
            machine("53", None, running),
            machine("60", Some(&label(OURS, 6, 1).to_string()), InstanceStatus::Deleting),
            machine("10", Some("twice in one list"), running),
        ];
        let sorted = sort(&known, a.tag, &list);
        let ids = |found: &[(Label, &Sighting)]| found.iter().map(|(_, s)| s.native_id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&sorted.seen), ["10", "20"]);
        assert_eq!(ids(&sorted.duplicates), ["11", "21"]);
        assert_eq!(ids(&sorted.unknown), ["40"]);
        assert_eq!(sorted.missing, [c]);
        let foreign: Vec<_> = sorted.foreign.iter().map(|(label, s)| (s.native_id.as_str(), *label)).collect();
        assert_eq!(foreign, [("50", Some(other)), ("51", None), ("52", None), ("53", None)]);
        assert_eq!(sorted.fleet, 5);
    }

    #[test]
    fn what_only_an_answer_named_gives_way_to_what_carries_the_label() {
        let (a, other) = (label(OURS, 1, 1), label("6c9bd5at", 9, 1).to_string());
        let known = |unseen| [Known { label: a, native_id: Some("10".to_owned()), named: false, unseen, open: true }];
        fn ids<L>(found: &[(L, &Sighting)]) -> Vec<String> {
            found.iter().map(|(_, s)| s.native_id.clone()).collect()
        }
        // Whether the named one is in the list, with another label, or not; it is told of, so that it can be dropped.
        let both = [machine("10", Some(&other), InstanceStatus::Running), machine("11", Some(&a.to_string()), InstanceStatus::Running)];
        for (list, seen) in [(&both[..], vec!["10", "11"]), (&both[1..], vec!["11"])] {
            let sorted = sort(&known(true), a.tag, list);
            assert_eq!((ids(&sorted.seen), sorted.duplicates.len(), sorted.missing.len()), (seen.iter().map(ToString::to_string).collect(), 0, 0));
        }
        assert_eq!(sort(&known(true), a.tag, &both[..1]).missing, [a]);
        // Without a label it is the row's as long as nothing carries that; later another one is one too many.
        for blank in [None, Some("")] {
            let list = [machine("10", blank, InstanceStatus::Running), both[1].clone()];
            let sorted = sort(&known(true), a.tag, &list);
            assert_eq!((ids(&sorted.seen), ids(&sorted.foreign)), (vec!["11".to_owned()], vec!["10".to_owned()]));
            assert_eq!(ids(&sort(&known(true), a.tag, &list[..1]).seen), ["10"]);
            let sorted = sort(&known(false), a.tag, &list);
            assert_eq!((ids(&sorted.seen), ids(&sorted.duplicates)), (vec!["10".to_owned()], vec!["11".to_owned()]));
        }
    }

    #[test]
    fn a_closed_row_is_not_missed() {
        let a = label(OURS, 1, 1);
        let sorted = sort(&[Known { label: a, native_id: Some("1".to_owned()), named: true, unseen: false, open: false }], a.tag, &[]);
        assert_eq!(sorted, Sorted::default());
    }

    #[test]
    fn a_large_share_is_suspicious_and_a_few_are_not() {
        let caps = Caps::default();
        for (wanted, fleet, suspicious) in [(3, 0, false), (4, 10, true), (4, 20, false), (20, 100, false), (21, 100, true), (0, 0, false)] {
            assert_eq!(caps.suspicious(wanted, fleet), suspicious, "{wanted} of {fleet}");
        }
    }
}
