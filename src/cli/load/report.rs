//! What a load came to, as a table for people and as JSON for scripts.

use crate::cli::Desk;
use crate::cli::failure::Failure;
use crate::cli::load::process::Usage;
use crate::cli::load::timing::Percentiles;
use crate::cli::output::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The whole report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which load it was: `unary`, `watch`, `sessions`, `idle`.
    pub load: &'static str,
    /// Its settings and counts, by name.
    pub facts: BTreeMap<&'static str, u64>,
    /// What was measured, part by part.
    pub parts: Vec<Part>,
    /// Errors by what they say, and how often.
    pub errors: BTreeMap<String, u64>,
}

/// One part of a load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Part {
    /// What was done.
    pub name: String,
    /// How long it took in all, microseconds.
    pub elapsed_us: u64,
    /// How often it was done in a second, in hundredths.
    pub per_second_hundredths: u64,
    /// How long it took each time, by kind.
    pub times: Vec<(String, Percentiles)>,
    /// What the server's process used for it, where a process was named.
    pub server: Option<Usage>,
    /// The same for each single thing done: processor time in microseconds.
    pub cpu_us_each: Option<u64>,
    /// Memory that came with each, in bytes, where that is what the part is about.
    pub memory_bytes_each: Option<u64>,
}

impl Part {
    /// A part in which `count` things were done in `elapsed`.
    pub fn new(name: impl Into<String>, count: u64, elapsed: Duration, server: Option<Usage>) -> Self {
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
        Self {
            name: name.into(),
            elapsed_us,
            per_second_hundredths: count.saturating_mul(100_000_000) / elapsed_us,
            cpu_us_each: server.filter(|_| count > 0).map(|used| used.cpu_us / count),
            server,
            ..Self::default()
        }
    }
}

/// Hundredths as people write them.
fn hundredths(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

/// Microseconds as people read them.
fn time(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} µs"),
        10_000..10_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn mebibytes(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

impl Report {
    /// Writes it as the console wants it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, desk: &mut Desk) -> Result<(), Failure> {
        desk.console.rest();
        if desk.console.is_json() {
            return desk.console.json(self);
        }
        let facts: Vec<String> = self.facts.iter().map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
        desk.console.line(&format!("load {}: {}", self.load, facts.join(", ")))?;
        let mut times = Table::new(["WHAT", ">COUNT", ">PER SECOND", ">P50", ">P90", ">P99", ">P99.9", ">MAX"]);
        for part in &self.parts {
            let several = part.times.len() != 1;
            if several {
                times.row([part.name.as_str().into(), "".into(), hundredths(part.per_second_hundredths).into()]);
            }
            for (name, t) in &part.times {
                let (name, rate) = if several {
                    (format!("  {name}"), String::new())
                } else {
                    (format!("{}: {name}", part.name), hundredths(part.per_second_hundredths))
                };
                let cells = [t.p50_us, t.p90_us, t.p99_us, t.p999_us, t.max_us].map(|us| time(us).into());
                times.row([name.into(), t.count.to_string().into(), rate.into()].into_iter().chain(cells));
            }
        }
        desk.console.table(&times, "nothing was measured")?;
        let mut used = Table::new(["SERVER", ">PROCESSOR", ">OF ONE", ">EACH", ">MEMORY BEFORE", ">AFTER", ">EACH", ">MOST"]);
        for part in &self.parts {
            let Some(server) = part.server else { continue };
            used.row([
                part.name.as_str().into(),
                time(server.cpu_us).into(),
                format!("{}.{} %", server.cpu_permille / 10, server.cpu_permille % 10).into(),
                part.cpu_us_each.map(time).unwrap_or_default().into(),
                mebibytes(server.memory_before_kib).into(),
                mebibytes(server.memory_after_kib).into(),
                part.memory_bytes_each.map(|bytes| format!("{bytes} B")).unwrap_or_default().into(),
                mebibytes(server.memory_peak_kib).into(),
            ]);
        }
        desk.console.table(&used, "processor and memory are told with --pid")?;
        for (text, count) in &self.errors {
            desk.console.warn(&format!("{count} × {text}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([time(12), time(12_340), time(12_340_000)], ["12 µs", "12.3 ms", "12.3 s"]);
        assert_eq!((hundredths(123_456).as_str(), mebibytes(1536).as_str()), ("1234.56", "1.5 MiB"));
        let part = Part::new("x", 50, Duration::from_secs(2), Some(Usage { cpu_us: 1000, ..Usage::default() }));
        assert_eq!((part.per_second_hundredths, part.cpu_us_each), (2500, Some(20)));
    }
}
