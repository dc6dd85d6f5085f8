//! What a complete list of a provider's machines comes to: what rows see and miss, and what the sweeper may destroy.

use super::Listing;
use super::actor::{Actor, Staged};
use crate::domain::event::Actor as Who;
use crate::domain::ids::{Label, ProviderId, SessionId};
use crate::domain::instance::{Desired, Instance, InstanceStatus, Sighting};
use crate::domain::lifecycle::{Fate, Input, LookBy, Stray};
use crate::domain::sweep::{self, Known};
use crate::domain::time::{Look, Time};
use crate::services::sweeper::{FindingKind, Suspect};
use crate::store::Error as StoreError;

impl Actor {
    /// Compares the list with the rows, has the sweeper judge what no row wants, and tells the machine the rest.
    pub(super) async fn listed(&mut self, listing: Listing, staged: &mut Staged) -> Result<(), StoreError> {
        let now = self.parts.tools.clock.now();
        let account = self.account(&listing.provider, listing.look);
        let rows = self.live.values().flat_map(|e| e.instances.iter().filter(|r| r.provider == listing.provider));
        let known = |r: &Instance| Known { label: r.label, native_id: r.native_id.clone(), named: r.named, unseen: !r.touchable(), open: r.open() };
        let known: Vec<Known> = rows.map(known).collect();
        let sorted = sweep::sort(&known, self.parts.tag, &listing.sightings);
        let mut inputs: Vec<(SessionId, Input)> = Vec::new();
        let mut suspects: Vec<Suspect<'_>> = Vec::new();
        for (label, sighting) in &sorted.seen {
            let row = self.row(*label);
            if let Some(row) = row.filter(|row| row.settled.is_some() && sighting.status != InstanceStatus::Gone) {
                if row.settled_since(listing.look) {
                    continue;
                }
                // What only an answer named, and carries no label, is nobody's of ours.
                let ours = row.touchable() || sighting.is_labelled();
                let (kind, label) = if ours { (FindingKind::Orphan, Some(*label)) } else { (FindingKind::Foreign, None) };
                suspects.push(Suspect { kind, label, keepable: false, sighting });
            } else {
                let quorum = self.rules.policy.absence_quorum;
                inputs.push((label.session, sweep::shown(row, *label, sighting, listing.look, quorum)));
            }
        }
        let missing = |label: &Label| (label.session, Input::Missing { attempt: label.attempt, look: listing.look, by: LookBy::List });
        inputs.extend(sorted.missing.iter().map(missing));
        for (label, sighting) in &sorted.duplicates {
            suspects.push(Suspect { kind: FindingKind::Orphan, label: Some(*label), keepable: false, sighting });
        }
        // Ours, and no open session accounts for it: a latecomer's row says gone. A label that no row knows is a stray.
        for (label, sighting) in &sorted.unknown {
            let kind = match self.row_of(&listing.provider, *label, &sighting.native_id).await? {
                // Its own machine may be gone by now; one that is too many is not, whatever became of that.
                Some(row) if row.settled_since(listing.look) && row.native_id.as_ref().is_none_or(|own| *own == sighting.native_id) => continue,
                Some(_) => FindingKind::Orphan,
                None => FindingKind::Stray,
            };
            let keepable = kind == FindingKind::Stray && self.read(label.session).await?.is_none();
            suspects.push(Suspect { kind, label: Some(*label), keepable, sighting });
        }
        let foreign = sorted.foreign.iter();
        suspects.extend(foreign.map(|(label, sighting)| Suspect { kind: FindingKind::Foreign, label: *label, keepable: false, sighting }));
        let (holds, strays) = (self.sweeper.holds().to_vec(), self.sweeper.strays().clone());
        let condemned = self.sweeper.judge(&listing.provider, &account, listing.look, sorted.fleet, &suspects);
        if self.sweeper.holds() != holds {
            self.keep_holds().await?;
        }
        if *self.sweeper.strays() != strays {
            self.keep_strays().await?;
        }
        // What has a row comes first: of two machines of one launch, the row's is kept.
        for (id, input) in inputs {
            self.apply(id, input, staged);
        }
        for suspect in suspects.iter().filter(|s| condemned.contains(&s.sighting.native_id)) {
            let Some(label) = suspect.label else { continue };
            self.condemn(suspect.kind, label, suspect.sighting, &listing, staged, now).await?;
        }
        Ok(())
    }

