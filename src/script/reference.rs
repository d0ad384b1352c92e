//! What scripts can call, read from the registered functions themselves.

use std::{borrow::Cow, collections::BTreeSet, sync::OnceLock};

use rhai::FuncInfo;

use super::engine;
use crate::terminal::suggest::did_you_mean;

/// A function scripts can call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Its namespace; empty for the global one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many arguments it takes.
    pub arity: usize,
    /// How it is written: `kube::get(kind: text, name: text) -> map`.
    pub signature: String,
    /// What it does.
    pub doc: String,
}

impl Function {
    /// Its name with the namespace.
    pub fn path(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}::{}", self.namespace, self.name) }
    }
}

struct Table {
    own: Vec<Function>,
    /// Names and arities of the language's own functions.
    standard: BTreeSet<(String, usize)>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let engine = engine::bare();
        let mut own: Vec<_> = engine.collect_fn_metadata(None, |info| function(&info), false);
        own.sort();
        own.dedup();
        let named = |info: FuncInfo| Some((info.metadata.name.to_string(), info.metadata.num_params));
        let standard = engine.collect_fn_metadata(None, named, true).into_iter().collect();
        Table { own, standard }
    })
}

/// The functions this program adds to the language, by namespace and name; several of one name take different
/// arguments.
pub fn functions() -> &'static [Function] {
    &table().own
}

/// Whether the language itself, or this program, has a global function of that name and number of arguments.
pub(super) fn is_global(name: &str, arity: usize) -> bool {
    table().standard.contains(&(name.to_owned(), arity))
}

/// The namespaces of this program.
pub fn namespaces() -> impl Iterator<Item = &'static str> {
    let names: BTreeSet<_> = functions().iter().map(|function| function.namespace.as_str()).collect();
    names.into_iter().filter(|name| !name.is_empty())
}

/// How the function of that name is called, or what may have been meant.
pub(super) fn hint_for(path: &str) -> Option<String> {
    let signatures: Vec<_> = functions()
        .iter()
        .filter(|function| function.path() == path)
        .map(|function| function.signature.as_str())
        .collect();
    if !signatures.is_empty() {
        return Some(format!("it is called as {}", signatures.join(" or ")));
    }
    let mut own: Vec<_> = functions().iter().map(Function::path).collect();
    own.dedup();
    let standard = table().standard.iter().map(|(name, _)| name.as_str());
    let standard = standard.filter(|name| name.starts_with(|c: char| c.is_alphabetic()) && !name.contains('$'));
    let found = did_you_mean(path, own.iter().map(String::as_str)).or_else(|| did_you_mean(path, standard));
    // A right name in a wrong namespace is worth saying.
    let name = path.rsplit("::").next().unwrap_or(path);
    found.or_else(|| {
        let elsewhere = functions().iter().find(|function| function.name == name)?;
        Some(format!("did you mean `{}`?", elsewhere.path()))
    })
}

/// What may have been meant by that namespace.
pub(super) fn namespace_hint(name: &str) -> String {
    did_you_mean(name, namespaces()).unwrap_or_else(|| "import it first: import \"lib/…\" as …;".to_owned())
}

fn function(info: &FuncInfo<'_>) -> Option<Function> {
    let name = info.metadata.name.to_string();
    // Operators and property accessors of handles are written otherwise.
    if !name.starts_with(|c: char| c.is_alphabetic()) || name.contains('$') {
        return None;
    }
    let params: Vec<_> = info.metadata.params_info.iter().map(|param| parameter(param)).collect();
    let namespace = info.namespace.to_string();
    let path = if namespace.is_empty() { name.clone() } else { format!("{namespace}::{name}") };
    let returns = match type_name(&info.metadata.return_type) {
        Cow::Borrowed("()") => String::new(),
        other => format!(" -> {other}"),
    };
    let lines = info.metadata.comments.iter().flat_map(|comment| comment.lines());
    let doc: Vec<_> = lines.map(|line| line.trim_start_matches('/').strip_prefix(' ').unwrap_or_default()).collect();
    Some(Function {
        signature: format!("{path}({}){returns}", params.join(", ")),
        arity: info.metadata.num_params,
        doc: doc.join("\n"),
        namespace,
        name,
    })
}

fn parameter(param: &str) -> String {
    match param.split_once(':') {
        Some((name, typ)) => format!("{}: {}", name.trim(), type_name(typ)),
        None => param.to_owned(),
    }
}

/// What a Rust type is called in a script.
fn type_name(typ: &str) -> Cow<'_, str> {
    let typ = typ.trim();
    let inner = typ.strip_prefix("RhaiResultOf<").and_then(|inner| inner.strip_suffix('>'));
    let typ = inner.unwrap_or(typ).trim();
    let typ = typ.strip_prefix("&mut").unwrap_or(typ).trim();
    Cow::Borrowed(match typ {
        "" | "()" => "()",
        "&str" | "ImmutableString" | "String" => "text",
        "i64" | "INT" => "int",
        "f64" | "FLOAT" => "float",
        "bool" => "bool",
        "Map" => "map",
        "Array" => "array",
        "Blob" => "blob",
        "FnPtr" => "closure",
        "Dynamic" => "any",
        other => return Cow::Owned(other.to_lowercase()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_says_what_it_does() {
        let silent: Vec<_> = functions().iter().filter(|function| function.doc.trim().is_empty()).collect();
        assert!(silent.is_empty(), "{silent:?}");
        let foreign = |signature: &str| ["Result", "&", "dyn", "rhai"].iter().any(|word| signature.contains(word));
        let odd: Vec<_> = functions().iter().filter(|function| foreign(&function.signature)).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }

    #[test]
    fn signatures_use_the_words_of_scripts() {
        let step = functions().iter().find(|function| function.path() == "step").unwrap();
        assert_eq!(step.signature, "step(name: text, work: closure) -> any");
        assert_eq!(step.arity, 2);
    }
}
