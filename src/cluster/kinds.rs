//! The kinds a cluster serves, and which of them a typed word means.

use std::sync::Arc;

use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

use crate::{Error, Kind, Result, terminal::suggest};

/// One kind the cluster serves, in the version the server prefers unless another was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, for example `v1beta2`.
    pub version: String,
    /// For example `Volume`.
    pub kind: String,
    /// For example `volumes`.
    pub plural: String,
    /// For example `volume`.
    pub singular: String,
    /// For example `lhv`.
    pub short_names: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

impl ApiKind {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `volumes.longhorn.io`, or `pods` in the core group: a word that always means this kind.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Path of the kind's collection; `None` means all namespaces.
    pub(super) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        let version = self.api_version();
        match namespace {
            Some(namespace) if self.namespaced => format!("/{root}/{version}/namespaces/{namespace}/{}", self.plural),
            _ => format!("/{root}/{version}/{}", self.plural),
        }
    }

    fn is_called(&self, word: &str) -> bool {
        self.plural == word
            || self.singular == word
            || self.kind.eq_ignore_ascii_case(word)
            || self.short_names.iter().any(|short| short == word)
    }

    /// Kubernetes' own groups, which kubectl prefers to those of custom resources.
    fn is_builtin(&self) -> bool {
        !self.group.contains('.') || self.group.ends_with(".k8s.io")
    }
}

/// All kinds of one cluster, in the server's order of preference.
#[derive(Debug, Default)]
pub struct KindIndex {
    preferred: Vec<Arc<ApiKind>>,
    other_versions: Vec<Arc<ApiKind>>,
}

impl KindIndex {
    /// Reads the aggregated discovery documents of `/api` and `/apis`.
    pub(super) fn new(documents: [APIGroupDiscoveryList; 2]) -> Self {
        let mut index = Self::default();
        for group in documents.into_iter().flat_map(|document| document.items) {
            let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
            for version in group.versions {
                let version_name = version.version.unwrap_or_default();
                for resource in version.resources {
                    let Some(kind) = api_kind(&name, &version_name, resource) else { continue };
                    let known = |list: &[Arc<ApiKind>]| {
                        list.iter().any(|other| other.group == kind.group && other.plural == kind.plural)
                    };
                    let list = if known(&index.preferred) { &mut index.other_versions } else { &mut index.preferred };
                    list.push(Arc::new(kind));
                }
            }
        }
        index
    }

    /// Whether the server told of any kind at all.
    pub(super) fn is_empty(&self) -> bool {
        self.preferred.is_empty()
    }

    /// The kind of a manifest's `apiVersion` and `kind`.
    pub fn of_manifest(&self, api_version: &str, kind: &str) -> Option<Arc<ApiKind>> {
        self.preferred
            .iter()
            .chain(&self.other_versions)
            .find(|known| known.kind == kind && known.api_version() == api_version)
            .cloned()
    }

    /// The kind a word means: plural, singular, kind or short name, alone or followed by `.group` or
    /// `.version.group`, as in kubectl.
    ///
    /// A word that several groups use means the core or built-in one, as kubectl has it. When only custom resources
    /// share it, it is an error that names them: picking one silently would act on the wrong objects.
    pub fn resolve(&self, word: &str) -> Result<Arc<ApiKind>> {
        let lower = word.to_ascii_lowercase();
        let (name, qualifier) = match lower.split_once('.') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (lower.as_str(), None),
        };
        let Some(qualifier) = qualifier else { return self.pick(word, name) };
        let in_group = |known: &&Arc<ApiKind>| known.group == qualifier && known.is_called(name);
        if let Some(known) = self.preferred.iter().find(in_group) {
            return Ok(known.clone());
        }
        let with_version = |known: &&Arc<ApiKind>| {
            qualifier.strip_prefix(known.version.as_str()).map(|rest| rest.trim_start_matches('.'))
                == Some(known.group.as_str())
                && known.is_called(name)
        };
        let mut all = self.preferred.iter().chain(&self.other_versions);
        all.find(with_version).cloned().ok_or_else(|| self.unknown(word, name))
    }

    fn pick(&self, word: &str, name: &str) -> Result<Arc<ApiKind>> {
        let called: Vec<_> = self.preferred.iter().filter(|known| known.is_called(name)).collect();
        let exact: Vec<_> =
            called.iter().copied().filter(|known| known.plural == name || known.singular == name).collect();
        // A short name of one group does not hide the proper name of another.
        let candidates = if exact.is_empty() { called } else { exact };
        if let Some(builtin) = candidates.iter().find(|known| known.is_builtin()) {
            return Ok((*builtin).clone());
        }
        match candidates.as_slice() {
            [] => Err(self.unknown(word, name)),
            [one] => Ok((*one).clone()),
            several => {
                let names: Vec<_> = several.iter().map(|known| known.full_name()).collect();
                Err(Error::new(Kind::Invalid, format!("kind {word:?} is ambiguous: {}", names.join(", ")))
                    .hint(format!("write {}", names[0])))
            }
        }
    }

    fn unknown(&self, word: &str, name: &str) -> Error {
        let error = Error::new(Kind::NotFound, format!("the cluster serves no kind {word:?}"));
        let names = self.preferred.iter().flat_map(|known| {
            [&known.plural, &known.singular].into_iter().chain(&known.short_names).map(String::as_str)
        });
        error.hint(suggest::did_you_mean(name, names).unwrap_or_else(|| {
            "kubectl api-resources lists the kinds; a missing one may need its operator installed".to_string()
        }))
    }
}

