//! The process dies at every commit point and at every provider reply, comes back on the same file, and the market is
//! asked: no machine alive that nobody owns, never two launches for one attempt, every session ends, the bill within
//! what was accounted. Then the suite's own teeth: with a wrong rule of recovery, the same audit finds something.

use crate::support::{Doom, House, Plan, Wrap, any, caller, request, silence};
use async_trait::async_trait;
use futures::StreamExt;
use gpu_shopper::app::tag_of;
use gpu_shopper::chaos::audit;
use gpu_shopper::domain::ids::{Label, OfferId};
use gpu_shopper::domain::instance::{Desired, Launch, PriceSeen, Sighting};
use gpu_shopper::domain::session::{EndReason, Session, State};
use gpu_shopper::ports::{Account, Certainty, DestroyAnswer, LaunchSpec, Launched, OfferBatch, Provider, ProviderError, ProviderFacts};
use gpu_shopper::services::api::{Command, SessionFilter, WatchMessage, WatchRequest, WatchStart};
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults};
use gpu_shopper::store::{Point, SessionQuery};
use rand::{Rng, SeedableRng};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What a caller does. It can be begun anew at any time: its calls carry request ids, and its pauses count from what
/// the session says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Rents, extends, works for a few minutes, is done.
    Work,
    /// Rents and thinks better of it before the machine is there.
    Regret(u64),
    /// Rents and is never heard of again.
    Forget,
}

impl Story {
    async fn play(self, house: &House) -> Arc<Session> {
        let mut wanted = request(any(None));
        if self == Self::Forget {
            wanted.reservation = 10 * MINUTE;
        }
        let created = house.create_as(wanted, Some("rent")).await.unwrap().session;
        match self {
            Self::Work => {
                let session = house.reach(created.id, Some(State::Running), 2 * HOUR).await;
                if let (State::Running, Some(since)) = (session.state, session.running_at) {
                    let more = Command::Extend { by: Some(30 * MINUTE), to: None, override_hard_max: false };
                    house.command_as(created.id, more, "more").await.unwrap();
                    house.clock.sleep_until(since + 4 * MINUTE).await;
                    house.command_as(created.id, Command::Complete { bad_machine: false }, "done").await.unwrap();
                }
            }
            Self::Regret(ms) => {
                house.clock.sleep_until(created.created_at + Duration::from_millis(ms)).await;
                house.command_as(created.id, Command::Destroy, "enough").await.unwrap();
            }
            Self::Forget => {}
        }
        house.reach(created.id, None, 2 * HOUR).await
    }

    /// What is wrong with its end, on a market where nothing goes wrong.
    fn judge(self, session: &Session, wrong: &mut Vec<String>) {
        let expected = match self {
            Self::Work => EndReason::Completed,
            Self::Regret(_) => EndReason::DestroyedByUser,
            Self::Forget => EndReason::Expired,
        };
        if session.end_reason != Some(expected) {
            wrong.push(format!("ended with {:?}, not {expected:?}: {}", session.end_reason, session.status_message));
        }
        if let (Self::Work, Some(since)) = (self, session.running_at)
            && session.expires_at != since + 90 * MINUTE
        {
            wrong.push(format!("runs until {} although it was extended once, since {since}", session.expires_at));
        }
    }
}

/// A story on a market, and how often it is disturbed.
struct Suite {
    story: Story,
    dialects: Vec<Dialect>,
    seed: u64,
    faults: Faults,
    /// Whether nothing goes wrong on its market, so that its end is certain.
    calm: bool,
}

impl Suite {
    fn calm(story: Story, dialect: Dialect) -> Self {
        Self { story, dialects: vec![dialect], seed: 11, faults: Faults::gentle(), calm: true }
    }

    fn plan(&self, doom: Option<Doom>) -> Plan {
        Plan { dialects: self.dialects.clone(), doom, refresh: Some(6 * HOUR), ..Plan::new(self.seed, self.faults.clone()).on_disk() }
    }

