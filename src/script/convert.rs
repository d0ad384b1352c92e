//! Between JSON and script values, and reading what scripts pass to primitives.

use std::{collections::BTreeMap, time::Duration};

use rhai::{Array, Blob, Dynamic, ImmutableString, Map};
use serde_json::{Number, Value};

use crate::{Error, Kind, Result, terminal::suggest::did_you_mean};

/// JSON as a script value; `null` becomes `()`, a whole number beyond 64 signed bits a float.
pub fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(to_dynamic).collect::<Array>().into(),
        Value::Object(fields) => to_map(fields).into(),
    }
}

/// A JSON object as a script's map.
pub fn to_map(fields: &serde_json::Map<String, Value>) -> Map {
    fields.iter().map(|(name, value)| (name.as_str().into(), to_dynamic(value))).collect()
}

/// A script value as JSON. Fails with [`Kind::Script`] for what JSON does not have: closures, blobs, handles, NaN.
pub fn to_json(value: &Dynamic) -> Result<Value> {
    if let Some(locked) = value.is_shared().then(|| value.flatten_clone()) {
        return to_json(&locked);
    }
    Ok(match value.type_name() {
        "()" => Value::Null,
        "bool" => Value::Bool(value.as_bool().unwrap_or_default()),
        "i64" => Value::from(value.as_int().unwrap_or_default()),
        "f64" => {
            Number::from_f64(value.as_float().unwrap_or(f64::NAN)).map(Value::Number).ok_or_else(|| not_data(value))?
        }
        "char" => Value::from(value.as_char().map(String::from).unwrap_or_default()),
        "string" => Value::from(value.as_immutable_string_ref().map(|text| text.to_string()).unwrap_or_default()),
        "array" => {
            let items = value.as_array_ref().map_err(|_| not_data(value))?;
            Value::Array(items.iter().map(to_json).collect::<Result<_>>()?)
        }
        "map" => from_map(&*value.as_map_ref().map_err(|_| not_data(value))?)?,
        _ => return Err(not_data(value)),
    })
}

/// A script's map as a JSON object. Fails like [`to_json`].
pub fn from_map(map: &Map) -> Result<Value> {
    map.iter().map(|(name, value)| Ok((name.to_string(), to_json(value)?))).collect::<Result<_>>().map(Value::Object)
}

fn not_data(value: &Dynamic) -> Error {
    Error::new(Kind::Script, format!("expected data, found {}", describe(value)))
        .hint("use text, numbers, true or false, (), arrays and maps")
}

/// The value's type, and the value itself where that is short: for messages.
pub fn describe(value: &Dynamic) -> String {
    let value = value.flatten_clone();
    match value.type_name() {
        "()" => "()".into(),
        "bool" | "i64" | "f64" | "char" => value.to_string(),
        "string" if value.to_string().chars().count() <= 40 => format!("{:?}", value.to_string()),
        "string" => "a long text".into(),
        "array" => "an array".into(),
        "map" => "a map".into(),
        "blob" => "a blob".into(),
        "Fn" => "a closure".into(),
        other => format!("a {other}"),
    }
}

/// A length of time: seconds as a number, or text such as `"90s"`, `"10m"`, `"1h30m"`, `"1.5h"`, `"250ms"`, `"2d"`.
pub fn duration(value: &Dynamic) -> Result<Duration> {
    let parsed = if let Ok(seconds) = value.as_int() {
        u64::try_from(seconds).ok().map(Duration::from_secs)
    } else if let Ok(seconds) = value.as_float() {
        Duration::try_from_secs_f64(seconds).ok()
    } else {
        value.as_immutable_string_ref().ok().and_then(|text| parse_duration(&text))
    };
    parsed.filter(|duration| *duration <= LONGEST).ok_or_else(|| {
        Error::new(Kind::Script, format!("expected a length of time, found {}", describe(value)))
            .hint("write \"90s\", \"10m\", \"1h30m\", or a number of seconds")
    })
}

/// Clocks overflow somewhere beyond; nobody waits longer.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 100);

/// A length of time as [`duration`] reads it from text.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return rest.parse().ok().map(Duration::from_secs);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    Some(total)
}

/// Reads the option map of a primitive: each key at most once, with its type, and no key that is not known.
///
/// ```ignore
/// let mut options = Options::new("kube::logs", map);
/// let (container, tail) = (options.text("container")?, options.int("tail")?);
/// options.finish()?;
/// ```
pub struct Options {
    of: &'static str,
    left: Map,
    known: Vec<&'static str>,
}

impl Options {
    /// The options given to that function.
    pub fn new(of: &'static str, map: Map) -> Self {
        Self { of, left: map, known: Vec::new() }
    }

    /// Any value; absent and `()` are the same.
    pub fn value(&mut self, key: &'static str) -> Option<Dynamic> {
        self.known.push(key);
        self.left.remove(key).map(Dynamic::flatten).filter(|value| !value.is_unit())
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        self.typed(key, "a text", |value| value.try_cast::<ImmutableString>().map(|text| text.to_string()))
    }

    /// A text that must be there.
    pub fn required_text(&mut self, key: &'static str) -> Result<String> {
        let value = self.text(key)?;
        value.ok_or_else(|| Error::new(Kind::Script, format!("{}: the option `{key}` is missing", self.of)))
    }

    /// A whole number.
    pub fn int(&mut self, key: &'static str) -> Result<Option<i64>> {
        self.typed(key, "a whole number", |value| value.as_int().ok())
    }