fn api_kind(group: &str, version: &str, resource: APIResourceDiscovery) -> Option<ApiKind> {
    // Resources without list are calls (reviews, bindings), not objects.
    if !resource.verbs.iter().any(|verb| verb == "list" || verb == "get") {
        return None;
    }
    let response = resource.response_kind.unwrap_or_default();
    let kind = response.kind?;
    Some(ApiKind {
        group: group.to_string(),
        version: version.to_string(),
        singular: resource.singular_resource.filter(|name| !name.is_empty()).unwrap_or_else(|| kind.to_lowercase()),
        plural: resource.resource?,
        short_names: resource.short_names,
        namespaced: resource.scope.as_deref() == Some("Namespaced"),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(kind: &str, plural: &str, short: &[&str], scope: &str) -> Value {
        json!({"resource": plural, "singularResource": kind.to_lowercase(), "scope": scope, "shortNames": short,
            "responseKind": {"group": "", "version": "", "kind": kind}, "verbs": ["get", "list", "watch"]})
    }

    fn index() -> KindIndex {
        let group = |name: &str, versions: Value| json!({"metadata": {"name": name}, "versions": versions});
        let one = |version: &str, resources: Vec<Value>| json!([{"version": version, "resources": resources}]);
        let core = json!({"items": [group("", one("v1", vec![
            resource("Pod", "pods", &["po"], "Namespaced"),
            resource("PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], "Namespaced"),
            resource("Node", "nodes", &["no"], "Cluster"),
            json!({"resource": "bindings", "responseKind": {"kind": "Binding"}, "scope": "Namespaced", "verbs": ["create"]}),
        ]))]});
        let groups = json!({"items": [
            group("apps", one("v1", vec![resource("Deployment", "deployments", &["deploy"], "Namespaced")])),
            group("autoscaling", json!([
                {"version": "v2", "resources": [resource("HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], "Namespaced")]},
                {"version": "v1", "resources": [resource("HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], "Namespaced")]},
            ])),
            group("longhorn.io", one("v1beta2", vec![
                resource("Volume", "volumes", &["lhv"], "Namespaced"),
                resource("Backup", "backups", &["lhb"], "Namespaced"),
                resource("Node", "nodes", &["lhn"], "Namespaced"),
            ])),
            group("velero.io", one("v1", vec![resource("Backup", "backups", &[], "Namespaced")])),
        ]});
        KindIndex::new([serde_json::from_value(core).unwrap(), serde_json::from_value(groups).unwrap()])
    }

    #[test]
    fn every_form_kubectl_takes_is_understood() {
        let index = index();
        for (word, full) in [
            ("pod", "pods"),
            ("pods", "pods"),
            ("po", "pods"),
            ("Pod", "pods"),
            ("pvc", "persistentvolumeclaims"),
            ("deployments.apps", "deployments.apps"),
            ("deploy", "deployments.apps"),
            ("deployment.v1.apps", "deployments.apps"),
            ("volumes.longhorn.io", "volumes.longhorn.io"),
            ("Volume.longhorn.io", "volumes.longhorn.io"),
            ("Volume", "volumes.longhorn.io"),
            ("lhv", "volumes.longhorn.io"),
            ("volumes.v1beta2.longhorn.io", "volumes.longhorn.io"),
        ] {
            assert_eq!(index.resolve(word).unwrap().full_name(), full, "{word}");
        }
    }

    #[test]
    fn the_builtin_group_wins_and_custom_ones_are_asked_about() {
        let index = index();
        assert_eq!(index.resolve("nodes").unwrap().full_name(), "nodes");
        assert_eq!(index.resolve("lhn").unwrap().full_name(), "nodes.longhorn.io");
        let error = index.resolve("backup").unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains("backups.longhorn.io, backups.velero.io"), "{error}");
    }

    #[test]
    fn the_preferred_version_is_used_unless_another_is_named() {
        let index = index();
        assert_eq!(index.resolve("hpa").unwrap().version, "v2");
        assert_eq!(index.resolve("hpa.v1.autoscaling").unwrap().version, "v1");
        assert_eq!(index.of_manifest("autoscaling/v1", "HorizontalPodAutoscaler").unwrap().version, "v1");
        assert!(index.of_manifest("autoscaling/v3", "HorizontalPodAutoscaler").is_none());
    }

    #[test]
    fn a_slip_gets_a_proposal() {
        let error = index().resolve("volumse").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.hint_text().unwrap().contains("`volumes`"), "{error:?}");
        let error = index().resolve("bindings").unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    }

    #[test]
    fn paths_follow_the_scope() {
        let index = index();
        let path = |word: &str, namespace| index.resolve(word).unwrap().path(namespace);
        assert_eq!(path("po", Some("a")), "/api/v1/namespaces/a/pods");
        assert_eq!(path("po", None), "/api/v1/pods");
        assert_eq!(path("no", Some("a")), "/api/v1/nodes");
        assert_eq!(path("lhv", Some("a")), "/apis/longhorn.io/v1beta2/namespaces/a/volumes");
    }
}
