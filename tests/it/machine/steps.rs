//! Single steps of the pure machine, where order or doubt decides: looks that overlap, answers that name the wrong machine,
//! credentials of before.

use super::{BEGIN, market};
use crate::support::{any, request};
use gpu_shopper::domain::attempt::Choice;
use gpu_shopper::domain::event::{Actor, EventType};
use gpu_shopper::domain::ids::{Label, ProviderId, SessionId};
use gpu_shopper::domain::instance::{DestroyAnswer, Evidence, Instance, InstanceStatus, Launch, PriceSeen, Sighting, SshEndpoint};
use gpu_shopper::domain::lifecycle::{Action, Ask, Input, LookBy, Stray, next_deadline, step};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::policy::Rules;
use gpu_shopper::domain::session::{AttemptFailure, ConditionType, EndReason, Request, Session, State, Target, Truth};
use gpu_shopper::domain::template::{Needs, Template};
use gpu_shopper::domain::time::{Look, Time};
use gpu_shopper::domain::verify::{GpuAnswer, GpuReport, ProbeFailureKind, Verify};
use std::sync::Arc;
use std::time::Duration;

/// A session whose machine runs, a minute old, and its provider.
struct Running {
    rules: Rules,
    session: Session,
    rows: Vec<Instance>,
    now: Time,
    provider: ProviderId,
}

impl Running {
    async fn new(request: Request) -> Self {
        let mut this = Self::booted(request).await;
        this.proven(None);
        assert_eq!(this.session.state, State::Running, "{}", this.session.status_message);
        this
    }

    /// Its machine is up and was not yet logged in to.
    async fn booted(request: Request) -> Self {
        let mut this = Self::launching(request).await;
        let call = Look { sent: this.now, answered: this.now };
        this.put(Input::Launched { attempt: 1, native_id: "n1".to_owned(), call, failed: None });
        this.now = this.now + Duration::from_secs(60);
        this.seen("n1", None);
        this
    }

