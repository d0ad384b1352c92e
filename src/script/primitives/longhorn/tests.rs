#![cfg(feature = "sandbox")]

use rhai::Dynamic;
use serde_json::{Value, json};

use crate::{
    Error, Kind,
    cluster::ConnectOptions,
    sandbox::{Sandbox, SandboxOptions},
    script::{Fault, Host, Settings, convert, engine, host::fake},
};

/// A host on an embedded cluster of its own.
fn host() -> (Host, Sandbox) {
    let (other, _) = fake::host(Settings::default());
    let sandbox = other.runtime().block_on(Sandbox::start(SandboxOptions::default())).unwrap();
    let cluster = ConnectOptions { kubeconfig: Some(sandbox.kubeconfig().into()), ..ConnectOptions::default() };
    let (host, _) = fake::host(Settings { cluster, ..Settings::default() });
    (host, sandbox)
}

fn run(host: &Host, script: &str) -> Value {
    let value = engine::build(host).eval::<Dynamic>(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    convert::to_json(&value).unwrap()
}

fn error(host: &Host, script: &str) -> Error {
    Fault::new(&engine::build(host).eval::<Dynamic>(script).unwrap_err()).error
}

#[test]
fn an_empty_cluster_is_described() {
    let (host, sandbox) = host();
    assert_eq!(run(&host, "longhorn::version()"), json!("v1.10.2"));
    let target = run(&host, "longhorn::target()");
    assert_eq!((&target["name"], &target["url"]), (&json!("default"), &json!(sandbox.s3().target_url())));
    assert_eq!(run(&host, "longhorn::target(\"default\").name"), json!("default"));
    let empty = json!({"volumes": 0, "backups": 0, "system_backups": 0, "unusable": []});
    assert_eq!(run(&host, "longhorn::sync()"), empty);
    assert_eq!(run(&host, "longhorn::sync(\"1m\")"), empty);
    assert_eq!(run(&host, "longhorn::sync(#{timeout: 60, target: \"default\"})"), empty);
    for list in
        ["volumes()", "attached()", "backups()", "backups(\"v\")", "system_backups()", "recurring_jobs()", "expected()"]
    {
        assert_eq!(run(&host, &format!("longhorn::{list}")), json!([]), "{list}");
    }
    assert_eq!(
        run(&host, "longhorn::bind_claim(#{volume: \"v\", claim: (), backup: \"b\", sources: #{}}).changed"),
        json!(false)
    );
    assert_eq!(run(&host, "longhorn::bind_claims([])"), json!([]));
    assert_eq!(run(&host, "longhorn::bind_claims([#{volume: \"v\", claim: ()}])[0].volume"), json!("v"));
    let failures = "let seen = (); try { longhorn::bind_claims([#{volume: \"v\", claim: ()}, #{volume: \"w\", claim: \"app/w\"}]) } \
        catch (e) { seen = [e.kind, e.errors[0].index, e.errors[0].kind, e.results[0].volume]; } seen";
    assert_eq!(run(&host, failures), json!(["not-found", 1, "not-found", "v"]));
    let job = "#{name: \"daily\", task: \"backup\", cron: \"0 2 * * *\", groups: [\"default\"]}";
    let script = format!(
        "[longhorn::set_recurring_job({job}), longhorn::suspend_jobs(), longhorn::suspend_jobs([\"daily\"]), \
          longhorn::recurring_jobs()[0].suspended, longhorn::resume_jobs([\"daily\"]), longhorn::resume_jobs()]"
    );
    assert_eq!(run(&host, &script), json!(["created", ["daily"], [], true, ["daily"], []]));
    assert!(host.run().record().changes.iter().any(|change| change.what == "suspended the recurring job daily"));
    host.runtime().block_on(sandbox.stop()).unwrap();
}

#[test]
fn what_is_missing_or_misspelt_is_explained() {
    let (host, sandbox) = host();
    let cases = [
        ("longhorn::volume(\"v\")", Kind::NotFound, "get Volume longhorn-system/v"),
        ("longhorn::volume_of(\"app/data\")", Kind::NotFound, "app/data"),
        ("longhorn::latest_backup(\"v\")", Kind::NotFound, "no backup that Longhorn knows of"),
        (
            "longhorn::latest_backup(\"v\", #{as_of: \"yesterday\"})",
            Kind::Script,
            "`as_of` is no moment: \"yesterday\"",
        ),
        ("longhorn::backup(\"v\", #{mode: \"partly\"})", Kind::Script, "no mode \"partly\""),
        ("longhorn::backup(\"v\", #{lables: #{}})", Kind::Script, "no option `lables`"),
        ("longhorn::restore(#{volume: \"v\"})", Kind::Script, "the option `backup` is missing"),
        ("longhorn::restore(#{volume: \"V\", backup: \"b\"})", Kind::Usage, "cannot be the name of a volume"),
        ("longhorn::restore(#{volume: \"v\", backup: \"b\"})", Kind::NotFound, "b"),
        ("longhorn::configure_target(#{url: \"s3://b@r/\"})", Kind::Script, "the option `secret` is missing"),
        (
            "longhorn::configure_target(#{url: \"s3://b@r/\", secret: \"s\", access_key: \"a\"})",
            Kind::Script,
            "must be given together",
        ),
        ("longhorn::bundle(\"none\")", Kind::NotFound, "no system backup \"none\""),
        ("longhorn::system_backup(\"sb\", #{policy: \"never\"})", Kind::Usage, "\"never\" is no policy"),
        ("longhorn::system_restore(\"none\")", Kind::NotFound, "none"),
        ("longhorn::bind_claims([#{claim: \"app/data\"}])", Kind::Script, "the option `volume` is missing"),
        ("longhorn::bind_claims([7])", Kind::Script, "item 0 is no map but i64"),
        ("longhorn::bind_claims([#{volume: \"v\", claim: \"app/data\"}])", Kind::NotFound, "longhorn-system/v"),
        ("longhorn::create_pvc(#{volume: \"v\"})", Kind::Script, "the option `claim` is missing"),
        ("longhorn::create_pv(#{volume: \"v\", size: \"much\"})", Kind::Script, "`size` is no size: \"much\""),
        (
            "longhorn::set_recurring_job(#{name: \"j\", task: \"backup\", cron: \"daily\"})",
            Kind::Usage,
            "is no schedule",
        ),
        ("longhorn::set_recurring_job(#{name: \"j\", crn: \"x\"})", Kind::Script, "crn"),
        ("longhorn::expected(#{exported: #{}})", Kind::Script, "must be an array of objects"),
    ];
    for (script, kind, said) in cases {
        let error = error(&host, script);
        assert_eq!(error.kind(), kind, "{script}: {error}");
        assert!(error.message().contains(said), "{script}: {error}");
    }
    host.runtime().block_on(sandbox.stop()).unwrap();
}
