//! What is going on while something takes longer than two seconds: a bar on a terminal, a line now and then elsewhere.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Terminal, escape, human, screen::Pace};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown with their rate.
    Bytes,
    /// Things: volumes, keys, pods.
    Items,
}

/// Something under way. It may be advanced from several threads, and is shown no more once it is dropped.
pub struct Progress {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
}

struct Shared {
    label: String,
    unit: Unit,
    started: Instant,
    /// 0 when unknown.
    total: AtomicU64,
    done: AtomicU64,
    note: Mutex<String>,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Terminal {
    /// Begins to show progress under that label (`restoring pvc-1`).
    pub fn progress(&self, label: &str, unit: Unit) -> Progress {
        let shared = Arc::new(Shared {
            label: escape(label).into_owned(),
            unit,
            started: Instant::now(),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            note: Mutex::default(),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let painter = {
            let (terminal, shared) = (self.clone(), shared.clone());
            // Without a thread to spare there is no progress display; the work goes on.
            thread::Builder::new().name("progress".into()).spawn(move || paint(&terminal, &shared)).ok()
        };
        Progress { shared, painter }
    }
}

impl Progress {
    /// Says how much there is to do.
    pub fn total(&self, total: u64) {
        self.shared.total.store(total, Relaxed);
    }

    /// Says how much is done.
    pub fn set(&self, done: u64) {
        self.shared.done.store(done, Relaxed);
    }

    /// Adds to what is done.
    pub fn add(&self, done: u64) {
        self.shared.done.fetch_add(done, Relaxed);
    }

    /// Says what is going on, or waited for: `attaching`, `2 of 3 replicas ready`.
    pub fn note(&self, note: &str) {
        *self.shared.note.lock().unwrap_or_else(PoisonError::into_inner) = escape(note).into_owned();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.end.notify_all();
        if let Some(painter) = self.painter.take() {
            // The bar must be gone before the next line is written.
            let _ = painter.join();
        }
    }
}

fn paint(terminal: &Terminal, shared: &Shared) {
    let Pace { bars, patience, every } = terminal.pace();
    if shared.ends_within(patience) {
        return;
    }
    let bar = bars.then(|| terminal.bars().add(ProgressBar::no_length()));
    loop {
        match &bar {
            Some(bar) => shared.draw(bar),
            None => terminal.line(format_args!("{}: {}", shared.label, shared.status())),
        }
        if shared.ends_within(every) {
            break;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
        terminal.bars().remove(&bar);
    }
}

impl Shared {
    fn ends_within(&self, time: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _) =
            self.end.wait_timeout_while(ended, time, |ended| !*ended).unwrap_or_else(PoisonError::into_inner);
        *ended
    }

    fn draw(&self, bar: &ProgressBar) {
        let total = self.total.load(Relaxed);
        let template = if total > 0 { "{spinner} {prefix} [{bar:20}] {msg}" } else { "{spinner} {prefix} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if total > 0 {
            bar.set_length(total);
        }
        bar.set_prefix(self.label.clone());
        bar.set_message(self.status());
        bar.set_position(self.done.load(Relaxed));
        bar.tick();
    }

    /// `45%, 1.0 MiB of 2.0 MiB, 0.5 MiB/s, attaching, 3.0s`
    fn status(&self) -> String {
        let (done, total) = (self.done.load(Relaxed), self.total.load(Relaxed));
        let elapsed = self.started.elapsed();
        let amount = |count| match self.unit {
            Unit::Bytes => human::bytes(count),
            Unit::Items => count.to_string(),
        };
        let mut parts = Vec::new();
        if total > 0 {
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            parts.push(format!("{percent}%"));
            parts.push(format!("{} of {}", amount(done), amount(total)));
        } else if done > 0 {
            parts.push(amount(done));
        }
        if self.unit == Unit::Bytes && done > 0 && elapsed.as_millis() > 0 {
            let rate = u128::from(done) * 1000 / elapsed.as_millis();
            parts.push(format!("{}/s", human::bytes(u64::try_from(rate).unwrap_or(u64::MAX))));
        }
        let note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        if !note.is_empty() {
            parts.push(note.clone());
        }
        parts.push(human::duration(elapsed));
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_there_are_lines() {
        let (terminal, captured) = Terminal::captured();
        let progress = terminal.progress("restoring pvc-1\n", Unit::Bytes);
        progress.total(4 << 20);
        progress.add(1 << 20);
        progress.note("attaching");
        while captured.err().lines().count() < 2 {
            thread::sleep(Duration::from_millis(5));
        }
        drop(progress);
        let lines = captured.err();
        let line = lines.lines().next().unwrap();
        assert!(line.starts_with("restoring pvc-1\\n: 25%, 1.0 MiB of 4.0 MiB, "), "{line}");
        assert!(line.contains(", attaching, "), "{line}");
        thread::sleep(Duration::from_millis(60));
        assert_eq!(captured.err(), lines, "no line after the end");
    }

    #[test]
    fn what_is_quick_is_not_shown() {
        let (terminal, captured) = Terminal::captured();
        drop(terminal.progress("listing", Unit::Items));
        assert_eq!(captured.err(), "");
    }

    #[test]
    fn more_than_everything_is_not_more_than_all() {
        let (terminal, _) = Terminal::captured();
        let progress = terminal.progress("x", Unit::Items);
        progress.total(2);
        progress.set(3);
        assert!(progress.shared.status().starts_with("100%, 3 of 2, "), "{}", progress.shared.status());
    }
}
