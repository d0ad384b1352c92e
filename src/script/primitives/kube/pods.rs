//! Commands in pods, their logs, and the events of objects.

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};

use super::on_cluster;
use crate::{
    Result,
    cluster::{ExecOptions, LogOptions, ObjectRef},
    script::{
        RhaiResultOf,
        convert::{self, Options},
        primitives::OrThrow,
    },
};

#[export_module]
pub mod api {
    /// Runs a command in a pod: `kube::exec("shop/db-0", ["psql", "-c", "SELECT 1"])`. Gives `#{code, stdout, stderr}`;
    /// an exit code other than 0 is not thrown.
    #[rhai_fn(return_raw)]
    pub fn exec(ctx: NativeCallContext, pod: &str, command: Array) -> RhaiResultOf<Map> {
        exec_with(ctx, pod, command, Map::new())
    }

    /// Runs a command in a pod's `container`, with text or a blob as its `stdin`, and throws `timeout` when it takes
    /// longer than that.
    #[rhai_fn(name = "exec", return_raw)]
    pub fn exec_with(ctx: NativeCallContext, pod: &str, command: Array, options: Map) -> RhaiResultOf<Map> {
        let reference = ObjectRef::new("pods", pod).or_throw(&ctx)?;
        let command = convert::texts(command).or_throw(&ctx)?;
        let options = exec_options(options).or_throw(&ctx)?;
        let output = on_cluster(&ctx, |cluster| async move { cluster.exec(&reference, &command, &options).await })?;
        let text = |bytes: &[u8]| Dynamic::from(String::from_utf8_lossy(bytes).into_owned());
        let mut map = Map::new();
        map.insert("code".into(), i64::from(output.code).into());
        map.insert("stdout".into(), text(&output.stdout));
        map.insert("stderr".into(), text(&output.stderr));
        Ok(map)
    }

    /// The log of a pod.
    #[rhai_fn(return_raw)]
    pub fn logs(ctx: NativeCallContext, pod: &str) -> RhaiResultOf<String> {
        logs_with(ctx, pod, Map::new())
    }

    /// The log of a pod's `container`: its last lines only with `tail`, that of the instance before the last restart
    /// with `previous`.
    #[rhai_fn(name = "logs", return_raw)]
    pub fn logs_with(ctx: NativeCallContext, pod: &str, options: Map) -> RhaiResultOf<String> {
        let reference = ObjectRef::new("pods", pod).or_throw(&ctx)?;
        let options = log_options(options).or_throw(&ctx)?;
        on_cluster(&ctx, |cluster| async move { cluster.logs(&reference, &options).await })
    }

    /// The events of an object, oldest first: `#{time, severity, reason, message, count}`.
    #[rhai_fn(return_raw)]
    pub fn events(ctx: NativeCallContext, kind: &str, name: &str) -> RhaiResultOf<Array> {
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let events = on_cluster(&ctx, |cluster| async move { cluster.events(&reference).await })?;
        let event = |event: crate::cluster::Event| -> Dynamic {
            let mut map = Map::new();
            map.insert("time".into(), event.time.into());
            map.insert("severity".into(), event.severity.into());
            map.insert("reason".into(), event.reason.into());
            map.insert("message".into(), event.message.into());
            map.insert("count".into(), event.count.into());
            map.into()
        };
        Ok(events.into_iter().map(event).collect())
    }
}

fn exec_options(map: Map) -> Result<ExecOptions> {
    let mut options = Options::new("kube::exec", map);
    let exec = ExecOptions {
        container: options.text("container")?,
        stdin: options.bytes("stdin")?,
        timeout: options.duration("timeout")?,
    };
    options.finish()?;
    Ok(exec)
}

fn log_options(map: Map) -> Result<LogOptions> {
    let mut options = Options::new("kube::logs", map);
    let logs = LogOptions {
        container: options.text("container")?,
        tail: options.count("tail")?,
        previous: options.flag("previous")?.unwrap_or(false),
    };
    options.finish()?;
    Ok(logs)
}
