//! `inventory`: what can be rented now.

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::cli::output::Table;
use crate::cli::values::{FilterArgs, Order, PageArgs, gigabytes};
use crate::cli::words;
use crate::grpc::pb;
use clap::{Args, Subcommand};

/// What can be rented.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  gpu-shopper inventory --gpu 'RTX 4090' --max-price 0.40
  gpu-shopper inventory --gpu a100,h100 --gpus 2 --region US --min-reliability 98% --order-by expected-cost
  gpu-shopper inventory --min-vram 24 --disk 200 --all -o json
  gpu-shopper inventory --gpu h200 --max-price 1.50 --explain
  gpu-shopper inventory gpus
  gpu-shopper inventory get vastai-12345678 --disk 100"
)]
pub struct InventoryArgs {
    /// What else to look at
    #[command(subcommand)]
    pub command: Option<InventoryCommand>,
    /// Which offers
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Room for a disk of this many GB; prices are then with that disk
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub disk: Option<i32>,
    /// Which offers come first
    #[arg(long, value_enum, default_value_t = Order::Price)]
    pub order_by: Order,
    /// Say why so few offers fit, and the least that has to give, instead of listing them
    #[arg(long)]
    pub explain: bool,
    /// How many
    #[command(flatten)]
    pub page: PageArgs,
}

/// What else there is to look at.
#[derive(Subcommand, Clone, Debug)]
pub enum InventoryCommand {
    /// Which GPU models are on offer, how many, and from which price
    #[command(after_help = "Examples:\n  gpu-shopper inventory gpus\n  gpu-shopper inventory gpus -o json")]
    Gpus,
    /// Templates: ready-made descriptions of what runs on a machine
    #[command(after_help = "Examples:\n  gpu-shopper inventory templates --name vllm\n  gpu-shopper inventory templates --for-offer vastai-12345678")]
    Templates {
        /// Whose name contains this
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// Whose image contains this
        #[arg(long, value_name = "TEXT")]
        image: Option<String>,
        /// Only those made for logging in by SSH
        #[arg(long)]
        ssh_only: bool,
        /// Only those that can run on this offer
        #[arg(long, value_name = "ID")]
        for_offer: Option<String>,
    },
    /// One offer with all that is known about it
    #[command(after_help = "Examples:\n  gpu-shopper inventory get vastai-12345678\n  gpu-shopper inventory get vastai-12345678 --disk 100")]
    Get {
        /// The offer's id
        offer: String,
        /// Price it with a disk of this many GB
        #[arg(long, value_name = "GB", value_parser = gigabytes)]
        disk: Option<i32>,
    },
}

/// Runs `inventory`.
///
/// # Errors
/// What the server says; when the output can't be written.
pub async fn run(args: InventoryArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut clients = desk.connect().await?;
    match args.command {
        None if args.explain => explain(&args, desk, &mut clients).await,
        None => list(&args, desk, &mut clients).await,
        Some(InventoryCommand::Gpus) => models(desk, &mut clients).await,
        Some(InventoryCommand::Templates { name, image, ssh_only, for_offer }) => {
            templates(pb::ListTemplatesRequest { name, image, ssh_only, offer_id: for_offer }, desk, &mut clients).await
        }
        Some(InventoryCommand::Get { offer, disk }) => one(offer, disk, desk, &mut clients).await,
    }
}

async fn templates(request: pb::ListTemplatesRequest, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let answer = clients.inventory.list_templates(asking(request)).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListTemplatesResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(["TEMPLATE", "PROVIDER", "NAME", "IMAGE", ">DISK", ">CUDA", "PORTS"]);
    for template in &answer.templates {
        let ports: Vec<String> = template.ports.iter().map(ToString::to_string).collect();
        table.row([
            template.template_hash_id.as_str().into(),
            template.provider.as_str().into(),
            words::text(&template.name).into(),
            words::text(&template.image).into(),
            template.disk_gb.map_or_else(|| words::NOTHING.to_owned(), |gb| format!("{gb} GB")).into(),
            words::text(&template.min_cuda_version).into(),
            words::text(&ports.join(",")).into(),
        ]);
    }
    desk.console.table(&table, "no templates")?;
    Ok(Exit::Ok)
}

