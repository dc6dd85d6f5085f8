//! Log lines: JSON objects or text, one for each event, with the fields of all spans around it. So the name of the request
//! and the id of the session stand on every line that concerns one, whoever writes it, at the top level where `jq` and
//! log stores look for them.
//!
//! A field of an inner span hides one of the same name further out, and the event's own hides both. Fields that begin with
//! `otel.` or `log.` are for others and stand on no line.

use crate::clock::Clock;
use crate::config::LogFormat;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The name of what an event says.
const MESSAGE: &str = "message";

/// Writes the lines.
pub(super) struct Lines {
    pub(super) format: LogFormat,
    pub(super) writer: BoxMakeWriter,
    pub(super) coloured: bool,
}

/// Named values, each name once, in the order they came.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        if hidden(name) {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

/// Whether a field is for others.
fn hidden(name: &str) -> bool {
    name.starts_with("otel.") || name.starts_with("log.")
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Not even formatted: every request and action has some.
        if hidden(field.name()) {
            return;
        }
        self.put(field.name(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                for (name, value) in &fields.0 {
                    all.put(name, value.clone());
                }
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        let mut message = String::new();
        for (name, value) in own.0 {
            match value {
                Value::String(text) if name == MESSAGE => message = text,
                value => all.put(name, value),
            }
        }
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let now = Clock::System.now().rfc3339();
        let mut line = match self.format {
            LogFormat::Json => json(&now, level, target, &message, &all),
            LogFormat::Text => text(&now, level, target, &message, &all, self.coloured),
        };
        line.push('\n');
        // Whether anybody listens must not matter.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

/// What a person is told at the start and the end of a server, whatever the level, as a line of its log: so that where lines are
/// objects a program that reads them meets nothing else.
#[must_use]
pub fn told(level: Level, message: &str) -> String {
    json(&Clock::System.now().rfc3339(), &level, "gpu_shopper::cli", message, &Fields::default())
}

fn json(now: &str, level: &Level, target: &str, message: &str, fields: &Fields) -> String {
    let mut line = String::from("{");
    let fixed = [("timestamp", now), ("level", level.as_str()), (MESSAGE, message), ("target", target)];
    for (at, (name, value)) in fixed.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(line, "{comma}\"{name}\":{}", Value::from(value));
    }
    for (name, value) in &fields.0 {
        let _ = write!(line, ",{}:{value}", Value::from(*name));
    }
    line.push('}');
    line
}

fn text(now: &str, level: &Level, target: &str, message: &str, fields: &Fields, coloured: bool) -> String {
    let word = if coloured {
        let colour = match *level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        format!("\u{1b}[{colour}m{:>5}\u{1b}[0m", level.as_str())
    } else {
        format!("{:>5}", level.as_str())
    };
    let mut line = format!("{now} {word} {target}: {message}");
    for (name, value) in &fields.0 {
        let plain = value.as_str().filter(|text| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '='));
        let _ = match plain {
            Some(text) => write!(line, " {name}={text}"),
            None => write!(line, " {name}={value}"),
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_fields_hide_outer_ones_and_others_stay_out() {
        let mut fields = Fields::default();
        fields.put("session_id", Value::from("a"));
        fields.put("otel.kind", Value::from("client"));
        fields.put("tries", Value::from(2));
        fields.put("session_id", Value::from("b \"c\""));
        assert_eq!(
            json("then", &Level::INFO, "t", "it\nruns", &fields),
            r#"{"timestamp":"then","level":"INFO","message":"it\nruns","target":"t","session_id":"b \"c\"","tries":2}"#
        );
        assert_eq!(text("then", &Level::WARN, "t", "it runs", &fields, false), r#"then  WARN t: it runs session_id="b \"c\"" tries=2"#);
    }
}
