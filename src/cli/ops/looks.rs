//! `ops sweep`, `strays`, `foreign`, `holds`, `audit`, `spend`: looking, changing nothing.

use crate::cli::Desk;
use crate::cli::client::{asking, asking_slowly};
use crate::cli::failure::{Exit, Failure, clean};
use crate::cli::json::Message;
use crate::cli::output::{Cell, Table, Tint};
use crate::cli::values::PageArgs;
use crate::cli::words;
use crate::grpc::pb;
use crate::grpc::pb::stray_instance::Kind;

const NO_STRAYS: &str = "no strays: every machine with our label is on record";
const NO_FOREIGN: &str = "no foreign machines on the accounts";

/// `ops sweep`.
pub async fn sweep(provider: Option<String>, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut clients = desk.connect().await?;
    desk.console.busy("waiting for complete lists");
    let answer = clients.operator.sweep_now(asking_slowly(pb::SweepNowRequest { provider })).await;
    desk.console.rest();
    let answer = answer?.into_inner();
    let exit = if answer.failures.is_empty() { Exit::Ok } else { Exit::Failed };
    if desk.console.is_json() {
        desk.console.json(&Message::of("SweepNowResponse", &answer)?)?;
        return Ok(exit);
    }
    for complete in &answer.complete_providers {
        desk.console.note(&format!("{}: listed completely", clean(complete)));
    }
    for failed in &answer.failures {
        desk.console.warn(&format!("{}: no complete list: {}", failed.provider, failed.error));
    }
    tell_strays(&answer.strays, desk)?;
    tell_foreign(&answer.foreign, desk)?;
    Ok(exit)
}

