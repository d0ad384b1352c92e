//! Where the session's history is kept: `$XDG_STATE_HOME/lhrun/history`, else `~/.local/state/lhrun/history`.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The history's file, in a folder that exists now; nothing without a home folder.
pub fn file() -> Option<io::Result<PathBuf>> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| env::home_dir().map(|home| home.join(".local/state")))?;
    Some(in_state_folder(&state))
}

/// What is typed may be private, so the folder is readable by its owner only.
fn in_state_folder(state: &Path) -> io::Result<PathBuf> {
    let folder = state.join("lhrun");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder.join("history"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_made_and_private() {
        let state = tempfile::tempdir().unwrap();
        let file = in_state_folder(&state.path().join("deep")).unwrap();
        assert_eq!(file, state.path().join("deep/lhrun/history"));
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(state.path().join("plain"), "").unwrap();
        assert!(in_state_folder(&state.path().join("plain")).is_err());
    }
}
