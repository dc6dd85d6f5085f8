//! Costs by HTTP: exact to the nano-dollar in the text itself, by day and range as people name them.

use super::{Answer, MINUTE, Web};
use gpu_shopper::grpc::json::tree::Json;
use gpu_shopper::sim::Faults;
use serde_json::{Value, json};

/// A decimal text in nano-dollars.
fn nanos(text: &str) -> i64 {
    i64::try_from(gpu_shopper::domain::money::scaled(text, 9).unwrap()).unwrap()
}

fn sum(answer: &Answer, member: &str) -> i64 {
    match Json::parse(answer.text.as_bytes()).unwrap().get(member) {
        Some(Json::Map(parts)) => parts.iter().map(|(_, v)| if let Json::Number(text) = v { nanos(text) } else { panic!("{v:?}") }).sum(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn sums_are_exact_however_they_are_asked_for() {
    let web = Web::open(320, Faults::gentle()).await;
    let mut bills = 0;
    let mut ids = Vec::new();
    for (consumer, provider) in [("a", "vastai"), ("b", "tensordock")] {
        let id = web.run(json!({"requirements": {"filter": {"providers": [provider]}}, "consumer_id": consumer, "labels": {"team": consumer}})).await;
        web.house.pass(17 * MINUTE).await;
        web.destroy(&id).await;
        let one = web.get(&format!("/api/v1/costs?session_id={id}")).await;
        assert_eq!((one.text("session_id"), one.text("currency").as_str(), one.at("final")), (id.clone(), "USD", &json!(true)));
        let (low, cost, high) = (nanos(&one.exact("total.low")), nanos(&one.exact("total_cost")), nanos(&one.exact("total.high")));
        let bill = web.house.bill(id.parse().unwrap()).0;
        assert!(low <= bill && bill <= high && low <= cost && cost <= high && cost > 0, "{low} {cost} {high}, billed {bill}");
        assert_eq!(one.body, web.get(&format!("/api/v1/sessions/{id}/cost")).await.body);
        let session = web.get(&format!("/api/v1/sessions/{id}")).await;
        assert_eq!(nanos(&session.exact("cost.cost")), cost);
        bills += cost;
        ids.push(id);
    }
    let all = web.get("/api/v1/costs").await;
    assert_eq!(nanos(&all.exact("total_cost")), bills, "written from the integer, read from the text");
    assert_eq!((sum(&all, "by_provider"), sum(&all, "by_gpu_type"), all.at("session_count")), (bills, bills, &json!(2)));
    assert!(all.at("hours_used").as_f64().unwrap() > 0.5 && all.text("currency") == "USD" && all.at("consumer_id").is_null());
    for query in ["consumer_id=a", "provider=vastai", "label=team%3Da", &format!("session_id={}&group_by=day", ids[0])] {
        let part = web.get(&format!("/api/v1/costs?{query}")).await;
        let cost = nanos(&part.exact("total_cost"));
        assert!(cost > 0 && cost < bills && part.at("session_count") == &json!(1), "{query}: {}", part.text);
    }
    let model = web.get(&format!("/api/v1/sessions/{}", ids[0])).await.text("gpu_model");
    let by_model = web.get(&format!("/api/v1/costs?gpu_type={}", model.replace(' ', "%20"))).await;
    assert!(nanos(&by_model.exact("total_cost")) > 0);
    let grouped = web.get("/api/v1/costs?group_by=consumer,provider&group_by=day").await;
    assert_eq!(grouped.at("group_by"), &json!(["consumer", "provider", "day"]));
    assert_eq!((grouped.at("groups").as_array().unwrap().len(), grouped.at("by_provider")), (2, &json!({})));
    assert_eq!(nanos(&grouped.exact("total_cost")), bills);
    let month = web.get("/api/v1/costs/summary").await;
    assert_eq!(
        (month.body.clone(), nanos(&web.get("/api/v1/costs/summary?consumer_id=a").await.exact("total_cost")) < bills),
        (all.body.clone(), true)
    );

    let ledger = web.get("/api/v1/ledger").await;
    let entries = match Json::parse(ledger.text.as_bytes()).unwrap().get("entries") {
        Some(Json::List(entries)) => entries.clone(),
        other => panic!("{other:?}"),
    };
    let amounts = entries.iter().map(|e| match e.get("amount").and_then(|a| a.get("cost")) {
        Some(Json::Number(text)) => nanos(text),
        other => panic!("{other:?}"),
    });
    assert_eq!((amounts.sum::<i64>(), ledger.at("total")), (bills, &json!(entries.len())));
    let part = web.get(&format!("/api/v1/ledger?session_id={}&limit=1&offset=1", ids[0])).await;
    assert_eq!((part.at("count"), &part.at("entries")[0]["session_id"]), (&json!(1), &json!(ids[0])));
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn ranges_are_days_that_include_their_last() {
    let web = Web::open(321, Faults::none()).await;
    let id = web.run(json!({"requirements": {}})).await;
    web.house.pass(5 * MINUTE).await;
    web.destroy(&id).await;
    let ended = web.get(&format!("/api/v1/sessions/{id}")).await;
    let (day, cost) = (ended.text("created_at")[..10].to_owned(), ended.exact("cost.cost"));
    let month = day[..7].to_owned();
    let period = |a: &Answer| (a.text("period_start"), a.text("period_end"));
    let midnight = |day: &str| format!("{day}T00:00:00.000Z");

    let year = web.get("/api/v1/costs?start_date=2026-01-01&end_date=2026-12-31").await;
    assert_eq!((period(&year), year.exact("total_cost")), ((midnight("2026-01-01"), midnight("2027-01-01")), cost.clone()), "a whole year");
    let one = web.get(&format!("/api/v1/costs?start_date={day}&end_date={day}")).await;
    assert_eq!((one.exact("total_cost"), one.at("final")), (cost.clone(), &json!(false)), "the day is not over");
    let before = web.get("/api/v1/costs?start_date=2026-01-01&end_date=2026-01-02").await;
    assert_eq!((before.exact("total_cost").as_str(), before.at("final"), before.at("session_count")), ("0", &json!(true), &json!(0)));
    let this = web.get("/api/v1/costs").await;
    assert_eq!(period(&this).0, midnight(&format!("{month}-01")));
    assert_eq!(
        (period(&web.get("/api/v1/costs?period=monthly").await), period(&web.get("/api/v1/costs/summary").await)),
        (period(&this), period(&this))
    );
    let today = web.get("/api/v1/costs?period=daily").await;
    assert_eq!((period(&today).0, today.exact("total_cost")), (midnight(&day), cost.clone()));
    let only_end = web.get(&format!("/api/v1/costs?end_date={month}-30")).await;
    assert_eq!(period(&only_end).0, midnight(&format!("{month}-01")), "from the first of that month");
    let only_start = web.get("/api/v1/costs?start_date=2026-01-01").await;
    assert_eq!((period(&only_start).0, only_start.exact("total_cost")), (midnight("2026-01-01"), cost.clone()), "until now");
    let exact = web.get("/api/v1/costs?start_time=2026-01-01T00:00:00Z&end_time=2027-01-01T00:00:00%2B01:00").await;
    assert_eq!(exact.text("period_end"), "2026-12-31T23:00:00.000Z");

    for (query, field) in [
        ("start_date=2026-12-31&end_date=2026-01-01", "end_date"),
        ("start_date=0001-01-01", "start_date"),
        ("start_date=2026-02-30", "start_date"),
        ("end_date=yesterday", "end_date"),
        ("start_date=9999-01-01", "start_date"),
        ("start_time=2026-05-01T00:00:00Z&end_time=2026-04-01T00:00:00Z", "end_time"),
        ("start_date=2026-01-01&start_time=2026-01-01T00:00:00Z", "start_date"),
        ("period=yearly", "period"),
        ("period=daily&start_date=2026-01-01", "period"),
        ("group_by=colour", "group_by"),
        ("session_id=nope", "session_id"),
    ] {
        let refused = web.get(&format!("/api/v1/costs?{query}")).await;
        assert_eq!((refused.status, refused.at("fields")[0]["field"].as_str()), (400, Some(field)), "{query}: {}", refused.text);
    }
    let unknown = web.get("/api/v1/costs?session_id=01kaphz700fay8vvr14d2pf2db").await;
    assert_eq!((unknown.status, unknown.text("error_type").as_str()), (404, "session_not_found"));
    assert_eq!(web.get("/api/v1/ledger?start_date=2026-01-01&end_date=2026-01-02").await.at("entries"), &json!([]));
    assert_eq!(web.ask("GET", "/api/v1/costs/summary?start_date=2026-01-01", Value::Null, &[]).await.status, 400, "the summary is of this month");
    web.house.close().await;
}
