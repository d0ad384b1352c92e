//! Reading scripts without running them: syntax, unknown variables and functions, imports that lead nowhere.

use std::collections::BTreeMap;

use rhai::{AST, Engine, Position};

use super::{
    Fault, engine,
    fault::At,
    library::{Document, Library},
    outline::{Call, Outline},
    parameters::Parameter,
    reference,
};
use crate::{
    Error, Kind,
    terminal::{Diagnostic, did_you_mean},
};

/// Functions that are part of the language's syntax, with any number of arguments.
const LANGUAGE: [&str; 9] = ["call", "curry", "Fn", "eval", "is_def_fn", "is_def_var", "is_shared", "type_of", "this"];

/// What is wrong with a script and with those it imports or runs, in reading order; nothing when all is well.
pub fn check(library: &Library, document: Document) -> Vec<Diagnostic> {
    Reading::of(library, document).findings
}

/// The parameters of a script and of those it imports, each once, in reading order; `None` when some are
/// computed and only a run can tell.
pub fn parameters(library: &Library, document: Document) -> Option<Vec<Parameter>> {
    let reading = Reading::of(library, document);
    let all_known = !reading.computed;
    all_known.then_some(reading.parameters)
}

struct Reading<'a> {
    library: &'a Library,
    engine: Engine,
    /// Functions of the scripts read so far, by name of the script; `None` while it is being read, or is broken.
    read: BTreeMap<String, Option<Vec<(String, usize)>>>,
    findings: Vec<Diagnostic>,
    parameters: Vec<Parameter>,
    computed: bool,
}

/// Aliases of one script with the functions behind them; `None` where they are not known.
type Aliases = BTreeMap<String, Vec<Option<Vec<(String, usize)>>>>;

impl<'a> Reading<'a> {
    fn of(library: &'a Library, document: Document) -> Self {
        let mut reading = Self {
            library,
            engine: engine::bare(),
            read: BTreeMap::new(),
            findings: Vec::new(),
            parameters: Vec::new(),
            computed: false,
        };
        reading.script(document);
        reading
    }

    /// Reads a script, once.
    fn script(&mut self, document: Document) -> Option<Vec<(String, usize)>> {
        if let Some(known) = self.read.get(&document.name) {
            return known.clone();
        }
        self.read.insert(document.name.clone(), None);
        let ast: AST = match self.engine.compile(&document.text) {
            Ok(ast) => ast,
            Err(error) => {
                let fault = Fault::in_source(&error.into(), &document.name);
                self.findings.push(fault.placed(Some(&document.text)));
                return None;
            }
        };
        let outline = Outline::of(&ast);
        let aliases = self.imports(&document, &outline);
        for call in &outline.calls {
            self.parameter(call);
            self.other_files(&document, call);
            if let Some(error) = unknown(call, &outline, &aliases) {
                self.find(&document, call.position, error);
            }
        }
        self.read.insert(document.name, Some(outline.functions.clone()));
        Some(outline.functions)
    }

    fn imports(&mut self, document: &Document, outline: &Outline) -> Aliases {
        let mut aliases = Aliases::new();
        for import in &outline.imports {
            let functions = match &import.path {
                None => None,
                Some(path) => match self.library.script(path) {
                    Ok(imported) => self.script(imported),
                    Err(error) => {
                        self.find(document, import.position, error);
                        None
                    }
                },
            };
            aliases.entry(import.alias.clone()).or_default().push(functions);
        }
        aliases
    }

    fn parameter(&mut self, call: &Call) {
        if !call.is("", "param") {
            return;
        }
        match call.text(0) {
            Some(name) if self.parameters.iter().any(|known| known.name == name) => {}
            Some(name) => {
                let default = call.literals.get(1).cloned().flatten();
                self.parameters.push(Parameter { name, default, help: call.text(2).unwrap_or_default() });
            }
            None => self.computed = true,
        }
    }

