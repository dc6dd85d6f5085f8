//! What a process on this machine has used: its processor time and its memory, as Linux tells them.

use crate::cli::failure::{Exit, Failure};
use serde::Serialize;
use std::time::Duration;

/// Linux counts processor time for programs in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// A process, or none.
#[derive(Clone, Copy, Debug)]
pub struct Process(Option<u32>);

/// What it has used up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time since its start.
    pub cpu: Duration,
    /// Memory that it has now, KiB.
    pub memory_kib: u64,
    /// The most memory that it has had, KiB.
    pub peak_kib: u64,
}

/// What it used from one moment to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processor time, microseconds.
    pub cpu_us: u64,
    /// The same as a share of one processor, in thousandths.
    pub cpu_permille: u64,
    /// Memory before, KiB.
    pub memory_before_kib: u64,
    /// Memory after, KiB.
    pub memory_after_kib: u64,
    /// The most memory it has ever had, KiB.
    pub memory_peak_kib: u64,
}

impl Process {
    /// The process with this id.
    ///
    /// # Errors
    /// There is none, or this system does not tell.
    pub fn of(pid: Option<u32>) -> Result<Self, Failure> {
        let process = Self(pid);
        process.used()?;
        Ok(process)
    }

    /// What it has used by now; `None` when no process is looked at.
    ///
    /// # Errors
    /// It is gone.
    pub fn used(self) -> Result<Option<Used>, Failure> {
        let Some(pid) = self.0 else { return Ok(None) };
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{name}"))
                .map_err(|e| Failure::new(Exit::Usage, "PROCESS", format!("--pid {pid}: cannot read /proc/{pid}/{name}: {e}")))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let used = parse(&stat, &status);
        used.map(Some).ok_or_else(|| Failure::local("PROCESS", format!("--pid {pid}: /proc tells it in a way that is not understood")))
    }
}

impl Used {
    /// What was used since `before`, in `time`.
    pub fn since(self, before: Self, time: Duration) -> Usage {
        let cpu = self.cpu.saturating_sub(before.cpu);
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        Usage {
            cpu_us: micros(cpu),
            cpu_permille: micros(cpu).saturating_mul(1000) / micros(time).max(1),
            memory_before_kib: before.memory_kib,
            memory_after_kib: self.memory_kib,
            memory_peak_kib: self.peak_kib,
        }
    }
}

fn parse(stat: &str, status: &str) -> Option<Used> {
    // The name may hold anything, brackets and spaces included; what follows it does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let kib = |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.trim().parse().ok();
    Some(Used { cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND), memory_kib: kib("VmRSS:")?, peak_kib: kib("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_and_memory_are_read_from_proc() {
        let stat = "4711 (gpu) shop (x) S 1 4711 4711 0 -1 4194560 2590 0 0 0 250 150 0 0 20 0 12 0 88 1 2";
        let status = "Name:\tgpu-shopper\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t12\n";
        let used = parse(stat, status).unwrap();
        assert_eq!(used, Used { cpu: Duration::from_secs(4), memory_kib: 102_400, peak_kib: 204_800 });
        let before = Used { cpu: Duration::from_secs(3), memory_kib: 1024, peak_kib: 1024 };
        let usage = used.since(before, Duration::from_secs(4));
        assert_eq!((usage.cpu_us, usage.cpu_permille, usage.memory_before_kib), (1_000_000, 250, 1024));
        assert_eq!(parse("garbage", status), None);
    }
}
