//! Sessions and questions on a pseudo-terminal, as somebody sits at it.

use std::{fs, process::Command};

use rexpect::{
    process::{Signal, WaitStatus},
    session::{PtySession, spawn_command},
};

/// Milliseconds to wait for what must come; generous, as it only matters when it does not come.
const PATIENCE: u64 = 30_000;

struct Lab {
    home: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder") }
    }

    fn start(&self, variables: &[(&str, &str)]) -> PtySession {
        let mut session = self.run(&[], variables);
        session.exp_string(":help for help").expect("a greeting");
        session
    }

    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> PtySession {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lhrun"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").expect("a path"))
            .env("TERM", "xterm")
            .envs(variables.iter().copied());
        spawn_command(command, Some(PATIENCE)).expect("lhrun starts")
    }
}

/// Types a line and waits for the answer.
#[track_caller]
fn ask(session: &mut PtySession, line: &str, answer: &str) -> String {
    session.exp_string("lhrun> ").expect("a prompt");
    session.send_line(line).expect("it is typed");
    session.exp_string(answer).expect("an answer")
}

#[test]
fn a_session_remembers_and_shows() {
    let lab = Lab::new();
    let mut session = lab.start(&[("NO_COLOR", "1")]);
    ask(&mut session, "let x = 20;", "\n");
    ask(&mut session, "fn twice(n) { n * 2 }", "\n");
    ask(&mut session, "twice(x) + 2", "\n42");
    // A closure over three lines, read as one input.
    session.exp_string("lhrun> ").unwrap();
    for line in ["let y = step(\"add\", || {", "x + 1", "});"] {
        session.send_line(line).unwrap();
    }
    ask(&mut session, "y", "\n21");
    ask(&mut session, "[#{name: \"a\", size: 1}, #{name: \"b\", size: 2}]", "NAME   SIZE");
    let shown = ask(&mut session, "nosuch(y)", "^^^^^^");
    assert!(shown.contains("there is no function nosuch") && shown.contains("input:"), "{shown}");
    assert!(!shown.contains("\x1b[1;31m") && !shown.contains("\x1b[36m"), "colours in spite of NO_COLOR: {shown:?}");
    ask(&mut session, ":vars", "fn twice(n)");
    session.exp_string("lhrun> ").unwrap();
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
    let history = fs::read_to_string(lab.home.path().join(".local/state/lhrun/history")).unwrap();
    assert!(history.contains("twice(x) + 2"), "{history}");
}

#[test]
fn the_tab_key_completes() {
    let lab = Lab::new();
    let mut session = lab.start(&[]);
    ask(&mut session, "let volumes_found = 42;", "\n");
    session.exp_string("lhrun> ").unwrap();
    session.send("volumes_f\t").unwrap();
    session.send_line(" + 1").unwrap();
    session.exp_string("\n43").unwrap();
    session.exp_string("lhrun> ").unwrap();
    session.send("check::eq\t").unwrap();
    session.send_line("(\"x\", 1, 1); \"don\" + \"e\"").unwrap();
    session.exp_string("\ndone").unwrap();
    ask(&mut session, ":quit", "\n");
    session.exp_eof().unwrap();
}

#[test]
fn ctrl_c_stops_the_line_and_not_the_session() {
    let lab = Lab::new();
    let mut session = lab.start(&[]);
    session.exp_string("lhrun> ").unwrap();
    session.send_line("print(\"as\" + \"leep\"); wait::sleep(1000)").unwrap();
    session.exp_string("\nasleep").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").unwrap();
    // At the prompt it throws away what was typed.
    session.exp_string("lhrun> ").unwrap();
    session.send("let half = ").unwrap();
    session.flush().unwrap();
    session.exp_string("half = ").unwrap();
    session.send_control('c').unwrap();
    // The editor draws its prompt again with every key, and forgets what is typed behind a Ctrl-C before it is read.
    session.exp_string("\n").unwrap();
    ask(&mut session, "40 + 2", "\n42");
    ask(&mut session, ":quit", "\n");
    session.exp_eof().unwrap();
}

#[test]
fn a_session_told_to_end_leaves_nothing_running() {
    let lab = Lab::new();
    let mut session = lab.start(&[]);
    session.exp_string("lhrun> ").unwrap();
    session.process_mut().signal(Signal::SIGTERM).unwrap();
    session.exp_eof().unwrap();
    let status = session.process().wait().unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 130)), "{status:?}");
}

#[test]
fn questions_are_answered_or_interrupted() {
    let lab = Lab::new();
    let text = "let name = ask::text(\"Which bucket?\", \"backups\");\nconfirm(`Wipe ${name}?`);\nprint(\"wiped\");\n";
    fs::write(lab.home.path().join("ask.rhai"), text).unwrap();
    let begin = || {
        let mut session = lab.run(&["ask.rhai"], &[("NO_COLOR", "1")]);
        session.exp_string("Which bucket? [backups]: ").unwrap();
        session.send_line("offsite").unwrap();
        session.exp_string("Wipe offsite? [y/N] ").unwrap();
        session
    };
    let ended = |session: &mut PtySession, code: i32| {
        let said = session.exp_eof().unwrap();
        let status = session.process().wait().unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, found) if found == code), "{status:?}: {said}");
        said
    };
    let mut session = begin();
    session.send_line("y").unwrap();
    assert!(ended(&mut session, 0).contains("wiped"));
    let mut session = begin();
    session.send_line("").unwrap();
    assert!(!ended(&mut session, 4).contains("wiped"));
    let mut session = begin();
    session.send_control('c').unwrap();
    assert!(!ended(&mut session, 130).contains("wiped"));
}
