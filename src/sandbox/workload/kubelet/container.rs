//! One container's life: start, probes, end, and starting again.

use std::{
    collections::HashMap,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};

use super::{
    ending::Ending,
    environment::{self, expand},
    images::{Image, KNOWN},
    probe::{Checks, Verdict},
    status::{Ended, State},
    task::PodTask,
};
use crate::sandbox::workload::{
    objects::now,
    runtime::{Environment, Spawned},
};

/// The first pause between two starts; it doubles each time. The very first restart is immediate.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);
/// A container that ran this long starts its pauses anew.
const FORGIVEN: Duration = Duration::from_mins(10);
/// How long output may still come from children that outlived the container's process for a moment.
const LINGER: Duration = Duration::from_secs(2);

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whatever its exit code.
    Always,
    /// When it failed.
    OnFailure,
    /// Not at all.
    Never,
}

impl PodTask {
    /// Runs the container until it has ended for good (true: with success) or the pod ends.
    pub(super) async fn run_container(
        &self,
        container: &Container,
        restart: Restart,
        volumes: &HashMap<String, PathBuf>,
        ending: &Ending,
    ) -> bool {
        let name = &container.name;
        let Some(image) = Image::find(container.image.as_deref().unwrap_or_default()) else {
            self.unknown_image(container).await;
            ending.wait().await;
            return false;
        };
        if image == Image::Longhorn {
            self.change_container(name, |state| {
                state.state = State::Running(now());
                (state.started, state.ready) = (true, true);
            })
            .await;
            ending.wait().await;
            return true;
        }
        let mut crashes = 0;
        for start in 0.. {
            let built = tokio::select! {
                built = self.environment(container, image, volumes) => built,
                () = ending.wait() => return false,
            };
            let begun = Instant::now();
            let Some(ended) = self.run_once(container, image, start, Arc::new(built), ending).await else {
                return false;
            };
            let failed = ended.code != 0;
            self.change_container(name, |state| {
                state.state = State::Terminated(ended.clone());
                (state.ready, state.started) = (false, false);
            })
            .await;
            if restart == Restart::Never || (restart == Restart::OnFailure && !failed) {
                return !failed;
            }
            crashes = if begun.elapsed() > FORGIVEN { 1 } else { crashes + 1 };
            if crashes > 1 {
                let pause = FIRST_BACKOFF.saturating_mul(1 << (crashes - 2).min(5)).min(LONGEST_BACKOFF);
                let text =
                    format!("back-off {}s restarting failed container={name} pod={}", pause.as_secs(), self.pod_name());
                self.kubelet.events.warning(&*self.pod, "BackOff", &text).await;
                self.change_container(name, |state| {
                    state.last = Some(ended.clone());
                    state.state = State::Waiting("CrashLoopBackOff", text);
                })
                .await;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = ending.wait() => return false,
                }
            }
            self.change_container(name, |state| {
                state.last = Some(ended);
                state.restarts += 1;
            })
            .await;
        }
        false
    }

    async fn unknown_image(&self, container: &Container) {
        let image = container.image.as_deref().unwrap_or_default();
        let text = format!("image {image:?} is not known to the sandbox, which has: {KNOWN}");
        self.kubelet.events.warning(&*self.pod, "Failed", &format!("Error: ErrImagePull: {text}")).await;
        self.change_container(&container.name, |state| state.state = State::Waiting("ErrImagePull", text)).await;
    }

    /// The container's environment; while something it refers to is missing, waits for it.
    async fn environment(
        &self,
        container: &Container,
        image: Image,
        volumes: &HashMap<String, PathBuf>,
    ) -> Environment {
        let client = &self.kubelet.client;
        let mut changes = None;
        loop {
            let postgres = &self.kubelet.runtime.programs().postgres;
            let built = environment::build(client, &self.pod, &self.record, container, image, volumes, postgres).await;
            let error = match built {
                Ok(environment) => return environment,
                Err(error) => error,
            };
            let text = error.to_string();
            let said = self.with_state(|state| {
                state
                    .container(&container.name)
                    .is_some_and(|c| matches!(&c.state, State::Waiting(_, said) if *said == text))
            });
            if !said {
                self.kubelet.events.warning(&*self.pod, "Failed", &format!("Error: {text}")).await;
                self.change_container(&container.name, |state| {
                    state.state = State::Waiting("CreateContainerConfigError", text);
                })
                .await;
            }
            let changes = changes.get_or_insert_with(|| {
                let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.namespace());
                let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &self.namespace());
                let config = watcher::Config::default();
                let secrets = watcher(secrets, config.clone()).default_backoff().map(drop).boxed();
                stream::select(secrets, watcher(maps, config).default_backoff().map(drop).boxed())
            });
            changes.next().await;
        }
    }

    /// Starts the container's process once and waits for its end; `None` when the pod ends.
    async fn run_once(
        &self,
        container: &Container,
        image: Image,
        start: i32,
        environment: Arc<Environment>,
        ending: &Ending,
    ) -> Option<Ended> {
        let name = &container.name;
        let words = |words: &Option<Vec<String>>| {
            let words = words.iter().flatten().map(|word| expand(word, &environment.variables));
            words.map(|word| environment.paths.localize(&word)).collect::<Vec<_>>()
        };
        let argv = image.argv(&words(&container.command), &words(&container.args));
        let log = match self.record.begin(name, start, environment.clone()).await {
            Ok(log) => log,
            Err(error) => return Some(not_started(error.to_string())),
        };
        let spawned = self.record.spawn(&argv, &environment, Stdio::null()).await;
        let mut spawned = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                self.record.ended(name);
                let program = argv.first().map_or("", String::as_str);
                let text = format!("cannot start {program:?}: {error}");
                self.kubelet.events.warning(&*self.pod, "Failed", &format!("Error: {text}")).await;
                return Some(not_started(text));
            }
        };
        let child = &mut spawned.running.child;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let pump = tokio::spawn({
            let log = log.clone();
            async move {
                let out = async {
                    if let Some(out) = out {
                        log.collect(out).await;
                    }
                };
                let err = async {
                    if let Some(err) = err {
                        log.collect(err).await;
                    }
                };
                tokio::join!(out, err);
            }
        });
        let started = now();
        let checks = Checks::of(container, image);
        self.kubelet.events.normal(&*self.pod, "Started", &format!("Started container {name}")).await;
        self.change_container(name, |state| {
            state.state = State::Running(started.clone());
            state.started = checks.startup.is_none();
            state.ready = checks.startup.is_none() && !checks.readiness.asks();
        })
        .await;

        let status = tokio::select! {
            status = spawned.running.child.wait() => Some(status),
            why = self.probe(container, &checks, &environment) => {
                let text = format!("Container {name} failed {why}, will be restarted");
                self.kubelet.events.normal(&*self.pod, "Killing", &text).await;
                None
            }
            () = ending.wait() => {
                ending.terminate(&mut spawned.running, image).await;
                None
            }
        };
        let status = finish(spawned, status).await;
        if tokio::time::timeout(LINGER, pump).await.is_err() {
            tracing::debug!(container = name, "a child of a finished container keeps its output open");
        }
        self.record.ended(name);
        if ending.has_begun() {
            return None;
        }
        Some(ended(status, started))
    }

    /// Runs the probes; returns which one wants the container restarted.
    async fn probe(&self, container: &Container, checks: &Checks, environment: &Environment) -> &'static str {
        let (record, name) = (&self.record, &container.name);
        if let Some(startup) = &checks.startup {
            startup.begin().await;
            if let Verdict::Failed(output) = startup.until(record, environment, |_| true).await {
                self.unhealthy("Startup", &output).await;
                return "startup probe";
            }
            self.change_container(name, |state| {
                state.started = true;
                state.ready = !checks.readiness.asks();
            })
            .await;
        }
        let readiness = async {
            if !checks.readiness.asks() {
                return std::future::pending().await;
            }
            checks.readiness.begin().await;
            let mut ready = false;
            loop {
                let changes = |verdict: &Verdict| (*verdict == Verdict::Passed) != ready;
                let verdict = checks.readiness.until(record, environment, changes).await;
                ready = verdict == Verdict::Passed;
                if let Verdict::Failed(output) = &verdict {
                    self.unhealthy("Readiness", output).await;
                }
                self.change_container(name, |state| state.ready = ready).await;
                if ready && container.readiness_probe.is_none() {
                    // Nobody asked to be told when it no longer is.
                    return std::future::pending().await;
                }
            }
        };
        let liveness = async {
            let Some(liveness) = &checks.liveness else { return std::future::pending().await };
            liveness.begin().await;
            let failed = |verdict: &Verdict| *verdict != Verdict::Passed;
            if let Verdict::Failed(output) = liveness.until(record, environment, failed).await {
                self.unhealthy("Liveness", &output).await;
            }
        };
        tokio::select! {
            () = readiness => "readiness probe",
            () = liveness => "liveness probe",
        }
    }

    async fn unhealthy(&self, probe: &str, output: &str) {
        self.kubelet.events.warning(&*self.pod, "Unhealthy", &format!("{probe} probe failed: {output}")).await;
    }
}

/// Kills what is left and takes the exit status.
async fn finish(spawned: Spawned, status: Option<std::io::Result<ExitStatus>>) -> Option<ExitStatus> {
    let Spawned { running, .. } = spawned;
    let mut child = running.child;
    drop(running.group);
    match status {
        Some(status) => status.ok(),
        None => child.wait().await.ok(),
    }
}

fn ended(status: Option<ExitStatus>, started: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) -> Ended {
    let code = status.map_or(255, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
    let reason = if code == 0 { "Completed" } else { "Error" };
    Ended { code, reason, message: String::new(), started: Some(started), finished: now() }
}

fn not_started(message: String) -> Ended {
    Ended { code: 128, reason: "StartError", message, started: None, finished: now() }
}
