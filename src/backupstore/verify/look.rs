//! Looking at blocks: by a listing, or by reading them.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    Level, REQUESTS, Verifier,
    coverage::Share,
    needs::{Looked, Need, Needs},
    report::Covered,
};
use crate::{
    Error, Kind,
    backupstore::{
        codec::{Fault, max_stored},
        fetch::{BlockReader, Loss},
        layout::BlockPool,
    },
    objectstore::Depth,
};

/// Blocks of one pool that may fail to be read before the rest is not tried.
const FAILURES: usize = 16;

/// The smallest packed form of so many raw bytes: deflate, the denser of the two methods, makes at most 258 bytes out of
/// two bits.
fn min_stored(raw: u64) -> u64 {
    raw / 1032
}

impl Verifier {
    /// Looks at the blocks of a pool as closely as was asked for. What fails is noted among them.
    ///
    /// `name` is what a sample remembers the pool by; how far it has come is returned.
    pub(super) async fn look(&self, pool: &BlockPool, name: &str, needs: &mut Needs) -> Option<Covered> {
        needs.begin();
        let covered = match self.options.level {
            Level::Meta => {
                needs.looked.fill(Looked::Skipped);
                None
            }
            Level::Exists => {
                self.list(pool, needs).await;
                None
            }
            Level::Deep => {
                self.read(pool, needs, None).await;
                None
            }
            Level::Sample(percent) => {
                let share = self.coverage().share(name, percent);
                // The others are at least to be there.
                self.list(pool, needs).await;
                self.read(pool, needs, Some(share)).await;
                if needs.is_complete()
                    && let Err(error) = self.coverage().record(name, share, Timestamp::now())
                {
                    let _ = self.forgotten.set(error);
                }
                Some(self.coverage().covered(name))
            }
        };
        self.name_former(pool, needs).await;
        covered
    }

    fn coverage(&self) -> std::sync::MutexGuard<'_, super::Coverage> {
        self.coverage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Compares the blocks with a listing, and asks once more for those it does not show as they must be.
    async fn list(&self, pool: &BlockPool, needs: &mut Needs) {
        let mut pages = self.store.list_pages(pool.prefix(), Depth::All);
        loop {
            match pages.try_next().await {
                Ok(None) => break,
                Ok(Some(page)) => {
                    for object in page.objects {
                        let Some(checksum) = pool.checksum(&object.key) else { continue };
                        for index in needs.of(&checksum) {
                            judge(needs, index, Some(object.size));
                        }
                    }
                }
                Err(error) => {
                    self.note_loss(&error);
                    return needs.failed(error);
                }
            }
        }
        let doubtful: Vec<(usize, String)> = (0..needs.blocks.len())
            .filter(|index| needs.looked[*index] != Looked::Good)
            .map(|index| (index, pool.key(&needs.blocks[index].checksum)))
            .collect();
        let mut answers = stream::iter(doubtful)
            .map(|(index, key)| async move { (index, self.store.head(&key).await) })
            .buffer_unordered(REQUESTS)
            .take_until(self.options.cancel.cancelled())
            .boxed();
        let mut failures = 0;
        while let Some((index, answer)) = answers.next().await {
            match answer {
                Ok(found) => judge(needs, index, found.map(|object| object.size)),
                Err(error) => {
                    needs.looked[index] = Looked::Not;
                    failures += 1;
                    if self.gives_up(failures, error, needs) {
                        break;
                    }
                }
            }
        }
    }

    /// Reads the blocks, or a share of them.
    async fn read(&self, pool: &BlockPool, needs: &mut Needs, share: Option<Share>) {
        let reader = BlockReader::new(self.store.clone(), pool.clone(), self.workers.clone());
        let wanted = |need: &Need| share.is_none_or(|share| share.holds(&need.checksum));
        // Lent to the requests while what comes of them is noted.
        let blocks = std::mem::take(&mut needs.blocks);
        for (need, looked) in blocks.iter().zip(&mut needs.looked) {
            if wanted(need) {
                // A listing says nothing of what is read now.
                *looked = Looked::Not;
            } else if *looked == Looked::Good {
                *looked = Looked::Skipped;
            }
        }
        self.expect_bytes(blocks.iter().filter(|need| wanted(need)).map(|need| u64::from(need.length)).sum());
        let reader = &reader;
        let mut done = stream::iter(blocks.iter().enumerate().filter(|(_, need)| wanted(need)))
            .map(|(index, need)| async move {
                let _turn = self.turns.acquire().await;
                let length = usize::try_from(need.length).unwrap_or_default();
                (index, need.length, reader.read(need.checksum, length, |block| Ok(block.flaw)).await)
            })
            .buffer_unordered(self.options.concurrency)
            .take_until(self.options.cancel.cancelled())
            .boxed();
        let mut failures = 0;
        while let Some((index, length, read)) = done.next().await {
            self.read_bytes(length.into());
            match read {
                Ok(got) => {
                    needs.totals.blocks_read += 1;
                    needs.totals.bytes_read += u64::from(length);
                    needs.totals.stored_bytes_read += got.stored;
                    match got.value {
                        None => needs.good(index),
                        Some(flaw) => needs.bad(index, Fault::Flawed(flaw).to_string()),
                    }
                }
                Err(Loss::Fault(fault)) => {
                    needs.totals.blocks_read += u64::from(fault != Fault::Missing);
                    needs.bad(index, fault.to_string());
                }
                Err(Loss::Error(error)) => {
                    failures += 1;
                    if self.gives_up(failures, error, needs) {
                        break;
                    }
                }
            }
        }
        drop(done);
        needs.blocks = blocks;
        if self.options.cancel.is_cancelled() && !needs.is_complete() {
            needs.failed(Error::new(Kind::Cancelled, "interrupted before all its blocks were read"));
        }
    }

    /// Notes a failed request, and says whether it is of no use to go on.
    fn gives_up(&self, failures: usize, error: Error, needs: &mut Needs) -> bool {
        self.note_loss(&error);
        needs.failed(error);
        failures >= FAILURES || self.lost.get().is_some()
    }
}

/// What the size of an object says of the block at that index.
fn judge(needs: &mut Needs, index: usize, size: Option<u64>) {
    let raw = u64::from(needs.blocks[index].length);
    match size {
        None => needs.bad(index, Fault::Missing.to_string()),
        Some(0) => needs.bad(index, Fault::Empty.to_string()),
        Some(size) if size > max_stored(raw) => needs.bad(index, Fault::TooLarge.to_string()),
        Some(size) if size < min_stored(raw) => {
            needs.bad(index, format!("it has {size} bytes, fewer than any packed form of a block of {raw}"));
        }
        Some(_) => needs.good(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backupstore::{Compression, block::LARGE_BLOCK_SIZE, codec::pack};

    #[test]
    fn the_densest_block_there_is_has_a_possible_size() {
        let raw = 2 << 20;
        for compression in [Compression::Gzip, Compression::Lz4, Compression::None] {
            let stored = pack(&vec![0; raw], compression).unwrap().len() as u64;
            assert!((min_stored(raw as u64)..=max_stored(raw as u64)).contains(&stored), "{compression}: {stored}");
        }
        assert!(min_stored(LARGE_BLOCK_SIZE) > 10_000);
    }
}
