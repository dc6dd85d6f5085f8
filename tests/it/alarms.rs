//! What is written loudly when a machine may cost money that nobody wants to spend: the line names the machine, what it
//! costs, and the commands that help.

use crate::support::{Altered, House, Plan};
use crate::sweep::{ours, planted};
use gpu_shopper::app::tag_of;
use gpu_shopper::config::{Level, Log, LogFormat};
use gpu_shopper::domain::ids::Label;
use gpu_shopper::domain::instance::InstanceStatus;
use gpu_shopper::domain::session::State;
use gpu_shopper::domain::sweep::Caps;
use gpu_shopper::services::api::Command;
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::{Dialect, Faults};
use gpu_shopper::telemetry;
use serde_json::Value;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

const MINUTE: Duration = Duration::from_secs(60);

/// The log, as lines.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Heard {
    /// Lines of a level, in their order.
    fn lines(&self, level: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["level"] == level).collect()
    }

    /// Messages of errors, in their order.
    fn errors(&self) -> Vec<String> {
        self.lines("ERROR").iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// What this thread writes from now on; see the traces of a call in `port` for why there are two.
fn listen() -> (Heard, impl Sized) {
    let (heard, log) = (Heard::default(), Log { level: Level::Info, format: LogFormat::Json });
    let settings = telemetry::Settings { log, otlp_endpoint: None, providers: Vec::new() };
    let writer = heard.clone();
    let (dispatch, tracer) = telemetry::subscriber(&settings, BoxMakeWriter::new(move || writer.clone()), false).unwrap();
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    (heard, (tracing::dispatcher::set_default(&dispatch), tracer, second))
}

async fn ended(house: &House) -> Label {
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    Label { attempt: 1, session: id, tag: tag_of(&house.deployment) }
}

#[tokio::test(start_paused = true)]
async fn a_stray_that_stays_is_told_once_with_its_price_and_both_cures() {
    let (heard, _here) = listen();
    let house = Plan::new(96, Faults::none()).at(Dialect::Vastai).build().await;
    let native_id = planted(&house, Dialect::Vastai, &ours(&house, 7, 1).to_string()).await;
    house.pass(SweepPolicy::default().grace / 2).await;
    assert_eq!(heard.errors(), [""; 0], "it may be a launch of a copy that is about to tell");
    house.pass(SweepPolicy::default().grace * 4).await;
    let price = house.market.truth()[0].price.total();
    let words = format!(
        "a stray instance costs {price}: keep it with `gpu-shopper ops adopt vastai {native_id}`, \
         or end it with `gpu-shopper ops destroy-instance vastai {native_id}`"
    );
    assert_eq!(heard.errors(), [words]);
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_that_stops_itself_says_why_and_how_it_goes_on() {
    let (heard, _here) = listen();
    let sweep = SweepPolicy { caps: Caps { at_least: 2, ..Caps::default() }, ..SweepPolicy::default() };
    let house = Plan { sweep, ..Plan::new(97, Faults::none()) }.at(Dialect::Vastai).build().await;
    let labels = [ended(&house).await, ended(&house).await, ended(&house).await];
    house.core().operator.sweep_now(None).await.unwrap();
    for label in labels {
        planted(&house, Dialect::Vastai, &label.to_string()).await;
    }
    house.pass(20 * MINUTE).await;
    let words = "the sweeper stops itself: 3 of 3 machines would have been destroyed at one look; look at `gpu-shopper ops strays`, \
                 then lift it with `gpu-shopper ops hold vastai sweeper --lift`";
    assert_eq!(heard.errors(), [words]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_not_known_here_is_told_once_for_each_word() {
    let (heard, _here) = listen();
    let renamed = |provider| {
        let mut altered = Altered::of(provider);
        altered.listed = Box::new(|sighting| {
            sighting.status = InstanceStatus::Unknown;
            sighting.raw_status = format!("hibernating: {} left", sighting.native_id);
        });
        Arc::new(altered) as _
    };
    let house = Plan::new(98, Faults::none()).at(Dialect::Vastai).wrapped(Arc::new(renamed)).build().await;
    for _ in 0..2 {
        planted(&house, Dialect::Vastai, "somebody-elses").await;
    }
    house.pass(10 * MINUTE).await;
    let told: Vec<Value> = heard.lines("WARN").into_iter().filter(|line| line["target"] == "gpu_shopper::services::lookout").collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["status"], &told[0]["provider"]), (&"hibernating".into(), &"vastai".into()));
    assert!(told[0]["message"].as_str().unwrap().contains("a word that is not known here"), "{told:#?}");
}