    /// Runbooks it runs and manifests it reads must be there, too.
    fn other_files(&mut self, document: &Document, call: &Call) {
        if call.is("", "runbook") {
            match call.text(0).map(|path| self.library.script(&path)) {
                Some(Ok(part)) => {
                    // Its parameters are its own.
                    let (known, computed) = (self.parameters.len(), self.computed);
                    self.script(part);
                    self.parameters.truncate(known);
                    self.computed = computed;
                }
                Some(Err(error)) => self.find(document, call.position, error),
                None => {}
            }
        } else if call.is("kube", "manifest")
            && let Some(Err(error)) = call.text(0).map(|path| self.library.document(&path))
        {
            self.find(document, call.position, error);
        }
    }

    fn find(&mut self, document: &Document, position: Position, error: Error) {
        let at = At::new(&document.name, position);
        self.findings.push(Fault { error, at, stack: Vec::new() }.placed(Some(&document.text)));
    }
}

/// What is wrong with a call, if its function is not known.
fn unknown(call: &Call, outline: &Outline, aliases: &Aliases) -> Option<Error> {
    let takes = |functions: &[(String, usize)], arity: usize| {
        functions.iter().any(|(name, args)| *name == call.name && *args == arity)
    };
    match call.namespace.as_slice() {
        [] if LANGUAGE.contains(&call.name.as_str()) || call.name.contains('$') => None,
        // The object is the first argument of a native, and `this` of a function of the script.
        [] if call.method => {
            let known = reference::is_global(&call.name, call.arity + 1) || takes(&outline.functions, call.arity);
            (!known).then(|| missing(call, &outline.functions, ""))
        }
        [] => {
            let known = reference::is_global(&call.name, call.arity) || takes(&outline.functions, call.arity);
            (!known).then(|| missing(call, &outline.functions, ""))
        }
        [alias] => match aliases.get(alias) {
            Some(modules) => {
                let modules: Vec<_> = modules.iter().map(Option::as_ref).collect::<Option<Vec<_>>>()?;
                let functions: Vec<_> = modules.into_iter().flatten().cloned().collect();
                (!takes(&functions, call.arity)).then(|| missing(call, &functions, alias))
            }
            None if !reference::namespaces().any(|namespace| namespace == alias) => {
                let error = Error::new(Kind::Script, format!("there is no namespace {alias}"));
                Some(error.hint(reference::namespace_hint(alias)))
            }
            None => {
                let mut functions = reference::functions().iter();
                let known =
                    |f: &reference::Function| f.namespace == *alias && f.name == call.name && f.arity == call.arity;
                (!functions.any(known)).then(|| missing(call, &[], alias))
            }
        },
        // Imports of imports: only a run can tell.
        _ => None,
    }
}