    /// Its launch was ordered and is not answered yet.
    async fn launching(request: Request) -> Self {
        let (offers, mut rules) = market().await;
        rules.terms.values_mut().for_each(|terms| terms.account = "one".to_owned());
        let offer = Arc::clone(&offers[0]);
        let provider = offer.provider.clone();
        let session = Session::new(SessionId::new(BEGIN, 7), request, std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
        let mut this = Self { rules, session, rows: Vec::new(), now: BEGIN, provider };
        this.put(Input::Begin);
        this.put(Input::Chosen(Choice { disk_gb: offer.disk.rented_gb(None), offer }));
        this
    }

    /// A login works, and its GPUs are those of the offer, with such a driver.
    fn proven(&mut self, cuda: Option<u32>) {
        let offer = self.session.offer().unwrap();
        let report = GpuReport { gpus: vec![(offer.gpu.to_string(), offer.gpu_memory_mib); offer.gpu_count as usize], driver: None, cuda };
        let (endpoint, host_key) = (self.session.pace.endpoints[0].clone(), "ssh-ed25519 AAAA".to_owned());
        self.put(Input::Probed { attempt: 1, endpoint, host_key, gpu: Some(GpuAnswer::Report(report)), disk_free_gb: None });
    }

    fn put(&mut self, input: Input) -> Vec<(EventType, State)> {
        let done = step(&self.session, &self.rows, input, &self.rules, self.now).unwrap();
        (self.session, self.rows) = (done.session, done.instances);
        done.events.iter().map(|e| (e.kind, e.session.state)).collect()
    }

    fn sighting(&self, native_id: &str, price: Option<Rate>) -> Box<Sighting> {
        let endpoint = SshEndpoint { host: "203.0.113.9".to_owned(), port: 2201, user: "root".to_owned(), proxied: false };
        Box::new(Sighting {
            native_id: native_id.to_owned(),
            label: Some(self.rows[0].label.to_string()),
            status: InstanceStatus::Running,
            raw_status: "running".to_owned(),
            progress: None,
            endpoints: vec![endpoint],
            ports: Vec::new(),
            public_host: None,
            price: price.map(PriceSeen::Total),
            interruptible: Some(false),
            machine: None,
            gpu_percent: None,
        })
    }

    fn look(&self) -> Look {
        Look { sent: self.now, answered: self.now }
    }

    fn seen(&mut self, native_id: &str, price: Option<Rate>) {
        let (sighting, look) = (self.sighting(native_id, price), self.look());
        self.put(Input::Seen { attempt: 1, sighting, look });
    }

    fn terms(&mut self) -> &mut gpu_shopper::domain::policy::Terms {
        self.rules.terms.get_mut(&self.provider).unwrap()
    }
}

/// What is needed of CUDA by the request or by its template is asked of the machine, whatever its offer said; what the offer
/// said is asked of it where somebody has named that offer, or wants everything proven.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_driver_is_too_old_is_not_handed_over() {
    let offer = Arc::clone(&market().await.0[0]);
    let told = offer.cuda.unwrap();
    let asked = |filtered: Option<u32>, of_template: Option<u32>, verify: Verify, named: bool| {
        let mut request = Request { verify, ..request(any(None)) };
        match &mut request.target {
            target if named => *target = Target::Offer(offer.id.clone()),
            Target::Requirements { filter, .. } => filter.min_cuda = filtered,
            Target::Offer(_) => {}
        }
        let provider = ProviderId::new("vastai");
        let needs = Needs { min_cuda: of_template, ..Needs::of(provider.clone()) };
        request.template = of_template.map(|_| Template { needs, ..Template::bare(provider, "0123456789abcdef", "pytorch/pytorch") });
        request
    };
    let (verified, untold) = (Ok((Truth::True, "nvidia_smi")), Ok((Truth::Unknown, "cuda_untold")));
    let (less, more) = (told - 1, told + 1);
    for (filtered, of_template, verify, named, has, comes) in [
        (Some(told), None, Verify::Gpu, false, Some(told), verified),
        (Some(told), None, Verify::Gpu, false, Some(less), Err(told)),
        (None, Some(more), Verify::Gpu, false, Some(told), Err(more)),
        (Some(less), Some(more), Verify::Gpu, false, Some(told), Err(more)),
        (Some(more), Some(less), Verify::Gpu, false, Some(told), Err(more)),
        (None, None, Verify::Gpu, false, Some(less), verified),
        (None, None, Verify::Gpu, false, None, verified),
        (None, None, Verify::Gpu, true, Some(told), verified),
        (None, None, Verify::Gpu, true, Some(less), Err(told)),
        (None, Some(less), Verify::Gpu, true, Some(less), Err(told)),
        (None, None, Verify::Strict, false, Some(told), verified),
        (None, None, Verify::Strict, false, Some(less), Err(told)),
        (None, Some(told), Verify::Gpu, false, None, untold),
        (None, Some(told), Verify::Strict, false, None, Err(0)),
    ] {
        let mut this = Running::booted(asked(filtered, of_template, verify, named)).await;
        this.proven(has);
        let condition = this.session.condition(ConditionType::GpuVerified).map(|c| (c.status, c.reason.as_str()));
        let (attempt, case) = (&this.session.attempts[0], (filtered, of_template, verify, named, has));
        match comes {
            Ok(proven) => assert_eq!((this.session.state, condition), (State::Running, Some(proven)), "{case:?}"),
            Err(least) => {
                assert_eq!((this.session.state, attempt.failure), (State::Provisioning, Some(AttemptFailure::GpuMismatch)), "{case:?}");
                let text = match has {
                    Some(has) => format!("CUDA {}.{} instead of at least {}.{}", has / 100, has % 100, least / 100, least % 100),
                    None => "nvidia-smi does not tell which CUDA version".to_owned(),
                };
                assert!(attempt.text.contains(&text), "{case:?}: {}", attempt.text);
            }
        }
    }
}

/// A second machine, however dear, costs from when it was found: nothing is spent by then that nobody could foresee, and the
/// warning has its time before the end.
#[tokio::test(start_paused = true)]
async fn a_second_machine_costs_from_when_it_was_found_and_the_warning_comes_before_the_end() {
    let most = gpu_shopper::domain::money::Nanos(1_000_000_000);
    let mut this = Running::new(Request { max_total_cost: Some(most), reservation: Duration::from_secs(1200), ..request(any(None)) }).await;
    // Lists have failed for a while.
    this.now = this.now + Duration::from_secs(120);
    let (sighting, look) = (this.sighting("twin", Some(Rate::from_nanos(60_000_000_000))), this.look());
    let (label, provider, account) = (this.rows[0].label, this.rows[0].provider.clone(), this.rows[0].account.clone());
    let twin = Stray { label, provider, account, sighting: *sighting, look, first_seen: look.answered };
    let told = this.put(Input::Duplicate(Box::new(twin)));
    assert_eq!(told, [(EventType::LatecomerDestroyed, State::Running)], "a dollar a minute, and none of it is spent");
    let mut told = Vec::new();
    while this.session.state == State::Running {
        this.now = next_deadline(&this.session, &this.rows, &this.rules).unwrap();
        let now = this.now;
        told.extend(this.put(Input::Tick).into_iter().map(|(kind, _)| (now, kind)));
    }
    let at = |wanted| told.iter().find(|(_, kind)| *kind == wanted).unwrap().0;
    let (warned, ended) = (at(EventType::CostWarning), at(EventType::StateChanged));
    assert_eq!(this.session.end_reason, Some(EndReason::CostLimit));
    assert!(warned >= look.answered + Duration::from_secs(50) && ended >= warned + Duration::from_secs(5), "{} {warned} {ended}", look.answered);
}

