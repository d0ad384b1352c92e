//! What goes into a bundle.

use std::collections::BTreeMap;

use kube::{api::ListParams, core::DynamicObject};
use serde_json::Value;

use super::{
    BACKING_IMAGES, BACKUP_TARGETS, BundleKind, CLAIMS, CONFIG_MAPS, DAEMON_SETS, DEFINITIONS, DEPLOYMENTS,
    ENGINE_IMAGES, RECURRING_JOBS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS, SERVICES, SETTINGS, STORAGE_CLASSES,
    VOLUMES, VOLUMES_OF_CLUSTER,
};
use crate::{
    Kind, Result,
    sandbox::longhorn::{
        context::{Context, api_error},
        names,
        resource::{Fields, Resource},
    },
};

/// The objects by kind. Secrets, nodes, namespaces, backups and workloads are not among them.
pub(super) async fn collect(context: &Context) -> Result<BTreeMap<String, Vec<Value>>> {
    const IN_NAMESPACE: [&BundleKind; 13] = [
        &BACKING_IMAGES,
        &BACKUP_TARGETS,
        &CONFIG_MAPS,
        &DAEMON_SETS,
        &DEPLOYMENTS,
        &ENGINE_IMAGES,
        &RECURRING_JOBS,
        &ROLE_BINDINGS,
        &ROLES,
        &SERVICE_ACCOUNTS,
        &SERVICES,
        &SETTINGS,
        &VOLUMES,
    ];
    let mut objects = BTreeMap::new();
    for kind in IN_NAMESPACE {
        objects.insert(kind.kind.to_owned(), list(context, kind).await?);
    }
    for service in objects.get_mut(SERVICES.kind).into_iter().flatten() {
        service["spec"]["clusterIP"] = "".into();
        service["spec"]["clusterIPs"] = Value::Null;
    }
    let mut definitions = list(context, &DEFINITIONS).await?;
    definitions.retain(|definition| definition.text("/spec/group") == names::GROUP);
    objects.insert(DEFINITIONS.kind.to_owned(), definitions);
    let mut classes = list(context, &STORAGE_CLASSES).await?;
    classes.retain(|class| class.text("/provisioner") == names::DRIVER);
    objects.insert(STORAGE_CLASSES.kind.to_owned(), classes);
    let mut volumes = list(context, &VOLUMES_OF_CLUSTER).await?;
    volumes.retain(|volume| volume.text("/spec/csi/driver") == names::DRIVER);
    // Claims are chosen by class, so that claims of somebody else's volumes may come along.
    let classes: Vec<&str> = volumes.iter().map(|volume| volume.text("/spec/storageClassName")).collect();
    let claims = context.list(Resource::Claim);
    let claims = claims
        .iter()
        .filter(|claim| claim.field("/spec/storageClassName").as_str().is_some_and(|class| classes.contains(&class)));
    objects.insert(CLAIMS.kind.to_owned(), claims.map(|claim| value(claim)).collect());
    objects.insert(VOLUMES_OF_CLUSTER.kind.to_owned(), volumes);
    Ok(objects)
}

/// All objects of a kind; a kind the server does not know has none.
async fn list(context: &Context, kind: &BundleKind) -> Result<Vec<Value>> {
    let api = kind.api(context, &context.options.namespace);
    match api.list(&ListParams::default()).await.map_err(|error| api_error(&error, kind.plural)) {
        Ok(list) => Ok(list.items.iter().map(value).collect()),
        Err(error) if error.kind() == Kind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
