//! What sessions cost, and what is spent now.

use super::Api;
use super::asked::{Asked, Given, Part};
use super::params::{Param, Unit, fields, parts};
use super::reply::{add, members, message, object, told};
use super::route::Route;
use super::sessions::id_of;
use super::shapes::{Kind, Member, PAGE, Shape};
use crate::domain::ids::clip;
use crate::domain::meter::Amount;
use crate::domain::time::Time;
use crate::grpc::convert::{answers, operations, requests};
use crate::grpc::json::tree::{Json, Map};
use crate::grpc::pb;
use crate::services::Error;
use crate::services::api::{Caller, CostReport, GroupBy, SessionCost};
use axum::response::Response;
use http::StatusCode;
use std::collections::BTreeMap;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

const OF_SESSION: &[Member] = &[("total_cost", Kind::Number, "What it has cost, US dollars: `total.cost`."), ("currency", Kind::Text, "`USD`.")];

const SUMMARY: &[Member] = &[
    ("consumer_id", Kind::TextOrNull, "Whose costs, when one was asked for."),
    ("total_cost", Kind::Number, "The sum, US dollars, to the nano-dollar."),
    ("currency", Kind::Text, "`USD`."),
    ("cost_low", Kind::Number, "The vendors' true bills are at least this."),
    ("cost_high", Kind::Number, "And at most this."),
    ("estimated", Kind::Truth, "The bounds differ by more than a second's worth."),
    ("session_count", Kind::Whole, "Sessions in it."),
    ("hours_used", Kind::Number, "Metered hours of GPU machines."),
    ("by_provider", Kind::Numbers, "The sum by provider; empty with `group_by`."),
    ("by_gpu_type", Kind::Numbers, "The sum by GPU model; empty with `group_by`."),
    ("group_by", Kind::Texts, "The keys that were asked for."),
    ("groups", Kind::Many("CostGroup"), "The sum by these keys; empty without `group_by`."),
    ("period_start", Kind::Time, "From then, included."),
    ("period_end", Kind::Time, "Until then, excluded."),
    ("final", Kind::Truth, "Nothing in it can change any more."),
    ("unmetered", Kind::Texts, "What is not metered."),
];

pub(super) fn routes() -> Vec<Route> {
    const ABOUT: &str = "What sessions cost in a range of time. With `session_id` and nothing else: what that session has cost in all. Without a range: \
        this calendar month (UTC).";
    vec![
        Route::get("/api/v1/costs", "CostService/GetCostReport", costs)
            .about(ABOUT)
            .query(report_params())
            .answers(200, Shape::Own("CostSummary", SUMMARY))
            .answers(200, Shape::With("GetSessionCostResponse", OF_SESSION))
            .refuses(&[404]),
        Route::get("/api/v1/costs/summary", "CostService/GetCostReport", summary)
            .about("What sessions have cost in this calendar month (UTC).")
            .query(summary_params())
            .answers(200, Shape::Own("CostSummary", SUMMARY))
            .refuses(&[404]),
        Route::get("/api/v1/sessions/{session_id}/cost", "CostService/GetSessionCost", of_session)
            .answers(200, Shape::With("GetSessionCostResponse", OF_SESSION)),
        Route::get("/api/v1/ledger", "CostService/ListLedgerEntries", ledger)
            .query(ledger_params())
            .answers(200, Shape::With("ListLedgerEntriesResponse", PAGE))
            .refuses(&[404]),
        Route::get("/api/v1/spend-rate", "CostService/GetSpendRate", spend_rate).answers(200, Shape::Message("GetSpendRateResponse")),
    ]
}

fn days() -> [Param; 2] {
    [
        Param::own("start_date", Unit::Day, "From this UTC day on, such as `2026-01-01`; in the place of `start_time`."),
        Param::own("end_date", Unit::Day, "Until the end of this UTC day, such as `2026-12-31`; in the place of `end_time`."),
    ]
}

fn report_params() -> Vec<Param> {
    let mut params = fields("GetCostReportRequest");
    params.extend(days());
    params.push(Param::other("gpu_type", "filter.gpu_model", Unit::AsIs, ""));
    params.push(Param::own("period", Unit::Word, "In the place of a range: `daily` is today, `monthly` this month (UTC). Default: monthly."));
    params
}

fn summary_params() -> Vec<Param> {
    fields("GetCostReportRequest").into_iter().filter(|p| p.to.starts_with("filter.") || p.name == "group_by").collect()
}