    /// Every point of the undisturbed story at which something can happen to the process.
    async fn points(&self) -> Vec<Doom> {
        let house = self.plan(None).build().await;
        let session = self.story.play(&house).await;
        let (commits, calls) = (house.life().commits(), house.life().calls());
        let mut wrong = self.finish(&house).await;
        if self.calm {
            self.story.judge(&session, &mut wrong);
        }
        assert!(wrong.is_empty(), "{:?} undisturbed: {wrong:#?}", self.story);
        let tried: Vec<_> = session.attempts.iter().map(|a| a.failure.map_or("ok", |f| f.word())).collect();
        println!("{:?}: {commits} commits, {} calls, attempts {tried:?}, {:?}", self.story, calls.len(), session.end_reason);
        let commits = (1..=commits).flat_map(|n| [Doom::BeforeCommit(n), Doom::AfterCommit(n)]);
        let calls = calls.iter().zip(1_u64..).flat_map(|(name, k)| {
            let all = [Doom::BeforeCall(k), Doom::ReplyLost(k), Doom::ReplyKept(k), Doom::Silence(k)];
            // A list changes nothing at the vendor and, by itself, nothing on disk: sent or not, lost or kept is one and
            // the same to both. They take turns.
            let turn = usize::try_from(k).unwrap() % all.len();
            if *name == "instances" { all[turn..=turn].to_vec() } else { all.to_vec() }
        });
        commits.chain(calls).collect()
    }

    async fn finish(&self, house: &House) -> Vec<String> {
        house.pass(30 * MINUTE).await;
        house.audit().await
    }

    /// Dies at these points, one after the other, each time down for so long; what is wrong in the end.
    async fn suffer(&self, dooms: &[Doom], down: Duration) -> Vec<String> {
        let mut house = self.plan(dooms.first().copied()).build().await;
        let story = self.story;
        let (session, deaths) = house.survive(dooms.iter().copied().skip(1), down, async move |h: &House| story.play(h).await).await;
        let mut wrong = self.finish(&house).await;
        if self.calm {
            story.judge(&session, &mut wrong);
        }
        if deaths == 0 && !matches!(dooms, [Doom::Silence(_), ..]) {
            wrong.push("it never died".to_owned());
        }
        wrong
    }

    /// Every single death, with downtimes from none to a quarter of an hour in turn; then pairs of deaths, by lot.
    async fn run(&self, pairs: usize) {
        let points = self.points().await;
        let mut failures = Vec::new();
        let downs = [Duration::ZERO, 7 * SECOND, 100 * SECOND, 16 * MINUTE];
        for (doom, down) in points.iter().zip(downs.into_iter().cycle()) {
            let wrong = self.suffer(&[*doom], down).await;
            if !wrong.is_empty() {
                println!("{doom:?} {down:?}: {wrong:#?}");
                failures.push((vec![*doom], down, wrong));
            }
        }
        let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(self.seed);
        for _ in 0..pairs {
            let dooms = [0, 1].map(|_| points[dice.random_range(0..points.len())]);
            let down = downs[dice.random_range(0..downs.len())];
            let wrong = self.suffer(&dooms, down).await;
            if !wrong.is_empty() {
                failures.push((dooms.to_vec(), down, wrong));
            }
        }
        println!("{:?} {:?}: {} deaths, {} pairs", self.story, self.dialects, points.len(), pairs);
        assert!(failures.is_empty(), "{:?} at {:?}: {} of {} failed: {failures:#?}", self.story, self.dialects, failures.len(), points.len() + pairs);
    }
}

#[tokio::test(start_paused = true)]
async fn a_working_hour_survives_every_death_at_vastai() {
    Suite::calm(Story::Work, Dialect::Vastai).run(20).await;
}

#[tokio::test(start_paused = true)]
async fn a_working_hour_survives_every_death_at_tensordock() {
    Suite::calm(Story::Work, Dialect::Tensordock).run(20).await;
}

