//! The version, backup targets, and reading the store.

use std::time::Duration;

use rhai::{Dynamic, Map, NativeCallContext, plugin::*};
use secrecy::SecretString;

use super::{data, on_longhorn, shown, store_of};
use crate::{
    Error, Kind, Result,
    longhorn::{Credentials, DEFAULT_TARGET, TargetRequest},
    script::{
        Host, RhaiResultOf, changing,
        convert::{self, Options},
        primitives::OrThrow,
    },
};

/// Longest times, unless the runbook says others.
const CONFIGURE: Duration = Duration::from_mins(3);
const SYNC: Duration = Duration::from_mins(15);

#[export_module]
pub mod api {
    /// The installed version of Longhorn, for example `"v1.10.2"`.
    #[rhai_fn(return_raw)]
    pub fn version(ctx: NativeCallContext) -> RhaiResultOf<String> {
        on_longhorn(&ctx, |_, longhorn| async move { Ok(longhorn.version().await?.to_string()) })
    }

    /// The backup target `default`.
    #[rhai_fn(return_raw)]
    pub fn target(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        target_named(ctx, DEFAULT_TARGET)
    }

    /// A backup target: `#{name, url, secret, poll_interval, available, last_synced, message}`. `available` says that
    /// Longhorn reached it, not that it knows the content; for that there is `longhorn::sync`.
    #[rhai_fn(name = "target", return_raw)]
    pub fn target_named(ctx: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        on_longhorn(&ctx, |_, longhorn| async move { data(&longhorn.target(name).await?) })
    }

    /// Points a backup target at a bucket and waits until Longhorn has looked at it; gives the target.
    ///
    /// `url` (`"s3://bucket@region/path/"`) and `secret` (the name of the credential secret) are needed. With
    /// `access_key` and `secret_key`, and `endpoint`, `ca` (PEM) and `virtual_hosted` if needed, the secret is written
    /// first. Further options: `name` (`"default"`), `poll_interval` (`"5m0s"`), `timeout` (3 minutes).
    #[rhai_fn(return_raw)]
    pub fn configure_target(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let request = target_request(options).or_throw(&ctx)?;
        let name = request.name.clone();
        let mut tell = shown(&ctx, &format!("configuring the backup target {name}"));
        tell(crate::longhorn::Progress { percent: None, note: "waiting for Longhorn to look at it".to_string() });
        let (target, changed) = changing(
            &ctx,
            || format!("the configuration of the backup target {name}"),
            || on_longhorn(&ctx, |_, longhorn| async move { longhorn.configure_target(&request).await }),
        )?;
        drop(tell);
        if changed {
            Host::of(&ctx).run().change(format!("configured the backup target {name}"));
        }
        data(&target).or_throw(&ctx)
    }

    /// Has Longhorn read the store of the backup target now, and waits until it knows every backup in it (15 minutes at
    /// most). Gives `#{volumes, backups, system_backups, unusable}`; `unusable` names what nobody can restore.
    #[rhai_fn(name = "sync", return_raw)]
    pub fn read_store(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        synchronise(&ctx, DEFAULT_TARGET.to_string(), SYNC)
    }

    /// Has Longhorn read the store; throws `timeout`, naming what is missing, when that takes longer. Instead of a time,
    /// the options `timeout` and `target` can be given.
    #[rhai_fn(name = "sync", return_raw)]
    pub fn read_store_within(ctx: NativeCallContext, timeout: Dynamic) -> RhaiResultOf<Dynamic> {
        let Some(map) = timeout.clone().try_cast::<Map>() else {
            let limit = convert::duration(&timeout).or_throw(&ctx)?;
            return synchronise(&ctx, DEFAULT_TARGET.to_string(), limit);
        };
        let mut options = Options::new("longhorn::sync", map);
        let target = options.text("target").or_throw(&ctx)?.unwrap_or_else(|| DEFAULT_TARGET.to_string());
        let limit = options.duration("timeout").or_throw(&ctx)?.unwrap_or(SYNC);
        options.finish().or_throw(&ctx)?;
        synchronise(&ctx, target, limit)
    }
}

fn synchronise(ctx: &NativeCallContext, name: String, limit: Duration) -> RhaiResultOf<Dynamic> {
    let mut tell = shown(ctx, "reading the backup store");
    on_longhorn(ctx, |host, longhorn| async move {
        let target = longhorn.target(&name).await?;
        let store = store_of(&host, &longhorn, &target).await?;
        data(&longhorn.sync(&name, &store, limit, &mut tell).await?)
    })
}

fn target_request(map: Map) -> Result<TargetRequest> {
    let mut options = Options::new("longhorn::configure_target", map);
    let (access_key, secret_key) = (options.text("access_key")?, options.text("secret_key")?);
    let (endpoint, ca_pem) = (options.text("endpoint")?, options.text("ca")?);
    let virtual_hosted = options.flag("virtual_hosted")?;
    let credentials = match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => {
            let secret_key = SecretString::from(secret_key);
            Some(Credentials { access_key, secret_key, endpoint, ca_pem, virtual_hosted })
        }
        (None, None) if endpoint.is_none() && ca_pem.is_none() && virtual_hosted.is_none() => None,
        _ => {
            let message = "longhorn::configure_target: `access_key` and `secret_key` must be given together";
            return Err(Error::new(Kind::Script, message).hint("without both, the existing secret is used as it is"));
        }
    };
    let request = TargetRequest {
        name: options.text("name")?.unwrap_or_else(|| DEFAULT_TARGET.to_string()),
        url: options.required_text("url")?,
        secret: options.required_text("secret")?,
        credentials,
        poll_interval: options.text("poll_interval")?,
        limit: options.duration("timeout")?.unwrap_or(CONFIGURE),
    };
    options.finish()?;
    Ok(request)
}