/// Credentials were changed while a look was on its way: what it says is of another account, and neither proves that a
/// machine is gone nor whose it is.
#[tokio::test(start_paused = true)]
async fn a_look_with_the_credentials_of_before_proves_nothing() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    let before = this.look();
    this.terms().account = String::new();
    this.terms().changed_at = Some(before.answered);
    let row = |this: &Running| (this.rows[0].account.clone(), this.rows[0].absence.lists, this.rows[0].absence.by_id, this.rows[0].open());
    // It was seen with those of before: nobody knows yet what those of now open.
    let sighting = this.sighting("n1", None);
    this.put(Input::Seen { attempt: 1, sighting: sighting.clone(), look: before });
    assert_eq!(row(&this).0, "one");
    this.terms().account = "another".to_owned();
    this.put(Input::Seen { attempt: 1, sighting: sighting.clone(), look: before });
    assert_eq!(row(&this).0, "one");
    // Those of another account do not find it, and are changed back while that is told.
    this.now = this.now + Duration::from_secs(600);
    let astray = this.look();
    this.terms().account = "one".to_owned();
    this.terms().changed_at = Some(astray.answered);
    for by in [LookBy::List, LookBy::List, LookBy::List, LookBy::List, LookBy::Id] {
        this.now = this.now + Duration::from_secs(90);
        this.put(Input::Missing { attempt: 1, look: astray, by });
    }
    assert_eq!(row(&this), ("one".to_owned(), 0, false, true));
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    let retry_at = this.now + Duration::from_secs(5);
    this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::NotThere), call: astray, retry_at });
    assert_eq!((this.rows[0].destroy.answered_at, this.rows[0].destroy.next_at), (None, Some(retry_at)), "it is ordered again");
    // With those of now it counts.
    let now = this.look();
    this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::NotThere), call: now, retry_at });
    for _ in 0..2 {
        this.now = this.now + Duration::from_secs(11);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::Id });
    }
    assert_eq!(this.session.state, State::Stopped);
}

/// A list that takes long shows what was before a look that began later and was answered sooner: that one counts.
#[tokio::test(start_paused = true)]
async fn of_two_looks_at_once_the_one_that_began_later_counts() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    let list = Look { sent: this.now, answered: this.now + Duration::from_secs(8) };
    this.now = this.now + Duration::from_secs(5);
    let (mut sighting, look) = (this.sighting("n1", None), this.look());
    sighting.status = InstanceStatus::Stopped;
    this.put(Input::Seen { attempt: 1, sighting, look });
    this.now = list.answered;
    let sighting = this.sighting("n1", None);
    this.put(Input::Seen { attempt: 1, sighting, look: list });
    assert_eq!(this.rows[0].seen.as_ref().map(|seen| (seen.status, seen.look)), Some((InstanceStatus::Stopped, look)));
}

/// One look does not find a machine whose destroy was accepted, and a second destroy is accepted for it: it was there all the
/// while, is proven gone by two looks after that, and may cost until the first of those.
#[tokio::test(start_paused = true)]
async fn a_machine_that_can_be_destroyed_was_not_gone_before() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    let accepted = |this: &mut Running| {
        let (call, retry_at) = (this.look(), this.now + Duration::from_secs(5));
        this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::Accepted), call, retry_at });
    };
    let missing = |this: &mut Running, seconds: u64| {
        this.now = this.now + Duration::from_secs(seconds);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::Id });
    };
    accepted(&mut this);
    for _ in 0..4 {
        this.now = this.now + Duration::from_secs(60);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::List });
    }
    missing(&mut this, 4);
    assert_eq!((this.rows[0].destroy.not_found, this.rows[0].off_by), (1, Some(this.now)));
    this.now = this.now + Duration::from_secs(4);
    this.put(Input::Retry { attempt: 1 });
    // The vendor hides it again as soon as it takes the order, whose answer is still under way.
    missing(&mut this, 11);
    assert_eq!(this.session.state, State::Stopping, "a look proves nothing while a destroy is under way");
    accepted(&mut this);
    assert_eq!((this.rows[0].destroy.not_found, this.rows[0].off_by), (0, None));
    missing(&mut this, 3);
    let gone = this.now;
    assert_eq!(this.session.state, State::Stopping, "one look after the second destroy does not prove it");
    missing(&mut this, 11);
    assert_eq!(this.session.state, State::Stopped);
    assert!(this.rows[0].segments.iter().all(|s| s.to_high == Some(gone)), "{:?}", this.rows[0].segments);
}

