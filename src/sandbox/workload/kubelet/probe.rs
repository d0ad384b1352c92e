//! Startup, readiness and liveness probes.
//!
//! Exec probes run as they are declared. Pods have no network of their own, so an HTTP or TCP probe is replaced by the
//! image's own check: `pg_isready` for postgres and the like for other servers, running for the others.

use std::{process::Stdio, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::images::Image;
use crate::sandbox::workload::runtime::{Environment, PodRecord};

/// How often a database that has just been started is asked whether it is ready, when no probe is declared.
const EAGER: Duration = Duration::from_millis(100);
/// How much of a failed probe's output is shown.
const OUTPUT: u64 = 1 << 10;

/// One probe of a container.
#[derive(Debug)]
pub struct Check {
    /// `None`: running is enough.
    command: Option<Vec<String>>,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

/// The probes of one container.
#[derive(Debug)]
pub struct Checks {
    /// Until it succeeds, the others wait.
    pub startup: Option<Check>,
    /// Decides whether the container is ready.
    pub readiness: Check,
    /// Decides whether it is to be restarted.
    pub liveness: Option<Check>,
}

impl Checks {
    /// The container's probes, with the image's own check where readiness is not declared.
    pub fn of(container: &Container, image: Image) -> Self {
        let check = |probe: &Option<Probe>| probe.as_ref().map(|probe| Check::of(probe, image));
        let eager = Check { period: EAGER, ..Check::of(&Probe::default(), image) };
        Self {
            startup: check(&container.startup_probe),
            readiness: check(&container.readiness_probe).unwrap_or(eager),
            liveness: check(&container.liveness_probe),
        }
    }
}

/// What changes between two answers of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Often enough in a row it succeeded.
    Passed,
    /// Often enough in a row it failed; with its last output.
    Failed(String),
}

impl Check {
    fn of(probe: &Probe, image: Image) -> Self {
        let declared = probe.exec.as_ref().and_then(|exec| exec.command.clone());
        let seconds = |value: Option<i32>, default| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).filter(|v| *v > 0).unwrap_or(default))
        };
        let count = |value: Option<i32>, default| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        Self {
            command: declared.or_else(|| image.readiness()),
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }

    /// Whether the probe asks anything at all.
    pub fn asks(&self) -> bool {
        self.command.is_some()
    }

    /// Waits as long as the probe asks for before its first run.
    pub async fn begin(&self) {
        tokio::time::sleep(self.delay).await;
    }

    /// Runs the probe until its verdict is `wanted` (`None`: either).
    pub async fn until(
        &self,
        pod: &Arc<PodRecord>,
        environment: &Environment,
        wanted: impl Fn(&Verdict) -> bool,
    ) -> Verdict {
        let (mut good, mut bad) = (0, 0);
        loop {
            let verdict = match self.run(pod, environment).await {
                Ok(()) => {
                    (good, bad) = (good + 1, 0);
                    (good >= self.successes).then_some(Verdict::Passed)
                }
                Err(output) => {
                    (good, bad) = (0, bad + 1);
                    (bad >= self.failures).then_some(Verdict::Failed(output))
                }
            };
            if let Some(verdict) = verdict
                && wanted(&verdict)
            {
                return verdict;
            }
            tokio::time::sleep(self.period).await;
        }
    }

    async fn run(&self, pod: &Arc<PodRecord>, environment: &Environment) -> Result<(), String> {
        let Some(command) = &self.command else { return Ok(()) };
        let argv: Vec<_> = command.iter().map(|word| environment.paths.localize(word)).collect();
        let mut spawned =
            pod.spawn(&argv, environment, Stdio::null()).await.map_err(|error| format!("cannot be run: {error}"))?;
        let child = &mut spawned.running.child;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let finished = async {
            let (status, out, err) = tokio::join!(child.wait(), head(out), head(err));
            (status, format!("{out}{err}"))
        };
        match tokio::time::timeout(self.timeout, finished).await {
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((Ok(_), output)) => Err(output.trim().to_owned()),
            Ok((Err(error), _)) => Err(error.to_string()),
            Err(_) => Err(format!("command timed out after {} s", self.timeout.as_secs())),
        }
    }
}

async fn head(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut text = Vec::new();
    let read = (&mut from).take(OUTPUT).read_to_end(&mut text).await;
    // The rest is read away, so that the command does not wait for a reader.
    let drained = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    if let Err(error) = read.and(drained.map(drop).map(|()| 0)) {
        tracing::trace!(%error, "reading a probe's output");
    }
    String::from_utf8_lossy(&text).into_owned()
}
