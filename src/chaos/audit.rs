//! The audit: what the service believes, told and billed, held against what the market knows. Returns what is wrong, in
//! sentences; so the tests of the audit itself can ask it to find something.

use crate::chaos::story::Story;
use crate::domain::event::{Event, EventType};
use crate::domain::ids::{Label, SessionId, Tag};
use crate::domain::instance::Instance;
use crate::domain::money::Nanos;
use crate::domain::session::{AttemptFailure, EndReason, Session};
use crate::domain::time::Time;
use crate::services::api::Caller;
use crate::services::costs::Costs;
use crate::sim::{Market, Truth};
use crate::store::{Error, SessionQuery, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// What the roundings of one machine's many segments may come to, nano-dollars.
const ROUNDING: i64 = 200;

/// Whose books are audited, against which market.
pub struct Books<'a> {
    /// The market.
    pub market: &'a Market,
    /// The deployment's tag.
    pub tag: Tag,
    /// Its disk.
    pub store: &'a Store,
    /// Its ledger.
    pub costs: &'a Costs,
    /// The labels of all launch calls that ever went out.
    pub launches: Vec<Label>,
    /// Machines that somebody else put there, by their ids: not ours, whatever their label looks like.
    pub foreign: &'a BTreeSet<String>,
    /// Machines with a label of the deployment that it did not launch, or does not know to have launched. They are its own
    /// as soon as a row has them.
    pub planted: &'a BTreeSet<String>,
    /// Sessions of whose machines some are on no disk any more.
    pub unbillable: &'a BTreeSet<SessionId>,
    /// Sessions some of whose debts an operator has called settled, rightly or not.
    pub by_word: &'a BTreeSet<SessionId>,
    /// Machines whose price was changed while they were there: nobody can know what they cost who did not look then.
    pub repriced: &'a BTreeSet<String>,
    /// The ledger must be the bill, without bounds and to the nano.
    pub exact: bool,
    /// Where it is counted how bills could be held against the ledger.
    pub story: Option<&'a Story>,
}

