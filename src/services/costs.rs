//! What sessions cost: a pure function of segments, on disk for what has ended and on the board for what runs.
//!
//! Every report is a sum of the same integers, however it is grouped; so groups always add up to the total.

use crate::clock::Clock;
use crate::domain::gpu::GpuModel;
use crate::domain::ids::{ProviderId, SessionId};
use crate::domain::meter::{Amount, Window};
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::Component;
use crate::domain::session::Session;
use crate::domain::time::Time;
use crate::services::api::{Caller, CostGroup, CostQuery, CostReport, GroupBy, LedgerEntry, LedgerPage, SessionCost};
use crate::services::board::{Board, Live};
use crate::services::error::{Code, Error};
use crate::services::inventory::{hash_of, page_size};
use crate::services::sessions::{Sessions, broken};
use crate::services::tokens::PageOf;
use crate::store::{SegmentQuery, SegmentRow, Store};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is accrued is told within this, or not at all this time.
const PATIENCE: Duration = Duration::from_secs(3);
/// So much of what lies behind is added to the sums at a time, when it is as old.
const FOLD: Duration = Duration::from_secs(600);
/// They are read anew after this: a machine that came back may have changed what was long over.
const ANEW: Duration = Duration::from_secs(24 * 3600);

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Costs {
    store: Store,
    board: Board,
    sessions: Sessions,
    clock: Clock,
}

impl Costs {
    /// Reads from these.
    #[must_use]
    pub fn new(store: Store, board: Board, sessions: Sessions, clock: Clock) -> Self {
        Self { store, board, sessions, clock }
    }

