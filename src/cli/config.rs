//! The configuration file, `lhrun.toml`: the bucket, the site's own commands, default parameters of runbooks.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use toml::{Spanned, Value};

use super::Failure;
use crate::{
    Error, Kind, Result,
    backupstore::TargetUrl,
    objectstore::StoreConfig,
    terminal::{Diagnostic, Place, did_you_mean},
};

/// The name looked for in the current folder when no other is given.
pub const FILE_NAME: &str = "lhrun.toml";

/// What a configuration file says; everything in it is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[store]`: the bucket that `s3::` reads and writes.
    pub store: Option<Bucket>,
    /// `[site]`: the commands behind `site::`.
    pub site: Option<Site>,
    /// `[params]`: defaults for the parameters of runbooks.
    #[serde(deserialize_with = "parameters")]
    pub params: Params,
    /// Where it was read from, if anywhere.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// `[params]`, as text.
#[derive(Debug, Default)]
pub struct Params {
    /// For every runbook that has a parameter of that name.
    pub all: BTreeMap<String, String>,
    /// `[params.RUNBOOK]`: for the runbook of that name alone.
    pub of: BTreeMap<String, BTreeMap<String, String>>,
}

/// `[store]`. What it leaves out comes from the AWS variables of the environment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    endpoint: Option<String>,
    region: Option<String>,
    #[serde(rename = "bucket")]
    name: String,
    #[serde(default)]
    prefix: String,
    /// A PEM file with the certificates to trust; relative to the configuration file.
    ca: Option<PathBuf>,
    virtual_hosted: Option<bool>,
    access_key: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    secret_key: Option<SecretString>,
}

/// `[site]`: commands, run by `sh -c` in the configuration file's folder. Who can tear a cluster down must be able to
/// rebuild it, so both are asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Takes the cluster down.
    pub teardown: String,
    /// Brings an empty cluster with Longhorn up.
    pub rebuild: String,
    /// Installs the applications; nothing to do without it.
    pub deploy: Option<String>,
}

impl Config {
    /// Reads the file named on the command line, else `lhrun.toml` in the current folder if there is one.
    ///
    /// A file that was named must exist. Every key that is not known is an error, shown with its place.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.unwrap_or(Path::new(FILE_NAME));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(Error::new(Kind::Usage, format!("cannot read the configuration {}", path.display()))
                    .source(error)
                    .into());
            }
        };
        let mut config = Self::parse(&path.display().to_string(), &text)?;
        config.path = Some(path.to_owned());
        Ok(config)
    }

    fn parse(path: &str, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let mut message = error.message().to_owned();
            let hint = unknown_field(error.message()).and_then(|(name, known)| did_you_mean(name, known));
            let mut place = error.span().map(|span| Place::at_bytes(path, text, span));
            if let Some(place) = &mut place
                && text.lines().nth(place.line - 1).is_some_and(|line| line.contains("_key"))
            {
                // Neither the line nor the message, which quotes the value, may show a secret.
                place.text.clear();
                "this line is not `name = \"text\"`".clone_into(&mut message);
            }
            let title = format!("the configuration {path} is not valid: {message}");
            Failure::usage(Diagnostic { title, place, hint, ..Diagnostic::default() })
        })
    }

    /// The bucket to work with, completed from the AWS variables; nothing when no bucket is configured.
    pub fn store(&self) -> Result<Option<StoreConfig>> {
        let Some(bucket) = &self.store else { return Ok(None) };
        let mut store = StoreConfig::from_env(&bucket.name, &bucket.prefix)?;
        if let Some(path) = &bucket.ca {
            let path = self.folder().join(path);
            let text = fs::read_to_string(&path).map_err(|error| {
                Error::new(Kind::Usage, format!("cannot read the certificates {}", path.display())).source(error)
            })?;
            store.ca_pem = Some(text);
        }
        match (&bucket.access_key, &bucket.secret_key) {
            (None, None) => {}
            (Some(access_key), Some(secret_key)) => {
                store.access_key = Some(access_key.clone());
                store.secret_key = Some(secret_key.clone());
                store.session_token = None;
            }
            _ => {
                let message = "[store] of the configuration has only one of access_key and secret_key";
                return Err(Error::new(Kind::Usage, message));
            }
        }
        store.endpoint = bucket.endpoint.clone().or(store.endpoint);
        store.region = bucket.region.clone().unwrap_or(store.region);
        store.virtual_hosted = bucket.virtual_hosted;
        Ok(Some(store))
    }

    /// The bucket of that URL, reached as `[store]` says, completed from the AWS variables.
    pub fn store_at(&self, url: &TargetUrl, endpoint: Option<&str>) -> Result<StoreConfig> {
        let configured = match self.store()? {
            Some(store) => store,
            None => StoreConfig::from_env(&url.bucket, "")?,
        };
        Ok(StoreConfig {
            endpoint: endpoint.map(str::to_owned).or(configured.endpoint),
            region: url.region.clone().unwrap_or(configured.region),
            bucket: url.bucket.clone(),
            prefix: url.prefix(),
            ..configured
        })
    }

    /// The folder that relative paths and the site's commands start from.
    pub fn folder(&self) -> &Path {
        let parent = self.path.as_deref().and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    /// A warning if the file holds a secret that other users of the machine can read.
    pub fn exposure(&self) -> Option<String> {
        self.store.as_ref()?.secret_key.as_ref()?;
        let path = self.path.as_deref()?;
        let mode = fs::metadata(path).ok()?.mode();
        let path = path.display();
        (mode & 0o077 != 0)
            .then(|| format!("{path} holds a secret key and can be read by other users: run `chmod 600 {path}`"))
    }
}

