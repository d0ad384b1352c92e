//! A small company's site on an embedded cluster, and its operator, who knows `make` and the manifests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{
    apps::{APPS, App, claims, manifests},
    folders::copy,
    lab::{Lab, RUNBOOKS, Said, alone, has},
};

/// A cluster, and the operator's folder with the Makefile, the runbooks, the manifests and the exported state.
pub struct Site {
    pub lab: Lab,
}

/// What is left of the site when its cluster is gone, and what the gate said before.
pub struct Remains {
    folder: PathBuf,
    /// The gate, when every volume had its backup.
    pub gate: Said,
    /// The gate, when one had lost it.
    pub gate_without_one: Said,
    /// The backups, when the application of that one could not be asked.
    pub unproven: Said,
}

/// The volume whose backup goes before the gate is asked again.
pub const WITHOUT: &str = "wiki/data-db-0";

impl Remains {
    /// Deploys, fills, backs up and loses the site; once, for all tests of this process.
    pub fn of_the_site() -> &'static Self {
        static REMAINS: OnceLock<Remains> = OnceLock::new();
        REMAINS.get_or_init(|| {
            let site = Site::up();
            site.deploy();
            site.fill();
            site.lab.runbook("recurring-jobs", &[]).success();
            let gate = site.make("backup-cluster-state teardown-gate");
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site");
            let _ = fs::remove_dir_all(&folder);
            copy(&site.lab.bucket(), &folder.join("bucket"));
            copy(&site.lab.folder().join("cluster-state"), &folder.join("cluster-state"));
            let backup = "for b in longhorn::backups() { if b.claim == CLAIM { kube::delete(\"backups.longhorn.io\", `longhorn-system/${b.name}`, #{ wait: true }); } }";
            site.lab.script(&backup.replace("CLAIM", &format!("{WITHOUT:?}"))).success();
            let gate_without_one = site.make("teardown-gate");
            let other = format!("kube::annotate(\"pvc\", {WITHOUT:?}, #{{ \"lhrun.io/check\": \"apps/unknown\" }});");
            site.lab.script(&other).success();
            site.parameters(&format!("claims = {WITHOUT:?}"));
            let unproven = site.make("backup-cluster-state");
            Self { folder, gate, gate_without_one, unproven }
        })
    }

    /// A fresh cluster with the old bucket and the operator's folder, and these parameters in lhrun.toml.
    pub fn rebuilt(&self, parameters: &str) -> Site {
        let site = Site::up();
        copy(&self.folder.join("bucket"), &site.lab.bucket());
        copy(&self.folder.join("cluster-state"), &site.lab.folder().join("cluster-state"));
        site.parameters(parameters);
        site
    }
}

impl Site {
    fn up() -> Self {
        let lab = Lab::up();
        let folder = lab.folder();
        copy(Path::new(RUNBOOKS), &folder.join("runbooks"));
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile"), folder.join("Makefile")).expect("the Makefile");
        fs::write(folder.join("apps.yaml"), manifests()).expect("the manifests");
        Self { lab }
    }

    /// Sets the runbooks' parameters as the operator does.
    pub fn parameters(&self, parameters: &str) {
        fs::write(self.lab.folder().join("lhrun.toml"), format!("[params]\n{parameters}\n"))
            .expect("the configuration");
    }

    /// `make` in the operator's folder, with nobody to answer questions.
    pub fn make(&self, targets: &str) -> Said {
        let begun = Instant::now();
        let mut command = alone("make");
        self.lab.reach(&mut command);
        command
            .current_dir(self.lab.folder())
            .arg(concat!("LHRUN=", env!("CARGO_BIN_EXE_lhrun")))
            .args(targets.split_whitespace());
        let said = Said::of(command);
        eprintln!("make {targets}: {:.1} s", begun.elapsed().as_secs_f32());
        said
    }

    /// Deploys all applications, as after a rebuild, and waits until they run.
    pub fn deploy(&self) {
        let begun = Instant::now();
        let kind = |app: &App| if app.pods > 0 { "statefulset" } else { "deployment" };
        let wait = |app: &App| {
            format!("kube::wait(\"{}\", \"{}/{}\", \"rollout\", \"3m\");", kind(app), app.namespace, app.name)
        };
        let waits = APPS.iter().map(wait).collect::<Vec<_>>().join("\n");
        self.lab.script(&format!("kube::apply(kube::manifest(\"apps.yaml\"));\n{waits}")).success();
        eprintln!("deploy: {:.1} s", begun.elapsed().as_secs_f32());
    }

    fn fill(&self) {
        let imports = ["lib/pods", "apps/postgres", "apps/mariadb", "apps/redis"]
            .map(|file| format!("import \"{file}\" as {};\n", &file[file.find('/').unwrap_or(0) + 1..]));
        let seeds: String = claims().iter().map(|claim| claim.seed() + "\n").collect();
        self.lab.script(&format!("{}{seeds}", imports.concat())).success();
    }

    /// Identity and version of everything a restore makes, when nothing moves any more.
    pub fn objects(&self) -> String {
        let list = "for kind in [\"pv\", \"pvc\", \"volumes.longhorn.io\", \"recurringjobs.longhorn.io\"] {
            for o in kube::list(kind, #{ all_namespaces: true }) { print(`${kind} ${o.metadata.name} ${o.metadata.uid} ${o.metadata.resourceVersion}`); } }";
        let end = Instant::now() + Duration::from_secs(30);
        let mut before = self.lab.script(list).success().stdout();
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.lab.script(list).success().stdout();
            if now == before {
                return now;
            }
            assert!(Instant::now() < end, "something still changes:\n{before}\n{now}");
            before = now;
        }
    }
}

/// Whether the programs of all five kinds are here; says loudly when the test has to do without one.
pub fn can_run() -> bool {
    ["make", "mariadb-install-db", "redis-server", "sqlite3"].into_iter().all(has)
}
