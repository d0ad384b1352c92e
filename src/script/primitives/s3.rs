//! `s3::`: the bucket the backups lie in. Keys are relative to the configured prefix.

// Rhai's macro unwraps the `&mut` argument of methods, which it has checked to be there.
#![allow(clippy::unwrap_used)]

use std::future::Future;

use bytes::Bytes;
use futures::TryStreamExt;
use rhai::{Array, Blob, Dynamic, Map, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind, Result,
    longhorn::{DEFAULT_TARGET, Longhorn},
    objectstore::{Depth, ObjectMeta, Store, StoreConfig},
    script::{Host, RhaiResultOf, block, changing, convert::Options},
};

/// More objects than this are no list for a script to hold.
const LONGEST: usize = 100_000;

/// A store opened with `s3::open`.
#[derive(Clone, Debug)]
pub struct Opened(Store);

#[export_module]
pub mod api {
    /// A bucket opened with `s3::open`.
    pub type Bucket = Opened;

    /// The objects whose keys start with the prefix, in order of their keys: `#{key, size, last_modified, etag}`.
    #[rhai_fn(return_raw)]
    pub fn list(ctx: NativeCallContext, prefix: &str) -> RhaiResultOf<Array> {
        on(&ctx, None, |store| listed(store, prefix.into(), None))
    }

    /// As `list` with one argument, but with `#{max}`: no more than so many.
    #[rhai_fn(name = "list", return_raw)]
    pub fn list_with(ctx: NativeCallContext, prefix: &str, options: Map) -> RhaiResultOf<Array> {
        let max = maximum(options).or_throw(&ctx)?;
        on(&ctx, None, |store| listed(store, prefix.into(), max))
    }

    /// What is known about the object, as `list` tells it; `()` when there is none.
    #[rhai_fn(return_raw)]
    pub fn head(ctx: NativeCallContext, key: &str) -> RhaiResultOf<Dynamic> {
        on(&ctx, None, |store| looked_at(store, key.into()))
    }

    /// The object as text; throws `not-found` when there is none, `invalid` when it is no text.
    #[rhai_fn(return_raw)]
    pub fn get(ctx: NativeCallContext, key: &str) -> RhaiResultOf<String> {
        on(&ctx, None, |store| text(store, key.into()))
    }

    /// The object's bytes; throws `not-found` when there is none.
    #[rhai_fn(return_raw)]
    pub fn get_blob(ctx: NativeCallContext, key: &str) -> RhaiResultOf<Blob> {
        on(&ctx, None, |store| blob(store, key.into()))
    }

    /// Writes the text as an object, in place of one that is there.
    #[rhai_fn(return_raw)]
    pub fn put(ctx: NativeCallContext, key: &str, content: &str) -> RhaiResultOf<()> {
        written(&ctx, None, key, content.as_bytes().to_vec())
    }

    /// Writes the bytes as an object, in place of one that is there.
    #[rhai_fn(name = "put", return_raw)]
    pub fn put_blob(ctx: NativeCallContext, key: &str, content: Blob) -> RhaiResultOf<()> {
        written(&ctx, None, key, content)
    }

    /// Copies an object within the bucket; the data does not pass through this machine.
    #[rhai_fn(return_raw)]
    pub fn copy(ctx: NativeCallContext, from: &str, to: &str) -> RhaiResultOf<()> {
        copied(&ctx, None, from, to)
    }

    /// Deletes the object and tells whether there was one.
    #[rhai_fn(return_raw)]
    pub fn delete(ctx: NativeCallContext, key: &str) -> RhaiResultOf<bool> {
        deleted(&ctx, None, key)
    }

    /// How much lies under the prefix: `#{objects, bytes}`.
    #[rhai_fn(return_raw)]
    pub fn usage(ctx: NativeCallContext, prefix: &str) -> RhaiResultOf<Map> {
        on(&ctx, None, |store| used(store, prefix.into()))
    }

    /// Where the bucket is: `s3://bucket@region/prefix/`.
    #[rhai_fn(return_raw)]
    pub fn url(ctx: NativeCallContext) -> RhaiResultOf<String> {
        on(&ctx, None, |store| async move { Ok(store.describe()) })
    }

