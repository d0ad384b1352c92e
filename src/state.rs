//! Where the program keeps what it remembers from one run to the next.

use std::{env, path::PathBuf};

/// `$XDG_STATE_HOME/lhrun/`, else `~/.local/state/lhrun/`; it may not exist yet. Nothing without a home folder.
pub fn folder() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("lhrun"))
}
