//! The sessions that the actor holds in memory, and what of them all is asked at each commit: who holds which slice of which
//! machine, and how closely each provider must be looked at. Both are kept with every change, so that a commit costs what it
//! changes and not what the house holds.
//!
//! Not here: deciding anything.

use super::Attention;
use crate::domain::ids::{OfferId, ProviderId, SessionId};
use crate::domain::instance::{Desired, Instance, Launch};
use crate::domain::session::{Session, State, Target};
use crate::domain::time::Time;
use crate::services::trail::Trail;
use std::collections::{BTreeMap, BTreeSet, btree_map};

/// A session with its machines, and what the actor keeps beside them.
pub(super) struct Entry {
    pub session: Session,
    pub instances: Vec<Instance>,
    pub due: Option<Time>,
    /// When it was last told that a deadline has passed, and how often at that instant.
    pub ticked: (Time, u32),
    /// Attempts whose debts are on disk as they are: they are not written again.
    stored: BTreeSet<u8>,
    /// The trace that its work belongs to.
    pub trail: Trail,
}

impl Entry {
    /// What is new, or comes from disk.
    pub fn new(session: Session, instances: Vec<Instance>) -> Self {
        Self { session, instances, due: None, ticked: (Time::default(), 0), stored: BTreeSet::new(), trail: Trail::default() }
    }

    /// What a step has made of it.
    pub fn step(&mut self, session: Session, instances: Vec<Instance>) {
        for (old, _) in self.instances.iter().zip(&instances).filter(|(old, new)| old != new) {
            self.stored.remove(&old.label.attempt);
        }
        (self.session, self.instances) = (session, instances);
    }

    /// It is on disk as it is.
    pub fn written(&mut self) {
        self.stored = self.instances.iter().map(|row| row.label.attempt).collect();
    }

    /// The debts that may be otherwise on disk.
    pub fn unwritten(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|row| !self.stored.contains(&row.label.attempt))
    }
}

/// What one session counts for among all.
#[derive(Default, PartialEq, Eq)]
struct Share {
    slices: BTreeSet<OfferId>,
    looks: Vec<(ProviderId, Attention)>,
}

impl Share {
    fn of(entry: &Entry) -> Self {
        let open = || entry.instances.iter().filter(|row| row.open());
        let mut slices: BTreeSet<OfferId> = open().map(|row| row.offer.slice()).collect();
        if let (State::Pending, Target::Offer(offer)) = (entry.session.state, &entry.session.request.target)
            && !entry.session.request.allow_same_offer
        {
            slices.insert(offer.slice());
        }
        let look = |row: &Instance| {
            let searched = row.native_id.is_none() || row.launch != Launch::Accepted;
            let begins = entry.session.state == State::Provisioning && row.desired == Desired::Present;
            (row.provider.clone(), if begins || searched { Attention::Close } else { Attention::Steady })
        };
        Self { slices, looks: open().map(look).collect() }
    }
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Roster {
    entries: BTreeMap<SessionId, Entry>,
    shares: BTreeMap<SessionId, Share>,
    holders: BTreeMap<OfferId, BTreeSet<SessionId>>,
    looks: BTreeMap<(ProviderId, Attention), usize>,
}

impl Roster {
    pub fn get(&self, id: &SessionId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub fn contains_key(&self, id: &SessionId) -> bool {
        self.entries.contains_key(id)
    }

    pub fn keys(&self) -> btree_map::Keys<'_, SessionId, Entry> {
        self.entries.keys()
    }

    pub fn values(&self) -> btree_map::Values<'_, SessionId, Entry> {
        self.entries.values()
    }

    pub fn iter(&self) -> btree_map::Iter<'_, SessionId, Entry> {
        self.entries.iter()
    }

    pub fn insert(&mut self, id: SessionId, entry: Entry) {
        self.count(id, Share::of(&entry));
        self.entries.insert(id, entry);
    }

    pub fn remove(&mut self, id: &SessionId) {
        self.count(*id, Share::default());
        self.entries.remove(id);
    }

    /// For what an entry counts nothing for: deadlines, revisions, the trace. State and machines change by [`Roster::change`].
    pub fn get_mut(&mut self, id: &SessionId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    /// Changes an entry, and what it counts for.
    pub fn change(&mut self, id: &SessionId, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        change(entry);
        let share = Share::of(entry);
        self.count(*id, share);
    }

    /// Sessions that hold this offer's slice: whoever has an offer has its twin by a bid, too.
    pub fn holders(&self, offer: &OfferId) -> impl Iterator<Item = &SessionId> {
        self.holders.get(offer.slice_str()).into_iter().flatten()
    }

    /// How closely a provider must be looked at.
    pub fn attention(&self, provider: &ProviderId) -> Attention {
        let any = |attention| self.looks.contains_key(&(provider.clone(), attention));
        [Attention::Close, Attention::Steady].into_iter().find(|a| any(*a)).unwrap_or(Attention::Idle)
    }

    fn count(&mut self, id: SessionId, share: Share) {
        let empty = Share::default();
        let before = self.shares.get(&id).unwrap_or(&empty);
        if *before == share {
            return;
        }
        for slice in before.slices.difference(&share.slices) {
            if let Some(holders) = self.holders.get_mut(slice) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.holders.remove(slice);
                }
            }
        }
        for slice in &share.slices {
            self.holders.entry(slice.clone()).or_default().insert(id);
        }
        for look in &before.looks {
            if let Some(times) = self.looks.get_mut(look) {
                *times -= 1;
                if *times == 0 {
                    self.looks.remove(look);
                }
            }
        }
        for look in &share.looks {
            *self.looks.entry(look.clone()).or_default() += 1;
        }
        if share == empty {
            self.shares.remove(&id);
        } else {
            self.shares.insert(id, share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ConsumerId, Label, Tag};
    use crate::domain::offer::sample;
    use crate::domain::session::Request;
    use std::time::Duration;

    #[test]
    fn a_debt_is_written_when_it_is_new_or_has_changed() {
        let (now, offer) = (Time::from_millis(0), sample("a"));
        let id = SessionId::new(now, 1);
        let request = Request::plain(ConsumerId::new("me"), Target::Offer(offer.id.clone()));
        let session = Session::new(id, request, BTreeMap::new(), Duration::from_secs(3600), now);
        let label = |attempt: u8| Label { tag: Tag::from_hash([7; 5]), session: id, attempt };
        let row = |attempt: u8| Instance::intended(label(attempt), "account".to_owned(), &offer, offer.base, Vec::new(), now);
        let mut entry = Entry::new(session.clone(), vec![row(1)]);
        let unwritten = |entry: &Entry| entry.unwritten().map(|row| row.label.attempt).collect::<Vec<_>>();
        assert_eq!(unwritten(&entry), [1]);
        entry.written();
        assert_eq!(unwritten(&entry), [0_u8; 0]);
        // One that changes in a step that need not be written waits for the next that must.
        let mut seen = row(1);
        seen.native_id = Some("77".to_owned());
        entry.step(session.clone(), vec![seen.clone(), row(2)]);
        entry.step(session.clone(), vec![seen.clone(), row(2)]);
        assert_eq!(unwritten(&entry), [1, 2]);
        entry.written();
        entry.step(session, vec![seen, row(2)]);
        assert_eq!(unwritten(&entry), [0_u8; 0]);
    }
}