    /// Another bucket, with the same functions: `let other = s3::open(#{bucket, endpoint, region, prefix, access_key,
    /// secret_key, ca}); other.list("")`; `ca` is the text of PEM certificates to trust. What is left out comes from the AWS
    /// variables of the environment; an empty `endpoint` is AWS itself.
    #[rhai_fn(return_raw)]
    pub fn open(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Bucket> {
        opened(options).or_throw(&ctx)
    }

    /// As `s3::list`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "list", return_raw)]
    pub fn bucket_list(ctx: NativeCallContext, bucket: &mut Bucket, prefix: &str) -> RhaiResultOf<Array> {
        on(&ctx, Some(bucket), |store| listed(store, prefix.into(), None))
    }

    /// As `s3::list`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "list", return_raw)]
    pub fn bucket_list_with(
        ctx: NativeCallContext,
        bucket: &mut Bucket,
        prefix: &str,
        options: Map,
    ) -> RhaiResultOf<Array> {
        let max = maximum(options).or_throw(&ctx)?;
        on(&ctx, Some(bucket), |store| listed(store, prefix.into(), max))
    }

    /// As `s3::head`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "head", return_raw)]
    pub fn bucket_head(ctx: NativeCallContext, bucket: &mut Bucket, key: &str) -> RhaiResultOf<Dynamic> {
        on(&ctx, Some(bucket), |store| looked_at(store, key.into()))
    }

    /// As `s3::get`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "get", return_raw)]
    pub fn bucket_get(ctx: NativeCallContext, bucket: &mut Bucket, key: &str) -> RhaiResultOf<String> {
        on(&ctx, Some(bucket), |store| text(store, key.into()))
    }

    /// As `s3::get_blob`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "get_blob", return_raw)]
    pub fn bucket_get_blob(ctx: NativeCallContext, bucket: &mut Bucket, key: &str) -> RhaiResultOf<Blob> {
        on(&ctx, Some(bucket), |store| blob(store, key.into()))
    }

    /// As `s3::put`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "put", return_raw)]
    pub fn bucket_put(ctx: NativeCallContext, bucket: &mut Bucket, key: &str, content: &str) -> RhaiResultOf<()> {
        written(&ctx, Some(bucket), key, content.as_bytes().to_vec())
    }

    /// As `s3::put`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "put", return_raw)]
    pub fn bucket_put_blob(ctx: NativeCallContext, bucket: &mut Bucket, key: &str, content: Blob) -> RhaiResultOf<()> {
        written(&ctx, Some(bucket), key, content)
    }

    /// As `s3::copy`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "copy", return_raw)]
    pub fn bucket_copy(ctx: NativeCallContext, bucket: &mut Bucket, from: &str, to: &str) -> RhaiResultOf<()> {
        copied(&ctx, Some(bucket), from, to)
    }

    /// As `s3::delete`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "delete", return_raw)]
    pub fn bucket_delete(ctx: NativeCallContext, bucket: &mut Bucket, key: &str) -> RhaiResultOf<bool> {
        deleted(&ctx, Some(bucket), key)
    }

    /// As `s3::usage`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "usage", return_raw)]
    pub fn bucket_usage(ctx: NativeCallContext, bucket: &mut Bucket, prefix: &str) -> RhaiResultOf<Map> {
        on(&ctx, Some(bucket), |store| used(store, prefix.into()))
    }

    /// As `s3::url`, on a bucket opened with `s3::open`.
    #[rhai_fn(global, name = "url")]
    pub fn bucket_url(bucket: &mut Bucket) -> String {
        bucket.0.describe()
    }

    /// Where the bucket is: `s3://bucket@region/prefix/`.
    #[rhai_fn(global, name = "to_string", name = "to_debug")]
    pub fn bucket_to_string(bucket: &mut Bucket) -> String {
        bucket.0.describe()
    }
}

/// Works on the bucket, or on the configured one.
fn on<T, F>(ctx: &NativeCallContext, bucket: Option<&Opened>, work: impl FnOnce(Store) -> F) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    let opened = bucket.map(|bucket| bucket.0.clone());
    block(ctx, |host| async move {
        match opened {
            Some(store) => work(store).await,
            None => work(configured(&host).await?).await,
        }
    })
}

/// The bucket of the configuration, else the one the cluster's Longhorn keeps its backups in.
pub(super) async fn configured(host: &Host) -> Result<Store> {
    let missing = match host.store() {
        Err(error) if host.settings().store.is_none() => error,
        store => return store,
    };
    let of_the_cluster = async {
        let longhorn = Longhorn::find(&host.cluster().await?).await?;
        longhorn.store(&longhorn.target(DEFAULT_TARGET).await?).await
    };
    let store = of_the_cluster.await.map_err(|error| {
        error.context(format!("{}, and the cluster's backup target cannot be used instead", missing.message()))
    })?;
    host.use_store(store.clone());
    Ok(store)
}

fn opened(options: Map) -> Result<Opened> {
    let mut options = Options::new("s3::open", options);
    let prefix = options.text("prefix")?.unwrap_or_default();
    let config = StoreConfig::from_env(options.required_text("bucket")?, prefix)?;
    let config = reached("s3::open", &mut options, config)?;
    options.finish()?;
    Store::connect(&config).map(Opened)
}

