//! What runs on a small company's site: twenty volumes in six namespaces under five kinds of application.

use serde_json::{Value, json};

/// What an application keeps on its volumes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
    Redis,
    Sqlite,
    Files,
}

/// A `StatefulSet` with that many pods and a claim for each, or a Deployment with the claims that are named.
pub struct App {
    pub namespace: &'static str,
    pub name: &'static str,
    kind: Kind,
    pub pods: usize,
    claims: &'static [&'static str],
}

const fn set(namespace: &'static str, name: &'static str, kind: Kind, pods: usize) -> App {
    App { namespace, name, kind, pods, claims: &[] }
}

const fn deployment(namespace: &'static str, name: &'static str, kind: Kind, claims: &'static [&'static str]) -> App {
    App { namespace, name, kind, pods: 0, claims }
}

pub const APPS: [App; 12] = [
    set("auth", "db", Kind::Postgres, 1),
    set("auth", "sessions", Kind::Redis, 2),
    set("mail", "db", Kind::Mariadb, 1),
    deployment("mail", "box", Kind::Files, &["spool", "archive"]),
    deployment("media", "player", Kind::Sqlite, &["config", "library"]),
    set("media", "feeds", Kind::Sqlite, 2),
    set("photos", "store", Kind::Files, 3),
    set("shop", "db", Kind::Postgres, 2),
    set("shop", "cache", Kind::Redis, 1),
    deployment("shop", "web", Kind::Files, &["uploads"]),
    set("wiki", "db", Kind::Mariadb, 1),
    deployment("wiki", "search", Kind::Sqlite, &["index", "pages"]),
];

/// A claim and what it is filled with: each holds another number of rows, keys or files than all others, so that one
/// volume cannot pass for another.
pub struct Claim {
    /// `namespace/name`.
    pub name: String,
    pub kind: Kind,
    pub rows: usize,
}

/// All of them, in the order of the applications.
pub fn claims() -> Vec<Claim> {
    let names = |app: &App| -> Vec<String> {
        let of_set = (0..app.pods).map(|number| format!("data-{}-{number}", app.name));
        of_set.chain(app.claims.iter().map(ToString::to_string)).collect()
    };
    let all = APPS.iter().flat_map(|app| {
        names(app).into_iter().map(|claim| (format!("{}/{claim}", app.namespace), app.kind)).collect::<Vec<_>>()
    });
    all.enumerate().map(|(number, (name, kind))| Claim { name, kind, rows: 101 + number }).collect()
}

