//! From a request to what it asks for.

use std::sync::Arc;

use axum::{
    body::{self, Body, Bytes},
    extract::{Query, Request},
    http::{HeaderMap, Method, header, request::Parts},
    response::IntoResponse,
};
use serde_json::Value;

use super::{
    binding, discovery,
    kinds::{self, ResourceKind},
    openapi, read, reviews, scale,
    server::Cluster,
    status::{Answer, Failure, json_response},
    streams, watch, write,
};

/// Largest request body: what a real server accepts (its limit is etcd's, 1.5 MiB; requests may be twice that).
const MAX_BODY: usize = 3 << 20;

/// Query parameters; names may repeat.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(pub Vec<(String, String)>);

impl Params {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "true" | "1" | ""))
    }

    /// A whole number; 400 when it is none.
    pub fn number(&self, name: &str) -> Answer<Option<u64>> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Failure::bad_request(format!("{name}: Invalid value: {text:?}: must be a whole number"))),
        }
    }
}

/// The resource or object a path names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub kind: &'static ResourceKind,
    /// `""` for cluster-scoped kinds, `None` for all namespaces.
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    /// Namespace of one object.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The path after `/api/v1/` or `/apis/group/version/`.
    fn parse(group: &str, version: &str, path: &[String]) -> Option<Self> {
        let of = |plural: &str| kinds::find(group, plural).filter(|kind| kind.version == version);
        let (namespace, rest) = match path {
            [first, namespace, rest @ ..]
                if first == "namespaces" && !rest.is_empty() && of(&rest[0]).is_some_and(|kind| kind.namespaced) =>
            {
                (Some(namespace.clone()), rest)
            }
            rest => (None, rest),
        };
        let (plural, rest) = rest.split_first()?;
        let kind = of(plural)?;
        let (name, rest) = match rest {
            [] => (None, rest),
            [name, rest @ ..] => (Some(name.clone()), rest),
        };
        let subresource = match rest {
            [] => None,
            [subresource] => Some(subresource.clone()),
            _ => return None,
        };
        // An object of a namespaced kind is reached through its namespace only.
        if kind.namespaced && namespace.is_none() && name.is_some() {
            return None;
        }
        let namespace = if kind.namespaced { namespace } else { Some(String::new()) };
        Some(Self { kind, namespace, name, subresource })
    }
}

