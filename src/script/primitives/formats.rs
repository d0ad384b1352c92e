//! `yaml::` and `json::`: data from text and back.

use rhai::{Dynamic, NativeCallContext, plugin::*};
use serde_json::Value;

use super::OrThrow;
use crate::{
    Error, Kind,
    script::{RhaiResultOf, convert},
};

#[export_module]
pub mod yaml {
    /// The data of a YAML text of one document.
    #[rhai_fn(return_raw)]
    pub fn parse(ctx: NativeCallContext, text: &str) -> RhaiResultOf<Dynamic> {
        let invalid = |error: serde_saphyr::Error| {
            Error::new(Kind::Invalid, format!("not a YAML document: {}", error.without_snippet()))
        };
        serde_saphyr::from_str::<Value>(text).map(|value| convert::to_dynamic(&value)).map_err(invalid).or_throw(&ctx)
    }

    /// The data as YAML, ending with a line break; keys are sorted.
    #[rhai_fn(return_raw)]
    pub fn text(ctx: NativeCallContext, value: Dynamic) -> RhaiResultOf<String> {
        let value = convert::to_json(&value).or_throw(&ctx)?;
        let invalid = |error: serde_saphyr::ser::Error| Error::new(Kind::Invalid, "writing YAML").source(error);
        serde_saphyr::to_string(&value).map_err(invalid).or_throw(&ctx)
    }
}

#[export_module]
pub mod json {
    /// The data of a JSON text.
    #[rhai_fn(return_raw)]
    pub fn parse(ctx: NativeCallContext, text: &str) -> RhaiResultOf<Dynamic> {
        let invalid = |error: serde_json::Error| Error::new(Kind::Invalid, format!("not JSON: {error}"));
        serde_json::from_str::<Value>(text).map(|value| convert::to_dynamic(&value)).map_err(invalid).or_throw(&ctx)
    }

    /// The data as JSON on one line; keys are sorted.
    #[rhai_fn(return_raw)]
    pub fn text(ctx: NativeCallContext, value: Dynamic) -> RhaiResultOf<String> {
        Ok(convert::to_json(&value).or_throw(&ctx)?.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Fault, Settings, convert::to_json, engine, host::fake};

    fn eval(script: &str) -> RhaiResultOf<Dynamic> {
        let (host, _) = fake::host(Settings::default());
        engine::build(&host).eval::<Dynamic>(script)
    }

    #[test]
    fn data_survive_both_formats() {
        let data = "#{a: [1, -2.5, true, ()], \"b.c/d\": \"yes\", e: \"0755\", f: \"1e3\", g: \"two\\nlines\\n\", h: #{}, \
                    i: \"null\", j: \"~\", k: \"# no\", l: \"2026-11-20\", m: \" x \", n: \"\", o: \"a: b\", p: []}";
        for format in ["yaml", "json"] {
            let back = format!("let data = {data}; [data, {format}::parse({format}::text(data))]");
            let pair = to_json(&eval(&back).unwrap()).unwrap();
            assert_eq!(pair[0], pair[1], "{format}");
        }
    }

    #[test]
    fn yaml_means_what_kubectl_reads() {
        // kubectl follows YAML 1.1, where `yes` is true.
        let value = eval("yaml::parse(\"b: yes\\nc: '1'\\nd: 1.0\\n\")").unwrap();
        assert_eq!(to_json(&value).unwrap(), serde_json::json!({"b": true, "c": "1", "d": 1.0}));
        assert_eq!(eval("yaml::text(#{b: \"on\", a: 1})").unwrap().to_string(), "a: 1\nb: \"on\"\n");
    }

    #[test]
    fn broken_text_is_invalid() {
        for script in ["yaml::parse(\"a: [1\")", "json::parse(\"{\")", "json::parse(\"\")"] {
            assert_eq!(Fault::new(&eval(script).unwrap_err()).error.kind(), Kind::Invalid, "{script}");
        }
        let deep = "[".repeat(100_000);
        for format in ["yaml", "json"] {
            let error = eval(&format!("{format}::parse(\"{deep}\")")).unwrap_err();
            assert_eq!(Fault::new(&error).error.kind(), Kind::Invalid);
        }
    }
}