fn ledger_params() -> Vec<Param> {
    let mut params = fields("ListLedgerEntriesRequest");
    params.extend(days());
    params.push(Param::other("gpu_type", "filter.gpu_model", Unit::AsIs, ""));
    params.extend(parts());
    params
}

/// Midnight at which a UTC day begins.
fn day(name: &str, text: &str) -> Result<Time, Error> {
    let rule = || Error::field(name, format!("`{}`; allowed: a day from 1970-01-01 to 9999-12-30, such as `2026-11-23`", clip(text, 64)));
    let date = text.parse::<jiff::civil::Date>().ok().filter(|date| text.len() == 10 && (1970..=9999).contains(&date.year()));
    let at = date.and_then(|_| Time::from_sql(&format!("{text} 00:00:00")));
    at.filter(|at| at.millis() < 253_402_214_400_000).ok_or_else(rule)
}

/// The first of the month, by its text `2026-11`.
fn month(text: &str) -> Time {
    Time::from_sql(&format!("{text}-01 00:00:00")).unwrap_or_default()
}

/// Puts days in the place of times: the last one is included.
fn range(given: &mut Given) {
    let mut read = |name: &str| {
        let text = given.own(name)?.to_owned();
        match day(name, &text) {
            Ok(at) => Some(at),
            Err(error) => {
                error.violations.into_iter().for_each(|violation| given.wrong(name, violation.description));
                None
            }
        }
    };
    let (from, to) = (read("start_date"), read("end_date"));
    if let (Some(from), Some(to)) = (from, to)
        && to < from
    {
        return given.wrong("end_date", format!("{} is before start_date {}", to.day(), from.day()));
    }
    if let Some(from) = from {
        given.set("start_time", Json::text(from.rfc3339()), "start_date");
    }
    if let Some(to) = to {
        given.set("end_time", Json::text((to + DAY).rfc3339()), "end_date");
    }
}

async fn costs(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("GetCostReportRequest", &report_params());
    let period = match given.own("period").map(str::to_owned) {
        None => None,
        Some(word) if word == "daily" || word == "monthly" => Some(word == "daily"),
        Some(other) => {
            given.wrong("period", format!("`{}`; allowed: daily, monthly", clip(&other, 64)));
            None
        }
    };
    range(&mut given);
    let (from, to) = (given.has("start_time"), given.has("end_time"));
    if period.is_some() && (from || to) {
        given.wrong("period", "goes without a range: leave it out with start_date, end_date, start_time and end_time");
    }
    let query = given.checked(|m| requests::cost_report(&m, &api.settings))?;
    if let Some(id) = query.session.filter(|_| given.parameters_given() == 1) {
        let cost = api.services.costs.session(&caller, id).await?;
        return Ok(object(StatusCode::OK, session_cost(&cost)?));
    }
    let now = api.services.operator.clock().now();
    if !from && !to {
        within(&mut given, now, period == Some(true));
    } else if to && !from {
        // The month that the range ends in.
        let last = query.to.unwrap_or(now) - Duration::from_millis(1);
        given.set("start_time", Json::text(month(&last.month()).rfc3339()), "start_date");
    }
    report(&api, &caller, &given).await
}

/// This day or this month.
fn within(given: &mut Given, now: Time, day: bool) {
    let from = if day { now.next_midnight() - DAY } else { month(&now.month()) };
    let to = if day { now.next_midnight() } else { month(&(from + 31 * DAY).month()) };
    given.set("start_time", Json::text(from.rfc3339()), "start_time");
    given.set("end_time", Json::text(to.rfc3339()), "end_time");
}

async fn summary(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("GetCostReportRequest", &summary_params());
    within(&mut given, api.services.operator.clock().now(), false);
    report(&api, &caller, &given).await
}

