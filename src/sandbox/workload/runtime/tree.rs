//! Process trees, read from `/proc`.
//!
//! A process group is not enough: PostgreSQL's backends each start a session of their own.

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{Error, Kind, Result};

/// How long a process may take to stop; one that waits for a disk stops when the disk answers.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    state: char,
}

impl Process {
    /// Reads `/proc/<pid>/stat`: pid, (name), state, parent, group, …; the name may hold anything, even parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let pid = stat.split_once(' ')?.0.parse().ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self { pid, parent, group: fields.next()?.parse().ok()?, state })
    }

    fn dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Everything that runs below the leaders or in their groups, without what is dead.
fn members(leaders: &[i32]) -> Vec<Process> {
    let mut others: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit())))
        .filter_map(|entry| Process::parse(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect();
    let mut known: HashSet<i32> = leaders.iter().copied().collect();
    let mut members = Vec::new();
    loop {
        let (found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|process| {
            known.contains(&process.pid) || known.contains(&process.parent) || leaders.contains(&process.group)
        });
        if found.is_empty() {
            return members;
        }
        known.extend(found.iter().map(|process| process.pid));
        members.extend(found.into_iter().filter(|process| !process.dead()));
        others = rest;
    }
}

/// Kills the leader's whole tree at once.
pub fn kill_tree(leader: i32) {
    let tree = members(&[leader]);
    // The group goes in one step, so that none of it can start others meanwhile.
    let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
    for process in tree {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

/// Stops the leaders' trees and returns when every process of them stands still. Error: `timeout`, after which all of
/// them run again.
pub fn stop_trees(leaders: Vec<i32>) -> Result<Stopped> {
    let stopped = Stopped { leaders };
    let begun = Instant::now();
    loop {
        // Looked at again after each round: what was running may have started others.
        let running: Vec<_> = members(&stopped.leaders).into_iter().filter(|p| !matches!(p.state, 'T' | 't')).collect();
        if running.is_empty() {
            return Ok(stopped);
        }
        if begun.elapsed() > PATIENCE {
            let pids: Vec<_> = running.iter().map(|process| process.pid.to_string()).collect();
            return Err(Error::new(Kind::Timeout, format!("processes {} did not stop", pids.join(", "))));
        }
        for process in running {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGSTOP);
        }
        // Nothing tells when another process has stopped.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Processes that stand still until this is dropped.
#[derive(Debug)]
pub struct Stopped {
    leaders: Vec<i32>,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for process in members(&self.leaders) {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read() {
        let process = Process::parse("42 (a) b) (c) S 7 41 41 0 -1").unwrap();
        assert_eq!((process.pid, process.state, process.parent, process.group), (42, 'S', 7, 41));
        assert!(Process::parse("42 (cut").is_none());
    }

    #[test]
    fn a_child_in_a_session_of_its_own_stops_and_dies_with_its_tree() {
        // The child tells its pid, as PostgreSQL's backends it is in another group than the leader.
        let mut leader = Command::new("sh").args(["-c", "setsid sleep 60 & wait"]).process_group(0).spawn().unwrap();
        let pid = i32::try_from(leader.id()).unwrap();
        let begun = Instant::now();
        while members(&[pid]).iter().filter(|process| process.group != pid).count() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the child never came");
            std::thread::sleep(Duration::from_millis(5));
        }
        let states = || members(&[pid]).iter().map(|process| process.state).collect::<String>();
        let stopped = stop_trees(vec![pid]).unwrap();
        assert_eq!(states(), "TT");
        drop(stopped);
        while states().contains('T') {
            assert!(begun.elapsed() < Duration::from_secs(10), "still stopped: {}", states());
        }
        let child = members(&[pid]).into_iter().find(|process| process.pid != pid).unwrap().pid;
        kill_tree(pid);
        leader.wait().unwrap();
        while fs::read_to_string(format!("/proc/{child}/stat"))
            .is_ok_and(|s| Process::parse(&s).is_some_and(|p| !p.dead()))
        {
            assert!(begun.elapsed() < Duration::from_secs(10), "the child lives");
        }
    }
}
