//! `costs`: reports, the ledger behind them, one session's cost. Amounts are shown with all their decimals, so that a
//! column can be added up by hand.

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::cli::output::Table;
use crate::cli::values::{DayOrMoment, PageArgs, day_or_moment, pair, pairs, timestamp};
use crate::cli::words;
use crate::grpc::pb;
use clap::{Args, Subcommand};

/// Which costs.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  gpu-shopper costs
  gpu-shopper costs --from 2026-11-01 --to 2026-11-30 --group-by consumer,day
  gpu-shopper costs --consumer alice --group-by label:team -o json
  gpu-shopper costs session 01kaphz700fay8vvr14d2pf2db
  gpu-shopper costs ledger --session 01kaphz700fay8vvr14d2pf2db"
)]
pub struct CostsArgs {
    /// What else to look at
    #[command(subcommand)]
    pub command: Option<CostsCommand>,
    /// Whose and when
    #[command(flatten)]
    pub range: RangeArgs,
    /// Group by consumer, provider, gpu, day, month, session, end_reason, label:KEY (repeatable, or with commas)
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub group_by: Vec<String>,
}

/// What else there is to look at.
#[derive(Subcommand, Clone, Debug)]
pub enum CostsCommand {
    /// What one session has cost, by component and attempt
    #[command(after_help = "Examples:\n  gpu-shopper costs session 01kaphz700fay8vvr14d2pf2db")]
    Session {
        /// The session's id
        session: String,
    },
    /// The metered stretches of time behind the reports
    #[command(after_help = "Examples:
  gpu-shopper costs ledger --session 01kaphz700fay8vvr14d2pf2db
  gpu-shopper costs ledger --from 2026-11-23 --to 2026-11-23 --all -o json")]
    Ledger {
        /// Whose and when
        #[command(flatten)]
        range: RangeArgs,
        /// How many
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Whose costs, and when.
#[derive(Args, Clone, Debug, Default)]
pub struct RangeArgs {
    /// Only of this consumer
    #[arg(short, long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Only of this session
    #[arg(short, long, value_name = "ID")]
    pub session: Option<String>,
    /// Only at this provider
    #[arg(short, long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Only with this GPU model
    #[arg(short, long, value_name = "MODEL")]
    pub gpu: Option<String>,
    /// Only with this label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// From this UTC day on, or from this moment (RFC 3339)
    #[arg(long, value_name = "DAY", value_parser = day_or_moment)]
    pub from: Option<DayOrMoment>,
    /// Up to this UTC day, all of it included, or until this moment (RFC 3339)
    #[arg(long, value_name = "DAY", value_parser = day_or_moment)]
    pub to: Option<DayOrMoment>,
}

impl RangeArgs {
    /// That it does not end before it begins, in the words in which it was given.
    fn check(&self) -> Result<(), Failure> {
        match (self.from, self.to) {
            // A day's end is the next one's beginning; two equal moments are an empty stretch, and allowed.
            (Some(from), Some(to)) if to.end < from.first || (to.end == from.first && to.first < to.end) => {
                Err(Failure::usage("--to is before --from: nothing lies between them"))
            }
            _ => Ok(()),
        }
    }

    fn filter(&self) -> pb::CostFilter {
        pb::CostFilter {
            consumer_id: self.consumer.clone(),
            provider: self.provider.clone(),
            gpu_model: self.gpu.clone(),
            session_id: self.session.clone(),
            labels: pairs(&self.labels),
        }
    }
}

/// Runs `costs`.
///
/// # Errors
/// What the server says; when the output can't be written.
pub async fn run(args: CostsArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    match &args.command {
        None => args.range.check()?,
        Some(CostsCommand::Ledger { range, .. }) => range.check()?,
        Some(CostsCommand::Session { .. }) => {}
    }
    let mut clients = desk.connect().await?;
    match args.command {
        None => report(&args.range, args.group_by, desk, &mut clients).await,
        Some(CostsCommand::Session { session }) => one(session, desk, &mut clients).await,
        Some(CostsCommand::Ledger { range, page }) => ledger(&range, &page, desk, &mut clients).await,
    }
}

async fn report(range: &RangeArgs, group_by: Vec<String>, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let request = pb::GetCostReportRequest {
        start_time: range.from.map(|t| timestamp(t.first)),
        end_time: range.to.map(|t| timestamp(t.end)),
        filter: Some(range.filter()),
        group_by: group_by.clone(),
    };
    let answer = clients.costs.get_cost_report(asking(request)).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetCostReportResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let total = answer.total.clone().unwrap_or_default();
    let names: Vec<String> = group_by.iter().map(|key| key.to_uppercase()).collect();
    let first = if names.is_empty() { vec![""] } else { names.iter().map(String::as_str).collect() };
    let mut table = Table::new(first.iter().copied().chain([">COST", ">AT LEAST", ">AT MOST", ">SESSIONS", ">GPU HOURS"]));
    let numbers = |amount: &pb::CostAmount, sessions: i32, hours: String| {
        let [cost, low, high] = [&amount.cost, &amount.low, &amount.high].map(|m| words::exact(m.as_ref()));
        [cost, low, high, sessions.to_string(), hours].map(Into::into)
    };
    if !names.is_empty() {
        for group in &answer.groups {
            let keys = group.keys.iter().map(|key| words::text(key).into());
            table.row(keys.chain(numbers(&group.amount.clone().unwrap_or_default(), group.session_count, words::hours(group.gpu_time.as_ref()))));
        }
    }
    let time = answer.groups.iter().filter_map(|g| g.gpu_time).map(|t| t.seconds).sum();
    let time = prost_types::Duration { seconds: time, nanos: 0 };
    let sum = std::iter::once("TOTAL").chain(std::iter::repeat_n("", first.len() - 1)).map(Into::into);
    table.row(sum.chain(numbers(&total, answer.session_count, words::hours(Some(&time)))));
    desk.console.table(&table, "")?;
    let until = words::moment(answer.end_time.as_ref());
    let from =
        words::time(answer.start_time.as_ref()).filter(|t| t.millis() > 0).map(|_| format!("from {} ", words::moment(answer.start_time.as_ref())));
    let finality = if answer.r#final { "final" } else { "not final: it can still change" };
    desk.console.note(&format!("{}until {until}; {finality}", from.unwrap_or_default()));
    if !answer.unmetered.is_empty() {
        desk.console.note(&format!("not metered: {}", answer.unmetered.join(", ")));
    }
    Ok(Exit::Ok)
}

async fn one(session: String, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let answer = clients.costs.get_session_cost(asking(pb::GetSessionCostRequest { session_id: session })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetSessionCostResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(["PART", ">COST", ">AT LEAST", ">AT MOST"]);
    let mut row = |name: String, amount: Option<&pb::CostAmount>| {
        let amount = amount.cloned().unwrap_or_default();
        let [cost, low, high] = [&amount.cost, &amount.low, &amount.high].map(|m| words::exact(m.as_ref()).into());
        table.row([name.into(), cost, low, high]);
    };
    for part in &answer.components {
        row(words::component(part.component), part.amount.as_ref());
    }
    for part in answer.attempts.iter().filter(|_| answer.attempts.len() > 1) {
        row(format!("attempt {}", part.attempt), part.amount.as_ref());
    }
    row("TOTAL".to_owned(), answer.total.as_ref());
    desk.console.table(&table, "")?;
    if answer.attempts.len() > 1 {
        desk.console.note("components and attempts each add up to the total");
    }
    let finality = if answer.r#final { "final" } else { "not final" };
    desk.console.note(&format!("{finality}; now {} per hour", words::dollars(answer.rate_per_hour.as_ref())));
    Ok(Exit::Ok)
}

async fn ledger(range: &RangeArgs, page: &PageArgs, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let mut request = pb::ListLedgerEntriesRequest {
        start_time: range.from.map(|t| timestamp(t.first)),
        end_time: range.to.map(|t| timestamp(t.end)),
        filter: Some(range.filter()),
        ..Default::default()
    };
    let mut whole = pb::ListLedgerEntriesResponse::default();
    while let Some(size) = page.next(whole.entries.len()) {
        request.page_size = size;
        let answer = clients.costs.list_ledger_entries(asking(request.clone())).await?.into_inner();
        whole.entries.extend(answer.entries);
        request.page_token.clone_from(&answer.next_page_token);
        whole.next_page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListLedgerEntriesResponse", &whole)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(["SESSION", ">ATTEMPT", "CONSUMER", "PROVIDER", "GPU", "PART", ">RATE", "FROM", "TO", ">COST"]);
    for entry in &whole.entries {
        let until = if entry.running { "running".to_owned() } else { words::moment(entry.end_time.as_ref()) };
        table.row([
            entry.session_id.as_str().into(),
            entry.attempt.to_string().into(),
            words::text(&entry.consumer_id).into(),
            words::text(&entry.provider).into(),
            words::text(&entry.gpu_model).into(),
            words::component(entry.component).into(),
            words::text(&entry.rate_text).into(),
            words::moment(entry.start_time.as_ref()).into(),
            until.into(),
            words::exact(entry.amount.as_ref().and_then(|a| a.cost.as_ref())).into(),
        ]);
    }
    desk.console.table(&table, "nothing metered there")?;
    if !whole.next_page_token.is_empty() {
        desk.console.note("there is more; --all or a larger --limit shows it");
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_where_it_begins_or_later() {
        let range = |from: &str, to: &str| RangeArgs { from: day_or_moment(from).ok(), to: day_or_moment(to).ok(), ..RangeArgs::default() };
        for (from, to, fine) in [
            ("2026-11-01", "2026-11-01", true),
            ("2026-11-01T12:00:00Z", "2026-11-01", true),
            ("2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z", true),
            ("2026-11-02", "2026-11-01", false),
            ("2026-12-01", "2026-11-01", false),
            ("2026-11-01T12:00:00Z", "2026-11-01T11:59:59Z", false),
        ] {
            assert_eq!(range(from, to).check().is_ok(), fine, "{from} to {to}");
        }
    }
}