/// What lists lack is there still when its destroy is refused; it is proven gone by lists and a look from after that.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_destroy_is_refused_was_not_gone_before() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    let refused = Ok(DestroyAnswer::Refused { until: None, text: "not ready for deletion".to_owned() });
    for (answer, state) in [(refused, State::Stopping), (Err("nobody answers".to_owned()), State::Stopped)] {
        for _ in 0..3 {
            this.now = this.now + Duration::from_secs(60);
            let look = this.look();
            this.put(Input::Missing { attempt: 1, look, by: LookBy::List });
        }
        let (call, retry_at) = (this.look(), this.now + Duration::from_secs(300));
        this.put(Input::DestroyAnswered { attempt: 1, answer, call, retry_at });
        this.now = this.now + Duration::from_secs(4);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::Id });
        assert_eq!(this.session.state, state);
    }
    assert_eq!(this.rows[0].settled.as_ref().map(|s| s.evidence), Some(Evidence::Vanished));
}

/// The answer to a launch names somebody else's machine: nothing is done to it, in whatever order looks and lists come, and
/// ours is found by its label.
#[tokio::test(start_paused = true)]
async fn a_machine_that_only_an_answer_names_is_looked_at_before_anything_is_done_to_it() {
    let (offers, rules) = market().await;
    let offer = Arc::clone(offers.iter().find(|o| o.provider.as_str() == "vastai").unwrap());
    let at = |seconds: u64| BEGIN + Duration::from_secs(seconds);
    let look = |seconds: u64| Look { sent: at(seconds), answered: at(seconds) };
    let session = Session::new(SessionId::new(BEGIN, 7), request(any(None)), std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
    let begun = step(&session, &[], Input::Begin, &rules, BEGIN).unwrap();
    let chosen = Input::Chosen(Choice { disk_gb: offer.disk.rented_gb(None), offer });
    let chosen = step(&begun.session, &begun.instances, chosen, &rules, BEGIN).unwrap();
    let launched = Input::Launched { attempt: 1, native_id: "theirs".to_owned(), call: look(1), failed: None };
    let launched = step(&chosen.session, &chosen.instances, launched, &rules, at(1)).unwrap();
    assert_eq!(launched.actions, [Action::Look(1)], "no key is attached to what no look has shown");
    let shown = |id: &str, label: &str| Box::new(Sighting { status: InstanceStatus::Running, ..Sighting::untold(id, Some(label.to_owned())) });
    let own = launched.instances[0].label.to_string();
    let another = Label { attempt: 2, ..launched.instances[0].label }.to_string();
    for label in ["x-not-yours", "gs-zzzzzzzz-01m7qb6vxjed5t5acbx1njvke0-1", &format!("{own}0000"), &another] {
        let seen = Input::Seen { attempt: 1, sighting: shown("theirs", label), look: look(2) };
        let told = step(&launched.session, &launched.instances, seen, &rules, at(2)).unwrap();
        let row = &told.instances[0];
        assert_eq!((row.native_id.as_deref(), row.launch, row.segments.len()), (None, Launch::Unknown, 0), "{label}");
        assert!(told.actions.is_empty() && told.events.iter().any(|e| e.message.contains("is not this one's")), "{label}: {:?}", told.actions);
        // Ended now, it is not destroyed, and gone when lists have not shown ours.
        let ask = Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service };
        let mut ended = step(&told.session, &told.instances, ask, &rules, at(3)).unwrap();
        for round in 1..20 {
            let missing = Input::Missing { attempt: 1, look: look(600 * round), by: LookBy::List };
            ended = step(&ended.session, &ended.instances, missing, &rules, at(600 * round)).unwrap();
            assert!(ended.actions.is_empty(), "{label}: {:?}", ended.actions);
        }
        assert_eq!(ended.session.state, State::Stopped, "{label}");
        // Or it goes on with the machine that carries the label.
        let seen = Input::Seen { attempt: 1, sighting: shown("ours", &own), look: look(4) };
        let found = step(&told.session, &told.instances, seen, &rules, at(4)).unwrap();
        assert_eq!(found.instances[0].native_id.as_deref(), Some("ours"), "{label}");
        assert!(found.actions.contains(&Action::AttachKeys(1)), "{label}: {:?}", found.actions);
    }
    // Renamed by hand later, it is ours all the same.
    let named =
        step(&launched.session, &launched.instances, Input::Seen { attempt: 1, sighting: shown("theirs", &own), look: look(2) }, &rules, at(2))
            .unwrap();
    let again =
        step(&named.session, &named.instances, Input::Seen { attempt: 1, sighting: shown("theirs", "mine"), look: look(3) }, &rules, at(3)).unwrap();
    assert_eq!(again.instances[0].native_id.as_deref(), Some("theirs"));
    // Without any label it is there as long as lists show it, whatever a look by its id says; and ours when enough have.
    let mut there = named.clone();
    there.instances.clone_from(&launched.instances);
    let quorum = rules.policy.absence_quorum;
    let unlabelled = |round: u64| Input::Missing { attempt: 1, look: look(90 * round), by: LookBy::Label };
    for round in 1..=u64::from(quorum) {
        assert!(!there.instances[0].vouched_by(quorum), "{round}");
        there = step(&launched.session, &there.instances, unlabelled(round), &rules, at(90 * round)).unwrap();
        assert!(there.durable, "it counts in the next life of the server, too");
        let by_id = Input::Missing { attempt: 1, look: look(90 * round + 1), by: LookBy::Id };
        there = step(&launched.session, &there.instances, by_id, &rules, at(90 * round + 1)).unwrap();
        let row = &there.instances[0];
        assert!(row.open() && row.native_id.as_deref() == Some("theirs") && !row.touchable(), "{round}: {row:?}");
        assert_eq!((row.absence.lists, row.absence.by_id, row.absence.unlabelled), (0, false, u8::try_from(round).unwrap()));
    }
    assert!(there.instances[0].vouched_by(quorum));
    let later = step(&launched.session, &there.instances, Input::Resumed, &rules, at(90 * 8)).unwrap();
    assert!(later.instances[0].vouched_by(quorum), "a restart forgets nothing of it");
    let gone = Input::Missing { attempt: 1, look: look(90 * 9), by: LookBy::List };
    let gone = step(&launched.session, &there.instances, gone, &rules, at(90 * 9)).unwrap();
    assert!(gone.durable && !gone.instances[0].vouched_by(quorum), "one that goes away is nobody's");
    // Whoever ends it at once has it looked at first. One that a look does not find may be anybody's: that it is not there is
    // proven by looks alone, and when it appears with our label after all, it is a latecomer.
    let ask = Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service };
    let ended = step(&launched.session, &launched.instances, ask, &rules, at(2)).unwrap();
    assert_eq!(ended.actions, [Action::Look(1)]);
    let seen = Input::Seen { attempt: 1, sighting: shown("theirs", &own), look: look(3) };
    let done = step(&ended.session, &ended.instances, seen, &rules, at(3)).unwrap();
    assert!(done.actions.contains(&Action::Destroy(1)), "{:?}", done.actions);
    let mut unseen = ended;
    for second in (3..1_200).step_by(20) {
        for by in [LookBy::List, LookBy::Id] {
            let missing = Input::Missing { attempt: 1, look: look(second), by };
            unseen = step(&unseen.session, &unseen.instances, missing, &rules, at(second)).unwrap();
            assert!(!unseen.actions.contains(&Action::Destroy(1)), "at {second} s: {:?}", unseen.actions);
        }
        let row = &unseen.instances[0];
        assert!(row.settled.is_some() || row.next_look.is_some() || unseen.actions.contains(&Action::Look(1)), "at {second} s: it is forgotten");
    }
    assert_eq!((unseen.session.state, unseen.instances[0].settled.map(|s| s.evidence)), (State::Stopped, Some(Evidence::Vanished)));
    assert_eq!(unseen.session.cost.low, Nanos(0), "nobody ever saw it");
    let late = Input::Seen { attempt: 1, sighting: shown("theirs", &own), look: look(2_000) };
    let late = step(&unseen.session, &unseen.instances, late, &rules, at(2_000)).unwrap();
    assert!(late.actions.contains(&Action::Destroy(1)), "{:?}", late.actions);
}

