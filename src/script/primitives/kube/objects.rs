//! Reading objects and manifests.

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};

use super::{object, objects, on_cluster};
use crate::{
    Error, Kind, Result,
    cluster::{ListOptions, ObjectRef, manifest},
    script::{Host, RhaiResultOf, convert::Options, primitives::OrThrow},
};

#[export_module]
pub mod api {
    /// The object; throws `not-found` when it is not there.
    #[rhai_fn(return_raw)]
    pub fn get(ctx: NativeCallContext, kind: &str, name: &str) -> RhaiResultOf<Dynamic> {
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let found = on_cluster(&ctx, |cluster| async move { cluster.get(&reference).await })?;
        Ok(object(&found))
    }

    /// The object, or `()` when it is not there.
    #[rhai_fn(return_raw)]
    pub fn find(ctx: NativeCallContext, kind: &str, name: &str) -> RhaiResultOf<Dynamic> {
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let found = on_cluster(&ctx, |cluster| async move { cluster.find(&reference).await })?;
        Ok(found.as_ref().map_or(Dynamic::UNIT, object))
    }

    /// Whether the object is there.
    #[rhai_fn(return_raw)]
    pub fn exists(ctx: NativeCallContext, kind: &str, name: &str) -> RhaiResultOf<bool> {
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        on_cluster(&ctx, |cluster| async move { cluster.exists(&reference).await })
    }

    /// The objects of a kind in the default namespace.
    #[rhai_fn(return_raw)]
    pub fn list(ctx: NativeCallContext, kind: &str) -> RhaiResultOf<Array> {
        list_with(ctx, kind, Map::new())
    }

    /// The objects of a kind: in one `namespace` or `all_namespaces`, with a label `selector` (`"app=web,tier!=cache"`)
    /// or a `fields` selector (`"status.phase=Running"`).
    #[rhai_fn(name = "list", return_raw)]
    pub fn list_with(ctx: NativeCallContext, kind: &str, options: Map) -> RhaiResultOf<Array> {
        let options = list_options(options).or_throw(&ctx)?;
        let found = on_cluster(&ctx, |cluster| async move { cluster.list(kind, &options).await })?;
        Ok(objects(&found))
    }

    /// The objects of a manifest, a YAML file beside the runbook or one of those inside the program.
    #[rhai_fn(name = "manifest", return_raw)]
    pub fn read_manifest(ctx: NativeCallContext, path: &str) -> RhaiResultOf<Array> {
        let document = Host::of(&ctx).settings().library.document(path).or_throw(&ctx)?;
        let found = manifest::parse(&document.text, &document.name).or_throw(&ctx)?;
        Ok(objects(&found))
    }

    /// The installed Helm releases, each in its newest revision: `#{name, namespace, revision, status, chart, version,
    /// app_version}`. Their values are not read into the script, as they often hold passwords.
    #[rhai_fn(return_raw)]
    pub fn helm_releases(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        let found = on_cluster(&ctx, |cluster| async move {
            let releases = cluster.helm_releases().await?;
            serde_json::to_value(releases).map_err(|error| {
                Error::new(Kind::Failed, "the Helm releases cannot be shown to the script").source(error)
            })
        })?;
        Ok(objects(found.as_array().map(Vec::as_slice).unwrap_or_default()))
    }

    /// The cluster that is used: `#{server, context, namespace, version}`.
    #[rhai_fn(name = "context", return_raw)]
    pub fn cluster_in_use(ctx: NativeCallContext) -> RhaiResultOf<Map> {
        on_cluster(&ctx, |cluster| async move {
            let context = cluster.context().map_or(Dynamic::UNIT, |context| context.to_string().into());
            Ok([
                ("server", cluster.server().to_string().into()),
                ("context", context),
                ("namespace", cluster.namespace().to_string().into()),
                ("version", cluster.version().to_string().into()),
            ]
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect())
        })
    }
}

fn list_options(map: Map) -> Result<ListOptions> {
    let mut options = Options::new("kube::list", map);
    let list = ListOptions {
        namespace: options.text("namespace")?,
        all_namespaces: options.flag("all_namespaces")?.unwrap_or(false),
        selector: options.text("selector")?,
        fields: options.text("fields")?,
    };
    options.finish()?;
    if list.all_namespaces && list.namespace.is_some() {
        return Err(Error::new(Kind::Script, "kube::list: give either `namespace` or `all_namespaces`"));
    }
    Ok(list)
}