/// The unknown name and the known ones in serde's message, which quotes all of them in backticks.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let quoted: Vec<_> = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2).collect();
    let (name, known) = quoted.split_first()?;
    Some((name, known.to_vec()))
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.map(SecretString::from))
}

/// Parameters are text on the command line, so numbers and truth values of the file become text as well.
fn parameters<'de, D: Deserializer<'de>>(input: D) -> Result<Params, D::Error> {
    let text = |name: String, value: Value| match value {
        Value::String(text) => Ok((name, text)),
        Value::Integer(number) => Ok((name, number.to_string())),
        Value::Float(number) => Ok((name, number.to_string())),
        Value::Boolean(truth) => Ok((name, truth.to_string())),
        _ => Err(serde::de::Error::custom(format!("parameter `{name}` must be a text, a number, true or false"))),
    };
    let mut params = Params::default();
    for (name, value) in BTreeMap::<String, Spanned<Value>>::deserialize(input)? {
        match value.into_inner() {
            Value::Table(table) => {
                let own = table.into_iter().map(|(name, value)| text(name, value)).collect::<Result<_, _>>()?;
                params.of.insert(name, own);
            }
            value => params.all.extend([text(name, value)?]),
        }
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::terminal::Style;

    fn shown_error(text: &str) -> String {
        let failure = Config::parse("lhrun.toml", text).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        failure.diagnostic.render(Style::PLAIN)
    }

    #[test]
    fn everything_is_optional() {
        let config = Config::parse("lhrun.toml", "").unwrap();
        assert!(config.store.is_none() && config.params.all.is_empty() && config.site.is_none());
    }

    #[test]
    fn sections_are_read() {
        let text = "[store]\nbucket = \"longhorn\"\nendpoint = \"http://s3\"\naccess_key = \"me\"\nsecret_key = \"hush\"\n\
                    [site]\nteardown = \"make down\"\nrebuild = \"make k3s\"\n[params]\nreplicas = 2\nkeep = true\nclass = \"longhorn\"\n\
                    [params.offsite-copy]\nurl = \"s3://copies/\"\nat-once = 4\n";
        let config = Config::parse("lhrun.toml", text).unwrap();
        let store = config.store().unwrap().unwrap();
        assert_eq!((store.bucket.as_str(), store.endpoint.as_deref()), ("longhorn", Some("http://s3")));
        assert_eq!(store.access_key.as_deref(), Some("me"));
        assert_eq!(store.secret_key.unwrap().expose_secret(), "hush");
        assert_eq!(config.site.as_ref().map(|site| site.rebuild.as_str()), Some("make k3s"));
        let params: Vec<_> = config.params.all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(params, ["class=longhorn", "keep=true", "replicas=2"]);
        assert_eq!(config.params.of["offsite-copy"]["at-once"], "4");
        assert_eq!(config.params.of["offsite-copy"]["url"], "s3://copies/");
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_place() {
        let shown = shown_error("[store]\nbucket = \"a\"\nendpiont = \"http://s3\"\n");
        assert!(shown.contains("lhrun.toml:3:1"), "{shown}");
        assert!(shown.contains("3 | endpiont = \"http://s3\"\n  | ^^^^^^^^"), "{shown}");
        assert!(shown.ends_with("hint: did you mean `endpoint`?"), "{shown}");
        let section = shown_error("[sites]\n");
        assert!(section.contains("lhrun.toml:1:2") && section.contains("did you mean `site`?"), "{section}");
    }

    #[test]
    fn broken_syntax_and_wrong_types_are_shown_with_their_place() {
        assert!(shown_error("[store\nbucket = 1").contains("lhrun.toml:1:7"));
        assert!(shown_error("[store]\nbucket = 1\n").contains("lhrun.toml:2:10"));
        assert!(shown_error("[params]\nlist = [1]\n").contains("parameter `list` must be"));
        assert!(shown_error("[params.capacity]\nlist = [1]\n").contains("parameter `list` must be"));
        assert!(shown_error("[store]\nregion = \"x\"\n").contains("missing field `bucket`"));
    }

    #[test]
    fn a_broken_line_with_a_secret_is_not_repeated() {
        let shown = shown_error("[store]\nbucket = \"a\"\nsecret_key = \"hush\n");
        assert!(shown.contains("lhrun.toml:3:") && !shown.contains("hush"), "{shown}");
        let shown = shown_error("[store]\nbucket = \"a\"\nsecret_key = 123456\n");
        assert!(shown.contains("lhrun.toml:3:") && !shown.contains("123456"), "{shown}");
    }

    #[test]
    fn half_a_configuration_is_refused() {
        assert!(shown_error("[site]\nteardown = \"make down\"\n").contains("missing field `rebuild`"));
        let config = Config::parse("lhrun.toml", "[store]\nbucket = \"a\"\naccess_key = \"me\"\n").unwrap();
        assert!(config.store().unwrap_err().message().contains("only one of access_key and secret_key"));
        let config = Config::parse("lhrun.toml", "[store]\nbucket = \"a\"\nca = \"/no/such.pem\"\n").unwrap();
        assert!(config.store().unwrap_err().message().contains("/no/such.pem"));
    }

    #[test]
    fn a_bucket_named_by_its_url_is_reached_as_the_configured_one() {
        let text = "[store]\nendpoint = \"http://s3\"\nregion = \"eu-1\"\nbucket = \"a\"\nprefix = \"p\"\n\
                    access_key = \"me\"\nsecret_key = \"hush\"\n";
        let config = Config::parse("lhrun.toml", text).unwrap();
        let at = |url, endpoint| config.store_at(&TargetUrl::parse(url).unwrap(), endpoint).unwrap();
        let other = at("s3://b@eu-2/x//y/", None);
        assert_eq!((other.bucket.as_str(), other.region.as_str(), other.prefix.as_str()), ("b", "eu-2", "x/y"));
        assert_eq!((other.endpoint.as_deref(), other.access_key.as_deref()), (Some("http://s3"), Some("me")));
        let bare = at("s3://b/", Some("http://other"));
        assert_eq!((bare.region.as_str(), bare.prefix.as_str()), ("eu-1", ""));
        assert_eq!(bare.endpoint.as_deref(), Some("http://other"));
    }

    #[test]
    fn a_named_file_must_exist() {
        let failure = Config::load(Some(Path::new("/no/such/lhrun.toml"))).unwrap_err();
        assert!(failure.diagnostic.title.contains("/no/such/lhrun.toml"));
    }

    #[test]
    fn a_secret_that_others_can_read_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "[store]\nbucket = \"a\"\nsecret_key = \"hush\"\n").unwrap();
        let exposure = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Config::load(Some(&path)).unwrap().exposure()
        };
        assert_eq!(exposure(0o600), None);
        assert!(exposure(0o644).unwrap().contains("chmod 600"));
        assert_eq!(Config::load(Some(&path)).unwrap().folder(), folder.path());
    }
}
