//! Following objects through watches: what everything that waits is built on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    stream::{BoxStream, SelectAll},
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event},
};
use serde_json::Value;

use super::{ApiKind, Cluster, ListOptions, ObjectRef, fault, objects::with_type};
use crate::{Error, Kind, Result};

/// A watch is renewed after this time, so that a connection that died silently is noticed.
const RENEW_SECONDS: u32 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A set of objects to follow.
#[derive(Clone, Debug)]
pub struct Query {
    kind: String,
    options: ListOptions,
}

impl Query {
    /// The objects of a kind that match.
    pub fn list(kind: &str, options: ListOptions) -> Self {
        Self { kind: kind.to_string(), options }
    }

    /// One object.
    pub fn object(reference: &ObjectRef) -> Self {
        let fields = Some(format!("metadata.name={}", reference.name));
        let options = ListOptions { namespace: reference.namespace.clone(), fields, ..ListOptions::default() };
        Self { kind: reference.kind.clone(), options }
    }
}

type Key = (String, String);
type Events = BoxStream<'static, (usize, Result<Event<DynamicObject>, watcher::Error>)>;

/// The present state of one query.
struct View {
    kind: Arc<ApiKind>,
    objects: BTreeMap<Key, Value>,
    /// Objects of a listing that has begun and not ended.
    listing: BTreeMap<Key, Value>,
    listed: bool,
}

/// Keeps the objects of some queries up to date.
pub struct Observer {
    views: Vec<View>,
    events: SelectAll<Events>,
    pause: Duration,
    last_error: Option<Error>,
}

impl Cluster {
    /// Begins to follow the objects of the queries.
    pub async fn observe(&self, queries: &[Query]) -> Result<Observer> {
        let mut views = Vec::new();
        let mut events = SelectAll::new();
        for (index, query) in queries.iter().enumerate() {
            let kind = self.kind(&query.kind).await?;
            let api = self.api(&kind, self.list_namespace(&kind, &query.options));
            let config = watcher::Config {
                label_selector: query.options.selector.clone(),
                field_selector: query.options.fields.clone(),
                timeout: Some(RENEW_SECONDS),
                ..watcher::Config::default()
            };
            events.push(watcher::watcher(api, config).map(move |event| (index, event)).boxed());
            let (objects, listing) = (BTreeMap::new(), BTreeMap::new());
            views.push(View { kind, objects, listing, listed: false });
        }
        Ok(Observer { views, events, pause: FIRST_PAUSE, last_error: None })
    }

    pub(super) fn api(&self, kind: &ApiKind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            api_version: kind.api_version(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
        };
        match namespace {
            Some(namespace) => Api::namespaced_with(self.inner.client.clone(), namespace, &resource),
            None => Api::all_with(self.inner.client.clone(), &resource),
        }
    }
}

impl Observer {
    /// Waits for the next change. The first return is when every query has been listed.
    ///
    /// Errors: `denied` and other refusals that waiting cannot change. An API server that is away is waited for; the
    /// caller's time limit ends that.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            let Some((index, event)) = self.events.next().await else {
                return Err(Error::new(Kind::Failed, "the watch of no objects never changes"));
            };
            let mut complete = self.take(index, event).await?;
            // Changes that have arrived already are looked at together.
            while let Some(Some((index, event))) = self.events.next().now_or_never() {
                complete |= self.take(index, event).await?;
            }
            if complete && self.views.iter().all(|view| view.listed) {
                return Ok(());
            }
        }
    }

    /// The objects of the query with that number, by namespace and name.
    pub fn objects(&self, query: usize) -> impl Iterator<Item = &Value> {
        self.views.get(query).into_iter().flat_map(|view| view.objects.values())
    }

    /// The object of the query with that name, in its namespace if its kind has them.
    pub fn find(&self, query: usize, namespace: Option<&str>, name: &str) -> Option<&Value> {
        self.views.get(query)?.objects.get(&(namespace.unwrap_or_default().to_string(), name.to_string()))
    }

    /// The first object of the query, for queries of one object.
    pub fn object(&self, query: usize) -> Option<&Value> {
        self.objects(query).next()
    }

    /// Why the watch is not up to date at present.
    pub fn trouble(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// Takes one event in; true when the state that can be seen may have changed.
    async fn take(&mut self, index: usize, event: Result<Event<DynamicObject>, watcher::Error>) -> Result<bool> {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.failed(index, error)?;
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                return Ok(false);
            }
        };
        self.pause = FIRST_PAUSE;
        self.last_error = None;
        let Some(view) = self.views.get_mut(index) else { return Ok(false) };
        match event {
            Event::Init => view.listing.clear(),
            Event::InitApply(object) => {
                let (key, object) = value(object, &view.kind)?;
                view.listing.insert(key, object);
            }
            Event::InitDone => {
                view.objects = std::mem::take(&mut view.listing);
                view.listed = true;
                return Ok(true);
            }
            Event::Apply(object) => {
                let (key, object) = value(object, &view.kind)?;
                view.objects.insert(key, object);
                return Ok(true);
            }
            Event::Delete(object) => {
                let (key, _) = value(object, &view.kind)?;
                view.objects.remove(&key);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn failed(&mut self, index: usize, error: watcher::Error) -> Result<()> {
        let kind = self.views.get(index).map_or_else(|| "objects".to_owned(), |view| view.kind.full_name());
        let doing = format!("watch {kind}");
        let error = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error,
            watcher::Error::WatchError(status) => kube::Error::Api(status),
            watcher::Error::NoResourceVersion => {
                return Err(Error::new(Kind::Invalid, format!("{doing}: the server gives no resource version")));
            }
        };
        let error = fault::describe(error, &doing);
        match error.kind() {
            Kind::Denied | Kind::Invalid => Err(error),
            _ => {
                self.last_error = Some(error);
                Ok(())
            }
        }
    }
}

fn value(object: DynamicObject, kind: &ApiKind) -> Result<(Key, Value)> {
    let key = (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default());
    let object = serde_json::to_value(object)
        .map_err(|error| Error::new(Kind::Invalid, "an object of the API server is not valid").source(error))?;
    // Those of the first listing come without their type.
    Ok((key, with_type(object, kind)))
}
