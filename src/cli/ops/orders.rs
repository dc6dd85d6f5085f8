//! `ops adopt`, `destroy-instance`, `retry`, `settle`, `hold`, `accept-database`: orders. Each is written down by the server
//! before it is done, and asking again is harmless.

use super::looks::tell_holds;
use super::{HoldArgs, Kind};
use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure, clean};
use crate::cli::json::Message;
use crate::cli::values::{timestamp, to_wire};
use crate::cli::words;
use crate::grpc::pb;
use crate::grpc::pb::set_hold_request::End;
use std::time::Duration;

/// Refuses at once what needs a yes that nobody can give.
fn askable(yes: bool, desk: &Desk) -> Result<(), Failure> {
    if yes || desk.console.can_ask() {
        return Ok(());
    }
    Err(Failure::usage("this must be confirmed, and there is no terminal to ask on").hint("say --yes when you are sure"))
}

/// Goes on only with a yes.
fn confirm(yes: bool, question: &str, desk: &mut Desk) -> Result<(), Failure> {
    if yes || desk.console.confirm(&clean(question)) {
        return Ok(());
    }
    Err(Failure::local("NOT_CONFIRMED", "nothing was done"))
}

/// `ops adopt`.
pub async fn adopt(
    provider: String,
    native_id: String,
    consumer_id: Option<String>,
    reservation: Option<Duration>,
    desk: &mut Desk,
) -> Result<Exit, Failure> {
    let request = pb::AdoptInstanceRequest { provider, native_id, consumer_id, reservation: reservation.map(to_wire) };
    let answer = desk.connect().await?.operator.adopt_instance(asking(request)).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("AdoptInstanceResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let session = answer.session.unwrap_or_default();
    let (until, state) = (words::moment(session.expire_time.as_ref()), words::state(session.state));
    desk.console.line(&format!("session {} {state}: kept for {} until {until}", session.session_id, clean(&session.consumer_id)))?;
    Ok(Exit::Ok)
}

/// `ops destroy-instance`.
pub async fn destroy(provider: String, native_id: String, yes: bool, desk: &mut Desk) -> Result<Exit, Failure> {
    askable(yes, desk)?;
    let mut clients = desk.connect().await?;
    if !yes {
        let known = stray(&provider, &native_id, &mut clients).await?;
        let about = known.map(|s| {
            let since = words::ago(desk.clock.now(), s.first_seen_time.as_ref());
            format!(" ({}, {} per hour, seen for {since})", words::text(&s.label), words::dollars(s.price_per_hour.as_ref()))
        });
        confirm(yes, &format!("destroy {provider} {native_id}{}?", about.unwrap_or_default()), desk)?;
    }
    let answer = clients.operator.destroy_instance(asking(pb::DestroyInstanceRequest { provider, native_id })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("DestroyInstanceResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let session = answer.session.unwrap_or_default();
    desk.console.line(&format!("session {} {} [{}]", session.session_id, words::state(session.state), words::end_reason(session.end_reason)))?;
    desk.console.note("the machine is destroyed until it is proven gone; see it with `gpu-shopper ops debts`");
    Ok(Exit::Ok)
}

async fn stray(provider: &str, native_id: &str, clients: &mut Clients) -> Result<Option<pb::StrayInstance>, Failure> {
    let request = pb::ListStrayInstancesRequest { provider: Some(provider.to_owned()) };
    let found = clients.operator.list_stray_instances(asking(request)).await?.into_inner().instances;
    Ok(found.into_iter().find(|s| s.native_id == native_id))
}

/// `ops retry`.
pub async fn retry(label: String, desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.operator.retry_destroy(asking(pb::RetryDestroyRequest { label: label.clone() })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("RetryDestroyResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    desk.console.line(&format!("{} is tried now", clean(&label)))?;
    desk.console.note("see what came of it with `gpu-shopper ops debts`");
    Ok(Exit::Ok)
}

/// `ops settle`.
pub async fn settle(label: String, reason: String, yes: bool, desk: &mut Desk) -> Result<Exit, Failure> {
    askable(yes, desk)?;
    let mut clients = desk.connect().await?;
    if !yes {
        let debts = clients.operator.list_unconfirmed_destroys(asking(pb::ListUnconfirmedDestroysRequest {})).await?.into_inner().destroys;
        let known = debts.into_iter().find(|d| d.instance.as_ref().is_some_and(|i| i.label == label));
        let about = known.map(|debt| {
            let instance = debt.instance.unwrap_or_default();
            let seen = words::instance_status(instance.status);
            let (place, id) = (clean(&instance.provider), words::text(&instance.native_id));
            format!(" ({place} {id}, last seen as {seen}, {} per hour at risk)", words::dollars(debt.at_risk_per_hour.as_ref()))
        });
        confirm(yes, &format!("are you sure that {label} is gone{}?", about.unwrap_or_default()), desk)?;
    }
    let request = pb::SettleInstanceRequest { label: label.clone(), reason };
    let answer = clients.operator.settle_instance(asking(request)).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("SettleInstanceResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let session = answer.session.unwrap_or_default();
    desk.console.line(&format!("{} is settled; session {} {}", clean(&label), session.session_id, words::state(session.state)))?;
    Ok(Exit::Ok)
}

/// `ops hold`.
pub async fn hold(args: HoldArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let end = args.length.map(|length| End::Duration(to_wire(length))).or(args.until.map(|at| End::UntilTime(timestamp(at))));
    let (reason, kind) = (args.reason.unwrap_or_default(), args.kind.wire().into());
    let request = pb::SetHoldRequest { provider: args.provider, kind, end, reason, lift: args.lift };
    let answer = desk.connect().await?.operator.set_hold(asking(request)).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("SetHoldResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    tell_holds(&answer.holds, desk)?;
    if args.lift && args.kind == Kind::Sweeper {
        desk.console.note("orphans that waited are destroyed at the next complete list: see `gpu-shopper ops strays`");
    }
    Ok(Exit::Ok)
}

/// `ops accept-database`.
pub async fn accept(yes: bool, desk: &mut Desk) -> Result<Exit, Failure> {
    askable(yes, desk)?;
    let mut clients = desk.connect().await?;
    if !yes {
        let known = clients.operator.get_hold(asking(pb::GetHoldRequest { provider: None })).await?.into_inner();
        let why = if known.database_frozen { format!(" ({})", known.frozen_reason) } else { String::new() };
        confirm(yes, &format!("is this the right database{why}? what is overdue by it ends then, and machines are destroyed"), desk)?;
    }
    let answer = clients.operator.accept_database(asking(pb::AcceptDatabaseRequest {})).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("AcceptDatabaseResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    desk.console.line("the database is accepted: everything automatic goes on")?;
    Ok(Exit::Ok)
}
