//! One session by its events, as the README shows it.

use gpu_shopper_client::pb::{self, session::State, session_event::Type};
use gpu_shopper_client::{Client, Error, Message, Usd, WatchStart};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    let filter = pb::OfferFilter { gpu_models: vec!["RTX 4090".into()], gpu_count: Some(1), ..Default::default() };
    let target = pb::create_session_request::Target::Requirements(pb::Requirements { filter: Some(filter), ..Default::default() });
    let created = client.create_session(pb::CreateSessionRequest { target: Some(target), ..Default::default() }).await?;
    let session_id = created.session.unwrap_or_default().session_id;
    let mut watch = client.watch(&session_id, WatchStart::After(created.resume_token)); // from its first event to its last
    while let Some(message) = watch.next().await? {
        let Message::Event(event) = message else { continue };
        println!("{}: {}", event.to_state().as_str_name(), event.message);
        if event.r#type() == Type::StateChanged && event.to_state() == State::Running {
            let price = event.session.unwrap_or_default().price.unwrap_or_default();
            println!("{} dollars per hour, which is {}", Usd::try_from(price.total_per_hour)?, price.total_text);
            let later = pb::Duration { seconds: 1800, nanos: 0 };
            let extension = Some(pb::extend_session_request::Extension::AdditionalDuration(later));
            client.extend_session(pb::ExtendSessionRequest { session_id: session_id.clone(), extension, ..Default::default() }).await?;
            client.complete_session(pb::CompleteSessionRequest { session_id: session_id.clone(), ..Default::default() }).await?;
        }
    }
    let total = client.get_session_cost(pb::GetSessionCostRequest { session_id }).await?.total.unwrap_or_default();
    println!("it has cost {} dollars", Usd::try_from(total.cost)?);
    Ok(())
}
