//! Parameters of runbooks: reading what was set on the command line.

use rhai::{Array, Dynamic};
use serde_json::Value;

use super::convert;
use crate::{Error, Kind, Result, terminal::did_you_mean};

/// A parameter that a script declares with `param(name, default, help)`.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its default; `None` when it is computed.
    pub default: Option<Dynamic>,
    /// What it is for.
    pub help: String,
}

/// Refuses names that were given a value and that the script does not declare. Fails with [`Kind::Usage`].
pub(super) fn refuse_unknown<'a>(set: impl Iterator<Item = &'a String>, declared: &[Parameter]) -> Result<()> {
    let known: Vec<_> = declared.iter().map(|parameter| parameter.name.as_str()).collect();
    let mut unknown = set.filter(|name| !known.contains(&name.as_str()));
    let Some(name) = unknown.next() else { return Ok(()) };
    let all = match known.as_slice() {
        [] => "this runbook has no parameters".to_owned(),
        known => format!("its parameters are {}", known.join(", ")),
    };
    let hint = did_you_mean(name, known.iter().copied()).map_or(all.clone(), |meant| format!("{meant} ({all})"));
    Err(Error::new(Kind::Usage, format!("the runbook has no parameter {name}")).hint(hint))
}

/// The text given on the command line as a value of the default's type; text where the default is `()`.
///
/// An array is a list of texts separated by commas, or JSON; a map is JSON. Fails with [`Kind::Usage`].
pub(super) fn read(name: &str, given: &str, default: &Dynamic) -> Result<Dynamic> {
    let wrong =
        |expected: &str| Error::new(Kind::Usage, format!("parameter {name}: expected {expected}, found {given:?}"));
    let json = || serde_json::from_str::<Value>(given).ok().map(|value| convert::to_dynamic(&value));
    match default.type_name() {
        "bool" => match given {
            "true" | "yes" => Ok(true.into()),
            "false" | "no" => Ok(false.into()),
            _ => Err(wrong("true or false")),
        },
        "i64" => given.parse::<i64>().map(Dynamic::from).map_err(|_| wrong("a whole number")),
        "f64" => match given.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => Err(wrong("a number")),
        },
        "array" if given.trim_start().starts_with('[') => {
            json().filter(Dynamic::is_array).ok_or_else(|| wrong("a list in JSON"))
        }
        "array" => {
            let items = given.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(|item| item.to_owned().into()).collect::<Array>().into())
        }
        "map" => json().filter(Dynamic::is_map).ok_or_else(|| wrong("a map in JSON")),
        _ => Ok(given.into()),
    }
}

/// The value as reports may show it: not, when the name says that it is secret.
pub(super) fn hide_secret(name: &str, value: Value) -> Value {
    let name = name.to_lowercase();
    let secret = ["password", "passphrase", "secret", "token", "access_key", "private_key"];
    if secret.iter().any(|word| name.contains(word)) && !value.is_null() { "***".into() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(given: &str, default: impl Into<Dynamic>) -> std::result::Result<Value, String> {
        match read("x", given, &default.into()) {
            Ok(value) => Ok(convert::to_json(&value).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_type_is_the_defaults() {
        assert_eq!(json("7", "text"), Ok("7".into()));
        assert_eq!(json("7", 1_i64), Ok(7.into()));
        assert_eq!(json("7", 1.5), Ok(7.0.into()));
        assert_eq!(json("yes", false), Ok(true.into()));
        assert_eq!(json("7", Dynamic::UNIT), Ok("7".into()));
        assert_eq!(json("a, b,", Array::new()), Ok(serde_json::json!(["a", "b"])));
        assert_eq!(json("[1, 2]", Array::new()), Ok(serde_json::json!([1, 2])));
        assert_eq!(json("{\"a\": 1}", rhai::Map::new()), Ok(serde_json::json!({"a": 1})));
    }

    #[test]
    fn another_type_is_refused() {
        assert_eq!(json("1.5", 1_i64), Err("parameter x: expected a whole number, found \"1.5\"".into()));
        assert_eq!(json("nan", 1.0), Err("parameter x: expected a number, found \"nan\"".into()));
        assert_eq!(json("maybe", true), Err("parameter x: expected true or false, found \"maybe\"".into()));
        assert_eq!(json("[1,", Array::new()), Err("parameter x: expected a list in JSON, found \"[1,\"".into()));
        assert_eq!(json("[1]", rhai::Map::new()), Err("parameter x: expected a map in JSON, found \"[1]\"".into()));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(hide_secret("s3_secret_key", "hunter2".into()), "***");
        assert_eq!(hide_secret("bucket", "backups".into()), "backups");
    }
}
