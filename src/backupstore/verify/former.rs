//! Former versions of bad blocks: in a bucket that keeps versions, what was overwritten or deleted may still be had.

use futures::TryStreamExt;

use super::{Verifier, needs::Needs};
use crate::{
    Result,
    backupstore::{
        block::Checksum,
        codec::{max_stored, unpack},
        layout::BlockPool,
    },
    objectstore::Versioning,
};

/// Bad blocks of one pool whose former versions are read, and versions read of each.
const BLOCKS: usize = 100;
const VERSIONS: usize = 5;

impl Verifier {
    /// Adds to what is wrong with bad blocks which former version of them is whole. It is told as far as it can be had.
    pub(super) async fn name_former(&self, pool: &BlockPool, needs: &mut Needs) {
        let bad: Vec<usize> = needs.bad_ones().take(BLOCKS).collect();
        if bad.is_empty() || !matches!(self.store.versioning().await, Ok(Versioning::Enabled | Versioning::Suspended)) {
            return;
        }
        for index in bad {
            let need = needs.blocks[index];
            match self.whole_version(&pool.key(&need.checksum), need.checksum, need.length).await {
                Ok(Some(version)) => needs.add_to_bad(index, &format!("; its former version {version} is whole")),
                Ok(None) => {}
                // These keys may not ask, or the store is gone: the next one need not be tried.
                Err(error) => return tracing::debug!(%error, "former versions are not known"),
            }
        }
    }

    /// The latest former version that is the block.
    async fn whole_version(&self, key: &str, checksum: Checksum, length: u32) -> Result<Option<String>> {
        let mut pages = self.store.list_versions(key);
        let Some(page) = pages.try_next().await? else { return Ok(None) };
        let former = page.into_iter().filter(|found| found.key == key && !found.is_current && found.size.is_some());
        for found in former.take(VERSIONS) {
            let body = self.store.get_version(key, &found.version, max_stored(length.into())).await?;
            let length = usize::try_from(length).unwrap_or_default();
            let is_whole = move |buffer: &mut [u8]| Ok(unpack(&body, &checksum, buffer).is_ok());
            if self.workers.run(length, is_whole).await? {
                return Ok(Some(found.version));
            }
        }
        Ok(None)
    }
}