impl Books<'_> {
    fn machines(&self) -> BTreeMap<Label, Vec<Truth>> {
        let mut machines: BTreeMap<Label, Vec<Truth>> = BTreeMap::new();
        for truth in self.market.truth().into_iter().filter(|t| !self.foreign.contains(&t.native_id)) {
            if let Some(label) = Label::parse(&truth.label).filter(|l| l.tag == self.tag) {
                machines.entry(label).or_default().push(truth);
            }
        }
        machines
    }

    /// Everything that is wrong now that all should be over.
    ///
    /// # Errors
    /// When the books can't be read.
    pub async fn audit(&self) -> Result<Vec<String>, Error> {
        let mut wrong = Vec::new();
        let machines = self.machines();
        alive(&machines, &mut wrong);
        let sessions = self.store.session_list(SessionQuery::default(), |_, _| None).await?;
        let mut rows: BTreeMap<Label, Instance> = BTreeMap::new();
        for session in &sessions {
            rows.extend(self.store.instance_list(session.id).await?.into_iter().map(|r| (r.label, r)));
        }
        let by_id: BTreeSet<&str> = rows.values().filter_map(|row| row.native_id.as_deref()).collect();
        let all = machines;
        let machines = self.launched(&all);
        launches(&machines, &self.launches, &mut wrong);
        // One that is too many has a row with a number of its own.
        let known = |truths: &[&Truth]| truths.iter().all(|truth| by_id.contains(truth.native_id.as_str()));
        for (label, _) in machines.iter().filter(|(label, truths)| !rows.contains_key(label) && !known(truths)) {
            wrong.push(format!("{label}: a machine that no row knows"));
        }
        for row in rows.values() {
            let own = |truth: &&Truth| row.native_id.as_deref().is_none_or(|id| id == truth.native_id);
            let of_label = machines.get(&row.label).into_iter().flatten().copied().filter(own);
            let by_id = all.values().flatten().filter(|truth| row.native_id.as_deref() == Some(truth.native_id.as_str()));
            // What an operator calls gone may live on until it is seen again.
            debt(row, of_label.chain(by_id).filter(|_| !self.by_word.contains(&row.label.session)), &mut wrong);
        }
        for session in &sessions {
            let own = || machines.iter().filter(|(label, _)| label.session == session.id);
            ended(session, own().flat_map(|(_, truths)| truths).copied().filter(|_| !self.by_word.contains(&session.id)), &mut wrong);
            refused(session, &machines, &mut wrong);
            let truths = billable(&all, session.id, |truth| !self.planted.contains(&truth.native_id) || by_id.contains(truth.native_id.as_str()));
            let segments: usize = rows.values().filter(|r| r.label.session == session.id).map(|r| r.segments.len()).sum();
            self.billed(session.id, &truths, Nanos(2 * i64::try_from(segments).unwrap_or(0)), &mut wrong).await;
        }
        log(&events(self.store).await?, &sessions, &mut wrong);
        Ok(wrong)
    }

    /// What is wrong with the costs of these sessions, of which no machine exists any more.
    pub async fn bills(&self, sessions: &[SessionId]) -> Vec<String> {
        let mut wrong = Vec::new();
        let machines = self.machines();
        for id in sessions {
            let rows = match self.store.instance_list(*id).await {
                Ok(rows) => rows,
                Err(error) => {
                    wrong.push(format!("{id}: its machines can't be read: {error}"));
                    continue;
                }
            };
            let by_id: BTreeSet<&str> = rows.iter().filter_map(|row| row.native_id.as_deref()).collect();
            let own = billable(&machines, *id, |truth| !self.planted.contains(&truth.native_id) || by_id.contains(truth.native_id.as_str()));
            // The market rounds once for each component of a machine, the ledger at every boundary of a segment.
            let rounding = Nanos(ROUNDING * i64::try_from(own.len()).unwrap_or(0));
            self.billed(*id, &own, rounding, &mut wrong).await;
        }
        wrong
    }

    /// Of these machines those that the deployment has launched, and knows to have.
    fn launched<'m>(&self, machines: &'m BTreeMap<Label, Vec<Truth>>) -> BTreeMap<Label, Vec<&'m Truth>> {
        // Of two machines with one label either may have the row: which was ordered is no longer the question then.
        let doubled = |truths: &[Truth]| truths.iter().any(|t| self.planted.contains(&t.native_id));
        let own = |truths: &'m [Truth]| if doubled(truths) { Vec::new() } else { truths.iter().collect::<Vec<_>>() };
        machines.iter().map(|(label, truths)| (*label, own(truths))).filter(|(_, truths)| !truths.is_empty()).collect()
    }

    fn count(&self, what: &'static str) {
        if let Some(story) = self.story {
            story.count(what);
        }
    }

    async fn billed(&self, id: SessionId, machines: &[&Truth], rounding: Nanos, wrong: &mut Vec<String>) {
        if self.unbillable.contains(&id) || self.by_word.contains(&id) || machines.iter().any(|t| self.repriced.contains(&t.native_id)) {
            return self.count("bills_unknowable");
        }
        let rows = match self.store.instance_list(id).await {
            Ok(rows) => rows,
            Err(error) => return wrong.push(format!("{id}: its machines can't be read: {error}")),
        };
        // Bounds are at the offered price where the vendor never told another.
        let of = |r: &Instance, t: &Truth| r.native_id.as_ref().map_or_else(|| r.label.to_string() == t.label, |id| *id == t.native_id);
        let untold = |t: &&Truth| rows.iter().any(|r| of(r, t) && r.priced_at.is_none() && r.price.total() != t.price.total());
        if machines.iter().any(untold) {
            return self.count("bills_of_untold_prices");
        }
        let bill: Nanos = machines.iter().map(|t| t.bill.total).sum();
        let caller = Caller { principal: "audit".to_owned(), scope: None, admin: true, request: String::new() };
        let cost = match self.costs.session(&caller, id).await {
            Ok(cost) => cost.total,
            Err(error) => return wrong.push(format!("{id}: its costs can't be read: {error}")),
        };
        if bill < cost.low - rounding || bill > cost.high + rounding {
            let why = figures(machines, &rows);
            wrong.push(format!("{id}: the market bills {bill}, which is not within {} to {}{why}", cost.low, cost.high));
        }
        // A host may take its machine back in the best of worlds, and a higher bid may have it; when, only looks can tell.
        let session = self.store.session_get(id).await.ok().flatten();
        let taken = session.is_some_and(|s| matches!(s.end_reason, Some(EndReason::ProviderTerminated | EndReason::Preempted)));
        self.count(if self.exact && !taken { "bills_to_the_nano" } else { "bills_in_bounds" });
        if self.exact && !taken && (cost.low, cost.cost, cost.high) != (bill, bill, bill) {
            wrong.push(format!("{id}: the market bills {bill}, the ledger says {} ({} to {})", cost.cost, cost.low, cost.high));
        }
    }
}

/// The machines whose costs are a session's.
fn billable(machines: &BTreeMap<Label, Vec<Truth>>, id: SessionId, known: impl Fn(&Truth) -> bool) -> Vec<&Truth> {
    machines.iter().filter(|(label, _)| label.session == id).flat_map(|(_, truths)| truths).filter(|truth| known(truth)).collect()
}

/// What the two sides of a wrong bill consist of.
fn figures(machines: &[&Truth], rows: &[Instance]) -> String {
    let clock = |at: Time| at.rfc3339().get(11..23).unwrap_or_default().to_owned();
    let mut told = String::new();
    for truth in machines {
        let gone = truth.gone.map(clock).unwrap_or_default();
        let parts: Vec<String> = truth.bill.parts.iter().map(|(part, nanos)| format!("{} {nanos}", part.word())).collect();
        let _ = write!(told, "\n    billed {} at {}: {} to {gone}: {}", truth.label, truth.price.total(), clock(truth.created), parts.join(", "));
    }
    for row in rows {
        for s in &row.segments {
            let (open, presumed) = (s.to_high.map(clock).unwrap_or_default(), if s.presumed { ", presumed" } else { "" });
            let times = format!("[{} {}] to [{} {open}]", clock(s.from_low), clock(s.from), clock(s.to));
            let _ = write!(told, "\n    metered attempt {} {} at {}: {times}{presumed}", s.attempt, s.component.word(), s.rate);
        }
    }
    told
}

