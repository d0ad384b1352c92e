//! The command line with bad input: what is said, where, and the exit code.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

/// `lhrun` in an empty folder of its own, without anything of the environment that it would use.
struct Lab {
    folder: tempfile::TempDir,
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path().join(name), text).expect("the file is written");
        self
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ended {
        Ended::of(self.command(args).envs(variables.iter().copied()).output().expect("lhrun starts"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lhrun"));
        command
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", std::env::var_os("PATH").expect("a path"));
        command
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("no signal ended it"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Asserts the exit code, and that standard error says all of it.
    #[track_caller]
    fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{}", self.err);
        for part in said {
            assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err);
        }
        assert!(!self.err.contains('\x1b'), "colours without a terminal");
    }
}

#[test]
fn version_and_help() {
    let lab = Lab::new();
    let version = lab.run(&["--version"]);
    assert_eq!((version.code, version.out), (0, format!("lhrun {}\n", env!("CARGO_PKG_VERSION"))));
    let help = lab.run(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("lhrun full-restore") && help.out.contains("Exit codes"));
}

#[test]
fn a_missing_runbook() {
    let lab = Lab::new().file("restore.rhai", "");
    lab.run(&["resotre.rhai"]).failed(2, &["error: there is no runbook resotre.rhai", "did you mean restore.rhai?"]);
    lab.run(&["run", "ful-restore"]).failed(2, &["there is no runbook ful-restore", "full-restore (inside lhrun)"]);
    lab.run(&["sandbx", "up"]).failed(2, &["'sandbx'", "did you mean sandbox?"]);
    lab.run(&["run", "."]).failed(2, &["is a folder"]);
}

#[test]
fn a_broken_runbook() {
    let lab = Lab::new()
        .file("syntax.rhai", "let a = 1;\nlet b = ;\n")
        .file("name.rhai", "let a = 1;\n\n  stpe(\"x\", || 1);\n")
        .file("throws.rhai", "fn restore() {\n  fail(\"damaged\", \"the block is gone\");\n}\nrestore();\n");
    lab.run(&["syntax.rhai"]).failed(2, &["error: ", "--> syntax.rhai:2:9", "2 | let b = ;\n  |         ^"]);
    lab.run(&["name.rhai"]).failed(2, &["--> name.rhai:3:3", "^^^^", "did you mean `step`?"]);
    let ended = lab.run(&["throws.rhai"]);
    ended.failed(3, &["the block is gone", "--> throws.rhai:2:3", "in restore, called at throws.rhai:4:1"]);
}

#[test]
fn a_parameter_that_is_not_there() {
    let lab = Lab::new().file("a.rhai", "let rows = param(\"rows\", 5, \"how many\");\nprint(rows);\n");
    lab.run(&["a.rhai", "--set", "rosw=6"]).failed(2, &["has no parameter rosw", "did you mean `rows`?"]);
    lab.run(&["a.rhai", "--set", "rows=many"]).failed(2, &["parameter rows: expected a whole number"]);
    lab.run(&["a.rhai", "--set", "rows"]).failed(2, &["NAME=VALUE"]);
    assert_eq!(lab.run(&["a.rhai", "--set", "rows=6"]).out, "6\n");
}

#[test]
fn parameters_of_the_configuration() {
    let lab = Lab::new()
        .file("a.rhai", "print(param(\"rows\", 5, \"how many\"));\n")
        .file("lhrun.toml", "[params]\nrows = 7\nother = \"of another runbook\"\n");
    assert_eq!(lab.run(&["a.rhai"]).out, "7\n");
    assert_eq!(lab.run(&["a.rhai", "--set", "rows=8"]).out, "8\n", "the command line counts more");
    // Those of one runbook count more than those of all, and for it alone.
    let lab = lab
        .file("b.rhai", "print(param(\"rows\", 5, \"how many\"));\n")
        .file("lhrun.toml", "[params]\nrows = 7\n[params.a]\nrows = 9\n");
    assert_eq!(lab.run(&["a.rhai"]).out, "9\n");
    assert_eq!(lab.run(&["b.rhai"]).out, "7\n");
    assert_eq!(lab.run(&["a.rhai", "--set", "rows=8"]).out, "8\n");
    let lab = lab.file("lhrun.toml", "[params.a]\nrosw = 9\n");
    lab.run(&["a.rhai"]).failed(2, &["has no parameter rosw"]);
    assert_eq!(lab.run(&["b.rhai"]).out, "5\n");
}

#[test]
fn the_copy_inside_is_told_of_when_a_file_was_named() {
    let lab = Lab::new();
    let said = "there is no file runbooks/restore-volume.rhai: running the copy";
    lab.run(&["runbooks/restore-volume.rhai"]).failed(2, &[said, "no claim is named"]);
    let named = lab.run(&["restore-volume"]);
    named.failed(2, &["no claim is named"]);
    assert!(!named.err.contains("there is no file"), "{}", named.err);
}

#[test]
fn a_broken_configuration() {
    let lab = Lab::new().file("a.rhai", "").file("lhrun.toml", "[store]\nbucket = \"b\"\nendpiont = \"x\"\n");
    lab.run(&["a.rhai"]).failed(2, &["--> lhrun.toml:3:1", "^^^^^^^^", "did you mean `endpoint`?"]);
    lab.run(&["a.rhai", "--config", "other.toml"]).failed(2, &["cannot read the configuration other.toml"]);
}

#[test]
fn no_cluster() {
    let lab = Lab::new().file("a.rhai", "kube::list(\"pods\");\n").file(
        "config",
        "apiVersion: v1\nkind: Config\ncurrent-context: far\nclusters:\n- name: far\n  cluster: {server: \
         'http://127.0.0.1:1'}\ncontexts:\n- name: far\n  context: {cluster: far, user: me}\nusers:\n- name: me\n  user: {}\n",
    );
    let near = ["KUBECONFIG", "config"];
    lab.run_with(&["a.rhai"], &[(near[0], near[1])]).failed(6, &["http://127.0.0.1:1", "context far"]);
    lab.run(&["a.rhai", "--kubeconfig", "config", "--context", "near"]).failed(2, &["near", "--context: far"]);
    if !Path::new("/etc/rancher/k3s/k3s.yaml").exists() {
        let looked = ["no Kubernetes cluster is configured", "$KUBECONFIG", ".kube/config", "k3s.yaml", "--sandbox"];
        lab.run(&["a.rhai"]).failed(6, &looked);
    }
}

#[test]
fn wrong_credentials() {
    let cluster = crate::lab::Lab::up();
    let config = fs::read_to_string(&cluster.access.kubeconfig).unwrap();
    let token = config.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap().trim_matches('"');
    let lab = Lab::new().file("a.rhai", "kube::list(\"pods\");\n").file("config", &config.replace(token, "wrong"));
    let ended = lab.run(&["a.rhai", "--kubeconfig", "config"]);
    ended.failed(6, &["config, context ", "https://127.0.0.1:"]);
    assert!(!ended.err.contains("wrong"), "{}", ended.err);
}

#[test]
fn no_terminal() {
    let lab = Lab::new().file("a.rhai", "confirm(\"Wipe the cluster?\");\n");
    lab.run(&["a.rhai"]).failed(4, &["Wipe the cluster?", "--yes"]);
    assert_eq!(lab.run(&["a.rhai", "--yes"]).code, 0);
    lab.run(&[]).failed(2, &["Usage:", "a session needs a terminal"]);
    lab.run(&["repl"]).failed(2, &["a session needs a terminal"]);
}

#[test]
fn check_finds_mistakes_without_running() {
    let lab = Lab::new()
        .file("good.rhai", "step(\"x\", || print(\"ran\"));\n")
        .file("bad.rhai", "import \"lib/nosuch\" as x;\nfn unused() { kube::gte(\"pod\", \"a\") }\n");
    let good = lab.run(&["check", "good.rhai"]);
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(!good.out.contains("ran"));
    let bad = lab.run(&["check", "good.rhai", "bad.rhai"]);
    bad.failed(2, &["bad.rhai:1:", "lib/nosuch", "bad.rhai:2:", "kube::get"]);
}

#[test]
fn a_result_for_programs_is_alone_on_standard_output() {
    let lab = Lab::new().file("a.rhai", "print(\"hello\");\nstep(\"one\", || 1);\ncheck::that(\"same\", false);\n");
    let ended = lab.run(&["a.rhai", "-o", "json"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    let result: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&result["verdict"], &result["steps"][0]["name"]), (&"differs".into(), &"one".into()));
    assert!(ended.err.contains("hello"));
}

#[test]
fn ctrl_c_ends_a_run() {
    let lab =
        Lab::new().file("a.rhai", "step(\"wait\", || { print(\"begun\"); try { wait::sleep(1000) } catch { } });\n");
    let mut process = lab.command(&["a.rhai"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let killed = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = Ended::of(process.wait_with_output().unwrap());
    ended.failed(130, &["interrupted"]);
    assert!(!ended.err.contains("-->"), "no place: nothing is wrong there\n{}", ended.err);
}

#[test]
fn completions_are_printed() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = lab.run(&["completions", shell]);
        assert!(ended.code == 0 && ended.out.contains("kubeconfig"), "{shell}");
    }
}
