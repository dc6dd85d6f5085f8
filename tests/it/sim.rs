//! The simulated market in memory and in paused time: lifecycles, exact bills, and what every fault does.

use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{Label, SessionId, Tag};
use gpu_shopper::domain::instance::{Billed, InstanceStatus, PriceSeen, Sighting};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::{Component, Offer, RentalKind};
use gpu_shopper::domain::time::Time;
use gpu_shopper::domain::verify::contradictions;
use gpu_shopper::ports::{
    Certainty, DestroyAnswer, ErrorKind, GpuAnswer, LaunchSpec, Launched, ProbeFailureKind, ProbeReport, ProbeTarget, Provider, ProviderError,
    SshProbe,
};
use gpu_shopper::sim::{ALWAYS, AccountId, Credentials, Delay, Dialect, Fault, Faults, Market, MarketConfig, Phase, SimProbe, SimProvider};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOON: Time = Time::from_millis(1_795_471_200_000);

/// A market in paused time with an account at each vendor, and what a renter has.
struct Town {
    market: Arc<Market>,
    vastai: SimProvider,
    tensordock: SimProvider,
    accounts: [AccountId; 2],
    probe: SimProbe,
}

fn town(faults: Faults) -> Town {
    town_of(7, faults)
}

fn town_of(seed: u64, faults: Faults) -> Town {
    let market = Market::new(MarketConfig { seed, faults, clock: Clock::simulated(NOON), fabricated_addresses: true });
    let vastai = market.add_account(Dialect::Vastai, Credentials::Key("k".to_owned()), None);
    let tensordock = market.add_account(Dialect::Tensordock, Credentials::Pair { id: "i".to_owned(), token: "t".to_owned() }, None);
    Town {
        vastai: SimProvider::new(Arc::clone(&market), vastai, Dialect::Vastai),
        tensordock: SimProvider::new(Arc::clone(&market), tensordock, Dialect::Tensordock),
        accounts: [vastai, tensordock],
        probe: SimProbe::new(Arc::clone(&market), [9; 32]),
        market,
    }
}

fn session(number: u128) -> SessionId {
    SessionId::new(NOON, number)
}

impl Town {
    fn provider(&self, dialect: Dialect) -> &SimProvider {
        match dialect {
            Dialect::Vastai => &self.vastai,
            Dialect::Tensordock => &self.tensordock,
        }
    }

    fn spec(&self, offer: &Offer, number: u128) -> LaunchSpec {
        LaunchSpec {
            label: Label { tag: Tag::from_hash([1; 5]), session: session(number), attempt: 1 },
            disk_gb: offer.disk.rented_gb(None),
            offer: offer.clone().into(),
            image: None,
            bid: None,
            public_keys: vec![self.probe.verifier_key(session(number))],
            env: BTreeMap::new(),
            on_start: None,
            ports: Vec::new(),
            template: None,
            service: None,
            registry: None,
        }
    }

    async fn offers(&self, dialect: Dialect) -> Vec<Arc<Offer>> {
        let batch = self.provider(dialect).offers().await.unwrap();
        assert!(batch.skipped == 0 && !batch.truncated);
        batch.offers.into_iter().filter(|offer| offer.rental == RentalKind::OnDemand).collect()
    }

    async fn launch(&self, dialect: Dialect, number: u128) -> Result<Launched, ProviderError> {
        let offers = self.offers(dialect).await;
        let offer = offers.iter().find(|offer| offer.host_end.is_none_or(|end| end > NOON + Duration::from_secs(86_400))).unwrap();
        self.provider(dialect).launch(&self.spec(offer, number)).await
    }

    /// Launches on one offer after the other until it works.
    async fn launch_somewhere(&self, dialect: Dialect, number: u128) -> (String, Arc<Offer>) {
        for offer in self.offers(dialect).await {
            if let Ok(launched) = self.provider(dialect).launch(&self.spec(&offer, number)).await {
                return (launched.native_id, offer);
            }
        }
        panic!("nothing could be rented");
    }

    async fn seen(&self, dialect: Dialect, id: &str) -> Option<Sighting> {
        self.provider(dialect).instance(id).await.unwrap()
    }

    async fn login(&self, sighting: &Sighting, number: u128) -> Result<ProbeReport, ProbeFailureKind> {
        let endpoint = sighting.endpoints.first().cloned().ok_or(ProbeFailureKind::Unreachable)?;
        let target = ProbeTarget { endpoint, session: session(number), known_host_key: None, ask_gpu: true, allow_private: false };
        self.probe.probe(&target).await.map_err(|failure| failure.kind)
    }