async fn list(args: &InventoryArgs, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let answer = match pages(args, clients).await {
        // The snapshot that the pages came from is no longer kept: once more from a new one.
        Err(failure) if failure.reason == "PAGE_TOKEN_EXPIRED" => pages(args, clients).await?,
        answer => answer?,
    };
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListOffersResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new([
        "OFFER",
        "GPU",
        ">COUNT",
        ">VRAM",
        ">PRICE/H",
        ">$/GPU/H",
        "KIND",
        "REGION",
        ">RELIABILITY",
        ">CONFIDENCE",
        ">CUDA",
        ">DISK",
        "HOST END",
    ]);
    for offer in &answer.read_offers()? {
        table.row([
            offer.offer_id.as_str().into(),
            words::text(&offer.gpu_model).into(),
            offer.gpu_count.to_string().into(),
            words::memory(offer.gpu_memory_mib).into(),
            words::dollars(offer.price.as_ref().and_then(|p| p.total_per_hour.as_ref())).into(),
            words::dollars(offer.price_per_gpu_hour.as_ref()).into(),
            kind(offer.rental_kind).into(),
            words::region(offer.region.as_ref()).into(),
            offer.reliability.map_or_else(|| words::NOTHING.to_owned(), words::percent).into(),
            words::percent(offer.confidence).into(),
            words::text(&offer.max_cuda_version).into(),
            format!("{} GB", offer.rented_disk_gb).into(),
            words::day(offer.host_end_time.as_ref()).into(),
        ]);
    }
    desk.console.table(&table, "nothing on offer that fits; --explain says why")?;
    let more = usize::try_from(answer.total_size).unwrap_or(0).saturating_sub(answer.offers.len());
    if more > 0 {
        desk.console.note(&format!("{more} more offers fit; --all or a larger --limit shows them"));
    }
    freshness(desk, &answer.providers, &answer.unreachable);
    Ok(Exit::Ok)
}

async fn pages(args: &InventoryArgs, clients: &mut Clients) -> Result<pb::ListOffersResponse, Failure> {
    let mut request =
        pb::ListOffersRequest { filter: Some(args.filter.filter(args.disk)), order_by: args.order_by.word().to_owned(), ..Default::default() };
    let mut whole: Option<pb::ListOffersResponse> = None;
    while let Some(size) = args.page.next(whole.as_ref().map_or(0, |w| w.offers.len())) {
        request.page_size = size;
        let page = clients.inventory.list_offers(asking(request.clone())).await?.into_inner();
        request.page_token.clone_from(&page.next_page_token);
        match &mut whole {
            None => whole = Some(page),
            Some(all) => {
                all.offers.extend(page.offers);
                all.next_page_token = page.next_page_token;
            }
        }
        if request.page_token.is_empty() {
            break;
        }
    }
    Ok(whole.unwrap_or_default())
}

async fn explain(args: &InventoryArgs, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let request = pb::ExplainOffersRequest { filter: Some(args.filter.filter(args.disk)) };
    let answer = clients.inventory.explain_offers(asking(request)).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ExplainOffersResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let mut effects = Table::new(["FILTER", ">TURNS AWAY", ">ALONE", ">LEFT WITHOUT IT"]);
    for effect in &answer.effects {
        effects.row([
            effect.field.as_str().into(),
            effect.removed_count.to_string().into(),
            effect.removed_alone_count.to_string().into(),
            effect.matching_without_count.to_string().into(),
        ]);
    }
    desk.console.table(&effects, "no filter turns anything away")?;
    let mut relaxations = Table::new(["CHANGE ONE", "TO", ">OFFERS", ">FROM $/H"]);
    for relaxation in &answer.relaxations {
        relaxations.row([
            relaxation.field.as_str().into(),
            relaxation.value.as_str().into(),
            relaxation.matching_offer_count.to_string().into(),
            words::dollars(relaxation.from_price_per_hour.as_ref()).into(),
        ]);
    }
    desk.console.table(&relaxations, "no change of a single filter lets more offers pass")?;
    desk.console.note(&answer.summary);
    if answer.set_aside_count > 0 {
        desk.console.note(&format!(
            "{} more would fit, but are set aside for what happened there; the first is back in {} (ops offer-health --set-aside)",
            answer.set_aside_count,
            words::until(desk.clock.now(), answer.set_aside_until_time.as_ref())
        ));
    }
    freshness(desk, &answer.providers, &[]);
    Ok(Exit::Ok)
}

async fn models(desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let answer = clients.inventory.list_gpu_models(asking(pb::ListGpuModelsRequest {})).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListGpuModelsResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(["GPU", ">VRAM", ">OFFERS", ">GPUS", ">FROM $/GPU/H", "PROVIDERS"]);
    for model in &answer.read_models()? {
        table.row([
            words::text(&model.model).into(),
            words::memory(model.gpu_memory_mib).into(),
            model.offer_count.to_string().into(),
            model.gpu_count.to_string().into(),
            words::dollars(model.min_price_per_gpu_hour.as_ref()).into(),
            model.providers.join(", ").into(),
        ]);
    }
    desk.console.table(&table, "no GPUs on offer")?;
    freshness(desk, &answer.providers, &[]);
    Ok(Exit::Ok)
}

