//! What a machine must show before it is handed over, and what comes of it when it does not show it.

use crate::support::{Altered, House, Plan, Told, Wrap, any, request};
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::ids::{HostId, OfferId};
use gpu_shopper::domain::memory::{Health, Outcome, SubjectKind};
use gpu_shopper::domain::offer::{Offer, RentalKind};
use gpu_shopper::domain::session::{AttemptFailure, ConditionType, EndReason, Session, Stage, State, Target, Truth};
use gpu_shopper::domain::verify::{GpuReport, Verify};
use gpu_shopper::ports::{GpuAnswer, ProbeFailure, ProbeFailureKind};
use gpu_shopper::services::api::{Command, HealthQuery};
use gpu_shopper::sim::{Dialect, Faults};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn plan(dialect: Dialect) -> Plan {
    Plan { refresh: Some(24 * HOUR), ..Plan::new(5, Faults::gentle()) }.at(dialect)
}

/// Whatever is so, this is the answer.
fn always(answer: GpuAnswer) -> Told {
    Arc::new(move |_| answer.clone())
}

fn broken() -> Told {
    always(GpuAnswer::Broken("Failed to initialize NVML: Driver/library version mismatch".to_owned()))
}

fn silent() -> Told {
    always(GpuAnswer::Silent("nvidia-smi gave no answer within 60s".to_owned()))
}

/// A report that is true but for this.
fn but_for(change: impl Fn(&mut GpuReport) + Send + Sync + 'static) -> Told {
    Arc::new(move |answer| match answer {
        GpuAnswer::Report(mut report) => {
            change(&mut report);
            GpuAnswer::Report(report)
        }
        other => other,
    })
}

fn gpu(session: &Session) -> Option<(Truth, &str)> {
    session.condition(ConditionType::GpuVerified).map(|c| (c.status, c.reason.as_str()))
}

fn health(house: &House, kind: SubjectKind) -> BTreeMap<String, Health> {
    let query = HealthQuery { kinds: vec![kind], page_size: 1000, ..HealthQuery::default() };
    let page = house.core().inventory.health(&query).unwrap();
    page.entries.into_iter().map(|h| (h.subject.name().to_owned(), h)).collect()
}

async fn finish(house: House, session: &Session) {
    house.command(session.id, Command::Destroy).await.unwrap();
    house.reach(session.id, None, HOUR).await;
    clean(&house).await;
    house.close().await;
}