#[tokio::test(start_paused = true)]
async fn providers_have_terms() {
    let (offers, rules) = market().await;
    assert!(offers.len() > 40);
    assert!(rules.terms.contains_key(&ProviderId::new("vastai")) && rules.terms.contains_key(&ProviderId::new("tensordock")));
}

/// What a sighting says of the account: something where its call went with known credentials, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_sighting_tells_whose_a_machine_is_when_it_is_known_whose_credentials_showed_it() {
    let (offers, mut rules) = market().await;
    let offer = Arc::clone(&offers[0]);
    let account = |rules: &mut Rules, account: &str, changed_at| {
        let terms = rules.terms.get_mut(&offer.provider).unwrap();
        (terms.account, terms.changed_at) = (account.to_owned(), changed_at);
    };
    let at = |seconds: u64| BEGIN + Duration::from_secs(seconds);
    account(&mut rules, "A", None);
    let session = Session::new(SessionId::new(BEGIN, 1), request(any(None)), std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
    let chosen = step(&session, &[], Input::Chosen(Choice { offer: Arc::clone(&offer), disk_gb: 100 }), &rules, at(1)).unwrap();
    let rented = |of: &str| Instance { account: of.to_owned(), ..chosen.instances[0].clone() };
    let label = |attempt| Label { attempt, ..chosen.instances[0].label };
    let foreign = Label { session: SessionId::new(BEGIN, 2), ..label(1) };
    // Whose the row was and whose credentials are known, since when; the label seen and when it was asked for; whose it is then.
    for (before, known, changed, shown, asked, after) in [
        ("A", "", None, label(1), 10, "A"),
        ("A", "", Some(at(5)), label(1), 10, "A"),
        ("A", "B", Some(at(20)), label(1), 10, "A"),
        ("A", "B", Some(at(10)), label(1), 10, "A"),
        ("A", "B", Some(at(9)), label(1), 10, "B"),
        ("A", "B", None, label(7), 10, "B"),
        ("A", "B", None, foreign, 10, "A"),
        ("", "", None, label(1), 10, ""),
        ("", "B", Some(at(20)), label(1), 10, ""),
        ("", "B", None, foreign, 10, ""),
    ] {
        account(&mut rules, known, changed);
        let sighting = Box::new(Sighting { status: InstanceStatus::Running, ..Sighting::untold("n1", Some(shown.to_string())) });
        let seen = Input::Seen { attempt: 1, sighting, look: Look { sent: at(asked), answered: at(30) } };
        // One that is too many is known by its id, and carries the label of another attempt.
        let one_too_many = Instance { native_id: Some("n1".to_owned()), named: true, ..rented(before) };
        let row = if shown.attempt == 7 { one_too_many } else { rented(before) };
        let next = step(&chosen.session, &[row], seen, &rules, at(30)).unwrap();
        assert_eq!(next.instances[0].account, after, "{before:?} {known:?} {changed:?} {shown}");
        assert!(next.durable || before == after);
    }
}