    /// Whose account a provider told of in a look; empty while that is unknown.
    fn account(&self, provider: &ProviderId, look: Look) -> String {
        self.rules.terms.get(provider).map(|t| t.account_of(look).to_owned()).unwrap_or_default()
    }

    /// The row of an ended session's machine: that with its id, or else that with its label. A second machine, or a stray that was
    /// ordered destroyed beside its session's machines, has a row with another number. Of another provider none is: an earlier
    /// copy of the database may have given the number anew, elsewhere.
    async fn row_of(&self, provider: &ProviderId, label: Label, native_id: &str) -> Result<Option<Instance>, StoreError> {
        let mut rows = self.rows_of(label.session).await?;
        rows.retain(|row| row.provider == *provider);
        let at = rows.iter().position(|row| row.native_id.as_deref() == Some(native_id)).or_else(|| rows.iter().position(|row| row.label == label));
        Ok(at.map(|at| rows.swap_remove(at)))
    }

    fn row(&self, label: Label) -> Option<&Instance> {
        self.live.get(&label.session)?.instances.iter().find(|row| row.label == label)
    }

    /// What a launch's answer is worth: a machine that a list has shown before the launch was sent is not what it brought forth,
    /// whatever its answer says. Ours is looked for by its label then, as if the answer had been lost.
    pub(super) fn weighed(&self, id: SessionId, input: Input) -> Input {
        let Input::Launched { attempt, native_id, call, .. } = &input else { return input };
        let row = self.live.get(&id).and_then(|e| e.instances.iter().find(|row| row.label.attempt == *attempt));
        let older = row.and_then(|row| self.sweeper.finding(&row.provider, native_id)).filter(|found| found.first_seen <= call.sent);
        if older.is_none() {
            return input;
        }
        let text = format!("the answer named machine {native_id}, which was there before: it is left alone, and ours is looked for by its label");
        Input::LaunchUnknown { attempt: *attempt, text, call: *call }
    }

    /// Gives what is to be destroyed unasked a row that says so.
    async fn condemn(
        &mut self,
        kind: FindingKind,
        label: Label,
        sighting: &Sighting,
        listing: &Listing,
        staged: &mut Staged,
        now: Time,
    ) -> Result<(), StoreError> {
        let (provider, account) = (listing.provider.clone(), self.account(&listing.provider, listing.look));
        let stray = Stray { label, provider, account, sighting: sighting.clone(), look: listing.look, first_seen: listing.look.answered };
        match kind {
            FindingKind::Stray if stray.account.is_empty() => Ok(()),
            FindingKind::Stray => self.take_over(&stray, &Fate::Destroy, Who::Service, staged, now).await,
            _ => self.destroy_orphan(stray, staged).await,
        }
    }

    /// Its row says gone, or has another machine, or there is none: it is seen alive, or becomes a row of its own; that only when
    /// it is known whose it is, for a machine without an account is never proven gone, and the next list will know.
    pub(super) async fn destroy_orphan(&mut self, orphan: Stray, staged: &mut Staged) -> Result<(), StoreError> {
        let label = orphan.label;
        self.awaken(label.session).await?;
        let rows = self.live.get(&label.session).map(|e| e.instances.as_slice()).unwrap_or_default();
        let there = || rows.iter().filter(|r| r.provider == orphan.provider);
        // A second machine carries the label of the first, and has a row with another number.
        let own = there().find(|r| r.native_id.as_ref() == Some(&orphan.sighting.native_id));
        // One that is still wanted has its own machine somewhere, which this need not be.
        let own = own.or_else(|| there().find(|r| r.label == label && r.native_id.is_none() && r.desired == Desired::Gone));
        let own = own.map(|r| r.label.attempt);
        let input = match own {
            Some(attempt) => Input::Unwanted { attempt, sighting: Box::new(orphan.sighting), look: orphan.look },
            None if orphan.account.is_empty() => return Ok(()),
            None => Input::Duplicate(Box::new(orphan)),
        };
        self.apply(label.session, input, staged);
        Ok(())
    }
}
