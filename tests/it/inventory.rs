//! Offers as callers see them: filters, orders, pages, freshness; and how old they may be to be rented.

use crate::support::{BEGIN, House, any, caller, exactly, request};
use crate::yard::{Warehouse, offer, rate};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::gpu::GpuModel;
use gpu_shopper::domain::ids::{MachineId, OfferId, ProviderId, SessionId};
use gpu_shopper::domain::memory::{Lesson, Outcome};
use gpu_shopper::domain::offer::{DiskTerms, Offer, OfferFilter, OfferOrder, Price, Region, RentalKind};
use gpu_shopper::domain::session::{AttemptFailure, State};
use gpu_shopper::domain::time::Time;
use gpu_shopper::ports::Provider;
use gpu_shopper::services::api::{Command, OfferPage, OfferQuery};
use gpu_shopper::services::error::{Code, Error};
use gpu_shopper::services::inventory::Inventory;
use gpu_shopper::sim::Faults;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// An inventory over two warehouses, fetched once.
struct Shop {
    clock: Clock,
    vastai: Arc<Warehouse>,
    tensordock: Arc<Warehouse>,
    inventory: Inventory,
}

impl Shop {
    async fn open(vastai: Vec<Offer>, tensordock: Vec<Offer>) -> Self {
        let shop = Self::closed(vastai, tensordock);
        shop.refresh().await;
        shop
    }

    fn closed(vastai: Vec<Offer>, tensordock: Vec<Offer>) -> Self {
        let clock = Clock::simulated(BEGIN);
        let (vastai, tensordock) = (Warehouse::new("vastai", &clock, vastai), Warehouse::new("tensordock", &clock, tensordock));
        let providers: [Arc<dyn Provider>; 2] = [vastai.clone(), tensordock.clone()];
        let known: Vec<fn(&str) -> bool> = vec![|text| text.starts_with("vastai-"), |text| text.starts_with("tensordock-")];
        let inventory = Inventory::new(providers.map(|p| (p.facts().id.clone(), p)).into(), known, clock.clone());
        Self { clock, vastai, tensordock, inventory }
    }

    async fn refresh(&self) {
        for house in [&self.vastai, &self.tensordock] {
            let _ = self.inventory.refresh(&house.id()).await;
        }
    }

    fn list(&self, query: &OfferQuery) -> Result<OfferPage, Error> {
        self.inventory.list(query)
    }

    fn names(&self, filter: OfferFilter, order: OfferOrder) -> Vec<String> {
        names(&self.list(&OfferQuery { filter, order, page_size: 1000, page_token: String::new() }).unwrap())
    }
}

fn names(page: &OfferPage) -> Vec<String> {
    page.offers.iter().map(|o| o.id.as_str().rsplit('-').next().unwrap().to_owned()).collect()
}

fn priced(provider: &str, name: &str, dollars: &str) -> Offer {
    Offer { base: Price { gpu: rate(dollars), ..Price::default() }, ..offer(provider, name) }
}

/// Offers of which each differs from `plain` in what one filter looks at.
fn assortment() -> Vec<Offer> {
    let v = |name: &str| offer("vastai", name);
    vec![
        v("plain"),
        Offer { gpu: GpuModel::canonical("A100 SXM4"), gpu_memory_mib: 81_920, ..v("a100") },
        Offer { gpu_count: 4, base: Price { gpu: rate("1.20"), ..Price::default() }, ..v("four") },
        Offer { region: Arc::new(Region { country: Some("NO".to_owned()), area: None, raw: "Norway, NO".to_owned() }), ..v("north") },
        Offer { reliability: Some(0.99), ..v("solid") },
        Offer { cuda: Some(1206), ..v("cuda") },
        Offer { disk: DiskTerms { max_gb: 60, ..v("").disk }, ..v("small") },
        Offer { rental: RentalKind::Interruptible, min_bid: Some(rate("0.1")), base: Price { gpu: rate("0.1"), ..Price::default() }, ..v("spot") },
        Offer { verified: Some(true), ..v("checked") },
        Offer { confidence: 0.2, ..v("shaky") },
        Offer { host_end: Some(BEGIN + 60 * MINUTE), ..v("short") },
    ]
}

