//! Where runbooks, the scripts they import and the manifests they apply are looked up: in the runbook's own folder and
//! its parents up to one called `runbooks`, then among the copies in the binary. Nowhere else.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread::{self, ThreadId},
};

use rhai::{AST, Engine, EvalAltResult, Module, ModuleResolver, Position, Shared};

use super::{RhaiResultOf, embedded, fault, host::Sources, module};
use crate::{Error, Kind, Result, terminal::suggest::did_you_mean};

/// How the copies in the binary are called in messages.
pub const EMBEDDED: &str = "embedded:";
/// Scripts and manifests are written by hand; larger files are something else.
const LARGEST: u64 = 16 << 20;

/// Where things are looked up. The default has only the copies in the binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Library {
    folders: Vec<PathBuf>,
}

/// A text with the name messages show it under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its path, or `embedded:` and its path among the copies in the binary.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl Library {
    /// The library of the runbook with that path.
    pub fn beside(runbook: &Path) -> Self {
        Self::of_folder(runbook.parent().unwrap_or(Path::new("")))
    }

    /// The library of runbooks in that folder.
    pub fn of_folder(folder: &Path) -> Self {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let depth = absolute.ancestors().position(|above| above.file_name().is_some_and(|name| name == "runbooks"));
        let mut folders = vec![folder.to_owned()];
        // Relative paths are kept relative, as the operator wrote them.
        let mut relative = folder.to_owned();
        for above in absolute.ancestors().take(depth.map_or(0, |depth| depth + 1)).skip(1) {
            let shorter = relative.pop() && !matches!(relative.components().next_back(), Some(Component::ParentDir));
            folders.push(if shorter { relative.clone() } else { above.to_owned() });
        }
        Self { folders }
    }

    /// The manifest or other text a runbook names by a path relative to itself. Fails with [`Kind::NotFound`] when
    /// there is none, and with [`Kind::Script`] when the path leads elsewhere.
    pub fn document(&self, path: &str) -> Result<Document> {
        let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || path.is_empty() {
            return Err(Error::new(Kind::Script, format!("{path:?} leads out of the runbook's folder"))
                .hint("name a file in the runbook's own folder, without `..` and without a leading `/`"));
        }
        for folder in &self.folders {
            let file = folder.join(path);
            match read(&file) {
                Ok(text) => return Ok(Document { name: file.display().to_string(), text }),
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                Err(_) => {}
            }
        }
        embedded_copy(path.strip_prefix("./").unwrap_or(path)).ok_or_else(|| {
            let mut places: Vec<_> = self.folders.iter().map(|folder| shown(folder)).collect();
            places.push("the built-in copies".into());
            let error = Error::new(Kind::NotFound, format!("{path} is not in {}", places.join(", ")));
            match did_you_mean(path, embedded::FILES.iter().map(|(path, _)| *path)) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// The script an `import` names, with or without `.rhai`.
    pub fn script(&self, path: &str) -> Result<Document> {
        let file = format!("{}.rhai", path.strip_suffix(".rhai").unwrap_or(path));
        self.document(&file)
    }
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { "the current folder".into() } else { folder.display().to_string() }
}

fn embedded_copy(path: &str) -> Option<Document> {
    let (name, text) = embedded::FILES.iter().find(|(name, _)| *name == path)?;
    Some(Document { name: format!("{EMBEDDED}{name}"), text: (*text).to_owned() })
}

fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::new(Kind::NotFound, format!("there is no file {name}"))
        }
        _ => Error::new(Kind::Usage, format!("cannot read {name}")).source(error),
    };
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(Error::new(Kind::Usage, format!("{name} is not a file")));
    }
    if about.len() > LARGEST {
        return Err(Error::new(
            Kind::Usage,
            format!("{name} is larger than {}", crate::terminal::human::bytes(LARGEST)),
        ));
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| Error::new(Kind::Usage, format!("{name} is not text in UTF-8")))
}

/// The copies in the binary: path below `runbooks/`, and text.
pub fn embedded() -> &'static [(&'static str, &'static str)] {
    embedded::FILES
}

/// Resolves `import` from a library; each script is run once per engine.
pub(super) struct Resolver {
    library: Library,
    sources: Sources,
    loaded: Mutex<BTreeMap<String, Shared<Module>>>,
    /// What each thread is loading now, to find scripts that import each other.
    loading: Mutex<HashSet<(ThreadId, String)>>,
}

impl Resolver {
    pub(super) fn new(library: Library, sources: Sources) -> Self {
        Self { library, sources, loaded: Mutex::default(), loading: Mutex::default() }
    }

    fn load(&self, engine: &Engine, document: Document) -> RhaiResultOf<Shared<Module>> {
        let ast = compile(engine, &self.sources, document)?;
        module::of(&ast, engine).map(Shared::new)
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
    ) -> RhaiResultOf<Shared<Module>> {
        let throw = |error: Error| fault::throw_at(&error, source, position);
        let document = self.library.script(path).map_err(throw)?;
        let name = document.name.clone();
        if let Some(module) = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(module.clone());
        }
        let key = (thread::current().id(), name.clone());
        if !self.loading.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return Err(throw(Error::new(Kind::Script, format!("{name} imports itself, directly or through others"))));
        }
        let result = self.load(engine, document);
        self.loading.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let module = result.map_err(|error| EvalAltResult::ErrorInModule(name.clone(), error, position))?;
        Ok(self.loaded.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(module).clone())
    }
}