#[tokio::test(start_paused = true)]
async fn destroy_while_provisioning_survives_every_death() {
    for (dialect, ms) in [(Dialect::Vastai, 20), (Dialect::Vastai, 1_500), (Dialect::Tensordock, 1_000)] {
        Suite::calm(Story::Regret(ms), dialect).run(10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_nobody_waits_for_survives_every_death() {
    Suite::calm(Story::Forget, Dialect::Tensordock).run(5).await;
}

/// Several machines fail in several ways before one works.
#[tokio::test(start_paused = true)]
async fn failover_survives_every_death() {
    let suite = Suite { story: Story::Work, dialects: Dialect::ALL.to_vec(), seed: 7, faults: troubled(), calm: false };
    suite.run(20).await;
}

fn troubled() -> Faults {
    Faults::gentle()
        .with(Fault::StaleAsk, 300_000)
        .with(Fault::ReplyLost, 400_000)
        .with(Fault::StoppedAtCreate, 300_000)
        .with(Fault::StartUnavailable, 500_000)
        .with(Fault::GpuLies, 300_000)
        .with(Fault::DestroyLostReply, 300_000)
}

// === the suite's teeth: with a wrong rule, the audit finds something ===

/// A provider that follows, or brings about, a wrong rule.
struct Crooked {
    inner: Arc<dyn Provider>,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    /// Launch again when the answer stays out.
    LaunchAgain,
    /// What has no answer was refused.
    DoubtIsRefusal,
    /// While this is set: a list that lacks everything is complete, and what it lacks is not found by id either.
    AbsentAtFirstSight(Arc<AtomicBool>),
    /// An accepted destroy is a destroy.
    AcceptedIsGone(Arc<AtomicBool>),
    /// The price is what comes to mind: 4 % more than it is.
    Dear,
    /// Nothing is ever destroyed.
    Hoard,
}

impl Rule {
    fn wrap(self) -> Wrap {
        Arc::new(move |inner| Arc::new(Crooked { inner, rule: self.clone() }))
    }
}

impl Crooked {
    fn hides(&self) -> bool {
        match &self.rule {
            Rule::AbsentAtFirstSight(on) | Rule::AcceptedIsGone(on) => on.load(Ordering::Relaxed),
            _ => false,
        }
    }

    fn priced(&self, mut sighting: Sighting) -> Sighting {
        if let (Rule::Dear, Some(PriceSeen::Parts(price))) = (&self.rule, sighting.price) {
            sighting.price = Some(PriceSeen::Total(price.total().scaled(104, 100)));
        }
        sighting
    }
}

#[async_trait]
impl Provider for Crooked {
    fn facts(&self) -> &ProviderFacts {
        self.inner.facts()
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.inner.owns_offer_id(id)
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.inner.account().await
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        self.inner.offers().await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let answer = self.inner.launch(spec).await;
        match (&self.rule, answer) {
            (Rule::LaunchAgain, Err(error)) if error.certainty == Certainty::MayHaveHappened => {
                // The same offer, if it is still there, else another one of the kind.
                let other = self.inner.offers().await?.offers.into_iter().find(|o| o.rental == spec.offer.rental);
                self.inner.launch(&LaunchSpec { offer: other.map_or_else(|| spec.offer.clone(), Into::into), ..spec.clone() }).await
            }
            (Rule::DoubtIsRefusal, Err(error)) => Err(ProviderError { certainty: Certainty::DidNotHappen, ..error }),
            (_, answer) => answer,
        }
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.inner.attach_key(native_id, public_key).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        if self.hides() {
            return Ok(None);
        }
        Ok(self.inner.instance(native_id).await?.map(|s| self.priced(s)))
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        if self.hides() {
            return Ok(Vec::new());
        }
        Ok(self.inner.instances().await?.into_iter().map(|s| self.priced(s)).collect())
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.inner.start(native_id).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        match &self.rule {
            Rule::AcceptedIsGone(on) => {
                on.store(true, Ordering::Relaxed);
                Ok(DestroyAnswer::Accepted)
            }
            Rule::Hoard => Err(silence("destroy")),
            _ => self.inner.destroy(native_id).await,
        }
    }
}

/// Plays the working hour under a wrong rule; what the audit finds.
async fn findings(dialect: Dialect, faults: Faults, rule: Rule) -> Vec<String> {
    let house = Plan::new(3, faults).at(dialect).wrapped(rule.wrap()).build().await;
    Story::Work.play(&house).await;
    house.pass(30 * MINUTE).await;
    house.audit().await
}

#[track_caller]
fn finds(wrong: &[String], what: &str) {
    assert!(wrong.iter().any(|w| w.contains(what)), "nothing about `{what}` in {wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_a_launch_repeated_in_doubt() {
    for dialect in Dialect::ALL {
        let wrong = findings(dialect, Faults::gentle().with(Fault::ReplyLost, ALWAYS), Rule::LaunchAgain).await;
        // The sweeper has destroyed the second one since; the audit still knows that there was one.
        finds(&wrong, "2 machines for one attempt");
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_doubt_taken_for_a_refusal() {
    for dialect in Dialect::ALL {
        // A machine that a list shows before the reply is given up for lost is taken in, whatever that reply was.
        let unseen = Faults::gentle().with(Fault::LateVisible, ALWAYS).with_delay(Delay::Invisible, 150 * SECOND);
        let wrong = findings(dialect, unseen.with(Fault::ReplyLost, ALWAYS), Rule::DoubtIsRefusal).await;
        finds(&wrong, "closed as refused");
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_a_session_ended_over_a_list_that_lacked_its_machine() {
    for dialect in Dialect::ALL {
        let on = Arc::new(AtomicBool::new(false));
        let house = Plan::new(3, Faults::gentle()).at(dialect).wrapped(Rule::AbsentAtFirstSight(Arc::clone(&on)).wrap()).build().await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        on.store(true, Ordering::Relaxed);
        let ended = house.until(id, State::Failed, HOUR).await;
        assert_eq!(ended.end_reason, Some(EndReason::HostLost));
        finds(&house.audit().await, "is alive");
        // Seen again, the machine is destroyed as a latecomer; the audit still knows that the end was wrong.
        on.store(false, Ordering::Relaxed);
        house.pass(HOUR).await;
        assert!(house.alive().is_empty());
        finds(&house.audit().await, "while machine");
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_a_destroy_believed_without_looking() {
    for dialect in Dialect::ALL {
        let wrong = findings(dialect, Faults::gentle(), Rule::AcceptedIsGone(Arc::default())).await;
        finds(&wrong, "is alive");
        finds(&wrong, "while machine");
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_a_wrong_bill_and_an_open_debt() {
    for dialect in Dialect::ALL {
        finds(&findings(dialect, Faults::gentle(), Rule::Dear).await, "the market bills");
        let wrong = findings(dialect, Faults::gentle(), Rule::Hoard).await;
        finds(&wrong, "the debt is open");
        finds(&wrong, "is stopping");
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_a_gap_in_the_log() {
    let house = House::new(3, Faults::gentle()).await;
    Story::Forget.play(&house).await;
    let whole = house.events().await;
    for lost in 0..whole.len() {
        let mut events = whole.clone();
        events.remove(lost);
        let mut wrong = Vec::new();
        audit::log(&events, &house.store().session_list(SessionQuery::default(), |_, _| None).await.unwrap(), &mut wrong);
        assert!(!wrong.is_empty(), "event {lost} is not missed");
    }
    house.close().await;
}

/// Whichever commit hangs: while it is not on disk, or on disk without our knowing, nobody is told of it, no caller is
/// answered by it, and no provider is called for it. Everything but the commit goes on meanwhile.
#[tokio::test(start_paused = true)]
async fn while_a_commit_hangs_nobody_hears_of_it_and_nothing_is_done_for_it() {
    let mut hung = Vec::new();
    for number in 1.. {
        for point in [Point::BeforeCommit(number), Point::AfterCommit(number)] {
            let house = Plan { refresh: Some(6 * HOUR), ..Plan::new(11, Faults::gentle()).at(Dialect::Vastai) }.build().await;
            // What was told, by whom, and the last of the log that it is about.
            let told: Arc<Mutex<Vec<(&str, i64)>>> = Arc::default();
            let tell = |who, revision| told.lock().unwrap().push((who, revision));
            let watch = WatchRequest { session: None, filter: SessionFilter::default(), start: WatchStart::Now, bookmark: 15 * SECOND };
            let mut watch = house.core().sessions.watch(&caller(), watch).await.unwrap();
            let watcher = async {
                while let Some(Ok(message)) = watch.next().await {
                    if let WatchMessage::Event { event, .. } = message {
                        tell("a watcher", event.revision);
                    }
                }
            };
            let user = async {
                let id = house.rent(None).await.session.id;
                tell("create", house.get(id).await.revision);
                house.until(id, State::Running, HOUR).await;
                tell("extend", house.command(id, Command::Extend { by: Some(MINUTE), to: None, override_hard_max: false }).await.unwrap().revision);
                tell("destroy", house.command(id, Command::Destroy).await.unwrap().revision);
                tell("end", house.until(id, State::Stopped, HOUR).await.revision);
            };
            let (hangs, before, gate) = (Arc::new(Notify::new()), house.life().commits(), house.life().gate(None));
            house.store().set_gate(Arc::new({
                let hangs = Arc::clone(&hangs);
                move |now, batch| {
                    let here = match (now, point) {
                        (Point::BeforeCommit(now), Point::BeforeCommit(at)) | (Point::AfterCommit(now), Point::AfterCommit(at)) => now == before + at,
                        _ => false,
                    };
                    if here {
                        hangs.notify_one();
                    }
                    here || gate(now, batch)
                }
            }));
            let hanging = async {
                hangs.notified().await;
                house.pass(10 * SECOND).await;
            };
            tokio::select! {
                () = user => return assert!(hung.len() >= 20, "{hung:?}"),
                () = watcher => panic!("the watch ended"),
                () = hanging => {}
            }
            // What is on disk and not known to be counts as not yet there.
            let (log, tag) = (house.events().await, tag_of(&house.deployment));
            let known = match point {
                Point::BeforeCommit(_) => log.last().map_or(0, |event| event.revision),
                Point::AfterCommit(_) => house.witness.last_revision(),
            };
            let early: Vec<_> = told.lock().unwrap().iter().filter(|(_, revision)| *revision > known).copied().collect();
            assert!(early.is_empty(), "{point:?}: {early:?} were heard, and {known} is on disk");
            for machine in house.market.truth() {
                let label = Label::parse(&machine.label).filter(|label| label.tag == tag).unwrap();
                let row = house.store().instance_by_label(label).await.unwrap();
                let row = row.unwrap_or_else(|| panic!("{point:?}: {label} was launched before its intent was on disk"));
                assert!(machine.alive || row.desired == Desired::Gone, "{point:?}: {label} was destroyed before that was on disk");
            }
            hung.push(point);
        }
    }
}

/// A launch whose intent comes to disk only after it: the process dies between the two. The disk of that rule is the
/// disk as it was before the last commit.
#[tokio::test(start_paused = true)]
async fn the_audit_finds_an_intent_written_after_its_launch() {
    let first = Suite::calm(Story::Work, Dialect::Vastai);
    finds(&late_intents(&first).await, "a machine that no row knows");
    let later = Suite { story: Story::Work, dialects: Dialect::ALL.to_vec(), seed: 7, faults: troubled(), calm: false };
    finds(&late_intents(&later).await, "launched 2 times");
}

/// What the audit finds when the intents of a story's launches come too late, one at a time.
async fn late_intents(suite: &Suite) -> Vec<String> {
    let calls = {
        let house = suite.plan(None).build().await;
        suite.story.play(&house).await;
        house.life().calls()
    };
    let mut found = Vec::new();
    for (_, number) in calls.iter().zip(1..).filter(|(name, _)| **name == "launch") {
        let doom = Some(Doom::ReplyLost(number));
        // With the intent on disk first, all is well.
        assert_eq!(suite.suffer(doom.as_slice(), 7 * SECOND).await, Vec::<String>::new());
        let mut house = suite.plan(doom).build().await;
        let copies = tempfile::tempdir().unwrap();
        let (path, folder) = (house.path().to_owned(), copies.path().to_owned());
        let gate = house.life().gate(Some(Arc::new(move |point, _| {
            if let Point::BeforeCommit(_) = point {
                copy_database(&path, &folder);
            }
        })));
        house.store().set_gate(gate);
        let life = house.life();
        tokio::select! {
            biased;
            () = life.died() => {}
            session = suite.story.play(&house) => panic!("{session:?}"),
        }
        house.die().await;
        house.with_closed_file(|path| copy_database(&copies.path().join(path.file_name().unwrap()), path.parent().unwrap()));
        house.start(None).await;
        suite.story.play(&house).await;
        found.extend(suite.finish(&house).await);
    }
    found
}

fn copy_database(path: &Path, folder: &Path) {
    for end in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{end}", path.display()));
        let to = folder.join(from.file_name().unwrap());
        let _ = std::fs::remove_file(&to);
        let _ = std::fs::copy(from, to);
    }
}

/// A server that is told to end waits for what it has ordered, and writes the answers down: the next start knows them.
#[tokio::test(start_paused = true)]
async fn an_end_in_good_order_waits_for_the_answers_to_launches_and_destroys() {
    let mut house = Plan::new(6, Faults::gentle()).on_disk().at(Dialect::Vastai).build().await;
    let ended = house.rent(None).await.session.id;
    house.until(ended, State::Running, 10 * MINUTE).await;
    house.market.set_faults(Faults::gentle().with_delay(Delay::Latency, 5 * SECOND));
    let begun = house.rent(None).await.session.id;
    house.command(ended, Command::Destroy).await.unwrap();
    house.pass(SECOND).await;
    let rows = async |house: &House| {
        let row = async |id| house.store().instance_list(id).await.unwrap().remove(0);
        (row(begun).await, row(ended).await)
    };
    let (launch, destroy) = rows(&house).await;
    assert!(launch.launch == Launch::Intended && destroy.destroy.answered_at.is_none(), "both are under way: {launch:?} {destroy:?}");
    house.stop().await;
    let (launch, destroy) = rows(&house).await;
    assert!(launch.launch == Launch::Accepted && launch.native_id.is_some(), "{launch:?}");
    assert!(destroy.destroy.answered_at.is_some(), "{destroy:?}");
    house.market.set_faults(Faults::gentle());
    house.start(None).await;
    house.until(begun, State::Running, 10 * MINUTE).await;
    house.command(begun, Command::Destroy).await.unwrap();
    for id in [begun, ended] {
        house.until(id, State::Stopped, 10 * MINUTE).await;
    }
    assert!(house.audit().await.is_empty());
    house.close().await;
}