/// A request for a resource, taken apart.
pub(super) struct Call {
    pub cluster: Arc<Cluster>,
    pub target: Target,
    pub params: Params,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn accept(&self) -> &str {
        self.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The media type of the body, without parameters.
    pub fn content_type(&self) -> &str {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// Name of the object the path ends in.
    pub fn name(&self) -> Answer<&str> {
        self.target.name.as_deref().ok_or_else(Failure::method_not_allowed)
    }

    /// `?dryRun=All`; 400 for anything else.
    pub fn dry_run(&self) -> Answer<bool> {
        let mut dry = false;
        for value in self.params.all("dryRun") {
            match value {
                "All" => dry = true,
                "" => {}
                other => {
                    let message = format!(
                        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: {other:?}: supported \
                         values: \"All\""
                    );
                    return Err(Failure::new(422, "Invalid", message));
                }
            }
        }
        Ok(dry)
    }

    /// The body as an object, from JSON or YAML.
    pub fn object(&self) -> Answer<Value> {
        parse_body(self.content_type(), &self.body)
    }
}

/// JSON, or YAML when the content type says so.
pub(super) fn parse_body(content_type: &str, body: &[u8]) -> Answer<Value> {
    let parsed = match content_type {
        "application/vnd.kubernetes.protobuf" => {
            return Err(Failure::new(
                415,
                "UnsupportedMediaType",
                "the body of the request is protobuf, which this server does not read: \
                 send JSON or YAML, for example with kubectl apply -f instead of kubectl create",
            ));
        }
        "application/yaml" | "application/apply-patch+yaml" => {
            serde_saphyr::from_slice::<Value>(body).map_err(|error| error.to_string())
        }
        _ => serde_json::from_slice::<Value>(body).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(Failure::bad_request("the body of the request is not an object")),
        Err(error) => Err(Failure::bad_request(format!("the body of the request cannot be read: {error}"))),
    }
}

/// Serves one request.
pub(super) async fn dispatch(cluster: Arc<Cluster>, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    let path = segments(parts.uri.path()).ok_or_else(Failure::no_such_path)?;
    let path: &[String] = &path;
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names[..] {
        ["healthz" | "livez" | "readyz", ..] => Ok("ok".into_response()),
        ["version"] => Ok(json_response(200, &discovery::version())),
        ["api" | "apis"] | ["api" | "apis", _] | ["apis", _, _] if parts.method == Method::GET => {
            discovery::answer(&names, &parts.headers)
        }
        ["openapi", "v3", ..] => openapi::answer(&names[2..]),
        ["api", "v1", ..] => resource(cluster, &mut parts, body, "", "v1", &path[2..]).await,
        ["apis", group, version, ..] => resource(cluster, &mut parts, body, group, version, &path[3..]).await,
        _ => Err(Failure::no_such_path()),
    }
}

async fn resource(
    cluster: Arc<Cluster>,
    parts: &mut Parts,
    body: Body,
    group: &str,
    version: &str,
    path: &[String],
) -> Answer {
    let Query(params) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|error| Failure::bad_request(format!("invalid query: {error}")))?;
    let params = Params(params);
    let target = Target::parse(group, version, path).ok_or_else(Failure::no_such_path)?;
    let body = body::to_bytes(body, MAX_BODY).await.map_err(|_| {
        let message = format!("Request entity too large: limit is {MAX_BODY}");
        Failure::new(413, "RequestEntityTooLarge", message)
    })?;
    let call = Call { cluster, target, params, headers: parts.headers.clone(), body };
    let method = parts.method.clone();
    let (get, named) = (matches!(method, Method::GET | Method::HEAD), call.target.name.is_some());
    let replace = method == Method::PUT;
    match (call.target.subresource.as_deref(), call.target.kind.kind) {
        (None, _) if call.target.kind.review => {
            return if method == Method::POST {
                Ok(reviews::answer(&call))
            } else {
                Err(Failure::method_not_allowed())
            };
        }
        (None, _) | (Some("finalize"), "Namespace") => {}
        (Some("status"), _) if call.target.kind.status => {}
        (Some("log"), "Pod") if get => return streams::logs(call).await,
        (Some("exec"), "Pod") if get || method == Method::POST => return streams::exec(call, parts).await,
        (Some("binding"), "Pod") if method == Method::POST => return binding::bind(&call),
        (Some("scale"), _) if call.target.kind.scale && get => return scale::get(&call),
        (Some("scale"), _) if call.target.kind.scale && (replace || method == Method::PATCH) => {
            return scale::change(&call, replace);
        }
        _ => return Err(Failure::no_such_path()),
    }
    match (method, named) {
        _ if get && call.params.flag("watch") => watch::answer(call),
        (_, true) if get => read::get(&call),
        (_, false) if get => read::list(&call),
        (Method::POST, false) => write::create(&call),
        (Method::PUT, true) => write::replace(&call),
        (Method::PATCH, true) => write::patch(&call),
        (Method::DELETE, true) => write::delete(&call),
        (Method::DELETE, false) => write::delete_collection(&call),
        _ => Err(Failure::method_not_allowed()),
    }
}

/// The parts of a path, with `%20` and the like decoded. `None` when that is not text.
fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').filter(|part| !part.is_empty()).map(decode).collect()
}

fn decode(part: &str) -> Option<String> {
    if !part.contains('%') {
        return Some(part.to_owned());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(part.len()), part.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Option<String> {
        let parts = segments(path)?;
        let target = Target::parse("", "v1", &parts)?;
        Some(format!("{} {:?} {:?} {:?}", target.kind.plural, target.namespace, target.name, target.subresource))
    }

    #[test]
    fn paths_name_resources_objects_and_subresources() {
        assert_eq!(target("pods").unwrap(), "pods None None None");
        assert_eq!(target("namespaces/a/pods").unwrap(), "pods Some(\"a\") None None");
        assert_eq!(target("namespaces/a/pods/b/status").unwrap(), "pods Some(\"a\") Some(\"b\") Some(\"status\")");
        assert_eq!(target("namespaces/a").unwrap(), "namespaces Some(\"\") Some(\"a\") None");
        assert_eq!(target("namespaces/a/finalize").unwrap(), "namespaces Some(\"\") Some(\"a\") Some(\"finalize\")");
        for path in ["", "nothing", "pods/b", "namespaces/a/pods/b/c/d", "namespaces/a/nodes/n"] {
            assert_eq!(target(path), None, "{path}");
        }
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(segments("/a%3Ab//c").unwrap(), ["a:b", "c"]);
        for path in ["/%", "/%zz", "/%f", "/%ff"] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[test]
    fn bodies() {
        assert_eq!(parse_body("application/json", b"{\"a\":1}").unwrap()["a"], 1);
        assert_eq!(parse_body("application/apply-patch+yaml", b"a: 1").unwrap()["a"], 1);
        assert_eq!(parse_body("application/vnd.kubernetes.protobuf", b"k8s\0").unwrap_err().code, 415);
        for body in ["", "[]", "3", "{", "\"\\ud800\""] {
            assert_eq!(parse_body("application/json", body.as_bytes()).unwrap_err().code, 400, "{body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse_body("application/json", deep.as_bytes()).unwrap_err().code, 400);
        assert_eq!(parse_body("application/yaml", deep.as_bytes()).unwrap_err().code, 400);
    }
}
