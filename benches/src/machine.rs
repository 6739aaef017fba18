//! How busy the machine was, so that a figure can be told from the machine's limit.

/// Processor time so far, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct ProcessorTime {
    busy: u64,
    all: u64,
}

impl ProcessorTime {
    /// As of now, of all processors together (`/proc/stat`).
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").expect("Linux tells what its processors do");
        let ticks: Vec<u64> =
            text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let all = ticks.iter().take(8).sum();
        Self { busy: all - ticks[3] - ticks[4], all }
    }

    /// How much of all processors was used since then, whoever used it, in percent.
    pub fn percent_since(self) -> u64 {
        let now = Self::now();
        100 * (now.busy - self.busy) / (now.all - self.all).max(1)
    }
}

/// How many processors there are.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
