//! Traces of a session's work: which call a piece of work is done for, so that one trace leads from the RPC through the
//! lifecycle actor, the provider's calls and the logins to the event that tells what came of it.
//!
//! **A parent or a link?** What a call sets in motion is part of that call's trace, though the call was answered long before:
//! from a create to RUNNING, from a destroy to the proof that the machine is gone, a change of key until it is on the machine.
//! Its spans are children of the actor's span of that call. What the service does by itself while a machine runs (looking at
//! it now and then, for hours) would make such a trace endless: each piece is a trace of its own, with a *link* to the one
//! that the session was created in. So is what it begins by itself (an expiry), from the first event to the last.
//! The create's `traceparent` is kept with the session: after a restart, when nobody knows any more which call the work was
//! done for, it goes on in a new trace with that link.
//!
//! Nothing is decided here, and with no exporter nothing is recorded: then spans only carry the names of request and
//! session into the log.

use crate::domain::event::{Event, EventType};
use crate::domain::instance::{DestroyAnswer, Instance};
use crate::domain::lifecycle::Action;
use crate::domain::session::{EndReason, Session, State};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

static RECORDS: AtomicBool = AtomicBool::new(false);

/// From now on traces are recorded: somebody takes them.
pub fn record() {
    RECORDS.store(true, Ordering::Relaxed);
}

/// Whether traces are recorded.
#[must_use]
pub fn records() -> bool {
    RECORDS.load(Ordering::Relaxed)
}

/// The W3C `traceparent` of a span; `None` when it is not recorded.
#[must_use]
pub fn traceparent(span: &Span) -> Option<String> {
    let context = context_of(span)?;
    Some(format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8()))
}

fn context_of(span: &Span) -> Option<SpanContext> {
    if !records() {
        return None;
    }
    let context = span.context().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// Reads a `traceparent`.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::NONE);
    context.is_valid().then_some(context)
}

/// The actor's span of a call; none for what nobody asked for.
pub(super) fn call(from: &Span) -> Span {
    if from.is_none() { Span::none() } else { tracing::info_span!(parent: from.id(), "lifecycle") }
}

/// Which trace a session's work belongs to now.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    under: Option<SpanContext>,
    /// The name of the call that the work is done for; empty when it is done for none.
    request: String,
}

impl Trail {
    /// From now on the work is done for the call of this name, whose span is the present one.
    pub fn begin(&mut self, session: &Session, request: &str) {
        request.clone_into(&mut self.request);
        let span = Span::current();
        let Some(context) = context_of(&span) else { return };
        if let Some(first) = session.trace.as_deref().and_then(parse)
            && first.span_id() != context.span_id()
        {
            span.add_link(first);
        }
        self.under = Some(context);
    }

    /// The span of an action: a child of what it is done for.
    pub fn action(&mut self, session: &Session, action: &Action, instance: &Instance) -> Span {
        let word = word(action);
        let span = tracing::info_span!(
            parent: None,
            "action",
            otel.name = word,
            session_id = %session.id,
            provider = %instance.provider,
            attempt = instance.label.attempt,
            action = word,
            request_id = Empty,
            trace_id = Empty,
        );
        if !self.request.is_empty() {
            span.record("request_id", self.request.as_str());
        }
        self.place(&span, session);
        if self.under.is_none() && !settled(session.state) {
            // After a restart: the first piece of work is the root of what follows.
            self.under = context_of(&span);
        }
        span
    }

    /// The span of an event, from its making to its telling: a child of what brought it about, or else of what the
    /// session's work is done for.
    pub fn telling(&mut self, session: &Session, kind: EventType, revision: i64) -> Span {
        let cause = Span::current();
        let span = tracing::info_span!(
            parent: cause.id(),
            "event",
            otel.name = format_args!("event {}", kind.word()),
            session_id = %session.id,
            revision,
            event = kind.word(),
            state = session.state.word(),
            request_id = Empty,
            trace_id = Empty,
        );
        if cause.is_none() {
            if !self.request.is_empty() {
                span.record("request_id", self.request.as_str());
            }
            self.place(&span, session);
        }
        let over = kind == EventType::StateChanged && settled(session.state) || kind == EventType::KeyRotated;
        if over {
            self.request.clear();
            self.under = None;
        } else if self.under.is_none() && !settled(session.state) {
            // What comes of this belongs to it.
            self.under = context_of(&span);
        }
        span
    }

    fn place(&self, span: &Span, session: &Session) {
        if !records() {
            return;
        }
        match &self.under {
            Some(under) => {
                // Never refused: the span is new.
                let _ = span.set_parent(Context::new().with_remote_span_context(under.clone()));
            }
            None => {
                if let Some(first) = session.trace.as_deref().and_then(parse) {
                    span.add_link(first);
                }
            }
        }
        if let Some(context) = context_of(span) {
            span.record("trace_id", tracing::field::display(context.trace_id()));
        }
    }
}

/// States in which nothing is under way for a call.
fn settled(state: State) -> bool {
    state == State::Running || state.is_final()
}

fn word(action: &Action) -> &'static str {
    match action {
        Action::Choose => "choose",
        Action::Launch(_) => "launch",
        Action::AttachKeys(_) => "attach keys",
        Action::Start(_) => "start",
        Action::Look(_) => "look",
        Action::Probe { .. } => "probe ssh",
        Action::RotateKey(_) => "rotate key",
        Action::ProbeApi(_) => "probe api",
        Action::Measure(_) => "measure use",
        Action::AskCredit(_) => "ask credit",
        Action::Destroy(_) => "destroy",
    }
}

/// The line of an event in the log. Its span has the session's id, the event's type and number, and the state.
pub(super) fn log(event: &Event) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                stage = event.stage.word(),
                end_reason = event.end_reason.map(EndReason::word),
                actor = %event.actor.text(),
                "session {}: {}",
                event.session_id,
                event.message
            )
        };
    }
    // Whether a machine is gone can't be seen, or it can't be destroyed: somebody pays for it.
    let unproven = event.kind == EventType::Updated && event.to_state == State::Stopping && event.session.error.as_ref() == Some(&event.message);
    if unproven { line!(warn) } else { line!(info) }
}

/// So many orders came before, one of them taken, and it is there still.
const TAKEN_OFTEN: u32 = 2;

/// The line of a destroy that failed: somebody pays for that machine until one works.
pub(super) fn destroy_answered(row: &Instance, answer: &Result<DestroyAnswer, String>) {
    let why = match answer {
        Err(why) | Ok(DestroyAnswer::Refused { text: why, .. }) => why,
        Ok(DestroyAnswer::Accepted) if row.destroy.tries >= TAKEN_OFTEN && row.destroy.answered_at.is_some() => {
            "the provider takes the order, and the machine is still there"
        }
        Ok(DestroyAnswer::Accepted | DestroyAnswer::NotThere) => return,
    };
    tracing::warn!(
        session_id = %row.label.session,
        provider = %row.provider,
        native_id = row.native_id.as_deref().unwrap_or_default(),
        tries = row.destroy.tries.saturating_add(1),
        usd_per_hour = %row.price.total(),
        "a destroy failed and is tried again: {why}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_strictly() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = parse(text).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled() && context.is_remote());
        for bad in ["", "00", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-x-01"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_span_that_nobody_records_has_no_name_for_others() {
        assert_eq!(traceparent(&Span::none()), None);
    }
}