    /// One session's cost.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn session(&self, caller: &Caller, id: SessionId) -> Result<SessionCost, Error> {
        let session = self.sessions.get(caller, id).await?;
        let now = self.clock.now();
        let query = CostQuery { session: Some(id), ..CostQuery::default() };
        let rows = self.rows_behind(&query, Window::ALWAYS, None, usize::MAX).await?;
        let mut components: BTreeMap<Component, Amount> = BTreeMap::new();
        let mut attempts: BTreeMap<u8, Amount> = BTreeMap::new();
        for row in &rows {
            let amount = row.segment.amount(Window::ALWAYS, now);
            *components.entry(row.segment.component).or_default() += amount;
            *attempts.entry(row.segment.attempt).or_default() += amount;
        }
        Ok(SessionCost {
            session: id,
            total: components.values().copied().sum(),
            components: components.into_iter().collect(),
            attempts: attempts.into_iter().collect(),
            is_final: session.cost_final,
            rate: self.board.live(id).map_or(Rate::ZERO, |live| live.at_risk()),
        })
    }

    /// A report.
    ///
    /// # Errors
    /// A range that ends before it begins; an unknown session.
    pub async fn report(&self, caller: &Caller, query: CostQuery) -> Result<CostReport, Error> {
        let query = self.scoped(caller, query).await?;
        let now = self.clock.now();
        let window = window(&query, now)?;
        // What lies ahead can still change; so can what is owed for machines that nobody has seen yet.
        let is_final = query.to.is_none_or(|to| to <= now);
        let sums = Sums {
            group_by: query.group_by.clone(),
            window,
            now,
            total: Amount::default(),
            groups: BTreeMap::new(),
            sessions: BTreeSet::new(),
            is_final,
        };
        let (live, running) = self.live();
        let add = move |sums: &mut Sums, row: SegmentRow| {
            if !running.contains(&row.segment.session) {
                sums.add(&row);
            }
        };
        let mut sums = self.store.segment_fold(wanted(&query, window), sums, add).await.map_err(|e| broken(&e))?;
        let (rows, settled) = of_live(&live, &query, window);
        rows.iter().for_each(|row| sums.add(row));
        let groups = sums.groups.into_values().map(|(group, members)| CostGroup { sessions: members.len(), ..group }).collect();
        Ok(CostReport {
            from: window.from,
            to: window.to,
            total: sums.total,
            groups,
            sessions: sums.sessions.len(),
            is_final: sums.is_final && settled,
            unmetered: vec!["traffic".to_owned()],
        })
    }

    /// A page of the ledger, oldest segments first.
    ///
    /// # Errors
    /// As for a report; a page token that is garbage or of another query.
    pub async fn ledger(&self, caller: &Caller, query: CostQuery, size: u32, token: &str) -> Result<LedgerPage, Error> {
        let query = self.scoped(caller, query).await?;
        let now = self.clock.now();
        let window = window(&query, now)?;
        let hash = hash_of(&format!("{query:?}"));
        let after = match token {
            "" => None,
            token => Some(read_token(token, hash).ok_or_else(|| Error::field("page_token", "it belongs to another query, or is no token of ours"))?),
        };
        let size = page_size(size);
        // One more than the page has: whether there is another page.
        let left = self.rows_behind(&query, window, after, size + 1).await?;
        let entries: Vec<LedgerEntry> = left
            .iter()
            .take(size)
            .map(|row| LedgerEntry {
                segment: row.segment.clone(),
                consumer: row.consumer.clone(),
                provider: row.provider.clone(),
                gpu: row.gpu.as_ref().map(ToString::to_string).unwrap_or_default(),
                amount: row.segment.amount(window, now),
                running: row.segment.to_high.is_none(),
            })
            .collect();
        let next_page_token = match left.get(entries.len().saturating_sub(1)).map(place) {
            Some((session, attempt, ordinal)) if entries.len() < left.len() => {
                URL_SAFE_NO_PAD.encode(format!("{}{hash:x}.{session}.{attempt}.{ordinal}", PageOf::Ledger.mark()))
            }
            _ => String::new(),
        };
        Ok(LedgerPage { entries, next_page_token })
    }

    async fn scoped(&self, caller: &Caller, mut query: CostQuery) -> Result<CostQuery, Error> {
        if let Some(id) = query.session {
            self.sessions.get(caller, id).await?;
        }
        if let Some(scope) = &caller.scope {
            if query.consumer.as_ref().is_some_and(|asked| asked != scope) {
                return Err(Error::new(Code::NotFound, "CONSUMER_NOT_FOUND", "there is no such consumer for this token"));
            }
            query.consumer = Some(scope.clone());
        }
        Ok(query)
    }

    /// What is on the board, and which sessions that are. It is read before the disk: a session that ends between the two is then on
    /// disk as well, and counted once.
    fn live(&self) -> (Vec<Live>, BTreeSet<SessionId>) {
        let (live, _) = self.board.snapshot();
        let running = live.iter().map(|l| l.session.id).collect();
        (live, running)
    }

    /// Segments that match, from behind a place on, in their order: live sessions' from the board, the others' from disk. At least
    /// `least` of them, where there are as many.
    async fn rows_behind(&self, query: &CostQuery, window: Window, after: Option<Place>, least: usize) -> Result<Vec<SegmentRow>, Error> {
        let (live, running) = self.live();
        let mut wanted = SegmentQuery { after, limit: u32::try_from(least).ok(), ..wanted(query, window) };
        let mut rows = Vec::new();
        loop {
            let page = self.store.segment_list(wanted.clone()).await.map_err(|e| broken(&e))?;
            let more = wanted.limit.is_some_and(|limit| page.len() >= usize::try_from(limit).unwrap_or(usize::MAX));
            wanted.after = page.last().map(place);
            rows.extend(page.into_iter().filter(|row| !running.contains(&row.segment.session)));
            if !more || rows.len() >= least {
                break;
            }
        }
        rows.extend(of_live(&live, query, window).0.into_iter().filter(|row| after.is_none_or(|after| place(row) > after)));
        rows.sort_by_key(place);
        Ok(rows)
    }
}

/// The sums of a report.
struct Sums {
    group_by: Vec<GroupBy>,
    window: Window,
    now: Time,
    total: Amount,
    groups: BTreeMap<Vec<String>, (CostGroup, BTreeSet<SessionId>)>,
    sessions: BTreeSet<SessionId>,
    is_final: bool,
}

impl Sums {
    fn add(&mut self, row: &SegmentRow) {
        self.sessions.insert(row.segment.session);
        self.is_final &= row.cost_final;
        for part in parts(&self.group_by, self.window, row, self.now) {
            let amount = row.segment.amount(part, self.now);
            self.total += amount;
            let keys: Vec<String> = self.group_by.iter().map(|by| key(by, row, part)).collect();
            let (group, members) = self
                .groups
                .entry(keys.clone())
                .or_insert_with(|| (CostGroup { keys, amount: Amount::default(), sessions: 0, gpu_millis: 0 }, BTreeSet::new()));
            group.amount += amount;
            members.insert(row.segment.session);
            if row.segment.component == Component::Gpu {
                let (from, to) = (row.segment.from.max(part.from), row.segment.to.min(part.to));
                group.gpu_millis += (to.millis() - from.millis()).max(0);
            }
        }
    }
}

