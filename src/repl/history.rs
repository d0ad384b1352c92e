//! Where the session's history is kept: `history` in the [state folder](crate::state::folder).

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::state;

/// The history's file, in a folder that exists now; nothing without a home folder.
pub fn file() -> Option<io::Result<PathBuf>> {
    state::folder().map(|folder| in_folder(&folder))
}

/// What is typed may be private, so the folder is readable by its owner only.
fn in_folder(folder: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    Ok(folder.join("history"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_made_and_private() {
        let state = tempfile::tempdir().unwrap();
        let file = in_folder(&state.path().join("deep/er")).unwrap();
        assert_eq!(file, state.path().join("deep/er/history"));
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(state.path().join("plain"), "").unwrap();
        assert!(in_folder(&state.path().join("plain")).is_err());
    }
}
