//! What operators look at and order, as their clients meet it: strays, orphans, debts, holds, a frozen database, the audit,
//! what is spent, and the metrics of all that.

use crate::grpc::{Face, by_requirements, nanos, reason};
use crate::support::{Altered, BEGIN, House, Plan, Wrap};
use crate::sweep::{ours, planted};
use clap::Parser;
use futures::FutureExt;
use gpu_shopper::app::tag_of;
use gpu_shopper::cli::Cli;
use gpu_shopper::domain::ids::{Label, ProviderId};
use gpu_shopper::domain::instance::DestroyAnswer;
use gpu_shopper::domain::time::Time;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::services::counters;
use gpu_shopper::services::sweeper::{HoldKind, lift_command};
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults};
use gpu_shopper::telemetry;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const VASTAI: &str = "vastai";

async fn house(seed: u64, faults: Faults) -> House {
    Plan::new(seed, faults).at(Dialect::Vastai).build().await
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// The fields of all violations.
fn wrong(status: &Status) -> Vec<String> {
    assert_eq!((status.code(), reason(status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{status:?}");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect()
}

/// That a command line which the server tells is one of ours.
fn is_a_command(line: &str) {
    let words = line.split(' ');
    if let Err(error) = Cli::try_parse_from(words) {
        panic!("{line}: {error}");
    }
}

impl Face {
    async fn sweep(&self) -> pb::SweepNowResponse {
        self.operator().sweep_now(pb::SweepNowRequest { provider: None }).await.unwrap().into_inner()
    }

    async fn strays(&self) -> Vec<pb::StrayInstance> {
        self.operator().list_stray_instances(pb::ListStrayInstancesRequest { provider: None }).await.unwrap().into_inner().instances
    }

    async fn adopt(&self, request: pb::AdoptInstanceRequest) -> Result<pb::Session, Status> {
        self.operator().adopt_instance(request).await.map(|answer| answer.into_inner().session.unwrap())
    }

    async fn destroy_instance(&self, native_id: &str) -> Result<pb::Session, Status> {
        let request = pb::DestroyInstanceRequest { provider: VASTAI.to_owned(), native_id: native_id.to_owned() };
        self.operator().destroy_instance(request).await.map(|answer| answer.into_inner().session.unwrap())
    }

    async fn set_hold(&self, request: pb::SetHoldRequest) -> Result<Vec<pb::Hold>, Status> {
        self.operator().set_hold(request).await.map(|answer| answer.into_inner().holds)
    }

    async fn holds(&self) -> pb::GetHoldResponse {
        self.operator().get_hold(pb::GetHoldRequest { provider: None }).await.unwrap().into_inner()
    }

    async fn debts(&self) -> pb::ListUnconfirmedDestroysResponse {
        self.operator().list_unconfirmed_destroys(pb::ListUnconfirmedDestroysRequest {}).await.unwrap().into_inner()
    }

    async fn audit(&self) -> Vec<(String, String, String)> {
        let page = self.operator().list_audit_entries(pb::ListAuditEntriesRequest::default()).await.unwrap().into_inner();
        // What users have ordered is beside it.
        page.entries.into_iter().rev().filter(|e| !e.action.ends_with("_session")).map(|e| (e.action, e.target, e.detail)).collect()
    }

    async fn spend(&self) -> pb::GetSpendRateResponse {
        self.costs().get_spend_rate(pb::GetSpendRateRequest {}).await.unwrap().into_inner()
    }

    async fn running(&self) -> pb::Session {
        let id = self.create(by_requirements(pb::OfferFilter::default())).await.unwrap().session.unwrap().session_id;
        self.until(&id, State::Running).await
    }

    async fn end(&self, id: &str) {
        self.sessions().destroy_session(pb::DestroySessionRequest { session_id: id.to_owned(), ..Default::default() }).await.unwrap();
    }

    /// The value of a series of what a scrape sets.
    fn metric(&self, series: &str) -> f64 {
        let (recorder, handle) = telemetry::recorder(&[VASTAI]).unwrap();
        let zero: Vec<String> = handle.render().lines().map(str::to_owned).collect();
        assert!(zero.contains(&format!("{series} 0")), "{series} is not there from the start");
        metrics::with_local_recorder(&recorder, || counters::watched(&self.house.core().operator).now_or_never().unwrap());
        let text = handle.render();
        let line = text.lines().find_map(|l| l.strip_prefix(series)).unwrap_or_else(|| panic!("{series}: {text}"));
        line.trim().parse().unwrap()
    }
}

fn hold(kind: pb::HoldKind, reason: &str) -> pb::SetHoldRequest {
    pb::SetHoldRequest { provider: VASTAI.to_owned(), kind: kind.into(), reason: reason.to_owned(), end: None, lift: false }
}

fn adopt(native_id: &str) -> pb::AdoptInstanceRequest {
    pb::AdoptInstanceRequest { provider: VASTAI.to_owned(), native_id: native_id.to_owned(), consumer_id: None, reservation: None }
}

#[tokio::test(start_paused = true)]
async fn a_stray_is_shown_with_all_it_takes_to_decide_and_kept() {
    let house = house(71, Faults::none()).await;
    let label = ours(&house, 7, 1);
    let theirs = Label { tag: tag_of("somebody else"), ..label };
    let stray = planted(&house, Dialect::Vastai, &label.to_string()).await;
    let other = planted(&house, Dialect::Vastai, &theirs.to_string()).await;
    let plain = planted(&house, Dialect::Vastai, "somebody's own").await;
    let face = Face::over(house).await;
    // A list is later than the planting by its time.
    face.house.pass(Duration::from_secs(1)).await;
    let swept = face.sweep().await;
    assert_eq!((swept.complete_providers, swept.failures.len()), (vec![VASTAI.to_owned()], 0));
    assert_eq!((swept.strays.len(), swept.foreign.len()), (1, 2));

    let found = face.strays().await;
    assert_eq!(found, swept.strays);
    let one = &found[0];
    assert_eq!(
        (one.provider.as_str(), &one.native_id, &one.label, one.kind()),
        (VASTAI, &stray, &label.to_string(), pb::stray_instance::Kind::Stray)
    );
    assert!(one.session_id == label.session.to_string() && !one.account.is_empty() && one.list_count == 1 && !one.alarmed);
    assert_eq!(
        (one.adopt_command.clone(), one.destroy_command.clone()),
        (format!("gpu-shopper ops adopt vastai {stray}"), format!("gpu-shopper ops destroy-instance vastai {stray}"))
    );
    is_a_command(&one.adopt_command);
    is_a_command(&one.destroy_command);
    assert!(one.vendor_call.starts_with("curl -X DELETE ") && one.vendor_call.contains(&stray), "{}", one.vendor_call);
    assert!(one.waits_for.is_empty() && one.price_text.starts_with('$') && nanos(one.price_per_hour.as_ref()) > 0);

    let foreign =
        face.operator().list_foreign_instances(pb::ListForeignInstancesRequest { provider: Some(VASTAI.to_owned()) }).await.unwrap().into_inner();
    let mut known: Vec<_> = foreign.instances.iter().map(|m| (m.native_id.clone(), m.label.clone(), m.other_deployment.clone())).collect();
    known.sort();
    let mut expected = vec![(other.clone(), theirs.to_string(), theirs.tag.to_string()), (plain, "somebody's own".to_owned(), String::new())];
    expected.sort();
    assert_eq!(known, expected);
    let unknown = face.operator().list_foreign_instances(pb::ListForeignInstancesRequest { provider: Some("nobody".to_owned()) }).await.unwrap_err();
    assert_eq!(wrong(&unknown), ["provider"]);

    // What it costs is told everywhere alike.
    let spent = face.spend().await;
    let total = spent.total.clone().unwrap();
    assert_eq!((spent.providers.len(), spent.providers[0].rate.clone()), (1, spent.total));
    assert_eq!((total.stray_per_hour.clone(), total.foreign_per_hour), (one.price_per_hour.clone(), foreign.price_per_hour));
    assert_eq!(nanos(total.running_per_hour.as_ref()) + nanos(total.stopping_per_hour.as_ref()), 0);
    assert!(total.unpriced_count == 0 && spent.providers[0].balance.is_none(), "this market tells no balance");
    assert_eq!(face.metric("gpu_stray_instances{provider=\"vastai\"}"), 1.0);
    assert_eq!(face.metric("gpu_foreign_instances{provider=\"vastai\"}"), 2.0);
    assert!(face.metric("gpu_spend_usd_per_hour{provider=\"vastai\",kind=\"stray\"}") > 0.0);
    assert!(face.metric("gpu_spend_usd_per_hour{provider=\"vastai\",kind=\"foreign\"}") > 0.0);

    // Everything that is wrong with an order is told at once; what is only too long has its own error.
    let bad = pb::AdoptInstanceRequest { provider: "nobody".to_owned(), consumer_id: Some("\n".to_owned()), reservation: seconds(1), ..adopt("") };
    assert_eq!(wrong(&face.adopt(bad.clone()).await.unwrap_err()), ["provider", "native_id", "consumer_id", "reservation"]);
    let endless = face.adopt(pb::AdoptInstanceRequest { reservation: seconds(90_000), ..adopt(&stray) }).await.unwrap_err();
    assert_eq!((endless.code(), reason(&endless).as_str()), (Code::OutOfRange, "HARD_MAX_EXCEEDED"));
    for (id, code, why) in [(other.as_str(), Code::FailedPrecondition, "NOT_OURS"), ("4711", Code::NotFound, "STRAY_NOT_FOUND")] {
        let refused = face.destroy_instance(id).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, why));
    }
    assert!(face.audit().await.is_empty(), "what is refused is not done");

    let kept =
        face.adopt(pb::AdoptInstanceRequest { consumer_id: Some("alice".to_owned()), reservation: seconds(7200), ..adopt(&stray) }).await.unwrap();
    assert_eq!((kept.session_id.clone(), kept.state(), kept.consumer_id.as_str()), (label.session.to_string(), State::Running, "alice"));
    assert_eq!(reason(&face.adopt(adopt(&stray)).await.unwrap_err()), "STRAY_NOT_FOUND", "it is none any more");
    assert!(face.strays().await.is_empty());
    assert_eq!(face.audit().await, [("adopt_instance".to_owned(), format!("vastai {stray}"), "for alice, 7200 s".to_owned())]);
    face.house.pass(HOUR).await;
    assert!(nanos(face.spend().await.total.unwrap().running_per_hour.as_ref()) > 0);
    face.house.pass(2 * HOUR).await;
    face.until(&kept.session_id, State::Stopped).await;
    assert_eq!(face.house.alive().len(), 2, "the foreign ones are never touched");
}

#[tokio::test(start_paused = true)]
async fn a_stray_is_destroyed_on_order_and_its_session_says_so() {
    let house = house(72, Faults::gentle()).await;
    let stray = planted(&house, Dialect::Vastai, &ours(&house, 7, 1).to_string()).await;
    let face = Face::over(house).await;
    face.sweep().await;
    face.house.pass(20 * MINUTE).await;
    assert!(face.strays().await[0].alarmed, "it was there for longer than the grace period");
    let doomed = face.destroy_instance(&stray).await.unwrap();
    assert_eq!((doomed.state(), doomed.end_reason()), (State::Stopping, pb::EndReason::Orphan));
    let told = face.until(&doomed.session_id, State::Failed).await;
    assert!(told.cost_final && face.house.alive().is_empty());
    assert_eq!(reason(&face.destroy_instance(&stray).await.unwrap_err()), "STRAY_NOT_FOUND");
    face.house.close().await;
}

/// An orphan waits for a hold; an operator has this one destroyed past it.
#[tokio::test(start_paused = true)]
async fn an_orphan_says_what_it_waits_for_and_can_be_destroyed_past_a_hold() {
    let face = Face::over(house(73, Faults::gentle()).await).await;
    let session = face.running().await;
    face.end(&session.session_id).await;
    face.until(&session.session_id, State::Stopped).await;
    face.set_hold(hold(pb::HoldKind::Sweeper, "we look ourselves")).await.unwrap();
    let label = Label { tag: tag_of(&face.house.deployment), session: session.session_id.parse().unwrap(), attempt: 1 };
    let twins = [planted(&face.house, Dialect::Vastai, &label.to_string()).await, planted(&face.house, Dialect::Vastai, &label.to_string()).await];
    face.house.pass(30 * MINUTE).await;
    let waiting = face.strays().await;
    assert_eq!((waiting.len(), face.house.alive().len()), (2, 2));
    let lift = lift_command(&ProviderId::new(VASTAI), HoldKind::Sweeper);
    is_a_command(&lift);
    for orphan in &waiting {
        assert_eq!((orphan.kind(), orphan.adopt_command.as_str()), (pb::stray_instance::Kind::Orphan, ""));
        assert!(orphan.waits_for.contains("we look ourselves") && orphan.waits_for.contains(&lift), "{}", orphan.waits_for);
        is_a_command(&orphan.destroy_command);
    }
    assert_eq!(face.metric("gpu_stray_instances{provider=\"vastai\"}"), 2.0);
    let refused = face.adopt(adopt(&twins[0])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "SESSION_EXISTS"));

    let ordered = face.destroy_instance(&twins[0]).await.unwrap();
    assert_eq!(ordered.session_id, session.session_id);
    face.house.pass(20 * MINUTE).await;
    assert_eq!(face.house.alive(), [twins[1].clone()], "that one alone");
    let lifted = face.set_hold(pb::SetHoldRequest { lift: true, ..hold(pb::HoldKind::Sweeper, "looked at") }).await.unwrap();
    assert!(lifted.is_empty());
    face.house.pass(20 * MINUTE).await;
    assert!(face.house.alive().is_empty());
    let actions: Vec<_> = face.audit().await;
    assert_eq!(actions.iter().map(|(action, ..)| action.as_str()).collect::<Vec<_>>(), ["set_hold", "destroy_instance", "lift_hold"]);
    assert_eq!(actions[2].2, "looked at");
    let bill = face.house.bill(session.session_id.parse().unwrap()).0;
    let cost = face
        .costs()
        .get_session_cost(pb::GetSessionCostRequest { session_id: session.session_id.clone() })
        .await
        .unwrap()
        .into_inner()
        .total
        .unwrap();
    assert!(nanos(cost.low.as_ref()) <= bill && bill <= nanos(cost.high.as_ref()), "{cost:?} {bill}");
    face.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_debt_shows_its_age_and_is_tried_or_settled_over_the_wire() {
    let faults = Faults::gentle().with(Fault::DestroyRefused, ALWAYS).with_delay(Delay::Undeletable, 10 * HOUR);
    let face = Face::over(house(74, faults).await).await;
    let session = face.running().await;
    let label = Label { tag: tag_of(&face.house.deployment), session: session.session_id.parse().unwrap(), attempt: 1 };
    let settle = |label: String, reason: &str| pb::SettleInstanceRequest { label, reason: reason.to_owned() };
    let bad = face.operator().settle_instance(settle(format!("{label}-x"), " ")).await.unwrap_err();
    assert_eq!(wrong(&bad), ["label", "reason"]);
    let in_use = face.operator().settle_instance(settle(label.to_string(), "seen")).await.unwrap_err();
    assert_eq!((in_use.code(), reason(&in_use).as_str()), (Code::FailedPrecondition, "INSTANCE_IN_USE"));
    let unknown = face.operator().retry_destroy(pb::RetryDestroyRequest { label: Label { attempt: 9, ..label }.to_string() }).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "INSTANCE_NOT_FOUND"));

    face.end(&session.session_id).await;
    face.house.pass(HOUR).await;
    let debts = face.debts().await;
    let debt = &debts.destroys[0];
    let instance = debt.instance.clone().unwrap();
    assert_eq!((debts.destroys.len(), instance.label.clone(), instance.account.is_empty()), (1, label.to_string(), false));
    assert_eq!(debt.age, seconds(3600));
    assert!(instance.destroy_tries > 1 && instance.next_destroy_time.is_some() && !instance.destroy_error.is_empty(), "{instance:?}");
    assert!(debt.vendor_call.contains(&instance.native_id) && nanos(debt.at_risk_per_hour.as_ref()) > 0);
    assert_eq!(face.metric("gpu_unconfirmed_destroys{provider=\"vastai\"}"), 1.0);
    assert_eq!(face.metric("gpu_unconfirmed_destroy_age_seconds{provider=\"vastai\"}"), 3600.0);
    let at_risk = face.metric("gpu_at_risk_usd_per_hour{provider=\"vastai\"}");
    assert!(at_risk > 0.0 && (at_risk - face.metric("gpu_spend_usd_per_hour{provider=\"vastai\",kind=\"stopping\"}")).abs() < 1e-12);
    assert_eq!(face.spend().await.total.unwrap().stopping_per_hour, debts.at_risk_per_hour);

    let tried = face.operator().retry_destroy(pb::RetryDestroyRequest { label: label.to_string() }).await.unwrap().into_inner();
    assert_eq!(tried.session.unwrap().session_id, session.session_id);
    face.house.pass(Duration::from_secs(2)).await;
    assert_eq!(face.debts().await.destroys[0].instance.clone().unwrap().destroy_tries, instance.destroy_tries + 1);

    let settled = face.operator().settle_instance(settle(label.to_string(), "the vendor said so")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(settled.session_id, session.session_id);
    assert!(face.debts().await.destroys.is_empty());
    let again = face.operator().settle_instance(settle(label.to_string(), "once more")).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::FailedPrecondition, "DEBT_SETTLED"));
    assert_eq!(face.metric("gpu_unconfirmed_destroy_age_seconds{provider=\"vastai\"}"), 0.0);

    // By pages, the latest first, to the end and not beyond.
    let mut request = pb::ListAuditEntriesRequest { page_size: 1, page_token: String::new() };
    let mut entries = Vec::new();
    loop {
        let page = face.operator().list_audit_entries(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.entries.len(), 1);
        entries.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(
        entries.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(),
        ["settle_instance", "retry_destroy", "destroy_session", "create_session"]
    );
    assert!(entries[0].number > entries[1].number && entries[0].detail == "the vendor said so" && entries[0].actor == "operator");
    let garbage = face.operator().list_audit_entries(pb::ListAuditEntriesRequest { page_size: 0, page_token: "x".to_owned() }).await.unwrap_err();
    assert_eq!(wrong(&garbage), ["page_token"]);
}