/// The whole log.
///
/// # Errors
/// When it can't be read.
pub async fn events(store: &Store) -> Result<Vec<Event>, Error> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let page = store.event_list(None, all.last().map_or(0, |e| e.revision), 1_000).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// No machine is alive.
fn alive(machines: &BTreeMap<Label, Vec<Truth>>, wrong: &mut Vec<String>) {
    for (label, truth) in machines.iter().flat_map(|(label, truths)| truths.iter().map(move |t| (label, t))) {
        if truth.alive {
            wrong.push(format!("{label}: machine {} is alive", truth.native_id));
        }
    }
}

/// No attempt is launched twice: neither asked for twice nor there twice.
fn launches(machines: &BTreeMap<Label, Vec<&Truth>>, calls: &[Label], wrong: &mut Vec<String>) {
    for (label, truths) in machines.iter().filter(|(_, truths)| truths.len() > 1) {
        wrong.push(format!("{label}: {} machines for one attempt", truths.len()));
    }
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    calls.iter().for_each(|label| *counts.entry(*label).or_default() += 1);
    for (label, times) in counts.into_iter().filter(|(_, times)| *times > 1) {
        wrong.push(format!("{label}: launched {times} times"));
    }
}

/// Every debt is settled, and none while its machine lived.
fn debt<'a>(row: &Instance, truths: impl Iterator<Item = &'a Truth>, wrong: &mut Vec<String>) {
    let Some(settled) = row.settled else { return wrong.push(format!("{}: the debt is open ({:?}, {:?})", row.label, row.launch, row.destroy)) };
    for truth in truths {
        if truth.gone.is_none_or(|gone| gone > settled.at) {
            wrong.push(format!("{}: settled at {} ({:?}) while machine {} lived", row.label, settled.at, settled.evidence, truth.native_id));
        }
    }
}

/// Every session is over, and none was while a machine of its lived.
fn ended<'a>(session: &Session, truths: impl Iterator<Item = &'a Truth>, wrong: &mut Vec<String>) {
    if !session.state.is_final() || !session.cost_final {
        wrong.push(format!("{} is {} (cost final: {}): {}", session.id, session.state, session.cost_final, session.status_message));
        return;
    }
    let Some(end) = session.stopped_at else { return wrong.push(format!("{} is {} without an end", session.id, session.state)) };
    for truth in truths.filter(|t| t.gone.is_none_or(|gone| gone > end)) {
        wrong.push(format!("{} was {} ({:?}) at {end} while machine {} lived", session.id, session.state, session.end_reason, truth.native_id));
    }
}

/// What the provider is said to have refused never came to be.
fn refused(session: &Session, machines: &BTreeMap<Label, Vec<&Truth>>, wrong: &mut Vec<String>) {
    use AttemptFailure as F;
    for attempt in &session.attempts {
        let said = matches!(
            attempt.failure,
            Some(F::OfferGone | F::RateLimited | F::ProviderAuth | F::ProviderCredit | F::Invalid | F::ProviderUnavailable)
        );
        let there = |label: &&Label| label.session == session.id && label.attempt == attempt.number;
        if let Some(label) = machines.keys().find(there).filter(|_| said) {
            wrong.push(format!("{label}: closed as refused ({:?}), and there was a machine", attempt.failure));
        }
    }
}

/// The log has no gaps, every session's part follows from the one before, and its end is what the session is.
pub fn log(events: &[Event], sessions: &[Arc<Session>], wrong: &mut Vec<String>) {
    for (event, revision) in events.iter().zip(1..) {
        if event.revision != revision {
            wrong.push(format!("revision {} where {revision} was expected", event.revision));
            break;
        }
    }
    let mut last: BTreeMap<SessionId, &Event> = BTreeMap::new();
    for event in events {
        let before = last.insert(event.session_id, event);
        let (sequence, state) = before.map_or((0, event.from_state), |b| (b.sequence, b.to_state));
        if event.sequence != sequence + 1 || event.from_state != state {
            wrong.push(format!("{}: event {} from {} follows on event {sequence} to {state}", event.session_id, event.sequence, event.from_state));
        }
        if before.is_none() != (event.kind == EventType::Created) {
            wrong.push(format!("{}: event {} is {:?}", event.session_id, event.sequence, event.kind));
        }
        if event.session.state != event.to_state || event.session.revision != event.revision {
            wrong.push(format!("{}: event {} shows another session than it tells of", event.session_id, event.sequence));
        }
    }
    for session in sessions {
        let told = last.get(&session.id).map(|e| (e.to_state, e.end_reason, e.revision, e.sequence));
        if told != Some((session.state, session.end_reason, session.revision, session.sequence)) {
            wrong.push(format!("{}: the log ends with {told:?}, the session with {:?}", session.id, (session.state, session.revision)));
        }
    }
}