/// The question to the disk.
fn wanted(query: &CostQuery, window: Window) -> SegmentQuery {
    SegmentQuery {
        window,
        consumer: query.consumer.clone(),
        provider: query.provider.clone(),
        gpu: query.gpu.as_deref().map(GpuModel::canonical),
        session: query.session,
        labels: query.labels.clone(),
        after: None,
        limit: None,
    }
}

/// Segments of live sessions that match. And whether all that may have a part in the window is settled: a session under way can
/// have a machine that no segment tells of yet.
fn of_live(live: &[Live], query: &CostQuery, window: Window) -> (Vec<SegmentRow>, bool) {
    let gpu = query.gpu.as_deref().map(GpuModel::canonical);
    let (mut rows, mut settled) = (Vec::new(), true);
    for l in live.iter().filter(|l| concerns(query, &l.session)) {
        settled &= l.session.cost_final || l.session.created_at >= window.to;
        rows.extend(live_rows(l).filter(|row| {
            query.provider.as_ref().is_none_or(|p| *p == row.provider)
                && gpu.as_ref().is_none_or(|g| row.gpu.as_ref() == Some(g))
                && row.segment.from_low < window.to
                && row.segment.to_high.is_none_or(|to| to > window.from)
        }));
    }
    (rows, settled)
}

/// What has been accrued at each provider to date, for whoever asks every few seconds: history is read once, and again after a day.
#[derive(Clone)]
pub struct Accrued {
    costs: Costs,
    past: Arc<tokio::sync::Mutex<Past>>,
}

/// What sessions that were over had cost up to a moment.
#[derive(Default)]
struct Past {
    read_at: Time,
    to: Time,
    /// Sessions that were live then, of which nothing is in the sums.
    live: BTreeSet<SessionId>,
    sums: BTreeMap<ProviderId, Nanos>,
}

impl Accrued {
    /// Of these costs.
    #[must_use]
    pub fn new(costs: Costs) -> Self {
        Self { costs, past: Arc::default() }
    }

    /// By provider. `None` while somebody else's answer is being read, history at first, or when the database fails.
    pub async fn by_provider(&self) -> Option<BTreeMap<ProviderId, Nanos>> {
        let (costs, past) = (self.costs.clone(), Arc::clone(&self.past).try_lock_owned().ok()?);
        // It goes on when whoever asked waits no longer: the next one finds what it has read.
        let told = tokio::spawn(async move { costs.accrued(past).await });
        tokio::time::timeout(PATIENCE, told).await.ok()?.ok()?.ok()
    }
}

impl Costs {
    async fn accrued(&self, mut past: tokio::sync::OwnedMutexGuard<Past>) -> Result<BTreeMap<ProviderId, Nanos>, Error> {
        self.board.loaded().await;
        let now = self.clock.now();
        let (live, running) = self.live();
        let running = Arc::new(running);
        if now.since(past.read_at) > ANEW {
            *past = Past { read_at: now, ..Past::default() };
        }
        // What left the board since is over, and its past is missing.
        let left: Vec<SessionId> = past.live.difference(&running).copied().collect();
        for id in left {
            let query = SegmentQuery { session: Some(id), window: Window { to: past.to, ..Window::ALWAYS }, ..SegmentQuery::default() };
            add(&mut past.sums, self.on_disk(query, &running, now).await?);
            past.live.remove(&id);
        }
        let to = now - FOLD;
        if to.since(past.to) >= FOLD {
            // The first time from the beginning.
            let from = if past.to == Time::default() { Window::ALWAYS.from } else { past.to };
            let query = SegmentQuery { window: Window { from, to }, ..SegmentQuery::default() };
            add(&mut past.sums, self.on_disk(query, &running, now).await?);
            // One that was over and is live again has left its past in the sums.
            let fresh = live.iter().filter(|live| live.session.created_at >= past.to).map(|live| live.session.id);
            let fresh: Vec<SessionId> = fresh.collect();
            past.live.extend(fresh);
            past.to = to;
        }
        let since = Window { from: past.to, ..Window::ALWAYS };
        let mut sums = self.on_disk(SegmentQuery { window: since, ..SegmentQuery::default() }, &running, now).await?;
        for one in &live {
            let whole = past.live.contains(&one.session.id) || one.session.created_at >= past.to;
            let window = if whole { Window::ALWAYS } else { since };
            add(&mut sums, live_rows(one).map(|row| (row.provider, row.segment.amount(window, now).cost)));
        }
        add(&mut sums, past.sums.clone());
        Ok(sums)
    }