/// That there is no such function, with those that may have been meant among the script's and the program's own.
fn missing(call: &Call, own: &[(String, usize)], namespace: &str) -> Error {
    let path = if namespace.is_empty() { call.name.clone() } else { format!("{namespace}::{}", call.name) };
    let arguments = match call.arity {
        1 => "1 argument".to_owned(),
        more => format!("{more} arguments"),
    };
    let error = Error::new(Kind::Script, format!("there is no function {path} of {arguments}"));
    let same: Vec<_> = own.iter().filter(|(name, _)| *name == call.name).map(|(_, arity)| arity.to_string()).collect();
    if !same.is_empty() {
        return error.hint(format!("it takes {}", same.join(" or ")));
    }
    let near = did_you_mean(&call.name, own.iter().map(|(name, _)| name.as_str()));
    match near.or_else(|| reference::hint_for(&path)) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{script::embedded, terminal::Style};

    fn findings(script: &str) -> Vec<String> {
        let document = Document { name: "x.rhai".into(), text: script.into() };
        check(&Library::default(), document).iter().map(|finding| finding.render(Style::PLAIN)).collect()
    }

    fn finding(script: &str) -> String {
        let mut findings = findings(script);
        assert_eq!(findings.len(), 1, "{script}: {findings:?}");
        findings.remove(0)
    }

    #[test]
    fn a_sound_script_has_no_findings() {
        let script = "import \"lib/export\" as manifests;\n\
                      fn twice(x) { x * 2 }\n\
                      let n = param(\"n\", 5, \"how many\");\n\
                      let list = parallel([1, 2], 2, |x| twice(x) + n);\n\
                      list.sort(|a, b| a - b);\n\
                      let f = |x| x; f.call(1); let t = type_of(f);\n\
                      check::equal(\"sum\", list.reduce(|a, b| a + b, 0), 3);\n\
                      print(`${list.len()} ${time::now()}`);";
        assert_eq!(findings(script), [""; 0]);
    }

    #[test]
    fn mistakes_are_found_with_their_place() {
        let cases = [
            ("let a = 1;\nlet b = [1, 2;", "x.rhai:2:14", "", ""),
            ("let a = 1;\nprint(b);", "x.rhai:2:7", "there is no variable b", ""),
            ("fn f() {\n  stpe(\"x\", || 1) }", "x.rhai:2:3", "no function stpe of 2 arguments", "did you mean `step`"),
            ("step(\"x\")", "x.rhai:1:1", "no function step of 1 argument", "it is called as step(name: text"),
            ("step(\"x\", || chekc::failed())", "x.rhai:1:14", "there is no namespace chekc", "did you mean `check`"),
            ("check::eqal(1, 2, 3)", "x.rhai:1:1", "no function check::eqal", "did you mean `check::equal`"),
            ("fn f(a) { a } f(1, 2)", "x.rhai:1:15", "no function f of 2 arguments", "it takes 1"),
            ("let x = 1;\n[1].mpa(|v| v)", "x.rhai:2:5", "no function mpa of 1 argument", "did you mean"),
            ("import \"lib/nothing\" as n;", "x.rhai:1:1", "lib/nothing.rhai is not in", ""),
            ("import \"../etc\" as n;", "x.rhai:1:1", "leads out of", ""),
            ("import \"lib/export\" as e; e::docs([])", "x.rhai:1:27", "no function e::docs of 1", ""),
            (
                "runbook(\"full-restor\")",
                "x.rhai:1:1",
                "full-restor.rhai is not in",
                "did you mean `full-restore.rhai`",
            ),
        ];
        for (script, place, message, hint) in cases {
            let text = finding(script);
            for part in [place, message, hint] {
                assert!(text.contains(part), "{script}: {part:?} is not in {text}");
            }
        }
    }

    #[test]
    fn imported_scripts_are_read_once_and_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.rhai"), "import \"b\" as b;\nfn one() { b::two() + nothing() }").unwrap();
        fs::write(folder.path().join("b.rhai"), "import \"a\" as a; fn two() { a::one() }").unwrap();
        let document =
            Document { name: "x".into(), text: "import \"a\" as a; import \"b\" as b; a::one(); a::two()".into() };
        let found = check(&Library::of_folder(folder.path()), document);
        let titles: Vec<_> = found.iter().map(|finding| finding.title.as_str()).collect();
        assert_eq!(
            titles,
            ["there is no function nothing of 0 arguments", "there is no function a::two of 0 arguments"]
        );
        assert!(found[0].place.as_ref().unwrap().path.ends_with("a.rhai"));
    }

    #[test]
    fn the_embedded_runbooks_are_sound() {
        for (name, text) in embedded::FILES.iter().filter(|(name, _)| !name.ends_with("yaml")) {
            let found = check(&Library::default(), Document { name: (*name).into(), text: (*text).into() });
            let found: Vec<_> = found.iter().map(|finding| finding.render(Style::PLAIN)).collect();
            assert!(found.is_empty(), "{}", found.join("\n\n"));
        }
    }

    #[test]
    fn parameters_are_found_but_not_those_of_runbooks_it_runs() {
        let document = |text: &str| Document { name: "x.rhai".into(), text: text.into() };
        let script = "let rows = param(\"rows\", 1000, \"rows to make\"); runbook(\"export-state\");";
        let found = parameters(&Library::default(), document(script)).unwrap();
        assert_eq!(found.len(), 1);
        let Parameter { name, default, help } = &found[0];
        let default = default.as_ref().unwrap().as_int().unwrap();
        assert_eq!((name.as_str(), default, help.as_str()), ("rows", 1000, "rows to make"));
        assert!(parameters(&Library::default(), document("for n in [1] { param(`p${n}`, 1, \"\") }")).is_none());
    }
}
