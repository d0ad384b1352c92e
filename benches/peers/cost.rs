//! What a program and everything it starts cost.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

use crate::common::load::{all_cpu_seconds, cpu_seconds_of};

/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(50);

/// One measured run.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// From its start to its end.
    pub seconds: f64,
    /// CPU seconds of its processes.
    pub cpu: f64,
    /// The most memory they held at once, in bytes.
    pub peak: f64,
    /// CPU seconds of the servers meanwhile.
    pub servers: f64,
    /// Processors that all else kept busy.
    pub others: f64,
}

/// Runs a program to its end. Errors: it did not end well; with the last lines of what it said, which goes to a file in the
/// folder.
pub fn of(mut command: Command, folder: &Path, servers: &[u32]) -> Result<Cost, String> {
    let log = folder.join("client.log");
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let twice = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    command.stdin(Stdio::null()).stdout(twice).stderr(file);
    let program = command.get_program().to_string_lossy().into_owned();
    let of_servers = || servers.iter().map(|pid| cpu_seconds_of(*pid)).sum::<f64>();
    let (children, all, theirs) = (children_cpu(), all_cpu_seconds(), of_servers());
    let begun = Instant::now();
    let mut process = command.spawn().map_err(|error| format!("{program} cannot be run: {error}"))?;
    let root = process.id();
    let (ended, end) = mpsc::channel::<()>();
    let watcher = thread::spawn(move || {
        let mut peak = 0;
        // The channel closes with the program's end.
        while end.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
            peak = peak.max(memory(root));
        }
        peak
    });
    let status = process.wait();
    let seconds = begun.elapsed().as_secs_f64();
    drop(ended);
    let peak = watcher.join().unwrap_or_default();
    let cpu = children_cpu() - children;
    let servers = of_servers() - theirs;
    let others = (all_cpu_seconds() - all - servers - cpu).max(0.0) / seconds;
    match status {
        Ok(status) if status.success() => Ok(Cost { seconds, cpu, peak: peak as f64, servers, others }),
        status => {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(8)..].join("\n");
            Err(format!("{program} ended with {status:?}:\n{tail}"))
        }
    }
}

/// CPU seconds of all children that have ended, and of theirs.
fn children_cpu() -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0.0, |used| seconds(used.user_time()) + seconds(used.system_time()))
}

/// What the process and its descendants hold now; what several share is counted once. A process that was alone may have held
/// more between two looks, which its own peak tells.
fn memory(root: u32) -> u64 {
    let mut sum = 0;
    let mut most = 0;
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        sum += kib(&rollup, "Pss:");
        most = most.max(kib(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), "VmHWM:"));
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            open.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    sum.max(most) << 10
}

fn kib(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