impl Claim {
    /// A line of a script that fills it.
    pub fn seed(&self) -> String {
        let Self { name, rows, .. } = self;
        match self.kind {
            Kind::Postgres => format!(
                r#"postgres::query("{name}", "", `CREATE TABLE orders (id int PRIMARY KEY, body text NOT NULL);
                    INSERT INTO orders SELECT id, '{name} ' || md5(id::text) FROM generate_series(1, {rows}) AS id`);"#
            ),
            Kind::Mariadb => format!(
                r#"mariadb::query("{name}", `USE app; CREATE TABLE notes (id INT PRIMARY KEY, body TEXT);
                    INSERT INTO notes SELECT seq, CONCAT('{name} ', MD5(seq)) FROM seq_1_to_{rows}`);"#
            ),
            Kind::Redis => format!(
                r#"redis::ask("{name}", "0", ["EVAL", "for i = 1, {rows} do redis.call('SET', 'key:' .. i, ARGV[1] .. i) end", "0", "{name}"]);"#
            ),
            Kind::Sqlite => format!(
                r#"pods::shell("{name}", `sqlite3 "$1/app.db" "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                    INSERT INTO notes SELECT i, '{name} ' || i FROM n"`, [pods::mount("{name}").path]);"#
            ),
            Kind::Files => format!(
                r#"pods::shell("{name}", `cd "$1"; for i in $(seq 1 {rows}); do echo "{name} $i" >"file $i"; done`, [pods::mount("{name}").path]);"#
            ),
        }
    }

    /// How many checks a verification makes of it: four of the claim and its volume, the others of the data.
    pub fn checks(&self) -> usize {
        if self.kind == Kind::Files { 7 } else { 6 }
    }

    /// What a verification says of it when its data are there.
    pub fn proof(&self) -> String {
        let Self { name, rows, .. } = self;
        match self.kind {
            Kind::Postgres => format!("✓ {name}: rows in table app.public.orders: \"{rows}\""),
            Kind::Mariadb => format!("✓ {name}: rows in table app.notes: \"{rows}\""),
            Kind::Redis => format!("✓ {name}: keys in db0: {rows}"),
            Kind::Sqlite => format!("✓ {name}: rows in table app.db: \"{rows}\""),
            Kind::Files => format!("✓ {name}: files: {rows}"),
        }
    }
}

impl Kind {
    /// The file that speaks for its data.
    fn check(self) -> &'static str {
        match self {
            Self::Postgres => "apps/postgres",
            Self::Mariadb => "apps/mariadb",
            Self::Redis => "apps/redis",
            Self::Sqlite => "apps/sqlite",
            Self::Files => "apps/files",
        }
    }

    fn size(self) -> &'static str {
        match self {
            Self::Postgres | Self::Mariadb => "256Mi",
            Self::Redis => "64Mi",
            Self::Sqlite | Self::Files => "32Mi",
        }
    }

    /// A container that mounts these claims; the servers get passwords of no worth and little memory.
    fn container(self, claims: &[&str]) -> Value {
        let (mut container, folder) = match self {
            Self::Postgres => (
                json!({"image": "postgres:16", "args": ["-c", "shared_buffers=2MB", "-c", "max_connections=10"],
                    "env": [{"name": "POSTGRES_DB", "value": "app"}, {"name": "POSTGRES_PASSWORD", "value": "of-no-worth"},
                        {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"}],
                    "readinessProbe": {"exec": {"command": ["pg_isready", "-U", "postgres", "-d", "app"]}, "periodSeconds": 1}}),
                "/var/lib/postgresql/data",
            ),
            Self::Mariadb => (
                json!({"image": "mariadb:10.11", "env": [{"name": "MARIADB_DATABASE", "value": "app"},
                        {"name": "MARIADB_ROOT_PASSWORD", "value": "of-no-worth"}],
                    "readinessProbe": {"exec": {"command":
                        ["sh", "-c", "MYSQL_PWD=$MARIADB_ROOT_PASSWORD exec mariadb -uroot -e 'SELECT 1' app"]}, "periodSeconds": 1}}),
                "/var/lib/mysql",
            ),
            Self::Redis => (
                json!({"image": "redis:7", "args": ["--appendonly", "yes"],
                    "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 1}}),
                "/data",
            ),
            Self::Sqlite => (json!({"image": "keinos/sqlite3:latest", "command": ["sleep", "infinity"]}), "/mnt"),
            Self::Files => (json!({"image": "busybox:1.36", "command": ["sleep", "infinity"]}), "/mnt"),
        };
        container["name"] = "app".into();
        let mount = |claim: &&str| {
            let path = if folder == "/mnt" { format!("/mnt/{claim}") } else { folder.to_owned() };
            let mut mount = json!({"name": claim, "mountPath": path});
            // The root of a fresh volume holds lost+found, which the server takes for a database.
            if self == Self::Mariadb {
                mount["subPath"] = "mysql".into();
            }
            mount
        };
        container["volumeMounts"] = claims.iter().map(mount).collect();
        container
    }
}

impl App {
    /// Its manifests: claims first, unless they are made from a template.
    fn objects(&self) -> Vec<Value> {
        let Self { namespace, name, kind, .. } = self;
        let claim = |name: &str| {
            json!({"metadata": {"name": name, "annotations": {"lhrun.io/check": kind.check()}},
                "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
                    "resources": {"requests": {"storage": kind.size()}}}})
        };
        let labels = json!({"app": name});
        let mut objects: Vec<Value> = self.claims.iter().map(|name| claim(name)).collect();
        for object in &mut objects {
            object["apiVersion"] = "v1".into();
            object["kind"] = "PersistentVolumeClaim".into();
            object["metadata"]["namespace"] = (*namespace).into();
        }
        let mounted: &[&str] = if self.pods > 0 { &["data"] } else { self.claims };
        let mut pod = json!({"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": if folder_app(*kind) { 1 } else { 30 }, "containers": [kind.container(mounted)]}});
        let mut workload = json!({"apiVersion": "apps/v1", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels}}});
        if self.pods > 0 {
            workload["kind"] = "StatefulSet".into();
            workload["spec"]["serviceName"] = (*name).into();
            workload["spec"]["replicas"] = self.pods.into();
            workload["spec"]["podManagementPolicy"] = "Parallel".into();
            workload["spec"]["volumeClaimTemplates"] = json!([claim("data")]);
        } else {
            let volume = |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
            pod["spec"]["volumes"] = self.claims.iter().map(volume).collect();
            workload["kind"] = "Deployment".into();
            workload["spec"]["strategy"] = json!({"type": "Recreate"});
        }
        workload["spec"]["template"] = pod;
        objects.push(workload);
        objects
    }
}

/// Whether it is a folder with files, and no server that has to shut down in order.
fn folder_app(kind: Kind) -> bool {
    matches!(kind, Kind::Sqlite | Kind::Files)
}

/// Everything the operator deploys; JSON is YAML as well.
pub fn manifests() -> String {
    let mut namespaces: Vec<_> = APPS.iter().map(|app| app.namespace).collect();
    namespaces.dedup();
    let namespaces =
        namespaces.into_iter().map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    let objects = namespaces.chain(APPS.iter().flat_map(App::objects));
    objects.map(|object| object.to_string()).collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn the_site_has_twenty_volumes_in_six_namespaces() {
    let claims = claims();
    let namespaces: std::collections::BTreeSet<_> =
        claims.iter().filter_map(|claim| claim.name.split('/').next()).collect();
    assert_eq!((claims.len(), namespaces.len()), (20, 6));
}
