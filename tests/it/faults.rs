//! Every fault that the simulated market knows, one at a time and as the field mixes them: sessions end or run, nothing
//! is left alive, no attempt is launched twice, and the bill lies within what was accounted.

use crate::support::{House, Plan, any, caller, exactly, request};
use gpu_shopper::domain::money::Nanos;
use gpu_shopper::domain::offer::RentalKind;
use gpu_shopper::domain::session::{ConditionType, EndReason, Session, State, Target, Truth};
use gpu_shopper::services::api::Command;
use gpu_shopper::services::error::Code;
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults};
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const HALF: u32 = ALWAYS / 2;

async fn house(dialect: Dialect, seed: u64, faults: Faults) -> House {
    Plan { refresh: Some(10 * MINUTE), ..Plan::new(seed, faults) }.at(dialect).build().await
}

/// Rents on a market with this fault, works for twenty minutes and is done; nothing may be wrong then. How it ended.
async fn live_with(dialect: Dialect, seed: u64, faults: Faults) -> (Arc<Session>, House) {
    let house = house(dialect, seed, faults).await;
    let id = house.rent(None).await.session.id;
    let session = house.reach(id, Some(State::Running), 3 * HOUR).await;
    assert!(session.state.is_final() || session.state == State::Running, "{dialect:?}: hangs: {}", session.status_message);
    if session.state == State::Running {
        house.pass(20 * MINUTE).await;
        house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
    }
    let ended = house.reach(id, None, 3 * HOUR).await;
    house.pass(HOUR).await;
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{dialect:?}, seed {seed}: {wrong:#?}");
    (house.get(ended.id).await, house)
}

/// Half of all machines have it: whoever asks for any machine gets one all the same.
#[tokio::test(start_paused = true)]
async fn what_fails_at_half_of_all_machines_is_overcome() {
    let faults = [
        Fault::StaleAsk,
        Fault::NoPublicIp,
        Fault::TooManyRequests,
        Fault::ReplyLost,
        Fault::CreateSlow,
        Fault::StoppedAtCreate,
        Fault::ImageStuck,
        Fault::BootFails,
        Fault::NoAddress,
        Fault::KeyNever,
        Fault::KeyLostOnce,
        Fault::GpuLies,
        Fault::DriverMissing,
        Fault::LateVisible,
        Fault::PriceRaised,
        Fault::ListFails,
        Fault::ListSlow,
        Fault::GetFails,
        Fault::DestroyRefused,
        Fault::DestroyIgnored,
        Fault::DestroyLostReply,
        Fault::DestroyComesBack,
    ];
    let mut failures = Vec::new();
    for dialect in Dialect::ALL {
        for fault in faults {
            let mut tried = Vec::new();
            for seed in 1..=3 {
                let (session, _house) = live_with(dialect, seed, Faults::gentle().with(fault, HALF)).await;
                tried.extend(session.attempts.iter().map(|a| a.failure.map_or("ok", |f| f.word())));
                if session.end_reason != Some(EndReason::Completed) {
                    failures.push(format!("{dialect:?} {}: {:?}: {}", fault.word(), session.end_reason, session.status_message));
                }
            }
            println!("{dialect:?} {}: {tried:?}", fault.word());
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