async fn clean(house: &House) {
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A login alone is a stage of its own. A driver that is still being installed has as long as machines of its provider may
/// take, during which logins may break off as well; whoever needs longer is given back, with the machine's own words.
#[tokio::test(start_paused = true)]
async fn a_machine_that_lets_us_in_is_not_ready_before_its_gpu_answers() {
    for (dialect, patience) in [(Dialect::Vastai, 5 * MINUTE), (Dialect::Tensordock, 15 * MINUTE)] {
        for recovers in [true, false] {
            let house = plan(dialect).build().await;
            house.script.say().gpu = Some(broken());
            let mut wanted = request(any(None));
            wanted.failover.max_attempts = 1;
            let id = house.create(wanted).await.unwrap().session.id;
            house.pass(MINUTE).await;
            let early = house.get(id).await;
            let login = early.stage_at;
            assert_eq!((early.state, early.stage, gpu(&early)), (State::Provisioning, Stage::SshReachable, None), "{dialect:?}");
            assert_eq!(early.condition(ConditionType::SshReachable).map(|c| c.status), Some(Truth::True), "{dialect:?}");
            // Its SSH server is exchanged, too.
            house.script.say().login = Some(ProbeFailure { kind: ProbeFailureKind::Broken, text: "unexpected packet".to_owned() });
            house.pass(MINUTE).await;
            house.script.say().login = None;
            house.clock.sleep_until(login + patience - 20 * SECOND).await;
            let late = house.get(id).await;
            assert_eq!((late.state, late.stage, late.stage_at), (State::Provisioning, Stage::SshReachable, login), "{dialect:?}");
            if !recovers {
                let ended = house.until(id, State::Failed, 5 * MINUTE).await;
                let attempt = &ended.attempts[0];
                assert_eq!((ended.end_reason, attempt.failure), (Some(EndReason::VerifyFailed), Some(AttemptFailure::GpuBroken)), "{dialect:?}");
                assert!(attempt.text.contains("version mismatch"), "{dialect:?}: {}", attempt.text);
                let took = attempt.ended_at.unwrap().since(login);
                assert!(took >= patience && took < patience + 20 * SECOND, "{dialect:?}: {took:?}");
                assert_eq!(ended.running_at, None);
                clean(&house).await;
                house.close().await;
                continue;
            }
            house.script.say().gpu = None;
            let running = house.until(id, State::Running, 10 * SECOND).await;
            assert_eq!((running.attempts.len(), gpu(&running)), (1, Some((Truth::True, "nvidia_smi"))), "{dialect:?}");
            let ran = running.running_at.unwrap();
            assert_eq!(running.expires_at, ran + running.request.reservation, "nobody pays for the waiting with their hour");
            let events = house.events().await;
            let reached = |stage: Stage| events.iter().find(|e| e.kind == EventType::StageChanged && e.session.stage == stage).unwrap().at;
            assert_eq!((reached(Stage::SshReachable), reached(Stage::GpuVerified)), (login, ran), "{dialect:?}");
            finish(house, &running).await;
        }
    }
}

/// How much must be proven is the request's to say, and what was not proven is said. A GPU that gives no answer, or an image of
/// one's own without `nvidia-smi`, is no proof against a machine; a driver that says itself that it does not work is.
#[tokio::test(start_paused = true)]
async fn what_is_handed_over_unproven_says_so_and_the_strict_get_nothing_unproven() {
    let own = Some("my/image:1");
    let (unasked, unanswered) = (Ok("not_asked"), Ok("no_answer"));
    for (verify, image, told, comes) in [
        (Verify::Ssh, None, broken(), unasked),
        (Verify::Gpu, None, broken(), Err(())),
        (Verify::Gpu, None, silent(), unanswered),
        (Verify::Gpu, own, broken(), unanswered),
        (Verify::Gpu, own, silent(), unanswered),
        (Verify::Strict, None, broken(), Err(())),
        (Verify::Strict, None, silent(), Err(())),
        (Verify::Strict, own, broken(), Err(())),
        (Verify::Strict, own, silent(), Err(())),
    ] {
        let house = plan(Dialect::Vastai).build().await;
        let case = format!("{verify:?}, {image:?}, {:?}", told(GpuAnswer::Silent(String::new())));
        house.script.say().gpu = Some(told);
        let mut wanted = request(any(None));
        (wanted.verify, wanted.image, wanted.failover.max_attempts) = (verify, image.map(str::to_owned), 1);
        let id = house.create(wanted).await.unwrap().session.id;
        let session = house.reach(id, Some(State::Running), HOUR).await;
        let failure = session.attempts[0].failure;
        match comes {
            Ok(reason) => {
                assert_eq!((session.state, failure, gpu(&session)), (State::Running, None, Some((Truth::Unknown, reason))), "{case}");
                let took = session.running_at.unwrap().since(session.created_at);
                assert_eq!(took > 5 * MINUTE, reason == "no_answer", "{case}: {took:?}");
                finish(house, &session).await;
            }
            Err(()) => {
                assert_eq!((session.state, session.running_at, failure), (State::Failed, None, Some(AttemptFailure::GpuBroken)), "{case}");
                clean(&house).await;
            }
        }
    }
}

/// Fewer GPUs than offered, another model, less memory, an older CUDA than was asked for: the machine is not handed over, is left
/// alone for six hours, and what else its host offers is believed less than what others do.
#[tokio::test(start_paused = true)]
async fn whose_machine_is_not_as_claimed_is_found_out_left_alone_and_believed_less() {
    let hosts = ["vastai:host-1", "vastai:host-2"].map(HostId::new);
    for (lie, words) in [
        (but_for(|report| drop(report.gpus.pop())), "GPUs instead of"),
        (but_for(|report| report.gpus[0].0 = "NVIDIA Tesla K80".to_owned()), "K80 instead of"),
        (but_for(|report| report.gpus[1].1 /= 2), "MiB of GPU memory instead of"),
        (but_for(|report| report.cuda = Some(1108)), "CUDA 11.8 instead of at least 12.4"),
    ] {
        // Two hosts have all machines.
        let theirs = hosts.clone();
        let shared = move |offers: &mut Vec<Offer>| {
            for offer in offers {
                let odd = offer.machine.as_str().bytes().last().is_some_and(|digit| digit % 2 == 1);
                offer.host = Some(theirs[usize::from(odd)].clone());
            }
        };
        let wrap: Wrap = Arc::new(move |provider| Arc::new(Altered { offers: Box::new(shared.clone()), ..Altered::of(provider) }));
        let house = plan(Dialect::Vastai).wrapped(wrap).build().await;
        let offers = || house.core().inventory.snapshot().offers.iter().cloned().collect::<Vec<Arc<Offer>>>();
        let before: BTreeMap<OfferId, f64> = offers().iter().map(|o| (o.id.clone(), o.confidence)).collect();
        let mut wanted = request(any(None));
        if let Target::Requirements { filter, .. } = &mut wanted.target {
            (filter.min_gpu_count, filter.min_cuda, filter.rental) = (Some(2), Some(1204), Some(RentalKind::OnDemand));
        }
        wanted.failover.max_attempts = 1;
        house.script.say().gpu = Some(lie);
        let id = house.create(wanted).await.unwrap().session.id;
        let ended = house.until(id, State::Failed, HOUR).await;
        let attempt = &ended.attempts[0];
        assert_eq!((ended.end_reason, attempt.failure), (Some(EndReason::VerifyFailed), Some(AttemptFailure::GpuMismatch)), "{words}");
        assert!(attempt.text.contains(words) && ended.running_at.is_none(), "{words}: {}", attempt.text);

        house.core().inventory.refresh(&attempt.offer.provider).await.unwrap();
        let (machine, host) = (attempt.offer.machine.clone(), attempt.offer.host.clone().unwrap());
        assert!(offers().iter().all(|o| o.machine != machine), "{words}: it is offered again");
        assert!(house.core().inventory.snapshot().set_aside.iter().any(|o| o.machine == machine), "{words}: its vendor offers it again");
        let aside = health(&house, SubjectKind::Machine)[machine.as_str()].aside.unwrap();
        let reason = Outcome::Failed(AttemptFailure::GpuMismatch);
        assert_eq!((aside.until, aside.why), (attempt.ended_at.unwrap() + 6 * HOUR, reason), "{words}");
        assert_eq!(health(&house, SubjectKind::Host)[host.as_str()].failures[&reason], 1, "{words}");
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for offer in offers() {
            let Some(was) = before.get(&offer.id) else { continue };
            let beside = if offer.host.as_ref() == Some(&host) { &mut own } else { &mut others };
            beside.push(offer.confidence / was);
        }
        assert!(own.len() > 20 && others.len() > 20, "{} {}", own.len(), others.len());
        let (best, worst) = (own.iter().copied().fold(0.0, f64::max), others.iter().copied().fold(1.0, f64::min));
        assert!(best < worst, "{words}: one of the same host keeps {best} of its chance, one of another {worst}");
        clean(&house).await;
    }
}