/// The machine's clock is set back by an hour while the server is away: what was noted by the old one keeps nothing from being
/// seen, missed, ordered and proven.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_delays_nothing() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(7200);
    this.seen("n1", None);
    let set_back = |this: &mut Running| {
        this.now = Time::from_millis(this.now.millis() - 3_600_000);
        let now = this.now;
        this.rows.iter_mut().for_each(|row| row.heal(now, now));
        this.put(Input::Resumed);
    };
    set_back(&mut this);
    this.now = this.now + Duration::from_secs(30);
    let (mut sighting, look) = (this.sighting("n1", None), this.look());
    sighting.status = InstanceStatus::Stopped;
    this.put(Input::Seen { attempt: 1, sighting, look });
    assert_eq!(this.rows[0].seen.as_ref().map(|seen| (seen.status, seen.look)), Some((InstanceStatus::Stopped, look)), "it is seen");
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    let (call, retry_at) = (this.look(), this.now + Duration::from_secs(5));
    this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::Accepted), call, retry_at });
    set_back(&mut this);
    for _ in 0..2 {
        this.now = this.now + Duration::from_secs(11);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::Id });
    }
    assert_eq!(this.session.state, State::Stopped, "it is proven gone");

    // A launch whose outcome nobody knows.
    let mut this = Running::launching(request(any(None))).await;
    this.now = this.now + Duration::from_secs(7200);
    let call = this.look();
    this.put(Input::LaunchUnknown { attempt: 1, text: "no answer".to_owned(), call });
    set_back(&mut this);
    for _ in 0..6 {
        this.now = this.now + Duration::from_secs(60);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::List });
    }
    assert_eq!(this.rows[0].settled.map(|s| s.evidence), Some(Evidence::NeverAppeared));
}