/// The store as the options `endpoint`, `region`, `ca`, `access_key` and `secret_key` of that function say to reach it.
pub(super) fn reached(of: &str, options: &mut Options, mut config: StoreConfig) -> Result<StoreConfig> {
    // An empty one is AWS itself, whatever the environment says.
    config.endpoint = match options.text("endpoint")? {
        None => config.endpoint,
        Some(endpoint) => Some(endpoint).filter(|endpoint| !endpoint.is_empty()),
    };
    config.region = options.text("region")?.unwrap_or(config.region);
    config.ca_pem = options.text("ca")?.or(config.ca_pem);
    match (options.text("access_key")?, options.text("secret_key")?) {
        (None, None) => {}
        (Some(access_key), Some(secret_key)) => {
            config.access_key = Some(access_key);
            config.secret_key = Some(secret_key.into());
            config.session_token = None;
        }
        _ => {
            return Err(Error::new(Kind::Script, format!("{of}: give both of `access_key` and `secret_key`, or none")));
        }
    }
    Ok(config)
}

fn maximum(options: Map) -> Result<Option<usize>> {
    let mut options = Options::new("s3::list", options);
    let max = options.count("max")?;
    options.finish()?;
    Ok(max.and_then(|max| usize::try_from(max).ok()))
}

async fn listed(store: Store, prefix: String, max: Option<usize>) -> Result<Array> {
    let mut pages = store.list_pages(&prefix, Depth::All);
    let mut objects = Array::new();
    while max.is_none_or(|max| objects.len() < max) {
        let Some(page) = pages.try_next().await? else { break };
        objects.extend(page.objects.into_iter().map(|object| Dynamic::from(map(object))));
        if objects.len() > LONGEST {
            let text = format!("more than {LONGEST} objects lie under '{prefix}' in {}", store.describe());
            return Err(Error::new(Kind::Invalid, text).hint("give a longer prefix, #{max}, or use s3::usage"));
        }
    }
    objects.truncate(max.unwrap_or(usize::MAX));
    Ok(objects)
}

async fn looked_at(store: Store, key: String) -> Result<Dynamic> {
    Ok(store.head(&key).await?.map_or(Dynamic::UNIT, |object| map(object).into()))
}

async fn blob(store: Store, key: String) -> Result<Blob> {
    Ok(store.get(&key).await?.into())
}

async fn text(store: Store, key: String) -> Result<String> {
    String::from_utf8(blob(store, key.clone()).await?).map_err(|_| {
        Error::new(Kind::Invalid, format!("{key} is not text in UTF-8")).hint("read it with s3::get_blob").object(key)
    })
}

async fn used(store: Store, prefix: String) -> Result<Map> {
    let mut pages = store.list_pages(&prefix, Depth::All);
    let (mut objects, mut bytes) = (0_u64, 0_u64);
    while let Some(page) = pages.try_next().await? {
        objects += page.objects.len() as u64;
        bytes = page.objects.iter().fold(bytes, |bytes, object| bytes.saturating_add(object.size));
    }
    Ok(Map::from([("objects".into(), whole(objects)), ("bytes".into(), whole(bytes))]))
}

fn written(ctx: &NativeCallContext, bucket: Option<&Opened>, key: &str, content: Vec<u8>) -> RhaiResultOf<()> {
    let put = |store: Store| async move {
        store.put(key, Bytes::from(content)).await?;
        Ok(store.describe())
    };
    let place = changing(ctx, || format!("the writing of {key}"), || on(ctx, bucket, put))?;
    Host::of(ctx).run().change(format!("wrote {key} to {place}"));
    Ok(())
}

fn copied(ctx: &NativeCallContext, bucket: Option<&Opened>, from: &str, to: &str) -> RhaiResultOf<()> {
    let copy = |store: Store| async move {
        store.copy(from, to).await?;
        Ok(store.describe())
    };
    let place = changing(ctx, || format!("the copy of {from} to {to}"), || on(ctx, bucket, copy))?;
    Host::of(ctx).run().change(format!("copied {from} to {to} in {place}"));
    Ok(())
}

fn deleted(ctx: &NativeCallContext, bucket: Option<&Opened>, key: &str) -> RhaiResultOf<bool> {
    let delete = |store: Store| async move {
        let there = store.head(key).await?.is_some();
        store.delete(key).await?;
        Ok(there.then(|| store.describe()))
    };
    let place = changing(ctx, || format!("the deletion of {key}"), || on(ctx, bucket, delete))?;
    if let Some(place) = &place {
        Host::of(ctx).run().change(format!("deleted {key} in {place}"));
    }
    Ok(place.is_some())
}

fn map(object: ObjectMeta) -> Map {
    Map::from([
        ("key".into(), object.key.into()),
        ("size".into(), whole(object.size)),
        ("last_modified".into(), object.last_modified.to_string().into()),
        ("etag".into(), object.etag.map_or(Dynamic::UNIT, Dynamic::from)),
    ])
}

