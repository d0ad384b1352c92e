//! What the kubelet says about a pod.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::sandbox::workload::objects::now;

/// How a container's process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; 128 and the signal's number when one killed it.
    pub code: i32,
    /// `Completed`, `Error`, `StartError`, ….
    pub reason: &'static str,
    /// More about it.
    pub message: String,
    /// When it began.
    pub started: Option<Time>,
    /// When it ended.
    pub finished: Time,
}

/// Where a container is in its life.
#[derive(Clone, Debug)]
pub enum State {
    /// Not started, for that reason.
    Waiting(&'static str, String),
    /// Its process runs.
    Running(Time),
    /// Its process has ended, and no other will start unless the state changes.
    Terminated(Ended),
}

/// One container's line in the status.
#[derive(Clone, Debug)]
pub struct ContainerState {
    name: String,
    image: String,
    /// Where it is.
    pub state: State,
    /// How its previous process ended.
    pub last: Option<Ended>,
    /// Starts after the first.
    pub restarts: i32,
    /// Passes its readiness probe.
    pub ready: bool,
    /// Passed its startup probe.
    pub started: bool,
}

impl ContainerState {
    fn new(container: &Container, reason: &'static str) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: State::Waiting(reason, String::new()),
            last: None,
            restarts: 0,
            ready: false,
            started: false,
        }
    }

    fn running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Has ended well, which for an init container means it is done.
    fn succeeded(&self) -> bool {
        matches!(&self.state, State::Terminated(ended) if ended.code == 0)
    }

    fn render(&self, pod: &str) -> Value {
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": format!("process://{}", self.image),
            "containerID": match self.state {
                State::Waiting(..) => Value::Null,
                _ => json!(format!("process://{pod}/{}/{}", self.name, self.restarts)),
            },
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": match &self.state {
                State::Waiting(reason, message) => json!({"waiting": reason_and_message(reason, message)}),
                State::Running(since) => json!({"running": {"startedAt": since}}),
                State::Terminated(ended) => json!({"terminated": terminated(ended)}),
            },
            "lastState": self.last.as_ref().map_or(json!({}), |ended| json!({"terminated": terminated(ended)})),
        })
    }
}

fn reason_and_message(reason: &str, message: &str) -> Value {
    if message.is_empty() { json!({"reason": reason}) } else { json!({"reason": reason, "message": message}) }
}

fn terminated(ended: &Ended) -> Value {
    let mut value = reason_and_message(ended.reason, &ended.message);
    value["exitCode"] = json!(ended.code);
    value["startedAt"] = json!(ended.started);
    value["finishedAt"] = json!(ended.finished);
    value
}

/// The whole of a pod's status.
#[derive(Debug)]
pub struct PodState {
    /// Has a node; else why it has none.
    pub scheduled: Result<(), String>,
    /// Volumes are there, containers may start.
    pub prepared: bool,
    /// Every container ended and none will be started again.
    pub over: bool,
    /// Init containers, in order.
    pub init: Vec<ContainerState>,
    /// The other containers.
    pub main: Vec<ContainerState>,
    started: Time,
    /// Each condition's status and since when.
    conditions: BTreeMap<&'static str, (bool, Time)>,
}

impl PodState {
    /// A pod nothing is known about yet.
    pub fn new(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.iter().flatten();
        let reason = if spec.init_containers.is_some() { "PodInitializing" } else { "ContainerCreating" };
        Self {
            scheduled: Err(String::new()),
            prepared: false,
            over: false,
            init: init.map(|container| ContainerState::new(container, "PodInitializing")).collect(),
            main: spec.containers.iter().map(|container| ContainerState::new(container, reason)).collect(),
            started: now(),
            conditions: BTreeMap::new(),
        }
    }