/// A vendor that says until when it deletes nothing: everybody is told, over a restart, too, and then it is deleted.
#[tokio::test(start_paused = true)]
async fn a_refused_destroy_tells_until_when() {
    let until = BEGIN + 2 * HOUR;
    let termed: Wrap = Arc::new(move |provider| {
        let destroyed = Box::new(move |answer: &mut DestroyAnswer| {
            if let DestroyAnswer::Refused { until: told, .. } = answer {
                *told = Some(until);
            }
        });
        Arc::new(Altered { destroyed, ..Altered::of(provider) })
    });
    let faults = Faults::gentle().with(Fault::DestroyRefused, ALWAYS).with_delay(Delay::Undeletable, 119 * MINUTE);
    let house = Plan::new(76, faults).at(Dialect::Vastai).on_disk().wrapped(termed).build().await;
    let mut face = Face::over(house).await;
    let session = face.running().await;
    face.end(&session.session_id).await;
    for round in ["at once", "after a restart"] {
        face.house.pass(10 * MINUTE).await;
        let debts = face.debts().await;
        let instance = debts.destroys[0].instance.clone().unwrap();
        let told = instance.destroy_refused_until_time.map(|time| Time::from_millis(time.seconds * 1000));
        assert_eq!(told, Some(until), "{round}");
        assert!(instance.destroy_error.contains("not ready for deletion"), "{round}: {}", instance.destroy_error);
        // Whatever else holds its store goes first.
        let Face { mut house, health, channel, router, access } = face;
        drop((health, channel, router, access));
        house.crash(MINUTE).await;
        face = Face::over(house).await;
    }
    assert!(face.house.now() < until && face.house.alive().len() == 1);
    face.house.pass(until.since(face.house.now()) + 10 * MINUTE).await;
    assert!(face.debts().await.destroys.is_empty() && face.house.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn holds_are_set_shown_and_lifted_with_all_faults_told_at_once() {
    use pb::set_hold_request::End;
    let face = Face::over(house(75, Faults::none()).await).await;
    let past = Some(End::UntilTime(prost_types::Timestamp { seconds: 1, nanos: 0 }));
    let bad = pb::SetHoldRequest { provider: "nobody".to_owned(), kind: 0, end: past, reason: String::new(), lift: false };
    assert_eq!(wrong(&face.set_hold(bad).await.unwrap_err()), ["provider", "kind", "until_time", "reason"]);
    let both = pb::SetHoldRequest {
        end: Some(End::Duration(prost_types::Duration { seconds: 60, nanos: 0 })),
        lift: true,
        ..hold(pb::HoldKind::Expiry, "")
    };
    assert_eq!(wrong(&face.set_hold(both).await.unwrap_err()), ["duration"]);
    let long = pb::SetHoldRequest {
        kind: 99,
        end: Some(End::Duration(prost_types::Duration { seconds: 0, nanos: 0 })),
        ..hold(pb::HoldKind::Expiry, &"x".repeat(501))
    };
    assert_eq!(wrong(&face.set_hold(long).await.unwrap_err()), ["kind", "duration", "reason"]);
    let none = face.set_hold(pb::SetHoldRequest { lift: true, ..hold(pb::HoldKind::Expiry, "") }).await.unwrap_err();
    assert_eq!((none.code(), reason(&none).as_str()), (Code::NotFound, "HOLD_NOT_FOUND"));

    let for_an_hour = Some(End::Duration(prost_types::Duration { seconds: 3600, nanos: 0 }));
    let set = face.set_hold(pb::SetHoldRequest { end: for_an_hour, ..hold(pb::HoldKind::Launches, "the vendor migrates") }).await.unwrap();
    let told = face.holds().await;
    assert_eq!((told.holds.clone(), told.database_frozen, told.frozen_reason.as_str()), (set, false, ""));
    let one = &told.holds[0];
    assert_eq!((one.provider.as_str(), one.kind(), one.set_by.as_str()), (VASTAI, pb::HoldKind::Launches, "operator"));
    assert_eq!(one.until_time.unwrap().seconds - one.set_time.unwrap().seconds, 3600);
    assert_eq!(face.metric("gpu_holds{provider=\"vastai\",kind=\"launches\"}"), 1.0);
    assert_eq!(face.metric("gpu_holds{provider=\"vastai\",kind=\"expiry\"}"), 0.0);
    let refused = face.create(by_requirements(pb::OfferFilter::default())).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "LAUNCHES_HELD"));
    // The same kind again takes its place.
    let again = face.set_hold(hold(pb::HoldKind::Launches, "it takes longer")).await.unwrap();
    assert_eq!((again.len(), again[0].until_time, again[0].reason.as_str()), (1, None, "it takes longer"));
    assert!(face.set_hold(pb::SetHoldRequest { lift: true, ..hold(pb::HoldKind::Launches, "") }).await.unwrap().is_empty());
    let session = face.running().await;
    face.end(&session.session_id).await;
    face.until(&session.session_id, State::Stopped).await;
    face.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_database_is_told_and_accepted_and_orders_are_done_all_the_same() {
    let mut house = Plan::new(76, Faults::gentle()).at(Dialect::Vastai).on_disk().build().await;
    let kept = house.rent(None).await.session.id;
    house.until(kept, gpu_shopper::domain::session::State::Running, 10 * MINUTE).await;
    let stray = planted(&house, Dialect::Vastai, &ours(&house, 7, 1).to_string()).await;
    house.die().await;
    house.pass(5 * HOUR).await;
    house.frozen = Some("it is older than its epoch".to_owned());
    house.start(None).await;
    let face = Face::over(house).await;
    let told = face.holds().await;
    assert_eq!((told.database_frozen, told.frozen_reason.as_str()), (true, "it is older than its epoch"));
    assert_eq!(face.metric("gpu_database_frozen"), 1.0);
    let refused = face.create(by_requirements(pb::OfferFilter::default())).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "DATABASE_NOT_ACCEPTED"));
    // What an operator orders now is no old fact.
    let doomed = face.destroy_instance(&stray).await.unwrap();
    face.until(&doomed.session_id, State::Failed).await;
    assert_eq!(face.house.alive().len(), 1, "and nothing else");
    is_a_command("gpu-shopper ops accept-database");
    face.operator().accept_database(pb::AcceptDatabaseRequest {}).await.unwrap();
    let again = face.operator().accept_database(pb::AcceptDatabaseRequest {}).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::FailedPrecondition, "DATABASE_ACCEPTED"));
    assert!(!face.holds().await.database_frozen);
    assert_eq!(face.metric("gpu_database_frozen"), 0.0);
    face.until(&kept.to_string(), State::Stopped).await;
    assert!(face.house.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_tells_which_provider_gave_no_list() {
    let face = Face::over(house(77, Faults::none()).await).await;
    face.house.market.set_faults(Faults::none().with(Fault::ListFails, ALWAYS));
    face.house.pass(Duration::from_secs(1)).await;
    let failed = face.sweep().await;
    assert_eq!((failed.complete_providers.len(), failed.failures.len(), failed.failures[0].provider.as_str()), (0, 1, VASTAI));
    assert!(!failed.failures[0].error.is_empty());
    let unknown = face.operator().sweep_now(pb::SweepNowRequest { provider: Some("nobody".to_owned()) }).await.unwrap_err();
    assert_eq!(wrong(&unknown), ["provider"]);
}
