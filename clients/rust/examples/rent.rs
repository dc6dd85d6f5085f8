//! The whole job, as the README shows it.

use gpu_shopper_client::{Client, Error, Usd, pb, save_key};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?; // GPU_SHOPPER_URL, else http://127.0.0.1:8080
    let limit: Usd = "0.40".parse()?;
    let filter = pb::OfferFilter { gpu_models: vec!["RTX 4090".into()], max_price_per_hour: Some(limit.into()), ..Default::default() };
    let target = pb::create_session_request::Target::Requirements(pb::Requirements { filter: Some(filter), ..Default::default() });
    let created = client.create_session(pb::CreateSessionRequest { target: Some(target), ..Default::default() }).await?;
    let session_id = created.session.unwrap_or_default().session_id;
    save_key(format!("{session_id}.pem"), &created.ssh_private_key)?;
    let session = client.wait_for_running(&session_id).await?;
    println!("{} -i {session_id}.pem", session.ssh_command);
    client.complete_session(pb::CompleteSessionRequest { session_id: session_id.clone(), ..Default::default() }).await?;
    client.wait_for_end(&session_id).await?;
    let total = client.get_session_cost(pb::GetSessionCostRequest { session_id }).await?.total.unwrap_or_default();
    println!("it has cost {} dollars", Usd::try_from(total.cost)?);
    Ok(())
}
