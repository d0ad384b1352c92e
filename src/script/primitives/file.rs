//! `file::`: texts in files of this machine, by paths relative to the current folder.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rhai::{NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind, Result,
    script::{Host, RhaiResultOf},
    terminal::human,
};

/// Larger files are not texts that scripts work on.
const LARGEST: u64 = 64 << 20;

#[export_module]
pub mod api {
    /// The text of the file; throws `not-found` when there is none.
    #[rhai_fn(return_raw)]
    pub fn read(ctx: NativeCallContext, path: &str) -> RhaiResultOf<String> {
        super::read(path).or_throw(&ctx)
    }

    /// Writes the text to the file, at once or not at all; makes its folder. A file that has that text is left alone.
    #[rhai_fn(return_raw)]
    pub fn write(ctx: NativeCallContext, path: &str, text: &str) -> RhaiResultOf<()> {
        if super::read(path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        super::write(path, text).or_throw(&ctx)?;
        Host::of(&ctx).run().change(format!("wrote {path}"));
        Ok(())
    }

    /// Whether there is such a file or folder.
    pub fn exists(path: &str) -> bool {
        Path::new(path).exists()
    }
}

fn read(path: &str) -> Result<String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("there is no file {path}")).object(path),
        _ => Error::new(Kind::Failed, format!("reading {path}")).source(error).object(path),
    };
    let mut bytes = Vec::new();
    let length =
        fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if length as u64 > LARGEST {
        return Err(Error::new(Kind::Invalid, format!("{path} is larger than {}", human::bytes(LARGEST))).object(path));
    }
    String::from_utf8(bytes).map_err(|_| Error::new(Kind::Invalid, format!("{path} is not text in UTF-8")).object(path))
}

fn write(path: &str, text: &str) -> Result<()> {
    let failed = |error: io::Error| Error::new(Kind::Failed, format!("writing {path}")).source(error).object(path);
    let target = Path::new(path);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    // Ordinary rights, less what the umask takes: exported state is meant to be shared.
    let mut file = tempfile::Builder::new()
        .prefix(".lhrun-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(target).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Fault, Settings, engine, host::fake};

    #[test]
    fn a_text_is_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/state.yaml");
        let path = path.to_str().unwrap();
        let (host, _) = fake::host(Settings::default());
        let script = format!(
            "let before = file::exists(\"{path}\"); file::write(\"{path}\", \"größe: 1\\n\"); \
             file::write(\"{path}\", \"größe: 1\\n\"); [before, file::exists(\"{path}\"), file::read(\"{path}\")]"
        );
        let value = engine::build(&host).eval::<rhai::Dynamic>(&script).unwrap();
        assert_eq!(crate::script::convert::to_json(&value).unwrap(), serde_json::json!([false, true, "größe: 1\n"]));
        assert_eq!(host.run().record().changes.len(), 1);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("blob"), [0xff, 0]).unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        let cases = [
            (format!("file::read(\"{}\")", at("none")), Kind::NotFound),
            (format!("file::read(\"{}\")", at("blob")), Kind::Invalid),
            (format!("file::read(\"{}\")", at("")), Kind::Failed),
            (format!("file::write(\"{}\", \"x\")", at("blob/inside")), Kind::Failed),
        ];
        for (script, kind) in cases {
            let error = engine.eval::<rhai::Dynamic>(&script).unwrap_err();
            assert_eq!(Fault::new(&error).error.kind(), kind, "{script}");
        }
    }
}
