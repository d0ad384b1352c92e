//! Backing images, which volumes lie over. All of them share one pool of blocks.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Verifier, is_about_the_object,
    needs::{Need, Needs, Spoilt, image_block},
    report::{BadObject, Item, Part, Row, Verdict},
    select::Target,
    volume::{bad_blocks, known, why_unknown},
};
use crate::{
    Kind, Result,
    backupstore::{
        config::BackingImageConfig,
        layout::{self, BlockPool, VolumeKeys},
    },
};

/// What a sample remembers the blocks of the images by; no volume can be named so.
const POOL: &str = "backing images";

/// What the volumes over an image need to know of it.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// SHA-512 of its file, empty when unknown.
    pub checksum: String,
    pub verdict: Verdict,
}

/// The images that are in the store, by name.
pub(super) type Images = BTreeMap<String, Image>;

impl Verifier {
    /// The images that some volumes lie over. A volume that cannot be read says so itself.
    pub(super) async fn images_of(&self, targets: &[Target]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for target in targets {
            if let Ok(volume) = self.catalog.volume(&target.volume).await
                && !volume.backing_image_name.is_empty()
            {
                names.insert(volume.backing_image_name);
            }
        }
        names
    }

    /// Verifies the backing images, all or those named.
    pub(super) async fn images(&self, only: Option<BTreeSet<String>>) -> (Part, Images) {
        let keys = VolumeKeys::backing_image_locks();
        let mut part = Part::default();
        let names = match self.catalog.backing_image_names().await {
            Ok(names) => names,
            Err(error) => {
                self.note_loss(&error);
                return (Part::unchecked(Item::BackingImage { backing_image: "(all)".into() }, &error), Images::new());
            }
        };
        let names: Vec<String> =
            names.into_iter().filter(|name| only.as_ref().is_none_or(|only| only.contains(name))).collect();
        if names.is_empty() {
            return (part, Images::new());
        }
        let used = match self.others(&keys, &mut part.notes).await {
            Ok(others) => others.used,
            Err(error) => {
                part.notes.push(format!("the locks of the backing images could not be read: {error}"));
                false
            }
        };
        let lock = self.lock(&keys, &mut part.notes).await;
        let images = self.check_images(names, used, &mut part).await;
        self.unlock(lock, &keys, &mut part.notes).await;
        (part, images)
    }

    async fn check_images(&self, names: Vec<String>, used: bool, part: &mut Part) -> Images {
        let (mut needs, mut rows, mut checksums) = (Needs::default(), Vec::new(), Vec::new());
        for name in names {
            let mut row = Row::new(Item::BackingImage { backing_image: name.clone() }, Verdict::Whole);
            let mut checksum = String::new();
            match self.catalog.backing_image(&name).await {
                Ok(config) => {
                    row.begun = Some(config.created_time.clone()).filter(|time| !time.is_empty());
                    row.blocks = config.blocks.len() as u64;
                    if config.complete_time.is_empty() {
                        row.verdict = if used { Verdict::InProgress } else { Verdict::Crashed };
                        row.why = Some(if used { "it is being made" } else { "it was never finished" }.into());
                    } else {
                        needs.add(blocks(&config));
                    }
                    checksum = config.checksum;
                }
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) if is_about_the_object(&error) => {
                    let key = layout::backing_image_config(&name).unwrap_or_default();
                    let mut bad = BadObject::from_error(&error, &key);
                    row.damage(format!("its configuration: {}", bad.what));
                    bad.spoil(row.item.clone(), Vec::new());
                    part.bad.push(bad);
                }
                Err(error) => {
                    self.note_loss(&error);
                    row = Row::unchecked(row.item, &error);
                }
            }
            rows.push(row);
            checksums.push((name, checksum));
        }
        let pool = BlockPool::backing_images();
        part.covered = self.look(&pool, POOL, &mut needs).await;
        part.totals = needs.totals;
        if needs.is_troubled() {
            self.trace_images(&pool, &needs, &mut rows, part).await;
        }
        let image =
            |((name, checksum), row): ((String, String), &Row)| (name, Image { checksum, verdict: row.verdict });
        let images = checksums.into_iter().zip(&rows).map(image).collect();
        part.items = rows;
        images
    }

    /// Finds what bad blocks spoil.
    async fn trace_images(&self, pool: &BlockPool, needs: &Needs, rows: &mut [Row], part: &mut Part) {
        let mut spoilt = Spoilt::default();
        for row in rows.iter_mut().filter(|row| row.verdict == Verdict::Whole) {
            let Item::BackingImage { backing_image } = &row.item else { continue };
            match self.again(backing_image).await {
                Ok(Some(config)) => {
                    let places = needs.trace(&config.blocks, |offset| image_block(config.size, offset));
                    if !places.bad.is_empty() {
                        row.damage(bad_blocks(places.bad.len()));
                    } else if places.unknown > 0 {
                        row.verdict = Verdict::Unchecked;
                        row.why = Some(why_unknown(places.unknown, needs));
                    }
                    spoilt.add(needs, pool, &row.item, places);
                }
                Ok(None) => row.verdict = Verdict::Deleted,
                Err(error) => *row = Row::unchecked(row.item.clone(), &error),
            }
        }
        let (bad, unnamed) = spoilt.into_objects();
        part.bad.extend(bad);
        part.bad_unnamed += unnamed;
    }

    /// An image as it is now; nothing when it is gone.
    async fn again(&self, name: &str) -> Result<Option<BackingImageConfig>> {
        match known(self.catalog.backing_image(name).await)? {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }
}

fn blocks(config: &BackingImageConfig) -> impl Iterator<Item = Need> {
    let need = |block: &crate::backupstore::config::Block| Need {
        checksum: block.checksum,
        length: image_block(config.size, block.offset),
    };
    config.blocks.as_slice().iter().map(need)
}
