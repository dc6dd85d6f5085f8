//! Those who watch: one sees everything that happens in a deployment, others one session each. They lose their
//! connection at any time and resume with their last token; what they have seen in all is the log, each event once.

use crate::chaos::deployment::Deployment;
use crate::chaos::story::Story;
use crate::clock::Clock;
use crate::domain::ids::SessionId;
use crate::domain::time::Time;
use crate::services::api::{Caller, SessionFilter, WatchMessage, WatchRequest, WatchStart};
use crate::services::error::Code;
use futures::StreamExt;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How a token of another history is refused.
const REPLACED: &str = "WATCH_STORE_REPLACED";
const BOOKMARK: Duration = Duration::from_secs(60);

fn caller() -> Caller {
    Caller { principal: "watcher".to_owned(), scope: None, admin: true, request: String::new() }
}

/// How long a connection lasts and how long it takes to come back.
fn connection(dice: &mut ChaCha8Rng) -> (Duration, Duration) {
    (Duration::from_secs(dice.random_range(1..5_400)), Duration::from_millis(dice.random_range(0..600_000)))
}

/// Watches everything.
pub struct OfAll {
    /// Where.
    pub deployment: Arc<Deployment>,
    /// The world's story.
    pub story: Arc<Story>,
    /// The time.
    pub clock: Clock,
    /// The last revision that was told.
    pub reached: Arc<AtomicI64>,
}

impl OfAll {
    /// Watches until the world ends. It begins before the first session.
    pub async fn watch(self, mut dice: ChaCha8Rng) {
        let mut token: Option<String> = None;
        loop {
            let (stay, away) = connection(&mut dice);
            let until = self.clock.now() + stay;
            self.connected(&mut token, until).await;
            self.story.count("disconnects");
            self.clock.sleep(away).await;
        }
    }

    fn wrong(&self, what: &str) {
        self.story.wrong(format!("{}: a watch of all {what}", self.deployment.name()));
    }

    async fn connected(&self, token: &mut Option<String>, until: Time) {
        let doors = self.deployment.open().await;
        // What was told after the moment to which the disk was put back is of another history.
        let rewound = || self.deployment.witness().restores() > 0;
        let start = token.clone().map_or(WatchStart::Snapshot { ended_since: None }, WatchStart::After);
        let request = WatchRequest { session: None, filter: SessionFilter::default(), start, bookmark: BOOKMARK };
        let mut stream = match doors.ask(doors.sessions.watch(&caller(), request)).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) if error.reason == REPLACED && rewound() => {
                self.story.count("watches_anew");
                *token = None;
                return;
            }
            Some(Err(error)) => return self.wrong(&format!("is refused: {error:?}")),
            None => return,
        };
        loop {
            let next = tokio::select! {
                biased;
                () = self.clock.sleep_until(until) => return,
                next = doors.ask(stream.next()) => next,
            };
            let (reached, resume) = match next {
                None => return,
                Some(Some(Err(error))) if error.code == Code::Unavailable => return,
                Some(Some(Err(error))) => return self.wrong(&format!("ends with {error:?}")),
                Some(None) => return self.wrong("ends without a word"),
                Some(Some(Ok(WatchMessage::Snapshot(_)))) => continue,
                Some(Some(Ok(WatchMessage::SnapshotEnd { resume_token, revision, .. }))) => {
                    // What it shows is as good as told; nothing was before the first one.
                    self.reached.store(revision, Ordering::Relaxed);
                    (revision, resume_token)
                }
                Some(Some(Ok(WatchMessage::Bookmark { resume_token, revision }))) => (revision, resume_token),
                Some(Some(Ok(WatchMessage::Event { resume_token, event }))) => {
                    let expected = self.reached.load(Ordering::Relaxed) + 1;
                    if event.revision != expected {
                        self.wrong(&format!("was told of revision {} where {expected} was expected", event.revision));
                    }
                    self.deployment.witness().told(&event);
                    self.story.count("events_watched");
                    self.reached.store(event.revision, Ordering::Relaxed);
                    (event.revision, resume_token)
                }
            };
            if reached != self.reached.load(Ordering::Relaxed) {
                self.wrong(&format!("is marked at {reached} and was told up to {}", self.reached.load(Ordering::Relaxed)));
            }
            *token = Some(resume);
        }
    }
}

/// Watches one session from its first event to its end.
pub struct OfOne {
    /// Where.
    pub deployment: Arc<Deployment>,
    /// The world's story.
    pub story: Arc<Story>,
    /// The time.
    pub clock: Clock,
    /// Which.
    pub session: SessionId,
}

impl OfOne {
    /// Watches until the session is over.
    pub async fn watch(self, mut token: String, mut dice: ChaCha8Rng) {
        // The last event told: its number, and whether the session was over with it.
        let mut last = (0, false);
        loop {
            let (stay, away) = connection(&mut dice);
            let until = self.clock.now() + stay;
            if self.connected(&mut token, &mut last, until).await {
                return;
            }
            self.story.count("disconnects");
            self.clock.sleep(away).await;
        }
    }

    fn wrong(&self, what: &str) -> bool {
        self.story.wrong(format!("{}: a watch of {} {what}", self.deployment.name(), self.session));
        true
    }

    /// True when there is nothing more to see.
    async fn connected(&self, token: &mut String, last: &mut (i64, bool), until: Time) -> bool {
        let doors = self.deployment.open().await;
        let start = WatchStart::After(token.clone());
        let request = WatchRequest { session: Some(self.session), filter: SessionFilter::default(), start, bookmark: BOOKMARK };
        let mut stream = match doors.ask(doors.sessions.watch(&caller(), request)).await {
            Some(Ok(stream)) => stream,
            // The session may be on no disk any more, or as it was.
            Some(Err(error)) if (error.reason == REPLACED || error.code == Code::NotFound) && self.deployment.witness().restores() > 0 => {
                return true;
            }
            Some(Err(error)) => return self.wrong(&format!("is refused: {error:?}")),
            None => return false,
        };
        loop {
            let next = tokio::select! {
                biased;
                () = self.clock.sleep_until(until) => return false,
                next = doors.ask(stream.next()) => next,
            };
            match next {
                None => return false,
                Some(Some(Err(error))) if error.code == Code::Unavailable => return false,
                Some(Some(Err(error))) => return self.wrong(&format!("ends with {error:?}")),
                Some(None) if last.1 => return true,
                Some(None) => return self.wrong("ends before its session"),
                Some(Some(Ok(WatchMessage::Snapshot(_) | WatchMessage::SnapshotEnd { .. }))) => {}
                Some(Some(Ok(WatchMessage::Bookmark { resume_token, .. }))) => *token = resume_token,
                Some(Some(Ok(WatchMessage::Event { resume_token, event }))) => {
                    if event.session_id != self.session || event.sequence != last.0 + 1 {
                        return self.wrong(&format!("was told of {} .{} after .{}", event.session_id, event.sequence, last.0));
                    }
                    self.deployment.witness().told(&event);
                    *last = (event.sequence, event.to_state.is_final());
                    *token = resume_token;
                }
            }
        }
    }
}
