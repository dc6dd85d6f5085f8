//! `providers` and `debts`: what an operator looks at.

use crate::cli::Desk;
use crate::cli::client::asking;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::cli::output::{Cell, Table, Tint};
use crate::cli::words;
use crate::grpc::pb;

/// Runs `providers`.
///
/// # Errors
/// What the server says; when the output can't be written.
pub async fn providers(desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.operator.list_providers(asking(pb::ListProvidersRequest {})).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListProvidersResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let now = desk.clock.now();
    let mut table =
        Table::new(["PROVIDER", "CREDENTIALS", "ACCOUNT", ">BALANCE", ">OFFERS", ">FETCHED", ">LISTED", "CALLS", ">FAILURES", ">OPEN", "LAST ERROR"]);
    for p in &answer.providers {
        let credentials = if p.credentials_ok { Cell::tinted("ok", Tint::Good) } else { Cell::tinted(words::text(&p.credentials_error), Tint::Bad) };
        let fetched = p.freshness.clone().unwrap_or_default();
        let error = if p.last_error.is_empty() {
            words::NOTHING.to_owned()
        } else {
            format!("{} ago: {}", words::ago(now, p.last_error_time.as_ref()), p.last_error)
        };
        table.row([
            p.provider.as_str().into(),
            credentials,
            words::text(&p.account).into(),
            words::dollars(p.balance.as_ref()).into(),
            fetched.offer_count.to_string().into(),
            words::ago(now, fetched.fetch_time.as_ref()).into(),
            words::ago(now, p.list_time.as_ref()).into(),
            breaker(p.breaker),
            p.consecutive_failures.to_string().into(),
            p.open_session_count.to_string().into(),
            error.into(),
        ]);
    }
    desk.console.table(&table, "no providers")?;
    for p in &answer.providers {
        if !p.credit_error.is_empty() {
            desk.console.warn(&format!("nothing is launched at {}, the account is out of credit: {}", p.provider, p.credit_error));
        }
        if words::time(p.throttled_until_time.as_ref()).is_some_and(|until| until > now) {
            desk.console.warn(&format!(
                "{} limits the server's calls for another {}",
                p.provider,
                words::until(now, p.throttled_until_time.as_ref())
            ));
        }
    }
    Ok(Exit::Ok)
}

/// Whether calls go out, from the position of the circuit breaker.
fn breaker(number: i32) -> Cell {
    match words::breaker(number).as_str() {
        "closed" => Cell::tinted("going out", Tint::Good),
        "half_open" => Cell::tinted("trying one", Tint::Busy),
        "open" => Cell::tinted("held back", Tint::Bad),
        word => word.into(),
    }
}

/// Runs `debts`.
///
/// # Errors
/// What the server says; when the output can't be written.
pub async fn debts(desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = desk.connect().await?.operator.list_unconfirmed_destroys(asking(pb::ListUnconfirmedDestroysRequest {})).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListUnconfirmedDestroysResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let now = desk.clock.now();
    let mut table = Table::new([
        "LABEL",
        "PROVIDER",
        "VENDOR'S ID",
        "ACCOUNT",
        ">AGE",
        "LAST SEEN AS",
        ">TRIES",
        ">NEXT TRY",
        ">REFUSED FOR",
        ">AT RISK/H",
        "LAST ERROR",
    ]);
    for debt in &answer.destroys {
        let instance = debt.instance.clone().unwrap_or_default();
        table.row([
            instance.label.as_str().into(),
            instance.provider.as_str().into(),
            words::text(&instance.native_id).into(),
            words::text(&instance.account).into(),
            words::duration(debt.age.as_ref()).into(),
            words::instance_status(instance.status).into(),
            instance.destroy_tries.to_string().into(),
            words::until(now, instance.next_destroy_time.as_ref()).into(),
            words::until(now, instance.destroy_refused_until_time.as_ref()).into(),
            Cell::tinted(words::dollars(debt.at_risk_per_hour.as_ref()), Tint::Bad),
            words::text(&instance.destroy_error).into(),
        ]);
    }
    desk.console.table(&table, "no debts: every machine that should be gone is proven gone")?;
    if !answer.destroys.is_empty() {
        desk.console.note(&format!("at risk in all: {} per hour", words::dollars(answer.at_risk_per_hour.as_ref())));
        desk.console.note("to try one at once: gpu-shopper ops retry LABEL; when it is surely gone: gpu-shopper ops settle LABEL --reason WHY");
    }
    for debt in answer.destroys.iter().filter(|d| !d.vendor_call.is_empty()) {
        let label = debt.instance.as_ref().map(|i| i.label.as_str()).unwrap_or_default();
        desk.console.note(&format!("to end {label} at its vendor by hand: {}", crate::cli::failure::clean(&debt.vendor_call)));
    }
    Ok(Exit::Ok)
}
