//! What processes, and the whole machine, have used so far.

use std::fs;

/// CPU seconds of a process, without those of processes it started.
pub fn cpu_seconds_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in brackets: state is field 3, user and system ticks are 14 and 15, a hundredth of a second each.
    let ticks = |n: usize| stat.rsplit(')').next()?.split_whitespace().nth(n)?.parse::<f64>().ok();
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// CPU seconds that everything on the machine has used so far.
pub fn all_cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // User, nice, system, idle, waiting for a disk, interrupts; what lies behind is counted twice or is not ours.
    ticks.iter().enumerate().filter(|(n, _)| ![3, 4].contains(n) && *n < 7).map(|(_, ticks)| ticks).sum::<f64>() / 100.0
}