/// Scripts count with signed numbers.
fn whole(number: u64) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Fault, Settings, engine, host::fake};

    fn eval(script: &str) -> (RhaiResultOf<String>, Host, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (host, _) = fake::host(Settings::default());
        host.use_store(Store::folder(folder.path()).unwrap());
        let result = engine::build(&host).eval::<Dynamic>(script).map(|value| value.to_string());
        (result, host, folder)
    }

    fn error(script: &str) -> Error {
        Fault::new(&eval(script).0.unwrap_err()).error
    }

    #[test]
    fn objects_are_written_listed_read_and_deleted() {
        let (result, host, folder) = eval(
            r#"s3::put("a/one", "hello");
               s3::put("a/two", blob(3, 7));
               s3::copy("a/one", "b/three");
               let keys = s3::list("").map(|object| object.key);
               let first = s3::list("a/", #{max: 1});
               let usage = s3::usage("a/");
               [keys, first.len, s3::get("b/three"), s3::get_blob("a/two").len, usage.objects, usage.bytes,
                s3::head("a/one").size, s3::head("nothing") == (), s3::delete("a/one"), s3::delete("a/one")]"#,
        );
        assert_eq!(result.unwrap(), r#"[["a/one", "a/two", "b/three"], 1, "hello", 3, 2, 8, 5, true, true, false]"#);
        assert!(folder.path().join("b/three").exists() && !folder.path().join("a/one").exists());
        let changes: Vec<_> = host.run().record().changes.into_iter().map(|change| change.what).collect();
        assert_eq!(changes.len(), 4, "{changes:?}");
        assert!(changes[2].starts_with("copied a/one to b/three in file://"), "{changes:?}");
    }

    #[test]
    fn what_goes_wrong_names_the_key_or_the_option() {
        let absent = error("s3::get(\"nothing/here\")");
        assert_eq!((absent.kind(), absent.object_name()), (Kind::NotFound, Some("nothing/here")));
        let binary = error("s3::put(\"x\", blob(1, 255)); s3::get(\"x\")");
        assert_eq!((binary.kind(), binary.message()), (Kind::Invalid, "x is not text in UTF-8"));
        assert!(error("s3::list(\"\", #{mox: 1})").message().contains("`mox`"));
        assert_eq!(error("s3::open(#{endpoint: \"http://x\"})").message(), "s3::open: the option `bucket` is missing");
        let half = error("s3::open(#{bucket: \"x\", access_key: \"only\"})");
        assert!(half.message().contains("both"), "{half}");
    }

    #[test]
    fn an_empty_endpoint_is_aws_whatever_the_environment_names() {
        let endpoint = |given: &[&str]| {
            let options = given.iter().map(|text| ("endpoint".into(), (*text).into())).collect();
            let config = StoreConfig { endpoint: Some("http://here".into()), ..StoreConfig::default() };
            reached("s3::open", &mut Options::new("s3::open", options), config).unwrap().endpoint
        };
        assert_eq!(endpoint(&[]).as_deref(), Some("http://here"));
        assert_eq!(endpoint(&["http://there"]).as_deref(), Some("http://there"));
        assert_eq!(endpoint(&[""]), None);
    }

    #[cfg(feature = "sandbox")]
    #[test]
    fn another_bucket_has_the_same_functions() {
        use crate::sandbox::s3::{S3Config, S3Server};
        let root = tempfile::tempdir().unwrap();
        let (host, _) = fake::host(Settings::default());
        let server = host.runtime().block_on(async {
            let server = S3Server::start(S3Config {
                listen: ([127, 0, 0, 1], 0).into(),
                root: root.path().to_owned(),
                access_key: "id".into(),
                secret_key: String::from("hush").into(),
            })
            .await
            .unwrap();
            server.create_bucket("other").await.unwrap();
            server
        });
        let script = format!(
            r#"let other = s3::open(#{{endpoint: "{}", region: "eu-west-1", bucket: "other", prefix: "p",
                   access_key: "id", secret_key: "hush"}});
               other.put("a", "text");
               other.copy("a", "b");
               [other.list("").len, other.list("", #{{max: 1}}).len, other.get("b"), other.get_blob("b").len,
                other.head("a").etag, other.usage("").bytes, other.delete("a"), other.url(), `${{other}}`]"#,
            server.endpoint()
        );
        let found = engine::build(&host).eval::<Dynamic>(&script).unwrap().to_string();
        // `printf text | md5sum`
        let etag = "1cb251ec0d568de6a929b520c4aed8d1";
        let url = "s3://other@eu-west-1/p/";
        assert_eq!(found, format!(r#"[2, 1, "text", 4, "{etag}", 8, true, "{url}", "{url}"]"#));
        host.runtime().block_on(server.stop());
    }
}