    /// A whole number that is not negative.
    pub fn count(&mut self, key: &'static str) -> Result<Option<u32>> {
        self.typed(key, "a whole number from 0", |value| value.as_int().ok()?.try_into().ok())
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| value.as_bool().ok())
    }

    /// A length of time (see [`duration`]).
    pub fn duration(&mut self, key: &'static str) -> Result<Option<Duration>> {
        let of = self.of;
        self.value(key)
            .map(|value| duration(&value).map_err(|error| error.context(format!("{of}: `{key}`"))))
            .transpose()
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>> {
        self.typed(key, "a list of texts", |value| value.try_cast::<Array>().and_then(|items| texts(items).ok()))
    }

    /// A map of texts, as labels are.
    pub fn text_map(&mut self, key: &'static str) -> Result<Option<BTreeMap<String, String>>> {
        self.typed(key, "a map of texts", |value| value.try_cast::<Map>().and_then(text_map))
    }

    /// Data of any shape.
    pub fn json(&mut self, key: &'static str) -> Result<Option<Value>> {
        let of = self.of;
        self.value(key)
            .map(|value| to_json(&value).map_err(|error| error.context(format!("{of}: `{key}`"))))
            .transpose()
    }

    /// Text as its bytes, or a blob.
    pub fn bytes(&mut self, key: &'static str) -> Result<Option<Vec<u8>>> {
        self.typed(key, "a text or a blob", bytes)
    }

    /// Refuses the keys nobody asked for, naming those that are known.
    pub fn finish(self) -> Result<()> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        let known = self.known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let hint = did_you_mean(unknown, self.known.iter().copied())
            .map_or_else(|| format!("known are {known}"), |meant| format!("{meant} (known are {known})"));
        Err(Error::new(Kind::Script, format!("{}: there is no option `{unknown}`", self.of)).hint(hint))
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(Dynamic) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let found = describe(&value);
        let wrong = || Error::new(Kind::Script, format!("{}: `{key}` must be {expected}, not {found}", self.of));
        read(value).map(Some).ok_or_else(wrong)
    }
}

/// The texts of an array. Fails with [`Kind::Script`] when an item is none.
pub fn texts(items: Array) -> Result<Vec<String>> {
    let text = |item: Dynamic| {
        let found = describe(&item);
        let text = item.flatten().try_cast::<ImmutableString>();
        text.map(|text| text.to_string())
            .ok_or_else(|| Error::new(Kind::Script, format!("expected a list of texts, found {found} in it")))
    };
    items.into_iter().map(text).collect()
}

fn text_map(map: Map) -> Option<BTreeMap<String, String>> {
    let text = |(name, value): (rhai::Identifier, Dynamic)| {
        Some((name.to_string(), value.flatten().try_cast::<ImmutableString>()?.to_string()))
    };
    map.into_iter().map(text).collect()
}

fn bytes(value: Dynamic) -> Option<Vec<u8>> {
    if value.is_blob() {
        return value.try_cast::<Blob>();
    }
    value.try_cast::<ImmutableString>().map(|text| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_survives_the_way_through_a_script() {
        let value = json!({
            "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "b"}, "finalizers": []},
            "spec": {"replicas": 3, "ratio": 0.5, "none": null, "big": i64::MAX, "on": true}
        });
        assert_eq!(to_json(&to_dynamic(&value)).unwrap(), value);
    }

    #[test]
    fn what_is_not_data_is_named() {
        let error = to_json(&Dynamic::from(vec![Dynamic::from(f64::NAN)])).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Script, "expected data, found NaN"));
        let closure = rhai::FnPtr::new("f").unwrap();
        assert!(to_json(&closure.into()).unwrap_err().message().contains("a closure"));
    }

    #[test]
    fn values_captured_by_closures_are_data_too() {
        let shared = Dynamic::from(vec![Dynamic::from(1_i64)]).into_shared();
        assert_eq!(to_json(&shared).unwrap(), json!([1]));
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("45", 45_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(&text.into()).unwrap(), Duration::from_millis(millis), "{text}");
        }
        assert_eq!(duration(&Dynamic::from(7_i64)).unwrap(), Duration::from_secs(7));
        assert_eq!(duration(&Dynamic::from(0.5)).unwrap(), Duration::from_millis(500));
        for text in ["", "s", "10x", "1h 30", "-5s", "1..2s", "99999999999999d", "ten minutes"] {
            let error = duration(&text.into()).err();
            assert_eq!(error.map(|error| error.kind()), Some(Kind::Script), "{text:?}");
        }
        assert!(duration(&Dynamic::from(-1_i64)).is_err());
        assert!(duration(&Dynamic::from(f64::INFINITY)).is_err());
    }

    fn options(fields: &[(&str, Dynamic)]) -> Options {
        Options::new("kube::logs", fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }

    #[test]
    fn options_are_read_by_type() {
        let mut read = options(&[("container", "db".into()), ("tail", 5_i64.into()), ("timeout", "1m".into())]);
        assert_eq!(read.text("container").unwrap().as_deref(), Some("db"));
        assert_eq!(read.count("tail").unwrap(), Some(5));
        assert_eq!(read.flag("previous").unwrap(), None);
        assert_eq!(read.duration("timeout").unwrap(), Some(Duration::from_mins(1)));
        read.finish().unwrap();
    }

    #[test]
    fn a_wrong_option_is_named() {
        let error = options(&[("tail", "all".into())]).count("tail").unwrap_err();
        assert_eq!(error.message(), "kube::logs: `tail` must be a whole number from 0, not \"all\"");
        let mut unknown = options(&[("contianer", "db".into())]);
        unknown.text("container").unwrap();
        let error = unknown.finish().unwrap_err();
        assert_eq!(error.message(), "kube::logs: there is no option `contianer`");
        assert_eq!(error.hint_text(), Some("did you mean `container`? (known are `container`)"));
        let error = options(&[]).required_text("name").unwrap_err();
        assert_eq!(error.message(), "kube::logs: the option `name` is missing");
    }
}
