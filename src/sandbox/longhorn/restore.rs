//! Restores: what an engine does when its volume asks for a backup.

use super::{context::Context, queue::Again, volume::engine};
use crate::Result;

pub(super) async fn reconcile(context: &Context, volume: &str) -> Result<Again> {
    let _ = engine::of(context, volume);
    Ok(None)
}