/// An operator writes a launch off whose call is still under way, and it is answered with a machine: that is told, and the machine
/// destroyed.
#[tokio::test(start_paused = true)]
async fn a_launch_that_is_answered_after_its_debt_was_written_off_is_a_latecomer() {
    let mut this = Running::launching(request(any(None))).await;
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    this.put(Input::Settle { attempt: 1, actor: Actor::Service, text: "gone, says its console".to_owned() });
    assert_eq!((this.session.state, this.session.cost_final, this.rows[0].open()), (State::Stopped, true, false));
    let call = Look { sent: this.now, answered: this.now + Duration::from_secs(20) };
    this.now = call.answered;
    let told = this.put(Input::Launched { attempt: 1, native_id: "n1".to_owned(), call, failed: None });
    assert_eq!(told, [(EventType::LatecomerDestroyed, State::Stopped)]);
    assert!(this.rows[0].open() && !this.session.cost_final, "{:?}", this.rows[0]);
    this.seen("n1", None);
    let due = next_deadline(&this.session, &this.rows, &this.rules);
    assert!(this.rows[0].destroy.next_at.is_some() || due.is_none(), "its destroy is under way or due: {:?}", this.rows[0].destroy);
}

/// A machine may cost as much more than its offer said as the larger of two tolerances allows, and no more.
#[tokio::test(start_paused = true)]
async fn a_price_is_too_much_beyond_five_in_a_hundred_and_beyond_a_cent() {
    for (offered, allowed) in [(1_000_000_000_i64, 1_050_000_000_i64), (100_000_000, 110_000_000), (200_000_000, 210_000_000)] {
        for (over, fine) in [(0, true), (1, false)] {
            let mut this = Running::launching(request(any(None))).await;
            let then = Rate::from_nanos(offered);
            this.rows[0].offered = this.rows[0].offered.with_total(then);
            let call = this.look();
            this.put(Input::Launched { attempt: 1, native_id: "n1".to_owned(), call, failed: None });
            this.now = this.now + Duration::from_secs(60);
            this.seen("n1", Some(Rate(Rate::from_nanos(allowed).0 + over)));
            let failed = this.session.attempts[0].failure;
            assert_eq!(failed, (!fine).then_some(AttemptFailure::PriceChanged), "{offered} {over}: {}", this.session.status_message);
        }
    }
}

/// A session with nothing rented is over when its end is asked for, in the same step.
#[tokio::test(start_paused = true)]
async fn an_end_with_nothing_rented_is_reached_at_once() {
    let mut this = Running::launching(request(any(None))).await;
    this.put(Input::LaunchRefused { attempt: 1, failure: AttemptFailure::OfferGone, text: "somebody was faster".to_owned() });
    assert_eq!((this.session.state, this.rows[0].open()), (State::Provisioning, false));
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    assert_eq!((this.session.state, this.session.cost_final), (State::Stopped, true));
}

/// A refused login is tried six times in all, after 5, 10 and then 20 seconds; the keys are attached once more after the third, and
/// the last refusal ends the attempt.
/// The login's time is over while a probe is under way, which may have logged in long ago and wait for the GPU's answer.
#[tokio::test(start_paused = true)]
async fn a_login_has_its_time_and_the_probe_that_is_under_way_then_its_own() {
    let second = Duration::from_secs(1);
    let probing = async || {
        let mut m = Running::booted(request(any(None))).await;
        let over = m.session.pace.address_at.unwrap() + m.terms().budgets.login;
        m.now = over - 20 * second;
        m.put(Input::KeysAttached { attempt: 1, result: Ok(()) });
        assert_eq!(m.session.pace.probing_since, Some(m.now));
        m.now = over + second;
        assert_eq!(m.put(Input::Tick), []);
        (m, over)
    };
    let (mut m, over) = probing().await;
    m.now = over + 16 * second;
    m.proven(None);
    assert_eq!(m.session.state, State::Running);
    // It can't log in either.
    let (mut m, _) = probing().await;
    let endpoint = m.session.pace.endpoints[0].clone();
    m.put(Input::ProbeFailed { attempt: 1, endpoint, kind: ProbeFailureKind::Timeout, text: "too slow".to_owned() });
    assert_eq!(m.session.attempts[0].failure, Some(AttemptFailure::StageTimeout));
    // Nothing is heard of it any more.
    let (mut m, over) = probing().await;
    m.now = over + 100 * second;
    m.put(Input::Tick);
    assert_eq!(m.session.attempts[0].failure, Some(AttemptFailure::StageTimeout));
    // A server that starts anew has none under way.
    let (mut m, _) = probing().await;
    m.put(Input::Resumed);
    assert_eq!(m.session.pace.probing_since, Some(m.now), "the next one");
}

