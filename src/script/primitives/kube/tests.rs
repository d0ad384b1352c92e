#![cfg(feature = "sandbox")]

use rhai::Dynamic;
use serde_json::{Value, json};

use crate::{
    Error, Kind,
    cluster::fake::Lab,
    script::{Fault, Host, Settings, convert, engine, host::fake},
};

/// A host on an API server of its own.
fn host() -> (Host, Lab) {
    let (other, _) = fake::host(Settings::default());
    let lab = other.runtime().block_on(Lab::start());
    let (host, _) = fake::host(Settings { cluster: lab.options(), ..Settings::default() });
    (host, lab)
}

fn run(host: &Host, script: &str) -> Value {
    let value = engine::build(host).eval::<Dynamic>(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    convert::to_json(&value).unwrap()
}

fn error(host: &Host, script: &str) -> Error {
    Fault::new(&engine::build(host).eval::<Dynamic>(script).unwrap_err()).error
}

const MAP: &str = "#{apiVersion: \"v1\", kind: \"ConfigMap\", metadata: #{name: \"a\"}, data: #{key: \"1\"}}";

#[test]
fn objects_are_applied_read_changed_and_deleted() {
    let (host, _lab) = host();
    assert_eq!(run(&host, &format!("[kube::apply({MAP}), kube::apply({MAP})]")), json!(["created", "unchanged"]));
    let applied = run(&host, &format!("kube::apply([{MAP}], #{{force: true}})"));
    assert_eq!(applied, json!([{"object": "ConfigMap/default/a", "change": "unchanged"}]));
    assert_eq!(run(&host, "kube::get(\"cm\", \"default/a\").data.key"), json!("1"));
    assert_eq!(run(&host, "[kube::exists(\"cm\", \"a\"), kube::find(\"cm\", \"b\")]"), json!([true, null]));
    assert_eq!(run(&host, "kube::list(\"cm\").len()"), json!(1));
    assert_eq!(run(&host, "kube::list(\"cm\", #{all_namespaces: true, selector: \"x=y\"})"), json!([]));
    assert_eq!(run(&host, "kube::patch(\"cm\", \"a\", #{data: #{key: \"2\", more: \"3\"}}).data.key"), json!("2"));
    let operations = "[#{op: \"remove\", path: \"/data/more\"}]";
    assert_eq!(
        run(&host, &format!("kube::patch(\"cm\", \"a\", {operations}, #{{type: \"json\"}}).data")),
        json!({"key": "2"})
    );
    run(&host, "kube::label(\"cm\", \"a\", #{x: \"y\"}); kube::annotate(\"cm\", \"a\", #{note: \"n\"})");
    assert_eq!(run(&host, "kube::list(\"cm\", #{selector: \"x=y\"}).len()"), json!(1));
    run(&host, "kube::label(\"cm\", \"a\", #{x: ()})");
    assert_eq!(run(&host, "kube::list(\"cm\", #{selector: \"x=y\"}).len()"), json!(0));
    assert_eq!(
        run(&host, "[kube::delete(\"cm\", \"a\", #{wait: true}), kube::delete(\"cm\", \"a\")]"),
        json!([true, false])
    );
}

#[test]
fn only_real_changes_are_noted() {
    let (host, _lab) = host();
    run(&host, &format!("kube::apply({MAP}, #{{dry_run: true}}); kube::apply({MAP}); kube::apply({MAP});"));
    run(
        &host,
        "kube::label(\"cm\", \"a\", #{x: \"y\"}); kube::label(\"cm\", \"a\", #{x: \"y\"}); kube::delete(\"cm\", \"b\");",
    );
    let changes: Vec<_> = host.run().record().changes.into_iter().map(|change| change.what).collect();
    assert_eq!(changes, ["created ConfigMap/default/a", "patched cm/a"]);
}

#[test]
fn a_closure_waits_with_the_object_and_may_call_primitives() {
    let (host, _lab) = host();
    let script = format!(
        "let seen = []; let object = kube::wait_until(\"cm\", \"a\", \"10s\", |object| {{ \
           if object == () {{ seen.push(\"absent\"); kube::apply({MAP}); return false; }} \
           seen.push(object.data.key); kube::exists(\"cm\", \"a\") }}); \
         [seen, object.data.key]"
    );
    assert_eq!(run(&host, &script), json!([["absent", "1"], "1"]));
    let late = error(&host, "kube::wait_until(\"cm\", \"a\", \"200ms\", |object| false)");
    assert_eq!(late.kind(), Kind::Timeout);
    run(&host, "kube::wait(\"cm\", \"a\", \"jsonpath={.data.key}=1\", 5)");
    let late = error(&host, "kube::wait(\"cm\", \"a\", \"jsonpath={.data.key}=2\", \"300ms\")");
    assert!(late.message().contains("last seen: {.data.key} is \"1\""), "{late}");
    let denied = error(&host, "kube::wait_until(\"cm\", \"a\", \"5s\", |object| fail(\"denied\", \"no\"))");
    assert_eq!(denied.kind(), Kind::Denied);
}

#[test]
fn wrong_options_and_names_are_explained() {
    let (host, _lab) = host();
    for (script, said) in [
        ("kube::list(\"cm\", #{namspace: \"a\"})", "there is no option `namspace`"),
        ("kube::list(\"cm\", #{namespace: \"a\", all_namespaces: true})", "either `namespace` or `all_namespaces`"),
        ("kube::patch(\"cm\", \"a\", #{}, #{type: \"yaml\"})", "no type \"yaml\""),
        ("kube::delete(\"cm\", \"a\", #{propagation: \"now\"})", "no propagation \"now\""),
        ("kube::wait(\"cm\", \"a\", \"ready\", 5)", "cannot wait for \"ready\""),
        ("kube::get(\"cm\", \"a/b/c\")", "is no name of a Kubernetes object"),
        ("kube::get(\"conigmaps\", \"a\")", "serves no kind \"conigmaps\""),
        ("kube::scale(\"sts\", \"a\", -1)", "-1 is no number of replicas"),
        ("kube::apply(#{kind: \"ConfigMap\", metadata: #{name: \"a\"}})", "without apiVersion or kind"),
    ] {
        let error = error(&host, script);
        assert!(error.message().contains(said), "{script}: {error}");
    }
    assert_eq!(error(&host, "kube::get(\"cm\", \"zzz\")").kind(), Kind::NotFound);
}

#[test]
fn the_context_says_which_cluster_it_is() {
    let (host, lab) = host();
    let context = run(&host, "kube::context()");
    assert_eq!(context["server"], format!("https://{}", lab.server.addr()));
    assert_eq!((&context["context"], &context["namespace"]), (&json!("lab"), &json!("default")));
}
