//! What the session knows, for completion.

use super::completer::Known;
use crate::script::{Session, library, reference};

impl Known for Session {
    fn functions(&self, namespace: &str) -> Vec<String> {
        let known = reference::functions().iter().filter(|function| function.namespace == namespace);
        let mut names: Vec<_> = known.map(|function| function.name.clone()).collect();
        if namespace.is_empty() {
            let name = |called: String| called.split('(').next().unwrap_or_default().to_owned();
            names.extend(Self::functions(self).into_iter().map(name));
        }
        names
    }

    fn namespaces(&self) -> Vec<String> {
        reference::namespaces().map(str::to_owned).chain(Self::namespaces(self)).collect()
    }

    fn variables(&self) -> Vec<String> {
        Self::variables(self).into_iter().map(|(name, _)| name).collect()
    }

    fn fields(&self, path: &[&str]) -> Vec<String> {
        let Some((variable, fields)) = path.split_first() else { return Vec::new() };
        let found = Self::variables(self).into_iter().find(|(name, _)| name == variable);
        let Some((_, mut value)) = found else { return Vec::new() };
        for field in fields {
            let inner = value.as_map_ref().ok().and_then(|map| map.get(*field).cloned());
            let Some(inner) = inner else { return Vec::new() };
            value = inner.flatten();
        }
        value.as_map_ref().map(|map| map.keys().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn imports(&self) -> Vec<String> {
        library::embedded().iter().filter_map(|(path, _)| path.strip_suffix(".rhai")).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Settings, host::fake};

    #[test]
    fn what_was_typed_and_what_is_built_in() {
        let mut session = Session::new(&fake::host(Settings::default()).0);
        session.eval("let pod = #{ status: #{ phase: \"Running\" } }; fn mine(x) { x }");
        let known: &dyn Known = &session;
        assert_eq!(known.variables(), ["pod"]);
        assert_eq!(known.fields(&["pod", "status"]), ["phase"]);
        assert!(known.fields(&["pod", "nosuch"]).is_empty() && known.fields(&["nosuch"]).is_empty());
        let global = known.functions("");
        assert!(global.contains(&"mine".to_owned()) && global.contains(&"step".to_owned()));
        assert!(known.functions("check").contains(&"equal".to_owned()));
        assert!(known.namespaces().contains(&"kube".to_owned()));
        assert!(known.imports().contains(&"lib/apps".to_owned()));
    }
}