async fn report(api: &Api, caller: &Caller, given: &Given) -> Result<Response, Error> {
    let read = |m: pb::GetCostReportRequest| Ok((requests::cost_report(&m, &api.settings)?, m.group_by));
    let (mut query, group_by) = given.checked(read)?;
    let grouped = !query.group_by.is_empty();
    if !grouped {
        query.group_by = vec![GroupBy::Provider, GroupBy::Gpu];
    }
    let consumer = query.consumer.as_ref().map_or(Json::Null, |c| Json::text(c.to_string()));
    let report = api.services.costs.report(caller, query).await.map_err(|e| given.named(e))?;
    let (by_provider, by_gpu) = if grouped { (Vec::new(), Vec::new()) } else { (summed(&report, 0), summed(&report, 1)) };
    let millis: i64 = report.groups.iter().map(|g| g.gpu_millis).sum();
    let (total, from, to) = (report.total, report.from, report.to);
    let told_report = answers::cost_report(report);
    let groups = told_report.groups.iter().filter(|_| grouped).map(|g| told("CostGroup", g)).collect::<Result<Vec<_>, Error>>()?;
    let dollars = |nanos: crate::domain::money::Nanos| Json::Number(nanos.decimal());
    let mut answer = Map::new();
    add(&mut answer, "consumer_id", consumer);
    add(&mut answer, "total_cost", dollars(total.cost));
    add(&mut answer, "currency", Json::text("USD"));
    add(&mut answer, "cost_low", dollars(total.low));
    add(&mut answer, "cost_high", dollars(total.high));
    add(&mut answer, "estimated", Json::Bool(total.estimated()));
    add(&mut answer, "session_count", Json::whole(told_report.session_count));
    add(&mut answer, "hours_used", Json::Number(format!("{}.{:03}", millis / 3_600_000, millis % 3_600_000 / 3_600)));
    add(&mut answer, "by_provider", Json::Map(by_provider));
    add(&mut answer, "by_gpu_type", Json::Map(by_gpu));
    add(&mut answer, "group_by", Json::List(group_by.iter().map(Json::text).collect()));
    add(&mut answer, "groups", Json::List(groups));
    add(&mut answer, "period_start", Json::text(from.rfc3339()));
    add(&mut answer, "period_end", Json::text(to.rfc3339()));
    add(&mut answer, "final", Json::Bool(told_report.r#final));
    add(&mut answer, "unmetered", Json::List(told_report.unmetered.into_iter().map(Json::Text).collect()));
    Ok(object(StatusCode::OK, answer))
}

/// The groups' amounts by one of their keys.
fn summed(report: &CostReport, key: usize) -> Map {
    let mut sums: BTreeMap<&str, Amount> = BTreeMap::new();
    for group in &report.groups {
        *sums.entry(group.keys.get(key).map_or("", String::as_str)).or_default() += group.amount;
    }
    sums.into_iter().map(|(key, amount)| (key.to_owned(), Json::Number(amount.cost.decimal()))).collect()
}

fn session_cost(cost: &SessionCost) -> Result<Map, Error> {
    let mut answer = members("GetSessionCostResponse", &answers::session_cost(cost))?;
    add(&mut answer, "total_cost", Json::Number(cost.total.cost.decimal()));
    add(&mut answer, "currency", Json::text("USD"));
    Ok(answer)
}

async fn of_session(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("GetSessionCostRequest", &[]).sound()?;
    let cost = api.services.costs.session(&caller, id_of(&asked)?).await?;
    Ok(object(StatusCode::OK, session_cost(&cost)?))
}

async fn ledger(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("ListLedgerEntriesRequest", &ledger_params());
    range(&mut given);
    let part = Part::of(&mut given);
    let (query, _) = given.checked(|m| requests::ledger(&m, &api.settings))?;
    let (mut entries, mut next) = (Vec::new(), String::new());
    loop {
        let page = api.services.costs.ledger(&caller, query.clone(), 1000, &next).await.map_err(|e| given.named(e))?;
        entries.extend(page.entries);
        next = page.next_page_token;
        if next.is_empty() {
            break;
        }
    }
    let total = entries.len();
    let page = crate::services::api::LedgerPage { entries: part.cut(entries), next_page_token: next };
    let count = page.entries.len();
    let mut answer = members("ListLedgerEntriesResponse", &answers::ledger(page))?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}

async fn spend_rate(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("GetSpendRateRequest", &[]).sound()?;
    message("GetSpendRateResponse", &operations::spend(&api.services.operator.spend_rate()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days_of_the_calendar() {
        assert_eq!(day("d", "2026-12-31").unwrap().rfc3339(), "2026-12-31T00:00:00.000Z");
        for wrong in
            ["", "2026-02-29", "2026-13-01", "0001-01-01", "0000-00-00", "9999-12-31", "2026-1-1", "20261231", "2026-12-31T00:00:00", "today"]
        {
            assert!(day("d", wrong).is_err(), "{wrong}");
        }
        assert_eq!(month("2026-11").rfc3339(), "2026-11-01T00:00:00.000Z");
    }
}