#[tokio::test(start_paused = true)]
async fn logins_that_are_refused_are_tried_again_and_not_for_ever() {
    let mut this = Running::booted(request(any(None))).await;
    let endpoint = this.session.pace.endpoints[0].clone();
    let mut attached_after = Vec::new();
    for (number, wait) in [5, 10, 20, 20, 20].into_iter().enumerate() {
        let failed = Input::ProbeFailed { attempt: 1, endpoint: endpoint.clone(), kind: ProbeFailureKind::AuthRejected, text: "no".to_owned() };
        let again = step(&this.session, &this.rows, failed.clone(), &this.rules, this.now).unwrap().actions;
        if again.iter().any(|action| matches!(action, Action::AttachKeys(1))) {
            attached_after.push(number + 1);
        }
        this.put(failed);
        assert_eq!(this.session.pace.next_probe, Some(this.now + Duration::from_secs(wait)), "after refusal {}", number + 1);
        this.put(Input::KeysAttached { attempt: 1, result: Ok(()) });
        this.now = this.now + Duration::from_secs(wait);
        this.put(Input::Tick);
    }
    assert_eq!(attached_after, [3]);
    assert_eq!(this.session.attempts[0].failure, None);
    this.put(Input::ProbeFailed { attempt: 1, endpoint, kind: ProbeFailureKind::AuthRejected, text: "no".to_owned() });
    assert_eq!(this.session.attempts[0].failure, Some(AttemptFailure::AuthFailed));
}

/// An order about a machine that only a launch's answer named, in a database in doubt: when another one turns out to be the launch's,
/// the order is about that one.
#[tokio::test(start_paused = true)]
async fn an_order_in_doubt_goes_over_to_the_machine_that_carries_the_label() {
    let mut this = Running::launching(request(any(None))).await;
    let call = this.look();
    this.put(Input::Launched { attempt: 1, native_id: "astray".to_owned(), call, failed: None });
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    this.rules.asleep = true;
    this.now = this.now + Duration::from_secs(60);
    this.put(Input::Retry { attempt: 1 });
    assert!(this.rows[0].destroy.ordered && this.rows[0].native_id.as_deref() == Some("astray"), "{:?}", this.rows[0]);
    let (sighting, look) = (this.sighting("n1", None), this.look());
    let seen = step(&this.session, &this.rows, Input::Seen { attempt: 1, sighting, look }, &this.rules, this.now).unwrap();
    assert_eq!(seen.instances[0].native_id.as_deref(), Some("n1"));
    assert!(seen.actions.iter().any(|action| matches!(action, Action::Destroy(1))), "{:?} {:?}", seen.actions, seen.instances[0].destroy);
}

/// A machine's own address is knocked at every half second as long as it refuses; its vendor's proxy, which many share, now and then.
#[tokio::test(start_paused = true)]
async fn a_machines_own_address_does_not_wait_for_its_proxy() {
    let mut this = Running::launching(request(any(None))).await;
    let call = this.look();
    this.put(Input::Launched { attempt: 1, native_id: "n1".to_owned(), call, failed: None });
    this.now = this.now + Duration::from_secs(60);
    let mut sighting = this.sighting("n1", None);
    let proxy = SshEndpoint { host: "ssh4.vendor.example".to_owned(), port: 17_000, user: "root".to_owned(), proxied: true };
    sighting.endpoints.push(proxy);
    let look = this.look();
    this.put(Input::Seen { attempt: 1, sighting, look });
    let begun = this.now;
    let mut tried = Vec::new();
    while this.now.since(begun) < Duration::from_secs(12) {
        let pace = this.session.pace.clone();
        let endpoint = pace.endpoints[pace.endpoint_index].clone();
        tried.push((this.now.since(begun), endpoint.proxied));
        this.put(Input::ProbeFailed { attempt: 1, endpoint, kind: ProbeFailureKind::Refused, text: "no".to_owned() });
        this.now = this.session.pace.next_probe.unwrap();
    }
    let own: Vec<Duration> = tried.iter().filter(|(_, proxied)| !proxied).map(|(at, _)| *at).collect();
    let proxied: Vec<Duration> = tried.iter().filter(|(_, proxied)| *proxied).map(|(at, _)| *at).collect();
    assert!(own.windows(2).all(|two| two[1] - two[0] <= Duration::from_secs(1)), "{own:?}");
    assert!((2..=3).contains(&proxied.len()) && proxied.windows(2).all(|two| two[1] - two[0] >= Duration::from_secs(5)), "{proxied:?}");
    // By its proxy alone, it is tried at that pace.
    this.session.pace.endpoints.remove(0);
    this.session.pace.endpoint_index = 0;
    let endpoint = this.session.pace.endpoints[0].clone();
    this.put(Input::ProbeFailed { attempt: 1, endpoint, kind: ProbeFailureKind::Refused, text: "no".to_owned() });
    assert_eq!(this.session.pace.next_probe, Some(this.now + Duration::from_secs(5)));
}
