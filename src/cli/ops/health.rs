//! `ops offer-health`: what the failure memory holds.

use crate::cli::Desk;
use crate::cli::client::asking;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::cli::output::{Cell, Table, Tint};
use crate::cli::values::PageArgs;
use crate::cli::words;
use crate::grpc::pb;
use clap::{Args, ValueEnum};

/// Which part of the failure memory.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  gpu-shopper ops offer-health
  gpu-shopper ops offer-health --kind machine --set-aside
  gpu-shopper ops offer-health --provider vastai --all -o json")]
pub struct OfferHealthArgs {
    /// Only of this provider: vastai, tensordock
    #[arg(short, long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Only this kind (repeatable)
    #[arg(long = "kind", value_enum)]
    pub kinds: Vec<HealthKind>,
    /// Only where this GPU model was launched (repeatable)
    #[arg(short, long = "gpu", value_name = "MODEL")]
    pub gpus: Vec<String>,
    /// Only what is set aside now
    #[arg(long)]
    pub set_aside: bool,
    /// How many
    #[command(flatten)]
    pub page: PageArgs,
}

/// What is remembered.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthKind {
    /// Providers
    Provider,
    /// Hosts and places
    Host,
    /// Machines
    Machine,
    /// Offers
    Offer,
}

impl HealthKind {
    const fn wire(self) -> pb::offer_health::Kind {
        match self {
            Self::Provider => pb::offer_health::Kind::Provider,
            Self::Host => pb::offer_health::Kind::Host,
            Self::Machine => pb::offer_health::Kind::Machine,
            Self::Offer => pb::offer_health::Kind::Offer,
        }
    }
}

/// `ops offer-health`.
pub async fn offer_health(args: &OfferHealthArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut clients = desk.connect().await?;
    let mut request = pb::ListOfferHealthRequest {
        provider: args.provider.clone(),
        kinds: args.kinds.iter().map(|kind| kind.wire().into()).collect(),
        gpu_models: args.gpus.clone(),
        set_aside_only: args.set_aside,
        ..Default::default()
    };
    let mut answer = pb::ListOfferHealthResponse::default();
    while let Some(size) = args.page.next(answer.entries.len()) {
        request.page_size = size;
        let page = clients.operator.list_offer_health(asking(request.clone())).await?.into_inner();
        request.page_token.clone_from(&page.next_page_token);
        let before = std::mem::replace(&mut answer, page);
        answer.entries.splice(0..0, before.entries);
        if request.page_token.is_empty() {
            break;
        }
    }
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListOfferHealthResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let now = desk.clock.now();
    let mut table = Table::new(["KIND", "NAME", ">LAUNCHES", ">USABLE", ">CONFIDENCE", "FAILURES", ">SET ASIDE", "LAST"]);
    for h in &answer.entries {
        let mut failures: Vec<(&String, &i32)> = h.failure_counts.iter().collect();
        failures.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let failures: Vec<String> = failures.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let aside = match &h.set_aside_until_time {
            Some(_) => Cell::tinted(words::until(now, h.set_aside_until_time.as_ref()), Tint::Bad),
            None => words::NOTHING.into(),
        };
        table.row([
            words::lower(h.kind().as_str_name(), "KIND_").into(),
            h.name.as_str().into(),
            h.launch_count.to_string().into(),
            h.usable_count.to_string().into(),
            words::percent(h.confidence).into(),
            words::text(&failures.join(", ")).into(),
            aside,
            format!("{}, {} ago", h.last_outcome, words::ago(now, h.last_time.as_ref())).into(),
        ]);
    }
    let none = if args.set_aside { "nothing is set aside now" } else { "nothing like that is remembered of the last 30 days" };
    desk.console.table(&table, none)?;
    let more = usize::try_from(answer.total_size).unwrap_or(0).saturating_sub(answer.entries.len());
    if more > 0 {
        desk.console.note(&format!("{more} more entries; --all or a larger --limit shows them"));
    }
    if answer.observes_only {
        desk.console.note("the memory only observes (inventory.failure_memory = observe): nothing is hidden and no confidence changed by it");
    }
    Ok(Exit::Ok)
}