async fn one(offer: String, disk_gb: Option<i32>, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let answer = clients.inventory.get_offer(asking(pb::GetOfferRequest { offer_id: offer, disk_gb })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetOfferResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let offer = answer.read_offer()?;
    let (now, price) = (desk.clock.now(), offer.price.clone().unwrap_or_default());
    let mut facts = Table::facts();
    facts.fact("Offer", &offer.offer_id);
    facts.fact("Provider", &offer.provider);
    facts.fact("Machine", &offer.machine_id);
    facts.fact("GPU", words::gpus_with_memory(offer.gpu_count, &offer.gpu_model, offer.gpu_memory_mib));
    facts.fact("Vendor's name", &offer.gpu_model_raw);
    facts.fact("Kind", kind(offer.rental_kind));
    facts.fact("Price per hour", words::dollars(price.total_per_hour.as_ref()));
    for (name, part) in [("  GPUs", &price.gpu_per_hour), ("  CPU", &price.cpu_per_hour), ("  memory", &price.memory_per_hour)] {
        facts.fact(name, words::exact(part.as_ref()));
    }
    facts.fact(&format!("  disk, {} GB", offer.rented_disk_gb), words::exact(price.disk_per_hour.as_ref()));
    facts.fact("Per GPU and hour", words::dollars(offer.price_per_gpu_hour.as_ref()));
    facts.fact("Expected cost", format!("{} per usable hour", words::dollars(offer.expected_cost_per_hour.as_ref())));
    facts.fact("Lowest bid", words::dollars(offer.min_bid_per_hour.as_ref()));
    if let Some(disk) = &offer.disk {
        let most = if disk.max_gb > 0 { format!(" to {}", disk.max_gb) } else { " or more".to_owned() };
        facts.fact("Disk", format!("{}{most} GB in steps of {}, {} per GB and hour", disk.min_gb, disk.step_gb, words::text(&disk.price_text)));
    }
    facts.fact("Traffic", offer.traffic.as_ref().map(|t| t.text.clone()).unwrap_or_default());
    facts.fact("Region", words::region(offer.region.as_ref()));
    facts.fact("Reliability", offer.reliability.map(words::percent).unwrap_or_default());
    facts.fact("Confidence", words::percent(offer.confidence));
    facts.fact("Verified host", offer.verified.map(|v| if v { "yes" } else { "no" }).unwrap_or_default());
    facts.fact("CUDA up to", &offer.max_cuda_version);
    facts.fact("CPU cores", offer.cpu_cores.map(|c| c.to_string()).unwrap_or_default());
    facts.fact("Memory", offer.memory_mib.map(words::memory).unwrap_or_default());
    facts.fact("Direct ports", offer.direct_ports.map(|d| if d { "yes" } else { "no, through the vendor's proxy" }).unwrap_or_default());
    facts.fact("Host end", words::moment(offer.host_end_time.as_ref()));
    facts.fact("Seen", format!("{} ago", words::ago(now, offer.fetch_time.as_ref())));
    desk.console.table(&facts, "")?;
    Ok(Exit::Ok)
}

/// `on-demand` or `spot`, as the flags are called.
fn kind(number: i32) -> &'static str {
    match pb::RentalKind::try_from(number) {
        Ok(pb::RentalKind::OnDemand) => "on-demand",
        Ok(pb::RentalKind::Interruptible) => "spot",
        _ => words::NOTHING,
    }
}

/// How old each provider's offers are, and who could not be reached.
fn freshness(desk: &mut Desk, providers: &[pb::ProviderFreshness], unreachable: &[String]) {
    let now = desk.clock.now();
    let each = |p: &pb::ProviderFreshness| match &p.fetch_time {
        None => format!("{}: never fetched", p.provider),
        Some(at) => {
            let truncated = if p.truncated { ", the vendor has more" } else { "" };
            format!("{}: {} offers, {} old{truncated}", p.provider, p.offer_count, words::ago(now, Some(at)))
        }
    };
    if !providers.is_empty() {
        let parts: Vec<String> = providers.iter().map(each).collect();
        desk.console.note(&parts.join("; "));
    }
    for provider in unreachable {
        let why = providers.iter().find(|p| p.provider == *provider).map(|p| p.error.as_str()).filter(|e| !e.is_empty());
        desk.console.warn(&format!("{provider} could not be reached at the last try{}", why.map(|w| format!(": {w}")).unwrap_or_default()));
    }
    for provider in providers.iter().filter(|p| !p.error.is_empty() && !unreachable.contains(&p.provider)) {
        desk.console.warn(&format!("{}: {}", provider.provider, provider.error));
    }
}
