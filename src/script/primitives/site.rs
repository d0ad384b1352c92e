//! `site::`: the life cycle of the cluster itself, for drills. On the sandbox its own; elsewhere the commands the
//! operator configured.

use rhai::{NativeCallContext, plugin::*};

use crate::script::{Host, RhaiResultOf, block, changing};

#[export_module]
pub mod api {
    /// `sandbox`, or the name of the cluster's context.
    #[rhai_fn(return_raw)]
    pub fn name(ctx: NativeCallContext) -> RhaiResultOf<String> {
        if let Some(name) = Host::of(&ctx).site_name() {
            return Ok(name);
        }
        block(&ctx, |host| async move {
            let cluster = host.cluster().await?;
            Ok(cluster.context().unwrap_or(cluster.server()).to_owned())
        })
    }

    /// The folder for files about this cluster: that of lhrun.toml; of the sandbox, one that goes with it.
    #[rhai_fn(return_raw)]
    pub fn folder(ctx: NativeCallContext) -> RhaiResultOf<String> {
        block(&ctx, |host| async move { Ok(host.site()?.folder().to_string_lossy().into_owned()) })
    }

    /// Destroys the cluster and everything in it; what is in the bucket stays.
    #[rhai_fn(return_raw)]
    pub fn teardown(ctx: NativeCallContext) -> RhaiResultOf<()> {
        let work = |host: Host| async move {
            let site = host.site()?;
            site.teardown().await?;
            host.disconnect().await;
            host.run().change(format!("tore down {}", site.name()));
            Ok(())
        };
        changing(&ctx, || "the teardown of the cluster".into(), || block(&ctx, work))
    }

    /// Makes an empty cluster with Longhorn in it.
    #[rhai_fn(return_raw)]
    pub fn rebuild(ctx: NativeCallContext) -> RhaiResultOf<()> {
        let work = |host: Host| async move {
            let site = host.site()?;
            site.rebuild().await?;
            host.disconnect().await;
            host.run().change(format!("rebuilt {}", site.name()));
            Ok(())
        };
        changing(&ctx, || "the rebuilding of the cluster".into(), || block(&ctx, work))
    }

    /// Installs what belongs on the cluster besides Longhorn.
    #[rhai_fn(return_raw)]
    pub fn deploy(ctx: NativeCallContext) -> RhaiResultOf<()> {
        let work = |host: Host| async move {
            let site = host.site()?;
            site.deploy().await?;
            host.run().change(format!("deployed on {}", site.name()));
            Ok(())
        };
        changing(&ctx, || "the deployment of the cluster".into(), || block(&ctx, work))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::{Arc, Mutex},
    };

    use futures::future::BoxFuture;

    use crate::{
        Error, Kind, Result,
        script::{Fault, Settings, Site, engine, host::fake},
    };

    #[derive(Default)]
    struct Diary(Mutex<Vec<&'static str>>);

    impl Diary {
        fn note(&self, what: &'static str) -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                self.0.lock().unwrap().push(what);
                if what == "deploy" { Err(Error::new(Kind::Failed, "make: no rule")) } else { Ok(()) }
            })
        }
    }

    impl Site for Diary {
        fn name(&self) -> String {
            "sandbox".into()
        }

        fn folder(&self) -> PathBuf {
            "/state".into()
        }

        fn teardown(&self) -> BoxFuture<'_, Result<()>> {
            self.note("teardown")
        }

        fn rebuild(&self) -> BoxFuture<'_, Result<()>> {
            self.note("rebuild")
        }

        fn deploy(&self) -> BoxFuture<'_, Result<()>> {
            self.note("deploy")
        }
    }

    #[test]
    fn the_sites_commands_are_called_and_their_failures_thrown() {
        let diary = Arc::new(Diary::default());
        let (host, _) = fake::host(Settings { site: Some(diary.clone()), ..Settings::default() });
        let error = engine::build(&host)
            .run("if site::folder() == `/state` { site::teardown(); site::rebuild(); site::deploy(); }")
            .unwrap_err();
        assert_eq!(Fault::new(&error).error.message(), "make: no rule");
        assert_eq!(*diary.0.lock().unwrap(), ["teardown", "rebuild", "deploy"]);
        let changes: Vec<_> = host.run().record().changes.into_iter().map(|change| change.what).collect();
        assert_eq!(changes, ["tore down sandbox", "rebuilt sandbox"]);
    }

    #[test]
    fn a_cluster_without_commands_is_not_torn_down() {
        let (host, _) = fake::host(Settings::default());
        let error = engine::build(&host).run("site::teardown();").unwrap_err();
        assert_eq!(Fault::new(&error).error.kind(), Kind::Usage);
    }
}
