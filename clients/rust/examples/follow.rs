//! All sessions, going on where the last run ended, as the README shows it.

use gpu_shopper_client::{Client, Message, WatchStart, pb};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let token = std::fs::read_to_string("watch.token").unwrap_or_default(); // an empty one is none: it begins with a snapshot
    let mut watch = client.watch_all(pb::SessionFilter::default(), WatchStart::After(token));
    while let Some(message) = watch.next().await? {
        match message {
            Message::Snapshot(sessions, end) => println!("{} open sessions, {}", sessions.len(), end.spend_text),
            Message::Event(event) => println!("{} {}: {}", event.session_id, event.to_state().as_str_name(), event.message),
            Message::Bookmark(mark) => println!("nothing new up to revision {}", mark.revision),
            Message::Reset(reason) => println!("events may be missing: {reason}"),
        }
        std::fs::write("watch.token", watch.resume_token())?; // once what it told is done with
    }
    Ok(())
}