#[tokio::test(start_paused = true)]
async fn a_shop_is_known_when_every_provider_was_asked_once_well_or_not() {
    let shop = Shop::closed(Vec::new(), Vec::new());
    assert!(!shop.inventory.tried());
    let _ = shop.inventory.refresh(&shop.vastai.id()).await;
    assert!(!shop.inventory.tried(), "one of two");
    shop.tensordock.shelf().failing = true;
    assert!(shop.inventory.refresh(&shop.tensordock.id()).await.is_err());
    assert!(shop.inventory.tried());
    shop.inventory.wait_tried().await;
}

#[tokio::test(start_paused = true)]
async fn every_filter_changes_what_is_listed() {
    let shop = Shop::open(assortment(), vec![offer("tensordock", "other")]).await;
    let none = OfferFilter::default();
    let everything = shop.names(none.clone(), OfferOrder::Price);
    assert_eq!(everything.len(), 12, "nothing is filtered by default: {everything:?}");
    let all_but = |out: &[&str]| -> Vec<String> {
        let mut left: Vec<String> = everything.iter().filter(|n| !out.contains(&n.as_str())).cloned().collect();
        left.sort();
        left
    };
    let gpu = |name: &str| vec![GpuModel::canonical(name)];
    let cases: Vec<(&str, OfferFilter, Vec<String>)> = vec![
        ("providers", OfferFilter { providers: vec![ProviderId::new("vastai")], ..none.clone() }, all_but(&["other"])),
        ("gpu_models", OfferFilter { gpu_models: gpu("rtx4090"), ..none.clone() }, all_but(&["a100"])),
        ("min_gpu_memory_mib", OfferFilter { min_gpu_memory_mib: Some(81_920), ..none.clone() }, vec!["a100".to_owned()]),
        ("max_gpu_memory_mib", OfferFilter { max_gpu_memory_mib: Some(81_919), ..none.clone() }, all_but(&["a100"])),
        ("gpu_count", OfferFilter { gpu_count: Some(4), ..none.clone() }, vec!["four".to_owned()]),
        ("min_gpu_count", OfferFilter { min_gpu_count: Some(2), ..none.clone() }, vec!["four".to_owned()]),
        ("max_price", OfferFilter { max_price: Some(rate("0.365")), ..none.clone() }, all_but(&["four"])),
        ("max_price, to the pico", OfferFilter { max_price: Some(rate("0.364999999999")), ..none.clone() }, vec!["spot".to_owned()]),
        ("max_price_per_gpu", OfferFilter { max_price_per_gpu: Some(rate("0.31")), ..none.clone() }, vec!["four".to_owned(), "spot".to_owned()]),
        ("regions: a country", OfferFilter { regions: vec!["no".to_owned()], ..none.clone() }, vec!["north".to_owned()]),
        ("regions: a country by name", OfferFilter { regions: vec!["NORWAY".to_owned()], ..none.clone() }, vec!["north".to_owned()]),
        ("regions: Europe", OfferFilter { regions: vec!["europe".to_owned()], ..none.clone() }, vec!["north".to_owned()]),
        ("regions: a text", OfferFilter { regions: vec!["norw".to_owned()], ..none.clone() }, vec!["north".to_owned()]),
        ("min_reliability", OfferFilter { min_reliability: Some(0.9), ..none.clone() }, vec!["solid".to_owned()]),
        ("min_cuda", OfferFilter { min_cuda: Some(1204), ..none.clone() }, vec!["cuda".to_owned()]),
        ("disk_gb", OfferFilter { disk_gb: Some(61), ..none.clone() }, all_but(&["small"])),
        ("rental", OfferFilter { rental: Some(RentalKind::Interruptible), ..none.clone() }, vec!["spot".to_owned()]),
        ("verified_only", OfferFilter { verified_only: true, ..none.clone() }, vec!["checked".to_owned()]),
        ("min_confidence", OfferFilter { min_confidence: Some(0.5), ..none.clone() }, all_but(&["shaky"])),
        ("excluded_machines", OfferFilter { excluded_machines: vec![MachineId::new("vastai:plain")], ..none.clone() }, all_but(&["plain"])),
        ("host_end_after", OfferFilter { host_end_after: Some(BEGIN + 61 * MINUTE), ..none.clone() }, all_but(&["short"])),
    ];
    for (name, filter, expected) in cases {
        let mut found = shop.names(filter, OfferOrder::Price);
        found.sort();
        assert!(found != all_but(&[]), "{name} filters nothing");
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn gpu_names_are_taken_as_people_write_them() {
    let gpus = [("sxm", "A100 SXM4"), ("pcie", "A100_PCIE"), ("h100", "H100_SXM5"), ("geforce", "geforcertx4090-pcie-24gb")];
    let offers = gpus.map(|(name, raw)| Offer { gpu: GpuModel::canonical(raw), ..offer("vastai", name) });
    let shop = Shop::open(offers.into(), Vec::new()).await;
    for (asked, expected) in [
        ("a100", &["pcie", "sxm"][..]),
        ("A100 SXM", &["sxm"]),
        ("NVIDIA A100-SXM4-80GB", &["sxm"]),
        ("H100", &["h100"]),
        ("NVIDIA GeForce RTX 4090", &["geforce"]),
        ("4090", &["geforce"]),
        ("RTX 4080", &[]),
    ] {
        let filter = OfferFilter { gpu_models: vec![GpuModel::canonical(asked)], ..OfferFilter::default() };
        assert_eq!(shop.names(filter, OfferOrder::Price), expected, "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_order_puts_something_else_first() {
    let base = |gpu: &str| Price { gpu: rate(gpu), ..Price::default() };
    let offers = vec![
        Offer { confidence: 0.1, ..priced("vastai", "cheap", "0.20") },
        Offer { gpu_count: 8, base: base("1.00"), confidence: 0.5, ..offer("vastai", "many") },
        Offer { confidence: 0.99, ..priced("vastai", "sure", "0.30") },
        Offer { reliability: Some(0.999), ..priced("vastai", "solid", "2.00") },
        Offer { gpu_memory_mib: 81_920, ..priced("vastai", "big", "3.00") },
    ];
    let shop = Shop::open(offers, vec![priced("tensordock", "twin", "0.20")]).await;
    for (word, order) in OfferOrder::WORDS {
        let expected: &[&str] = match order {
            // The twin costs the same; then the id decides.
            OfferOrder::Price => &["twin", "cheap", "sure", "many", "solid", "big"],
            OfferOrder::PricePerGpu => &["many", "twin", "cheap", "sure", "solid", "big"],
            OfferOrder::ExpectedCost => &["twin", "sure", "solid", "many", "cheap", "big"],
            OfferOrder::Reliability => &["solid", "twin", "cheap", "sure", "many", "big"],
            OfferOrder::GpuMemory => &["big", "twin", "cheap", "sure", "many", "solid"],
        };
        assert_eq!(shop.names(OfferFilter::default(), order), expected, "{word}");
        // However it is cut into pages.
        let mut query = OfferQuery { order, page_size: 2, ..OfferQuery::default() };
        let mut paged = Vec::new();
        loop {
            let page = shop.list(&query).unwrap();
            paged.extend(names(&page));
            assert_eq!(page.total, 6);
            query.page_token = page.next_page_token;
            if query.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, expected, "{word} by pages");
    }
}

#[tokio::test(start_paused = true)]
async fn the_price_is_that_of_the_disk_asked_for() {
    let fast = Offer { base: Price { gpu: rate("0.30"), ..Price::default() }, ..offer("vastai", "cpu") };
    let fast = Offer { disk: DiskTerms { per_gb: rate("0.001"), ..fast.disk }, ..fast };
    let shop = Shop::open(vec![fast, offer("vastai", "disk")], Vec::new()).await;
    // With 50 GB: 0.35 and 0.365; with 500 GB: 0.80 and 0.41.
    let with = |disk_gb| OfferFilter { disk_gb, ..OfferFilter::default() };
    assert_eq!(shop.names(with(None), OfferOrder::Price), ["cpu", "disk"]);
    assert_eq!(shop.names(with(Some(500)), OfferOrder::Price), ["disk", "cpu"]);
    let cheap = OfferFilter { max_price: Some(rate("0.41")), ..with(Some(500)) };
    assert_eq!(shop.names(cheap, OfferOrder::Price), ["disk"]);
    let id = OfferId::new("vastai-disk");
    assert_eq!(shop.inventory.get(&id).unwrap().price(Some(500)).total(), rate("0.41"));
}

#[tokio::test(start_paused = true)]
async fn pages_are_of_one_snapshot_whatever_is_refreshed() {
    let numbered = |range: std::ops::Range<u32>| range.map(|n| priced("vastai", &format!("n{n:03}"), "0.5")).collect::<Vec<_>>();
    let shop = Shop::open(numbered(0..100), Vec::new()).await;
    let query = |token: String| OfferQuery { page_size: 30, page_token: token, ..OfferQuery::default() };
    let first = shop.list(&query(String::new())).unwrap();
    let mut told = names(&first);
    let mut token = first.next_page_token.clone();
    for round in 1..=3 {
        // Everything is replaced between the pages; one of those to come turns out to be dead.
        shop.vastai.shelf().offers = numbered(round * 100..round * 100 + 50);
        shop.refresh().await;
        if round == 2 {
            shop.inventory.evict(&OfferId::new("vastai-n070"));
        }
        let page = shop.list(&query(token)).unwrap();
        assert_eq!((page.snapshot_time, page.total), (first.snapshot_time, 100));
        told.extend(names(&page));
        token = page.next_page_token;
    }
    assert!(token.is_empty());
    let expected: Vec<String> = (0..100).filter(|n| *n != 70).map(|n| format!("n{n:03}")).collect();
    assert_eq!(told, expected, "each once, none lost, but for the dead one");
    assert_eq!(shop.list(&query(String::new())).unwrap().total, 50, "a new listing is of the present");
}

#[tokio::test(start_paused = true)]
async fn page_tokens_expire_and_belong_to_their_query() {
    let shop = Shop::open((0..10).map(|n| offer("vastai", &format!("n{n}"))).collect(), Vec::new()).await;
    let query = OfferQuery { page_size: 4, ..OfferQuery::default() };
    let token = shop.list(&query).unwrap().next_page_token;
    let with = |token: &str, query: &OfferQuery| shop.list(&OfferQuery { page_token: token.to_owned(), ..query.clone() });
    // Another size is fine, another filter or order is not.
    assert_eq!(names(&with(&token, &OfferQuery { page_size: 2, ..query.clone() }).unwrap()), ["n4", "n5"]);
    let filtered = OfferQuery { filter: OfferFilter { gpu_count: Some(1), ..OfferFilter::default() }, ..query.clone() };
    for (other, why) in [(&filtered, "filter"), (&OfferQuery { order: OfferOrder::GpuMemory, ..query.clone() }, "order")] {
        let error = with(&token, other).unwrap_err();
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "page_token"), "{why}");
    }
    for garbage in ["x", "bm9uc2Vuc2U", &token[1..]] {
        assert_eq!(with(garbage, &query).unwrap_err().violations[0].field, "page_token", "{garbage}");
    }
    // A provider that fails again and again changes no offers and pushes no snapshot out.
    shop.vastai.shelf().failing = true;
    for _ in 0..50 {
        shop.refresh_one().await;
    }
    assert_eq!(names(&with(&token, &query).unwrap()).len(), 4);
    shop.vastai.shelf().failing = false;
    // Nor do offers that change every few seconds, for as long as anybody may still be reading.
    for _ in 0..100 {
        shop.refresh_one().await;
    }
    assert_eq!(names(&with(&token, &query).unwrap()).len(), 4);
    let expired = |token: &str| with(token, &query).err().map(|error| (error.code, error.reason));
    tokio::time::sleep(9 * MINUTE).await;
    shop.refresh_one().await;
    assert_eq!(expired(&token), None);
    tokio::time::sleep(2 * MINUTE).await;
    shop.refresh_one().await;
    assert_eq!(expired(&token), Some((Code::InvalidArgument, "PAGE_TOKEN_EXPIRED")));
    // Of somebody who only ever reads first pages not everything is kept: of the views between fetches the last few.
    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(shop.list(&query).unwrap().next_page_token);
        tokio::time::sleep(MINUTE).await;
        shop.refresh_one().await;
    }
    let kept: Vec<bool> = tokens.iter().map(|token| expired(token).is_none()).collect();
    assert_eq!(kept, [false, false, false, true, true, true]);
    // But a minute's worth of them is, however many those are.
    let token = shop.list(&query).unwrap().next_page_token;
    for _ in 0..50 {
        shop.refresh_one().await;
        shop.list(&query).unwrap();
    }
    tokio::time::sleep(MINUTE / 2).await;
    shop.refresh_one().await;
    assert_eq!(expired(&token), None);
}

/// What was learnt of a provider long ago fades a little with every fetch of another one: its offers stay as they are, with what
/// was worked out of them, until that can be noticed.
#[tokio::test(start_paused = true)]
async fn offers_are_not_made_anew_for_a_chance_that_hardly_moves() {
    let shop = Shop::open(vec![offer("vastai", "v")], vec![offer("tensordock", "t")]).await;
    let lost = offer("tensordock", "lost");
    shop.inventory.learn(&[Lesson {
        session: SessionId::new(shop.clock.now(), 1),
        attempt: 1,
        outcome: Outcome::Failed(AttemptFailure::PriceChanged),
        provider: lost.provider,
        offer: lost.id,
        machine: lost.machine,
        host: None,
        gpu: None,
        own_image: false,
        at: shop.clock.now(),
        text: "it cost more".to_owned(),
    }]);
    let shown = || Arc::clone(shop.inventory.snapshot().offers.iter().find(|o| o.id.as_str() == "tensordock-t").unwrap());
    let untouched = shown();
    shop.refresh().await;
    let moved = shown();
    assert!(moved.confidence < untouched.confidence - 0.001, "{} {}", moved.confidence, untouched.confidence);
    tokio::time::sleep(MINUTE).await;
    shop.refresh_one().await;
    assert!(Arc::ptr_eq(&moved, &shown()), "the other one's are as they were");
    // A week later it is as if nothing had been.
    tokio::time::sleep(7 * 24 * 60 * MINUTE).await;
    shop.refresh_one().await;
    assert!(shown().confidence > moved.confidence + 0.001, "{} {}", shown().confidence, moved.confidence);
}

impl Shop {
    async fn refresh_one(&self) {
        let _ = self.inventory.refresh(&self.vastai.id()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_provider_hides_nobody_and_keeps_what_it_had() {
    let shop = Shop::open(vec![offer("vastai", "v")], vec![offer("tensordock", "t")]).await;
    let fetched = shop.clock.now();
    shop.vastai.shelf().failing = true;
    tokio::time::sleep(3 * MINUTE).await;
    shop.refresh().await;
    let page = shop.list(&OfferQuery::default()).unwrap();
    assert_eq!(names(&page), ["t", "v"], "stale while it is asked again");
    assert_eq!(page.unreachable, [ProviderId::new("vastai")]);
    let of = |name: &str| page.freshness.iter().find(|f| f.provider.as_str() == name).unwrap().clone();
    let (vastai, tensordock) = (of("vastai"), of("tensordock"));
    assert_eq!((vastai.fetched_at, vastai.offers), (Some(fetched), 1), "its age is to be seen");
    let (error, at) = vastai.error.unwrap();
    assert!(error.contains("out of order") && at == fetched + 3 * MINUTE, "{error}");
    assert_eq!((tensordock.fetched_at, tensordock.error), (Some(fetched + 3 * MINUTE), None));
    shop.vastai.shelf().failing = false;
    shop.refresh().await;
    assert!(shop.list(&OfferQuery::default()).unwrap().unreachable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_when_nobody_could_ever_be_reached_the_listing_fails() {
    let shop = Shop::closed(vec![offer("vastai", "v")], vec![offer("tensordock", "t")]);
    assert_eq!(shop.list(&OfferQuery::default()).unwrap().offers.len(), 0, "nobody has been asked yet");
    shop.vastai.shelf().failing = true;
    shop.tensordock.shelf().failing = true;
    shop.refresh().await;
    let error = shop.list(&OfferQuery::default()).unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Unavailable, "PROVIDER_UNREACHABLE"));
    assert!(error.retry_after.is_some() && error.message.contains("out of order"), "{error:?}");
    assert_eq!(error.metadata["providers"], "tensordock,vastai");
    shop.vastai.shelf().refusing = true;
    shop.refresh().await;
    assert_eq!(shop.list(&OfferQuery::default()).unwrap_err().reason, "PROVIDER_UNREACHABLE", "one of them may come back by itself");
    shop.tensordock.shelf().refusing = true;
    shop.refresh().await;
    let error = shop.list(&OfferQuery::default()).unwrap_err();
    assert_eq!((error.code, error.reason, error.retry_after), (Code::FailedPrecondition, "PROVIDER_AUTH", None), "{error:?}");
    for word in ["Provider authentication failed", "no such key", "correct the credentials", "SIGHUP"] {
        assert!(error.message.contains(word), "{error:?}");
    }
    shop.tensordock.shelf().failing = false;
    shop.refresh().await;
    assert_eq!(names(&shop.list(&OfferQuery::default()).unwrap()), ["t"]);
    // Whoever asks for the one that is out of reach is told so.
    let only = OfferFilter { providers: vec![ProviderId::new("vastai")], ..OfferFilter::default() };
    let error = shop.list(&OfferQuery { filter: only, ..OfferQuery::default() }).unwrap_err();
    assert_eq!(error.metadata["providers"], "vastai");
    let unknown = OfferFilter { providers: vec![ProviderId::new("acme")], ..OfferFilter::default() };
    let error = shop.list(&OfferQuery { filter: unknown, ..OfferQuery::default() }).unwrap_err();
    assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "filter.providers"));
    assert!(error.message.contains("acme") && error.message.contains("tensordock, vastai"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_are_one_call_and_hear_the_same() {
    let shop = Shop::closed(vec![offer("vastai", "v")], Vec::new());
    shop.vastai.shelf().takes = Duration::from_secs(20);
    let vastai = shop.vastai.id();
    let ask = || shop.inventory.refresh(&vastai);
    // The one that began it walks away; the call goes on.
    assert!(tokio::time::timeout(Duration::from_secs(5), ask()).await.is_err());
    let heard = futures::future::join_all((0..50).map(|_| ask())).await;
    assert!(heard.iter().all(Result::is_ok));
    assert_eq!((shop.vastai.shelf().asked, shop.clock.now()), (1, BEGIN + Duration::from_secs(20)));
    assert_eq!(shop.inventory.snapshot().offers.len(), 1);
    // Readers never wait meanwhile, and a failure is heard by all who waited for it.
    shop.vastai.shelf().failing = true;
    let (heard, listed) = tokio::join!(futures::future::join_all((0..10).map(|_| ask())), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shop.list(&OfferQuery::default()).unwrap().offers.len()
    });
    assert!(heard.iter().all(|h| h.as_ref().is_err_and(|e| e.text == "out of order")));
    assert_eq!((shop.vastai.shelf().asked, listed), (2, 1));
}

/// More are taken, one by one, than are ever noted beside what was laid out.
#[tokio::test(start_paused = true)]
async fn thousands_of_dead_offers_leave_the_others_as_they_were() {
    let numbered = |n: u32| [priced("vastai", &format!("{n}"), "0.5"), priced("vastai", &format!("{n}-spot"), "0.4")];
    let shop = Shop::open((0..1500).flat_map(numbered).collect(), vec![offer("tensordock", "t")]).await;
    for n in 0..1400_usize {
        shop.inventory.evict(&OfferId::new(&format!("vastai-{n}")));
        let counts: Vec<usize> = shop.inventory.freshness().iter().map(|f| f.offers).collect();
        assert_eq!(counts, [1, 2 * (1499 - n)]);
        assert_eq!(shop.inventory.snapshot().offers.len(), 1 + 2 * (1499 - n));
    }
    let left = shop.list(&OfferQuery { order: OfferOrder::ExpectedCost, page_size: 1000, ..OfferQuery::default() }).unwrap();
    let mut ids: Vec<&str> = left.offers.iter().map(|o| o.id.as_str()).collect();
    ids.sort_unstable();
    let mut wanted: Vec<String> =
        (1400..1500).flat_map(|n| [format!("vastai-{n}"), format!("vastai-{n}-spot")]).chain(["tensordock-t".to_owned()]).collect();
    wanted.sort_unstable();
    assert_eq!(ids, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_dead_offer_is_gone_from_every_view_at_once() {
    let shop = Shop::open(vec![offer("vastai", "dead"), offer("vastai", "good")], vec![offer("tensordock", "t")]).await;
    let dead = OfferId::new("vastai-dead");
    // A fetch is under way whose answer still has it.
    shop.vastai.shelf().takes = Duration::from_secs(10);
    let fetch = tokio::spawn({
        let (inventory, vastai) = (shop.inventory.clone(), shop.vastai.id());
        async move { inventory.refresh(&vastai).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    shop.inventory.evict(&dead);
    let gone = |when: &str| {
        assert_eq!(shop.names(OfferFilter::default(), OfferOrder::Price), ["t", "good"], "{when}");
        assert_eq!(shop.inventory.get(&dead).unwrap_err().reason, "OFFER_NOT_FOUND", "{when}");
        assert_eq!(shop.inventory.snapshot().offers.models()[0].offers, 2, "{when}");
        let counted: usize = shop.inventory.freshness().iter().map(|f| f.offers).sum();
        assert_eq!(counted, 2, "{when}");
    };
    gone("at once");
    // Another provider's answer says nothing about it.
    shop.inventory.refresh(&shop.tensordock.id()).await.unwrap();
    gone("after the other provider's answer");
    fetch.await.unwrap().unwrap();
    gone("after an answer to an older question");
    shop.inventory.refresh(&shop.vastai.id()).await.unwrap();
    assert_eq!(shop.inventory.get(&dead).unwrap().id, dead, "asked again, its provider says that it is there");
}

#[tokio::test(start_paused = true)]
async fn an_offer_id_is_garbage_or_not_there() {
    let shop = Shop::open(vec![offer("vastai", "1")], Vec::new()).await;
    assert!(shop.inventory.get(&OfferId::new("vastai-1")).is_ok());
    let error = shop.inventory.get(&OfferId::new("vastai-2")).unwrap_err();
    assert_eq!((error.code, error.reason, error.metadata["offer_id"].as_str()), (Code::NotFound, "OFFER_NOT_FOUND", "vastai-2"));
    for garbage in ["", "2", "acme-2"] {
        let error = shop.inventory.get(&OfferId::new(garbage)).unwrap_err();
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "offer_id"), "{garbage}");
    }
    // Through the whole house, with the real forms of ids.
    let house = House::new(1, Faults::none()).await;
    for (id, reason) in [("vastai-999999999", "OFFER_NOT_FOUND"), ("vastai-007", "INVALID_FIELD"), ("tensordock-x", "INVALID_FIELD")] {
        assert_eq!(house.create(request(exactly(&OfferId::new(id)))).await.unwrap_err().reason, reason, "{id}");
    }
    house.close().await;
}

// === how old an offer may be ===

#[tokio::test(start_paused = true)]
async fn only_stale_providers_are_asked_before_a_create_and_not_for_long() {
    let shop = Shop::open(vec![offer("vastai", "v")], vec![offer("tensordock", "t")]).await;
    let asked = || (shop.vastai.shelf().asked, shop.tensordock.shelf().asked);
    let patience = Duration::from_secs(10);
    async fn shop_freshen(shop: &Shop, target: gpu_shopper::domain::session::Target, not_before: Time, patience: Duration) -> Duration {
        let before = shop.clock.now();
        shop.inventory.freshen(&target, not_before, patience).await;
        shop.clock.now().since(before)
    }
    assert_eq!(asked(), (1, 1));
    shop_freshen(&shop, any(None), BEGIN, patience).await;
    assert_eq!(asked(), (1, 1), "they are as fresh as asked for");
    tokio::time::sleep(10 * MINUTE).await;
    let limit = || shop.clock.now() - 5 * MINUTE;
    shop_freshen(&shop, any(Some("vastai")), limit(), patience).await;
    assert_eq!(asked(), (2, 1), "only the one that may meet the request");
    shop_freshen(&shop, exactly(&OfferId::new("tensordock-t")), limit(), patience).await;
    assert_eq!(asked(), (2, 2), "the one that the offer is of");
    tokio::time::sleep(10 * MINUTE).await;
    shop.tensordock.shelf().takes = MINUTE;
    let waited = shop_freshen(&shop, any(None), limit(), patience).await;
    assert_eq!((asked(), waited), ((3, 3), patience));
    let waited = shop_freshen(&shop, any(None), limit(), patience).await;
    assert_eq!((asked(), waited), ((3, 3), patience), "joined, not asked twice");
    tokio::time::sleep(MINUTE).await;
    shop_freshen(&shop, any(None), limit(), patience).await;
    assert_eq!(asked(), (3, 3), "what was too late for the create has landed all the same");
    // One that failed a moment ago is not asked again for each create.
    tokio::time::sleep(10 * MINUTE).await;
    shop.vastai.shelf().failing = true;
    shop.tensordock.shelf().takes = Duration::ZERO;
    for _ in 0..5 {
        shop_freshen(&shop, any(None), limit(), patience).await;
    }
    assert_eq!(asked(), (4, 4));
    tokio::time::sleep(Duration::from_secs(10)).await;
    shop_freshen(&shop, any(None), limit(), patience).await;
    assert_eq!(asked(), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_rented_unseen() {
    let house = House::new(7, Faults::none()).await;
    let vastai = ProviderId::new("vastai");
    let snapshot = house.core().inventory.snapshot();
    let known = snapshot.offers.iter().find(|o| o.provider == vastai && o.rental == RentalKind::OnDemand).unwrap().id.clone();
    house.market.set_fault("vastai.offers_fail", "1").unwrap();
    house.pass(4 * MINUTE).await;
    let id = house.rent(Some("vastai")).await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.pass(3 * MINUTE).await;
    let refused = house.create(request(any(Some("vastai")))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::ResourceExhausted, "NO_CAPACITY"));
    assert!(refused.message.contains("No offers available") && refused.message.contains("vastai last told of them at"), "{}", refused.message);
    let refused = house.create(request(exactly(&known))).await.unwrap_err();
    assert!(refused.message.contains(&format!("vastai last told of offer {known} at")), "{}", refused.message);
    assert_eq!(house.core().inventory.list(&OfferQuery::default()).unwrap().unreachable, std::slice::from_ref(&vastai), "they are still to be seen");
    // The other provider is not concerned.
    let other = house.rent(None).await.session.id;
    assert_eq!(house.until(other, State::Running, 5 * MINUTE).await.provider().unwrap().as_str(), "tensordock");
    house.command(other, Command::Destroy).await.unwrap();
    // As soon as it answers again, a create finds out by itself.
    let failed_at = || house.core().inventory.freshness().iter().find(|f| f.provider == vastai).and_then(|f| f.error.clone()).unwrap().1;
    while house.now().since(failed_at()) != Duration::from_secs(11) {
        house.pass(Duration::from_secs(1)).await;
    }
    house.market.set_fault("vastai.offers_fail", "0").unwrap();
    let id = house.rent(Some("vastai")).await.session.id;
    let freshness = house.core().inventory.freshness();
    assert_eq!(freshness.iter().find(|f| f.provider == vastai).unwrap().fetched_at, Some(house.now()));
    house.until(id, State::Running, 5 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.pass(5 * MINUTE).await;
    assert_eq!(house.core().sessions.get(&caller(), id).await.unwrap().state, State::Stopped);
    house.close().await;
}

/// However a page comes about, by an index or by looking at every offer, it is the one that the filter and the order name.
#[tokio::test(start_paused = true)]
async fn a_page_is_what_looking_at_every_offer_gives() {
    let house = House::new(11, Faults::none()).await;
    let inventory = &house.core().inventory;
    let offers = inventory.snapshot().offers.iter().cloned().collect::<Vec<_>>();
    let none = OfferFilter::default;
    let models = |names: &[&str]| names.iter().map(|name| GpuModel::canonical(name)).collect::<Vec<_>>();
    let filters = [
        none(),
        OfferFilter { gpu_models: models(&["RTX 4090"]), ..none() },
        OfferFilter { gpu_models: models(&["H100", "RTX 3090", "no such"]), ..none() },
        OfferFilter { gpu_models: models(&["A100"]), min_reliability: Some(0.9), regions: vec!["US".to_owned(), "fra".to_owned()], ..none() },
        OfferFilter { regions: vec!["hafnarfjar\u{d0}".to_owned(), "CALI".to_owned()], ..none() },
        OfferFilter { disk_gb: Some(300), max_price: Some(rate("1.5")), ..none() },
        OfferFilter { providers: vec![ProviderId::new("tensordock")], min_gpu_count: Some(2), ..none() },
        OfferFilter { rental: Some(RentalKind::Interruptible), verified_only: true, min_cuda: Some(1204), ..none() },
        OfferFilter { excluded_machines: vec![offers[0].machine.clone()], min_confidence: Some(0.3), ..none() },
        OfferFilter { min_gpu_memory_mib: Some(1 << 30), ..none() },
    ];
    for filter in filters {
        for (word, order) in OfferOrder::WORDS {
            let mut wanted: Vec<_> = offers.iter().filter(|o| filter.check(o).is_ok()).collect();
            assert!(offers.iter().all(|o| filter.sieve().passes(o) == filter.check(o).is_ok()));
            wanted.sort_by(|a, b| order.compare(a, b, filter.disk_gb));
            let mut query = OfferQuery { filter: filter.clone(), order, page_size: 7, page_token: String::new() };
            let mut found = Vec::new();
            loop {
                let page = inventory.list(&query).unwrap();
                assert_eq!(page.total, wanted.len());
                found.extend(page.offers);
                if page.next_page_token.is_empty() || found.len() > 60 {
                    break;
                }
                query.page_token = page.next_page_token;
            }
            let ids = |all: &[&Arc<Offer>]| all.iter().take(60).map(|o| o.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&found.iter().collect::<Vec<_>>()), ids(&wanted), "{filter:?} by {word}");
        }
    }
    for offer in &offers {
        assert!(Arc::ptr_eq(&inventory.get(&offer.id).unwrap(), offer));
    }
    house.close().await;
}