    /// The container of that name.
    pub fn container(&mut self, name: &str) -> Option<&mut ContainerState> {
        self.init.iter_mut().chain(&mut self.main).find(|container| container.name == name)
    }

    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub fn phase(&self) -> &'static str {
        let failed = |container: &ContainerState| !container.succeeded();
        if self.over {
            let all = self.init.iter().chain(&self.main);
            return if all.into_iter().any(failed) { "Failed" } else { "Succeeded" };
        }
        let begun = |container: &ContainerState| {
            container.running() || container.last.is_some() || { matches!(container.state, State::Terminated(_)) }
        };
        if self.main.iter().any(begun) { "Running" } else { "Pending" }
    }

    /// The status to write.
    pub fn render(&mut self, pod: &Pod) -> Value {
        let scheduled = self.scheduled.is_ok();
        let initialized = self.prepared && self.init.iter().all(ContainerState::succeeded);
        let ready = !self.over && self.main.iter().all(|container| container.ready);
        let unready: Vec<_> = self.main.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
        let why_unready = if self.over {
            ("PodCompleted", String::new())
        } else {
            ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
        };
        let unscheduled = ("Unschedulable", self.scheduled.clone().err().unwrap_or_default());
        let unprepared = ("ContainersNotInitialized", String::new());
        let conditions = [
            (
                "PodReadyToStartContainers",
                self.prepared && !self.over,
                &(if self.over { why_unready.clone() } else { unprepared.clone() }),
            ),
            ("Initialized", initialized, &unprepared),
            ("Ready", ready, &why_unready),
            ("ContainersReady", ready, &why_unready),
            ("PodScheduled", scheduled, &unscheduled),
        ]
        .map(|(type_, holds, why_not)| {
            self.conditions.entry(type_).or_insert_with(|| (holds, now())).update(holds, type_, why_not)
        });
        let uid = pod.uid().unwrap_or_default();
        let render = |containers: &[ContainerState]| containers.iter().map(|c| c.render(&uid)).collect::<Vec<_>>();
        json!({
            "phase": self.phase(),
            "conditions": conditions,
            "startTime": scheduled.then_some(&self.started),
            "hostIP": scheduled.then_some("127.0.0.1"),
            "podIP": scheduled.then_some("127.0.0.1"),
            "podIPs": scheduled.then(|| json!([{"ip": "127.0.0.1"}])),
            "qosClass": quality(pod),
            "initContainerStatuses": if self.init.is_empty() { Value::Null } else { json!(render(&self.init)) },
            "containerStatuses": if scheduled { json!(render(&self.main)) } else { Value::Null },
        })
    }
}

trait Condition {
    fn update(&mut self, holds: bool, type_: &str, why_not: &(&str, String)) -> Value;
}

impl Condition for (bool, Time) {
    /// The condition as it is written; its time moves only when its status does.
    fn update(&mut self, holds: bool, type_: &str, why_not: &(&str, String)) -> Value {
        if self.0 != holds {
            *self = (holds, now());
        }
        let mut value = if holds { json!({}) } else { reason_and_message(why_not.0, &why_not.1) };
        value["type"] = json!(type_);
        value["status"] = json!(if holds { "True" } else { "False" });
        value["lastTransitionTime"] = json!(self.1);
        value
    }
}

fn quality(pod: &Pod) -> &'static str {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let asks = |container: &Container| {
        container.resources.as_ref().is_some_and(|r| r.requests.is_some() || r.limits.is_some())
    };
    if containers.into_iter().any(asks) { "Burstable" } else { "BestEffort" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]},
        }))
        .unwrap()
    }

    fn ended(code: i32) -> State {
        State::Terminated(Ended { code, reason: "", message: String::new(), started: None, finished: now() })
    }

    fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
        status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == type_).unwrap()
    }

    #[test]
    fn the_phase_follows_the_containers() {
        let mut state = PodState::new(&pod());
        assert_eq!(state.phase(), "Pending");
        state.container("i").unwrap().state = ended(0);
        assert_eq!(state.phase(), "Pending", "init containers do not count as running");
        state.container("a").unwrap().state = State::Running(now());
        assert_eq!(state.phase(), "Running");
        state.container("a").unwrap().state = ended(0);
        state.container("b").unwrap().state = ended(0);
        state.over = true;
        assert_eq!(state.phase(), "Succeeded");
        state.container("b").unwrap().state = ended(3);
        assert_eq!(state.phase(), "Failed");
    }

    #[test]
    fn a_pod_is_ready_when_all_its_containers_are() {
        let mut state = PodState::new(&pod());
        state.scheduled = Ok(());
        state.prepared = true;
        state.container("a").unwrap().ready = true;
        let status = state.render(&pod());
        assert_eq!(condition(&status, "Ready")["status"], "False");
        assert_eq!(condition(&status, "Ready")["message"], "containers with unready status: [b]");
        state.container("b").unwrap().ready = true;
        let status = state.render(&pod());
        assert_eq!(condition(&status, "Ready")["status"], "True");
        assert_eq!(condition(&status, "Initialized")["status"], "False", "the init container has not run");
    }

    #[test]
    fn why_a_pod_has_no_node_is_said() {
        let mut state = PodState::new(&pod());
        state.scheduled = Err("claim missing".into());
        let status = state.render(&pod());
        assert_eq!(condition(&status, "PodScheduled")["message"], "claim missing");
        assert_eq!(status["containerStatuses"], Value::Null);
    }
}