    /// What sessions on disk that are not live have cost in a window, by provider.
    async fn on_disk(&self, query: SegmentQuery, live: &Arc<BTreeSet<SessionId>>, now: Time) -> Result<BTreeMap<ProviderId, Nanos>, Error> {
        let (window, live) = (query.window, Arc::clone(live));
        let each = move |sums: &mut BTreeMap<ProviderId, Nanos>, row: SegmentRow| {
            if !live.contains(&row.segment.session) {
                add(sums, [(row.provider, row.segment.amount(window, now).cost)]);
            }
        };
        self.store.segment_fold(query, BTreeMap::new(), each).await.map_err(|e| broken(&e))
    }
}

fn add(sums: &mut BTreeMap<ProviderId, Nanos>, more: impl IntoIterator<Item = (ProviderId, Nanos)>) {
    for (provider, cost) in more {
        *sums.entry(provider).or_default() += cost;
    }
}

/// A place in the ledger: session, attempt, ordinal.
type Place = (SessionId, u8, u32);

/// Where a segment stands in the ledger. It never changes: what is added comes between or behind.
fn place(row: &SegmentRow) -> Place {
    (row.segment.session, row.segment.attempt, row.segment.ordinal)
}

fn concerns(query: &CostQuery, session: &Session) -> bool {
    query.session.is_none_or(|id| id == session.id)
        && query.consumer.as_ref().is_none_or(|c| *c == session.request.consumer)
        && query.labels.iter().all(|(key, value)| session.labels.get(key) == Some(value))
}

fn live_rows(live: &Live) -> impl Iterator<Item = SegmentRow> + '_ {
    let session = &live.session;
    let labels = Arc::new(session.labels.clone());
    live.instances.iter().flat_map(move |instance| {
        let labels = Arc::clone(&labels);
        let gpu = session.attempts.iter().find(|a| a.number == instance.label.attempt).map(|a| a.offer.gpu.clone());
        instance.segments.iter().map(move |segment| SegmentRow {
            segment: segment.clone(),
            consumer: session.request.consumer.clone(),
            provider: instance.provider.clone(),
            gpu: gpu.clone(),
            end_reason: session.end_reason,
            labels: Arc::clone(&labels),
            cost_final: session.cost_final,
            state: session.state,
        })
    })
}

fn window(query: &CostQuery, now: Time) -> Result<Window, Error> {
    // The beginning is one that every calendar can show; no segment is older.
    let window = Window { from: query.from.unwrap_or_default(), to: query.to.unwrap_or(Time::from_millis(now.millis() + 1)) };
    if window.to < window.from {
        return Err(match query.to {
            Some(to) => Error::field("end_time", format!("{to} lies before start_time {}", window.from)),
            None => Error::field("start_time", format!("{} lies in the future; now it is {now}", window.from)),
        });
    }
    Ok(window)
}

/// The parts of the window that a segment is reported in: one, or one for each day or month it touches.
fn parts(group_by: &[GroupBy], window: Window, row: &SegmentRow, now: Time) -> Vec<Window> {
    if !group_by.iter().any(|by| matches!(by, GroupBy::Day | GroupBy::Month)) {
        return vec![window];
    }
    let last = row.segment.to_high.unwrap_or(now).max(row.segment.to).min(window.to);
    let mut from = row.segment.from_low.max(window.from);
    let mut parts = Vec::new();
    while from < last {
        let to = from.next_midnight().min(window.to);
        parts.push(Window { from, to });
        from = to;
    }
    parts
}

fn key(by: &GroupBy, row: &SegmentRow, part: Window) -> String {
    match by {
        GroupBy::Consumer => row.consumer.to_string(),
        GroupBy::Provider => row.provider.to_string(),
        GroupBy::Gpu => row.gpu.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
        GroupBy::Day => part.from.day(),
        GroupBy::Month => part.from.month(),
        GroupBy::Session => row.segment.session.to_string(),
        GroupBy::EndReason => row.end_reason.map_or("open", |r| r.word()).to_owned(),
        GroupBy::Label(name) => row.labels.get(name).cloned().unwrap_or_default(),
    }
}

fn read_token(token: &str, hash: u64) -> Option<Place> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let mut parts = text.strip_prefix(PageOf::Ledger.mark())?.split('.');
    let of = u64::from_str_radix(parts.next()?, 16).ok()?;
    let at = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (of == hash && parts.next().is_none()).then_some(at)
}