/// Compiles a script and keeps its text for messages.
pub(super) fn compile(engine: &Engine, sources: &Sources, document: Document) -> RhaiResultOf<AST> {
    let result = engine.compile(&document.text);
    sources.lock().unwrap_or_else(PoisonError::into_inner).insert(document.name.clone(), document.text);
    let mut ast = result?;
    ast.set_source(document.name);
    Ok(ast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Settings, engine, host::fake};

    /// A folder with those files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn eval(library: Library, script: &str) -> std::result::Result<String, String> {
        let (host, _) = fake::host(Settings { library, ..Settings::default() });
        engine::build(&host).eval::<String>(script).map_err(|error| super::fault::Fault::new(&error).error.to_string())
    }

    #[test]
    fn imports_come_from_the_runbooks_folder_and_its_parents() {
        let files = [
            ("runbooks/lib/a.rhai", "fn name() { \"outer\" }"),
            ("runbooks/lib/b.rhai", "import \"lib/a\" as a; fn name() { a::name() + \" by b\" }"),
            ("runbooks/apps/lib/a.rhai", "fn name() { \"inner\" }"),
            ("lib/c.rhai", "fn name() { \"outside\" }"),
        ];
        let folder = folder(&files);
        let library = Library::beside(&folder.path().join("runbooks/apps/db.rhai"));
        let name = |path: &str| eval(library.clone(), &format!("import \"{path}\" as x; x::name()"));
        assert_eq!(name("lib/a").unwrap(), "inner");
        assert_eq!(name("lib/a.rhai").unwrap(), "inner");
        assert_eq!(name("lib/b").unwrap(), "inner by b");
        assert!(name("lib/c").unwrap_err().contains("lib/c.rhai is not in "));
    }

    #[test]
    fn a_file_of_the_folder_wins_over_the_copy_in_the_binary() {
        let (name, copy) = embedded()[0];
        let folder = folder(&[(name, "// mine")]);
        assert_eq!(Library::of_folder(folder.path()).document(name).unwrap().text, "// mine");
        let embedded = Library::default().document(name).unwrap();
        assert_eq!((embedded.name, embedded.text.as_str()), (format!("{EMBEDDED}{name}"), copy));
    }

    #[test]
    fn imports_do_not_lead_out() {
        let folder = folder(&[("secret.rhai", "fn name() { \"secret\" }"), ("runbooks/x.rhai", "")]);
        let library = Library::beside(&folder.path().join("runbooks/x.rhai"));
        let absolute = folder.path().join("secret").display().to_string();
        for path in ["../secret", "lib/../../secret", absolute.as_str(), ""] {
            let error = library.document(path).unwrap_err();
            assert_eq!(error.kind(), Kind::Script, "{path}");
            let error = eval(library.clone(), &format!("import \"{path}\" as x; x::name()")).unwrap_err();
            assert!(!error.contains("secret\n"), "{error}");
        }
    }

    #[test]
    fn functions_of_one_name_in_two_scripts_are_not_mixed_up() {
        let app = |name: &str| {
            format!(
                "const NAME = \"{name}\"; import \"lib\" as lib; \
                     fn verify(x) {{ lib::shown(baseline(x)) }} fn baseline(x) {{ `${{global::NAME}} ${{x}}` }}"
            )
        };
        let (a, b) = (app("a"), app("b"));
        let lib = "fn shown(text) { baseline(text) } fn baseline(text) { `<${text}>` }";
        let check = "fn verify(path) { import path as app; app::verify(1) }";
        let files = [("a.rhai", a.as_str()), ("b.rhai", &b), ("lib.rhai", lib), ("check.rhai", check)];
        let folder = folder(&files);
        let script = "import \"check\" as check; let said = \"\"; \
                      for n in 0..3 { said += check::verify(\"a\") + check::verify(\"b\"); } said";
        let said = eval(Library::of_folder(folder.path()), script).unwrap();
        assert_eq!(said, "<a 1><b 1>".repeat(3));
    }

    #[test]
    fn scripts_that_import_each_other_are_refused() {
        let folder = folder(&[
            ("a.rhai", "import \"b\" as b; fn name() { \"a\" }"),
            ("b.rhai", "import \"a\" as a; fn name() { \"b\" }"),
        ]);
        let error = eval(Library::of_folder(folder.path()), "import \"a\" as a; a::name()").unwrap_err();
        assert!(error.contains("imports itself"), "{error}");
    }

    #[test]
    fn an_error_in_an_imported_script_names_its_file() {
        let folder = folder(&[("a.rhai", "let x = 1;\nlet y = ;")]);
        let (host, _) = fake::host(Settings { library: Library::of_folder(folder.path()), ..Settings::default() });
        let error = engine::build(&host).eval::<()>("import \"a\" as a;").unwrap_err();
        let text = fault::Fault::new(&error).diagnostic(&host).render(crate::terminal::Style::PLAIN);
        assert!(text.contains("a.rhai:2:9"), "{text}");
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let folder = folder(&[("a.rhai/x", "")]);
        fs::write(folder.path().join("b.rhai"), [0xff, 0xfe, 0]).unwrap();
        let library = Library::of_folder(folder.path());
        let kind = |name: &str| library.script(name).map_err(|error| error.to_string());
        assert!(kind("b").unwrap_err().contains("not text in UTF-8"));
        assert!(kind("a").unwrap_err().contains("is not a file"));
    }
}
