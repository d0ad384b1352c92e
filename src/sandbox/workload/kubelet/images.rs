//! Which images there are, and what runs in their place.

/// What stands in for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The machine's PostgreSQL, with the official image's entrypoint.
    Postgres,
    /// The machine's `MariaDB`, with the official image's entrypoint.
    Mariadb,
    /// The machine's Redis.
    Redis,
    /// The container's command, run by the machine's own programs.
    Shell,
    /// A part of Longhorn, which runs inside lhrun: no process.
    Longhorn,
}

/// How the known images are listed in messages.
pub const KNOWN: &str = "postgres, mariadb, redis, busybox, alpine, debian, ubuntu, keinos/sqlite3, longhornio/*";

impl Image {
    /// Looks the image up, whatever its registry, tag and digest.
    pub fn find(reference: &str) -> Option<Self> {
        let name = reference.split('@').next().unwrap_or(reference);
        // A colon after the last slash begins the tag; one before it belongs to a registry's port.
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        let last = last.split(':').next().unwrap_or(last);
        let folder = folder.rsplit('/').next().unwrap_or(folder);
        let official = matches!(folder, "" | "library") || folder.contains(['.', ':']) || folder == "localhost";
        match last {
            _ if folder == "longhornio" => Some(Self::Longhorn),
            "sqlite3" if folder == "keinos" => Some(Self::Shell),
            "postgres" if official => Some(Self::Postgres),
            "mariadb" if official => Some(Self::Mariadb),
            "redis" if official => Some(Self::Redis),
            "busybox" | "alpine" | "debian" | "ubuntu" if official => Some(Self::Shell),
            _ => None,
        }
    }

    /// What the image runs when the container says nothing else.
    pub fn default_command(self) -> Vec<String> {
        match self {
            Self::Postgres | Self::Mariadb | Self::Redis | Self::Longhorn => Vec::new(),
            Self::Shell => vec!["sh".into()],
        }
    }

    /// The script that does what the image's own entrypoint does.
    fn entrypoint(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some(include_str!("postgres.sh")),
            Self::Mariadb => Some(include_str!("mariadb.sh")),
            Self::Redis => Some(include_str!("redis.sh")),
            Self::Shell | Self::Longhorn => None,
        }
    }

    /// How the image's server is asked whether it is ready, where a probe would use the network.
    pub fn readiness(self) -> Option<Vec<String>> {
        let words: &[&str] = match self {
            Self::Postgres => &["pg_isready", "-q"],
            // Who is refused has been answered, too.
            Self::Mariadb => &[
                "sh",
                "-c",
                "said=$(mariadb --no-defaults --execute= 2>&1) || \
                 case $said in *'Access denied'*) ;; *) echo \"$said\"; exit 1 ;; esac",
            ],
            Self::Redis => &["redis-cli", "ping"],
            Self::Shell | Self::Longhorn => return None,
        };
        Some(words.iter().map(ToString::to_string).collect())
    }

    /// The command line: `command` replaces the image's entrypoint, `args` what the image passes to it.
    pub fn argv(self, command: &[String], args: &[String]) -> Vec<String> {
        match self.entrypoint() {
            _ if !command.is_empty() => command.iter().chain(args).cloned().collect(),
            Some(script) => {
                let entrypoint = ["sh", "-c", script, "docker-entrypoint"].map(String::from);
                entrypoint.into_iter().chain(args.iter().cloned()).collect()
            }
            None if args.is_empty() => self.default_command(),
            None => args.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_name_wherever_they_come_from() {
        for reference in [
            "postgres",
            "postgres:16.4-alpine",
            "docker.io/library/postgres:15",
            "registry.example:5000/postgres:15",
            "postgres:15@sha256:0123",
        ] {
            assert_eq!(Image::find(reference), Some(Image::Postgres), "{reference}");
        }
        assert_eq!(Image::find("docker.io/busybox:1.36"), Some(Image::Shell));
        assert_eq!(Image::find("keinos/sqlite3:latest"), Some(Image::Shell));
        assert_eq!(Image::find("mariadb:10.11"), Some(Image::Mariadb));
        assert_eq!(Image::find("redis:7-alpine"), Some(Image::Redis));
        assert_eq!(Image::find("docker.io/longhornio/longhorn-manager:v1.10.2"), Some(Image::Longhorn));
        for unknown in ["", "nginx:1", "somebody/postgres:15", "postgres-exporter", "longhornio", "sqlite3"] {
            assert_eq!(Image::find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_command_replaces_the_entrypoint_and_arguments_go_to_it() {
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(Image::Shell.argv(&words("sleep"), &words("5")), words("sleep 5"));
        assert_eq!(Image::Shell.argv(&[], &[]), words("sh"));
        assert_eq!(Image::Postgres.argv(&words("psql -l"), &[]), words("psql -l"));
        assert_eq!(Image::Postgres.argv(&[], &words("-c fsync=off"))[4..], words("-c fsync=off"));
    }
}