/// `ops strays`.
pub async fn strays(provider: Option<String>, desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.operator.list_stray_instances(asking(pb::ListStrayInstancesRequest { provider })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListStrayInstancesResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    tell_strays(&answer.instances, desk)?;
    if !answer.instances.is_empty() {
        desk.console.note(&sum(answer.price_per_hour.as_ref(), answer.unpriced_count));
    }
    Ok(Exit::Ok)
}

/// `ops foreign`.
pub async fn foreign(provider: Option<String>, desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.operator.list_foreign_instances(asking(pb::ListForeignInstancesRequest { provider })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListForeignInstancesResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    tell_foreign(&answer.instances, desk)?;
    if !answer.instances.is_empty() {
        desk.console.note(&sum(answer.price_per_hour.as_ref(), answer.unpriced_count));
    }
    Ok(Exit::Ok)
}

fn sum(price: Option<&pb::Money>, unpriced: i32) -> String {
    let missing = if unpriced > 0 { format!(", and {unpriced} whose price no list tells") } else { String::new() };
    format!("in all: {} per hour{missing}", words::dollars(price))
}

fn tell_strays(strays: &[pb::StrayInstance], desk: &mut Desk) -> Result<(), Failure> {
    let now = desk.clock.now();
    let mut table = Table::new(["PROVIDER", "INSTANCE", "KIND", "LABEL", "STATUS", ">PRICE/H", ">FIRST SEEN", ">LISTS", "ALARM"]);
    for stray in strays {
        table.row([
            stray.provider.as_str().into(),
            words::text(&stray.native_id).into(),
            words::stray(stray.kind).into(),
            words::text(&stray.label).into(),
            words::instance_status(stray.status).into(),
            Cell::tinted(words::dollars(stray.price_per_hour.as_ref()), Tint::Bad),
            words::ago(now, stray.first_seen_time.as_ref()).into(),
            stray.list_count.to_string().into(),
            if stray.alarmed { Cell::tinted("yes", Tint::Bad) } else { "no".into() },
        ]);
    }
    desk.console.table(&table, NO_STRAYS)?;
    for stray in strays {
        let name = clean(&format!("{} {}", stray.provider, stray.native_id));
        if stray.kind() == Kind::Orphan {
            desk.console.note(&format!("{name} waits: {}", clean(&stray.waits_for)));
        } else {
            if stray.adopt_command.is_empty() {
                desk.console.note(&format!("{name} can't be kept: its session is on record with other machines"));
            } else {
                desk.console.note(&format!("to keep {name}: {}", clean(&stray.adopt_command)));
            }
        }
        desk.console.note(&format!("to destroy {name}: {}", clean(&stray.destroy_command)));
        if !stray.vendor_call.is_empty() {
            desk.console.note(&format!("to end {name} at its vendor by hand: {}", clean(&stray.vendor_call)));
        }
    }
    Ok(())
}

fn tell_foreign(foreign: &[pb::ForeignInstance], desk: &mut Desk) -> Result<(), Failure> {
    let now = desk.clock.now();
    let mut table = Table::new(["PROVIDER", "INSTANCE", "LABEL", "OF DEPLOYMENT", "STATUS", ">PRICE/H", ">FIRST SEEN", ">LISTS"]);
    for machine in foreign {
        table.row([
            machine.provider.as_str().into(),
            words::text(&machine.native_id).into(),
            words::text(&machine.label).into(),
            words::text(&machine.other_deployment).into(),
            words::instance_status(machine.status).into(),
            words::dollars(machine.price_per_hour.as_ref()).into(),
            words::ago(now, machine.first_seen_time.as_ref()).into(),
            machine.list_count.to_string().into(),
        ]);
    }
    desk.console.table(&table, NO_FOREIGN)
}

/// `ops holds`.
pub async fn holds(provider: Option<String>, desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.operator.get_hold(asking(pb::GetHoldRequest { provider })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetHoldResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    tell_holds(&answer.holds, desk)?;
    if answer.database_frozen {
        desk.console.warn(&format!("the database is frozen: {}; when it is the right one: gpu-shopper ops accept-database", answer.frozen_reason));
    }
    Ok(Exit::Ok)
}

/// A table of holds.
pub fn tell_holds(holds: &[pb::Hold], desk: &mut Desk) -> Result<(), Failure> {
    let now = desk.clock.now();
    let mut table = Table::new(["PROVIDER", "HELD", "UNTIL", ">SET", "BY", "REASON"]);
    for hold in holds {
        let until = hold.until_time.as_ref().map_or_else(|| "it is lifted".to_owned(), |at| words::moment(Some(at)));
        table.row([
            hold.provider.as_str().into(),
            Cell::tinted(words::hold(hold.kind), Tint::Busy),
            until.into(),
            words::ago(now, hold.set_time.as_ref()).into(),
            words::text(&hold.set_by).into(),
            words::text(&hold.reason).into(),
        ]);
    }
    desk.console.table(&table, "no holds")
}

/// `ops audit`.
pub async fn audit(page: &PageArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut clients = desk.connect().await?;
    let mut request = pb::ListAuditEntriesRequest::default();
    let mut whole = pb::ListAuditEntriesResponse::default();
    while let Some(size) = page.next(whole.entries.len()) {
        request.page_size = size;
        let answer = clients.operator.list_audit_entries(asking(request.clone())).await?.into_inner();
        whole.entries.extend(answer.entries);
        request.page_token.clone_from(&answer.next_page_token);
        whole.next_page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListAuditEntriesResponse", &whole)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new([">NUMBER", "TIME", "WHO", "WHAT", "ON", "DETAIL"]);
    for entry in &whole.entries {
        table.row([
            entry.number.to_string().into(),
            words::moment(entry.time.as_ref()).into(),
            words::text(&entry.actor).into(),
            words::text(&entry.action).into(),
            words::text(&entry.target).into(),
            words::text(&entry.detail).into(),
        ]);
    }
    desk.console.table(&table, "nothing was ordered yet")?;
    if !whole.next_page_token.is_empty() {
        desk.console.note("there are more; --all or a larger --limit shows them");
    }
    Ok(Exit::Ok)
}

/// `ops spend`.
pub async fn spend(desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.costs.get_spend_rate(asking(pb::GetSpendRateRequest {})).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetSpendRateResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(["PROVIDER", ">RUNNING/H", ">STOPPING/H", ">STRAY/H", ">FOREIGN/H", ">TOTAL/H", ">UNPRICED", ">BALANCE", ">LASTS"]);
    let mut row = |name: &str, rate: Option<&pb::SpendRate>, balance: String, lasts: String| {
        let rate = rate.cloned().unwrap_or_default();
        let parts = [rate.running_per_hour, rate.stopping_per_hour, rate.stray_per_hour, rate.foreign_per_hour, rate.total_per_hour];
        let cells = parts.iter().map(|part| words::dollars(part.as_ref()).into());
        let rest = [rate.unpriced_count.to_string().into(), balance.into(), lasts.into()];
        table.row(std::iter::once(name.into()).chain(cells).chain(rest));
    };
    for spent in &answer.providers {
        let balance = words::dollars(spent.balance.as_ref());
        row(&spent.provider, spent.rate.as_ref(), balance, words::duration(spent.lasts.as_ref()));
    }
    row("TOTAL", answer.total.as_ref(), words::NOTHING.to_owned(), words::NOTHING.to_owned());
    desk.console.table(&table, "")?;
    if answer.total.as_ref().is_some_and(|t| t.unpriced_count > 0) {
        desk.console.note("unpriced machines are missing in the sums: no list tells what they cost");
    }
    Ok(Exit::Ok)
}