    fn bill(&self, id: &str) -> Nanos {
        self.market.bill(id).unwrap().total
    }
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

fn hours(rate: Rate, ms: i64) -> Nanos {
    rate.accrued(ms)
}

#[tokio::test(start_paused = true)]
async fn a_machine_lives_and_is_billed_to_the_nano() {
    for dialect in Dialect::ALL {
        let town = town(Faults::none());
        let offer = town.offers(dialect).await.into_iter().find(|o| o.host_end.is_none_or(|end| end > NOON + Duration::from_secs(86_400))).unwrap();
        let beside = town.offers(dialect).await.iter().filter(|o| o.machine == offer.machine && o.gpu == offer.gpu).map(|o| o.gpu_count).sum::<u32>();
        let provider = town.provider(dialect);
        assert!(provider.owns_offer_id(&offer.id));
        let launched = provider.launch(&town.spec(&offer, 1)).await.unwrap();
        let id = launched.native_id;
        provider.attach_key(&id, &town.probe.verifier_key(session(1))).await.unwrap();

        // Nothing takes time: it runs at once, with our label, at the offer's price, and lets us in.
        let seen = town.seen(dialect, &id).await.unwrap();
        assert_eq!(seen.status, InstanceStatus::Running);
        assert_eq!(seen.label, Some(town.spec(&offer, 1).label.to_string()));
        assert_eq!(seen.price, Some(PriceSeen::Parts(offer.price(None))));
        // TensorDock's lists tell no prices.
        let listed = Sighting { price: seen.price.filter(|_| dialect == Dialect::Vastai), ..seen.clone() };
        assert_eq!(provider.instances().await.unwrap(), [listed]);
        let report = town.login(&seen, 1).await.unwrap();
        let Some(GpuAnswer::Report(gpu)) = report.gpu else { panic!("no report") };
        assert_eq!(contradictions(&gpu, &offer, None), Vec::<String>::new());
        assert_eq!(town.login(&seen, 2).await, Err(ProbeFailureKind::AuthRejected));
        let left = town.offers(dialect).await.iter().filter(|o| o.machine == offer.machine && o.gpu == offer.gpu).map(|o| o.gpu_count).sum::<u32>();
        assert!(left < beside, "what is rented is not offered any more");

        tokio::time::advance(Duration::from_millis(7_654_321)).await;
        assert_eq!(provider.destroy(&id).await.unwrap(), DestroyAnswer::Accepted);
        assert_eq!(town.seen(dialect, &id).await, None);
        assert_eq!(provider.destroy(&id).await.unwrap(), DestroyAnswer::NotThere);
        pass(5_000).await;
        let bill = town.market.bill(&id).unwrap();
        let price = offer.price(None);
        let expected: Vec<(Component, Nanos)> =
            Component::ALL.into_iter().filter(|c| price.of(*c) > Rate::ZERO).map(|c| (c, hours(price.of(c), 7_654_321))).collect();
        assert_eq!(bill.parts, expected);
        assert_eq!(bill.total, expected.iter().map(|(_, amount)| *amount).sum());
        let truth = town.market.truth();
        assert_eq!((truth.len(), truth[0].alive, truth[0].gone), (1, false, Some(NOON + Duration::from_millis(7_654_321))));
        assert_eq!(town.market.bills().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_freed_ask_comes_back_under_another_id() {
    let town = town(Faults::none());
    let before = town.offers(Dialect::Vastai).await.len();
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    let rented = town.market.truth()[0].machine.clone();
    let ids = |offers: &[Arc<Offer>]| -> Vec<String> {
        let machine = format!("vastai:{rented}");
        offers.iter().filter(|o| o.machine.as_str() == machine).map(|o| o.id.to_string()).collect()
    };
    let during = town.offers(Dialect::Vastai).await;
    town.vastai.destroy(&id).await.unwrap();
    let after = town.offers(Dialect::Vastai).await;
    assert_eq!((during.len(), after.len()), (before - 1, before));
    assert!(ids(&after).iter().any(|id| !ids(&during).contains(id)));
}

#[tokio::test(start_paused = true)]
async fn each_vendors_meter_follows_its_own_rule() {
    let faults = Faults::none().with_delay(Delay::ImagePull, Duration::from_secs(100)).with_delay(Delay::Boot, Duration::from_secs(20));
    for dialect in Dialect::ALL {
        let town = town(faults.clone());
        let (id, offer) = town.launch_somewhere(dialect, 1).await;
        assert_eq!(town.seen(dialect, &id).await.unwrap().status, InstanceStatus::Starting);
        pass(120).await;
        assert_eq!(town.seen(dialect, &id).await.unwrap().status, InstanceStatus::Running);
        pass(80).await;
        town.market.stop(town.accounts[usize::from(dialect == Dialect::Tensordock)], &id).unwrap();
        pass(300).await;
        town.market.set_offline(&id, true);
        pass(500).await;
        town.market.set_offline(&id, false);
        let price = offer.price(None);
        let bill = town.market.bill(&id).unwrap();
        for (component, amount) in bill.parts {
            // Created, 120 s up, 80 s running, 300 s stopped, 500 s offline.
            let seconds = match town.provider(dialect).facts().billing.iter().find(|(c, _)| *c == component).unwrap().1 {
                Billed::WhileRunning => 80,
                Billed::WhileOnline => 500,
                Billed::WhileExisting => 1_000,
            };
            assert_eq!(amount, hours(price.of(component), seconds * 1_000), "{dialect:?} {component:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_price_counts_from_the_change_on() {
    let town = town(Faults::none());
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    let before = town.market.truth()[0].price;
    pass(3_600).await;
    town.market.reprice(&id, 150);
    pass(3_600).await;
    let expected = before.gpu.scaled(5, 2) + before.disk.times(2);
    assert_eq!(town.bill(&id), expected.nanos());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_lives_the_same_day_again() {
    async fn day(seed: u64) -> String {
        let town = town_of(seed, Faults::field_mix().with(Fault::ListPartial, 200_000).with(Fault::DestroyIgnored, 300_000));
        for number in 0..40 {
            for dialect in Dialect::ALL {
                let offers = town.provider(dialect).offers().await.unwrap().offers;
                let offer = &offers[usize::try_from(number * 7).unwrap() % offers.len()];
                let _ = town.provider(dialect).launch(&town.spec(offer, number)).await;
                let list = town.provider(dialect).instances().await.unwrap_or_default();
                if let Some(first) = list.first().filter(|_| number % 3 == 0) {
                    let _ = town.provider(dialect).destroy(&first.native_id).await;
                }
            }
            pass(301).await;
        }
        format!("{:#?}", town.market.truth())
    }
    let (one, again, other) = (day(11).await, day(11).await, day(12).await);
    assert!(one.len() > 5_000, "a day in which nothing happens proves nothing");
    assert!(one == again);
    assert!(one != other);
}

#[tokio::test(start_paused = true)]
async fn half_of_a_fault_is_bound_to_the_listing_and_the_rate_holds() {
    let town = town(Faults::none().with(Fault::StaleAsk, 400_000));
    let offers: Vec<Arc<Offer>> = town.offers(Dialect::Tensordock).await.into_iter().filter(|offer| offer.gpu_count == 1).collect();
    let (mut failed, mut always, tries) = (0_u32, 0, 40);
    for offer in &offers {
        let mut here = 0;
        for number in 0..tries {
            match town.tensordock.launch(&town.spec(offer, number)).await {
                Ok(launched) => assert_eq!(town.tensordock.destroy(&launched.native_id).await, Ok(DestroyAnswer::Accepted)),
                Err(_) => here += 1,
            }
        }
        failed += here;
        always += u32::from(u128::from(here) == tries);
    }
    let (all, places) = (u32::try_from(offers.len() * 40).unwrap(), u32::try_from(offers.len()).unwrap());
    assert!((28..52).contains(&(failed * 100 / all)), "{failed} of {all}");
    assert!((6..36).contains(&(always * 100 / places)), "{always} of {places}");
}

#[tokio::test(start_paused = true)]
async fn launches_fail_as_the_faults_say() {
    let cases = [
        (Fault::StaleAsk, Dialect::Vastai, ErrorKind::NoCapacity, Certainty::DidNotHappen),
        (Fault::StaleAsk, Dialect::Tensordock, ErrorKind::NoCapacity, Certainty::DidNotHappen),
        (Fault::NoPublicIp, Dialect::Tensordock, ErrorKind::NoCapacity, Certainty::DidNotHappen),
        (Fault::TooManyRequests, Dialect::Vastai, ErrorKind::RateLimited, Certainty::DidNotHappen),
        (Fault::ServerError, Dialect::Tensordock, ErrorKind::Unavailable, Certainty::MayHaveHappened),
    ];
    for (fault, dialect, kind, certainty) in cases {
        let town = town(Faults::none().with(fault, ALWAYS));
        let error = town.launch(dialect, 1).await.unwrap_err();
        assert_eq!((error.kind, error.certainty), (kind, certainty), "{fault:?}");
        assert!(town.market.truth().is_empty(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_ask_is_gone_from_the_searches_for_a_while() {
    let town = town(Faults::none().with(Fault::StaleAsk, ALWAYS));
    let before = town.offers(Dialect::Vastai).await.len();
    town.launch(Dialect::Vastai, 1).await.unwrap_err();
    assert_eq!(town.offers(Dialect::Vastai).await.len(), before - 1);
    pass(3_601).await;
    assert_eq!(town.vastai.offers().await.unwrap().offers.len() / 2, before);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_a_machine_behind() {
    let town = town(Faults::none().with(Fault::ReplyLost, ALWAYS));
    let error = town.launch(Dialect::Vastai, 1).await.unwrap_err();
    assert_eq!((error.certainty, error.text.as_str()), (Certainty::MayHaveHappened, "no answer in 120 s"));
    assert_eq!(town.market.clock().now(), NOON + Duration::from_secs(120));
    let list = town.vastai.instances().await.unwrap();
    assert_eq!(list[0].label.as_deref().and_then(Label::parse).map(|label| label.session), Some(session(1)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_create_answers_after_more_than_a_minute() {
    let town = town(Faults::none().with(Fault::CreateSlow, ALWAYS));
    let launched = town.launch(Dialect::Tensordock, 1).await.unwrap();
    assert!(launched.call.answered.since(launched.call.sent) > Duration::from_secs(60));
    assert_eq!(town.market.truth()[0].created, launched.call.sent);
}

#[tokio::test(start_paused = true)]
async fn a_machine_stopped_at_create_can_be_started_unless_its_resources_are_gone() {
    for unavailable in [0, ALWAYS] {
        let town = town(Faults::none().with(Fault::StoppedAtCreate, ALWAYS).with(Fault::StartUnavailable, unavailable));
        let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
        assert_eq!(town.seen(Dialect::Vastai, &id).await.unwrap().status, InstanceStatus::Stopped);
        let started = town.vastai.start(&id).await;
        let status = town.seen(Dialect::Vastai, &id).await.unwrap().status;
        if unavailable == 0 {
            assert_eq!((started, status), (Ok(()), InstanceStatus::Running));
        } else {
            assert_eq!((started.unwrap_err().kind, status), (ErrorKind::NoCapacity, InstanceStatus::Stopped));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_low_bid_leaves_a_stopped_machine() {
    let town = town(Faults::none());
    let offers = town.vastai.offers().await.unwrap().offers;
    let spot = offers.iter().find(|offer| offer.rental == RentalKind::Interruptible).unwrap();
    assert_eq!(spot.price(Some(0)).gpu, spot.min_bid.unwrap());
    let mut spec = town.spec(spot, 1);
    spec.bid = Some(Rate(1));
    let launched = town.vastai.launch(&spec).await.unwrap();
    assert!(launched.failed.is_some());
    assert_eq!(town.seen(Dialect::Vastai, &launched.native_id).await.unwrap().status, InstanceStatus::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_image_shows_progress_and_then_none() {
    let pull = Faults::none().with_delay(Delay::ImagePull, Duration::from_secs(300));
    let stuck = town(pull.clone().with(Fault::ImageStuck, ALWAYS));
    let good = town(pull);
    for (town, runs) in [(stuck, false), (good, true)] {
        let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
        let mut texts = Vec::new();
        for _ in 0..12 {
            texts.push(town.seen(Dialect::Vastai, &id).await.unwrap().progress.unwrap());
            pass(20).await;
        }
        texts.dedup();
        assert_eq!(texts.len() > 8, runs, "{texts:?}");
        assert!(texts.len() > 1);
        pass(7_200).await;
        assert_eq!(town.seen(Dialect::Vastai, &id).await.unwrap().status == InstanceStatus::Running, runs);
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_be_wrong_with_a_machine_is_seen() {
    let town_with = |fault| town(Faults::none().with(fault, ALWAYS));

    let town = town_with(Fault::BootFails);
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    assert_eq!(town.seen(Dialect::Vastai, &id).await.unwrap().status, InstanceStatus::Failed);

    let town = town_with(Fault::NoAddress);
    let id = town.launch(Dialect::Tensordock, 1).await.unwrap().native_id;
    pass(3_600).await;
    let seen = town.seen(Dialect::Tensordock, &id).await.unwrap();
    assert!(seen.status == InstanceStatus::Running && seen.endpoints.is_empty());

    for (fault, works_again) in [(Fault::KeyNever, false), (Fault::KeyLostOnce, true)] {
        let town = town_with(fault);
        let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
        let key = town.probe.verifier_key(session(1));
        town.vastai.attach_key(&id, &key).await.unwrap();
        pass(600).await;
        let seen = town.seen(Dialect::Vastai, &id).await.unwrap();
        assert_eq!(town.login(&seen, 1).await, Err(ProbeFailureKind::AuthRejected));
        town.vastai.attach_key(&id, &key).await.unwrap();
        assert_eq!(town.login(&seen, 1).await.is_ok(), works_again, "{fault:?}");
    }

    let town = town_with(Fault::DriverMissing);
    let id = town.launch(Dialect::Tensordock, 1).await.unwrap().native_id;
    let seen = town.seen(Dialect::Tensordock, &id).await.unwrap();
    assert!(matches!(town.login(&seen, 1).await.unwrap().gpu, Some(GpuAnswer::Broken(_))));

    let town = town_with(Fault::PriceRaised);
    let (id, offer) = town.launch_somewhere(Dialect::Vastai, 1).await;
    let Some(PriceSeen::Parts(price)) = town.seen(Dialect::Vastai, &id).await.unwrap().price else { panic!("no price") };
    assert_eq!((price.gpu, price.disk), (offer.base.gpu.scaled(120, 100), offer.price(None).disk));
}

#[tokio::test(start_paused = true)]
async fn every_lie_about_a_gpu_is_a_contradiction() {
    let town = town(Faults::none().with(Fault::GpuLies, ALWAYS));
    let mut kinds = std::collections::BTreeSet::new();
    for (number, offer) in town.offers(Dialect::Vastai).await.iter().take(60).enumerate() {
        let number = u128::try_from(number).unwrap();
        let id = town.vastai.launch(&town.spec(offer, number)).await.unwrap().native_id;
        town.vastai.attach_key(&id, &town.probe.verifier_key(session(number))).await.unwrap();
        let seen = town.seen(Dialect::Vastai, &id).await.unwrap();
        let Some(GpuAnswer::Report(report)) = town.login(&seen, number).await.unwrap().gpu else { panic!("no report") };
        let found = contradictions(&report, offer, None);
        assert!(!found.is_empty(), "{report:?} against {} × {}", offer.gpu_count, offer.gpu);
        kinds.extend(found.iter().map(|text| if text.contains("GPUs") { 0 } else { 1 + usize::from(text.contains("MiB")) }));
    }
    assert_eq!(kinds.len(), 3, "fewer, other and smaller");
}

#[tokio::test(start_paused = true)]
async fn machines_are_taken_away() {
    let town = town(Faults::none().with(Fault::Vanishes, ALWAYS));
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    pass(8 * 60 - 1).await;
    assert!(town.seen(Dialect::Vastai, &id).await.is_some());
    pass(7 * 60 + 1).await;
    assert_eq!(town.seen(Dialect::Vastai, &id).await, None);
    let gone = town.market.truth()[0].gone.unwrap().since(NOON);
    assert!((480..=900).contains(&gone.as_secs()));
    let bill = town.bill(&id);
    pass(3_600).await;
    assert_eq!(town.bill(&id), bill, "what is gone costs no more");

    let town = town_of(8, Faults::none().with(Fault::Preempted, ALWAYS));
    let offers = town.vastai.offers().await.unwrap().offers;
    let far = |offer: &&Arc<Offer>| offer.host_end.is_none_or(|end| end > NOON + Duration::from_secs(86_400));
    let kinds = [RentalKind::OnDemand, RentalKind::Interruptible];
    for (kind, status) in kinds.into_iter().zip([InstanceStatus::Running, InstanceStatus::Stopped]) {
        let offer = offers
            .iter()
            .filter(far)
            .find(|offer| offer.rental == kind && !town.market.truth().iter().any(|t| offer.machine.as_str().ends_with(&t.machine)));
        let id = town.vastai.launch(&town.spec(offer.unwrap(), 1)).await.unwrap().native_id;
        pass(1_801).await;
        let seen = town.seen(Dialect::Vastai, &id).await.unwrap();
        assert_eq!((seen.status, seen.interruptible), (status, Some(kind == RentalKind::Interruptible)));
    }

    let town = town_of(9, Faults::none().with(Fault::HostOffline, ALWAYS).with_delay(Delay::Offline, Duration::from_secs(900)));
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    pass(601).await;
    let seen = town.seen(Dialect::Vastai, &id).await.unwrap();
    assert!(seen.status == InstanceStatus::Offline && seen.endpoints.is_empty());
    pass(900).await;
    assert_eq!(town.seen(Dialect::Vastai, &id).await.unwrap().status, InstanceStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn lists_and_reads_fail_as_the_faults_say() {
    let town = town(Faults::none().with(Fault::LateVisible, ALWAYS).with_delay(Delay::Invisible, Duration::from_secs(30)));
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    assert!(town.seen(Dialect::Vastai, &id).await.is_none() && town.vastai.instances().await.unwrap().is_empty());
    pass(30).await;
    assert!(town.seen(Dialect::Vastai, &id).await.is_some());

    town.market.set_fault("list_fails", "1").unwrap();
    assert_eq!(town.vastai.instances().await.unwrap_err().kind, ErrorKind::Unavailable);
    town.market.set_fault("list_fails", "0").unwrap();
    town.market.set_fault("list_partial", "1").unwrap();
    assert_eq!(town.vastai.instances().await.unwrap_err().kind, ErrorKind::Garbled, "Vast.ai's counts give it away");
    town.launch(Dialect::Tensordock, 2).await.unwrap();
    pass(30).await;
    assert!(town.tensordock.instances().await.unwrap().is_empty(), "TensorDock has no counts");
    town.market.set_fault("list_partial", "0").unwrap();

    town.market.set_fault("list_slow", "1").unwrap();
    for (hang, arrives) in [("20s", true), ("40s", false)] {
        town.market.set_fault("list_hang", hang).unwrap();
        let before = town.market.clock().now();
        assert_eq!(town.vastai.instances().await.is_ok(), arrives);
        assert_eq!(town.market.clock().now().since(before).as_secs(), if arrives { 20 } else { 30 });
    }
    town.market.set_faults(Faults::none().with(Fault::GetFails, ALWAYS).with(Fault::OffersFail, ALWAYS));
    assert_eq!(town.vastai.instance(&id).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(town.vastai.offers().await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn destroys_fail_as_the_faults_say() {
    let town = town(Faults::none().with(Fault::DestroyRefused, ALWAYS).with_delay(Delay::Undeletable, Duration::from_secs(90)));
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    assert!(matches!(town.vastai.destroy(&id).await.unwrap(), DestroyAnswer::Refused { .. }));
    pass(90).await;
    town.market.set_faults(Faults::none().with(Fault::DestroyIgnored, ALWAYS));
    assert_eq!(town.vastai.destroy(&id).await.unwrap(), DestroyAnswer::Accepted);
    assert!(town.seen(Dialect::Vastai, &id).await.is_some(), "it said yes and did nothing");

    town.market.set_faults(Faults::none().with(Fault::DestroyComesBack, ALWAYS).with_delay(Delay::Invisible, Duration::from_secs(8)));
    assert_eq!(town.vastai.destroy(&id).await.unwrap(), DestroyAnswer::Accepted);
    assert!(town.seen(Dialect::Vastai, &id).await.is_none());
    pass(8).await;
    assert!(town.seen(Dialect::Vastai, &id).await.is_some(), "it has come back");

    town.market.set_faults(Faults::none().with(Fault::DestroyLostReply, ALWAYS));
    let error = town.vastai.destroy(&id).await.unwrap_err();
    assert_eq!((error.kind, error.certainty), (ErrorKind::Unavailable, Certainty::MayHaveHappened));
    assert!(town.seen(Dialect::Vastai, &id).await.is_none() && town.market.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn keys_take_their_time_and_machines_come_up_step_by_step() {
    let faults = Faults::none()
        .with_delay(Delay::KeyDelay, Duration::from_secs(12))
        .with_delay(Delay::Schedule, Duration::from_secs(3))
        .with_delay(Delay::Boot, Duration::from_secs(5))
        .with_delay(Delay::Address, Duration::from_secs(10))
        .with_delay(Delay::SshUp, Duration::from_secs(4))
        .with_delay(Delay::Latency, Duration::from_millis(250));
    let town = town(faults);
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    assert_eq!(town.market.clock().now(), NOON + Duration::from_millis(500));
    let phase = || town.market.truth()[0].phase;
    assert_eq!(phase(), Phase::Scheduled);
    pass(3).await;
    assert_eq!(phase(), Phase::Starting);
    pass(5).await;
    assert_eq!(phase(), Phase::Running);
    assert!(town.seen(Dialect::Vastai, &id).await.unwrap().endpoints.is_empty());
    pass(10).await;
    let seen = town.seen(Dialect::Vastai, &id).await.unwrap();
    assert_eq!(town.login(&seen, 1).await, Err(ProbeFailureKind::Refused), "the SSH server is not up");
    town.vastai.attach_key(&id, &town.probe.verifier_key(session(1))).await.unwrap();
    pass(4).await;
    assert_eq!(town.login(&seen, 1).await, Err(ProbeFailureKind::AuthRejected), "the key is not there yet");
    pass(9).await;
    assert!(town.login(&seen, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn limits_on_the_frequency_of_calls_are_kept_when_asked_for() {
    let town = town(Faults::none().with(Fault::Throttled, ALWAYS));
    assert!(town.vastai.instances().await.is_ok());
    assert_eq!(town.vastai.instances().await.unwrap_err().kind, ErrorKind::RateLimited);
    assert!(town.vastai.account().await.is_ok(), "limits are per endpoint");
    pass(1).await;
    assert!(town.vastai.instances().await.is_ok());
    for _ in 0..100 {
        assert!(town.tensordock.instances().await.is_ok());
    }
    assert_eq!(town.tensordock.offers().await.unwrap_err().kind, ErrorKind::RateLimited);
    pass(60).await;
    assert!(town.tensordock.offers().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_empty_account_stops_machines_and_launches() {
    let town = town(Faults::none());
    let id = town.launch(Dialect::Vastai, 1).await.unwrap().native_id;
    town.market.set_credit(town.accounts[0], Some(Nanos(1_000)));
    assert_eq!(town.vastai.account().await.unwrap().balance, Some(Nanos(1_000)));
    pass(60).await;
    assert_eq!(town.seen(Dialect::Vastai, &id).await.unwrap().status, InstanceStatus::Stopped);
    assert_eq!(town.launch(Dialect::Vastai, 2).await.unwrap_err().kind, ErrorKind::Credit);
    town.market.set_valid(town.accounts[0], false);
    assert_eq!(town.vastai.account().await.unwrap_err().kind, ErrorKind::Auth);
}

#[tokio::test(start_paused = true)]
async fn mishaps_on_demand() {
    let town = town(Faults::field_mix());
    for (dialect, account) in Dialect::ALL.into_iter().zip(town.accounts) {
        let id = town.market.plant(account, "gs-somebody-else").unwrap();
        let list = town.provider(dialect).instances().await.unwrap();
        assert_eq!(
            list.iter().map(|seen| (seen.label.as_deref(), seen.status)).collect::<Vec<_>>(),
            [(Some("gs-somebody-else"), InstanceStatus::Running)]
        );
        assert!(town.market.preempt(&id));
        assert_eq!(town.seen(dialect, &id).await.unwrap().status, InstanceStatus::Stopped);
        assert!(town.market.vanish(&id) && !town.market.vanish(&id));
        assert_eq!(town.seen(dialect, &id).await, None);
    }
    assert_eq!(town.market.faults(), Faults::field_mix());
}

#[tokio::test(start_paused = true)]
async fn the_gentle_preset_brings_every_machine_up_in_seconds() {
    let town = town(Faults::gentle());
    for dialect in Dialect::ALL {
        let (id, _) = town.launch_somewhere(dialect, 1).await;
        town.provider(dialect).attach_key(&id, &town.probe.verifier_key(session(1))).await.unwrap();
        pass(6).await;
        let seen = town.seen(dialect, &id).await.unwrap();
        assert!(town.login(&seen, 1).await.is_ok(), "{dialect:?}");
        assert_eq!(town.provider(dialect).destroy(&id).await, Ok(DestroyAnswer::Accepted));
    }
}
