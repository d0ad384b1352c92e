//! What a verification found: a verdict for every backup, backing image and system backup, and the bad objects.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{Error, Kind};

/// What is known of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is wrong with it as far as the level looks.
    Whole,
    /// It cannot be restored, or not by Longhorn.
    Damaged,
    /// It is being made.
    InProgress,
    /// It was begun, and nobody works on it any more; there is nothing to restore.
    Crashed,
    /// It was deleted while it was looked at.
    Deleted,
    /// Something it needs could not be looked at, and nothing else is wrong with it.
    Unchecked,
}

impl Verdict {
    /// In one word, as in the serialized form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::InProgress => "in-progress",
            Self::Crashed => "crashed",
            Self::Deleted => "deleted",
            Self::Unchecked => "unchecked",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is restored as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Item {
    /// One backup of a volume.
    Backup {
        /// The volume.
        volume: String,
        /// The backup.
        backup: String,
    },
    /// A volume none of whose backups is known.
    Volume {
        /// The volume.
        volume: String,
    },
    /// A backing image.
    BackingImage {
        /// Its name.
        backing_image: String,
    },
    /// A system backup.
    SystemBackup {
        /// The version of Longhorn that made it.
        longhorn_version: String,
        /// Its name.
        system_backup: String,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup { volume, backup } => write!(f, "{volume}@{backup}"),
            Self::Volume { volume } => write!(f, "volume {volume}"),
            Self::BackingImage { backing_image } => write!(f, "backing image {backing_image}"),
            Self::SystemBackup { longhorn_version, system_backup } => {
                write!(f, "system backup {system_backup} of {longhorn_version}")
            }
        }
    }
}

/// One item and what is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is.
    #[serde(flatten)]
    pub item: Item,
    /// What is known of it.
    pub verdict: Verdict,
    /// Why it is not whole.
    pub why: Option<String>,
    /// The time of its data, RFC 3339, if known.
    pub begun: Option<String>,
    /// Blocks it lists; one that is listed twice counts twice.
    pub blocks: u64,
}

impl Row {
    pub(super) fn new(item: Item, verdict: Verdict) -> Self {
        Self { item, verdict, why: None, begun: None, blocks: 0 }
    }

    /// Not known, for that reason.
    pub(super) fn unchecked(item: Item, error: &Error) -> Self {
        Self { why: Some(error.to_string()), ..Self::new(item, Verdict::Unchecked) }
    }

    /// Calls it damaged. The first reason is kept.
    pub(super) fn damage(&mut self, why: impl Into<String>) {
        if self.verdict != Verdict::Damaged {
            self.verdict = Verdict::Damaged;
            self.why = Some(why.into());
        }
    }
}

/// An object that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadObject {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What cannot be restored because of it.
    pub spoils: Vec<Spoils>,
}

/// What a bad object spoils.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spoils {
    /// The backup, backing image or system backup.
    #[serde(flatten)]
    pub item: Item,
    /// Where it is in the volume or image, in bytes, ascending; empty when all of it is lost.
    pub offsets: Vec<u64>,
}

impl BadObject {
    /// What an error about an object says, without the object's key; `key` when the error names none.
    pub(super) fn from_error(error: &Error, key: &str) -> Self {
        let key = error.object_name().unwrap_or(key).to_owned();
        let what = match error.kind() {
            Kind::NotFound => "it is missing".to_owned(),
            _ => error.to_string().trim_start_matches(&format!("{key} is damaged: ")).to_owned(),
        };
        Self { key, what, spoils: Vec::new() }
    }

    pub(super) fn spoil(&mut self, item: Item, offsets: Vec<u64>) {
        self.spoils.push(Spoils { item, offsets });
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Different blocks the items need.
    pub blocks: u64,
    /// Their raw bytes.
    pub bytes: u64,
    /// Blocks whose content was read and hashed.
    pub blocks_read: u64,
    /// Raw bytes of those.
    pub bytes_read: u64,
    /// Packed bytes that were read from the store for them.
    pub stored_bytes_read: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.blocks_read += other.blocks_read;
        self.bytes_read += other.bytes_read;
        self.stored_bytes_read += other.stored_bytes_read;
    }
}

/// How far the turns of a rotating sample have come, over all volumes and the backing images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// Percent of the present turn that are read, where least is.
    pub percent: u8,
    /// When the last full turn ended, where that is longest ago; nothing when one has had none yet.
    pub last_full_turn: Option<String>,
}

/// Everything a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The store.
    pub store: String,
    /// How closely it was looked at.
    pub level: String,
    /// `damaged` when anything is, else `unchecked` when anything could not be looked at or nothing was there, else
    /// `whole`.
    pub verdict: Verdict,
    /// Backups by volume and age, then backing images, then system backups.
    pub items: Vec<Row>,
    /// The bad objects, by key.
    pub bad: Vec<BadObject>,
    /// Bad objects beyond those that are named.
    pub bad_unnamed: u64,
    /// What is worth knowing and is no damage.
    pub notes: Vec<String>,
    /// How much was looked at.
    pub totals: Totals,
    /// How far the samples have come, if it was one.
    pub covered: Option<Covered>,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl Report {
    /// How many items have that verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.items.iter().filter(|row| row.verdict == verdict).count()
    }
}

/// What one volume, the backing images, or the system backups add to a report.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub items: Vec<Row>,
    pub bad: Vec<BadObject>,
    pub bad_unnamed: u64,
    pub notes: Vec<String>,
    pub totals: Totals,
    pub covered: Option<Covered>,
    /// Bad backing images, and the backups over them.
    pub over: Vec<(String, Item)>,
}

impl Part {
    /// Nothing is known of it, for that reason.
    pub fn unchecked(item: Item, error: &Error) -> Self {
        Self { items: vec![Row::unchecked(item, error)], ..Self::default() }
    }

    /// Adds the findings of another.
    pub fn add(&mut self, other: Self) {
        self.items.extend(other.items);
        self.bad.extend(other.bad);
        self.bad_unnamed += other.bad_unnamed;
        self.notes.extend(other.notes);
        self.totals.add(other.totals);
        self.over.extend(other.over);
        self.covered = match (self.covered.take(), other.covered) {
            (Some(a), Some(b)) => Some(Covered {
                percent: a.percent.min(b.percent),
                // Nothing, which is never, comes before any time.
                last_full_turn: a.last_full_turn.min(b.last_full_turn),
            }),
            (a, b) => a.or(b),
        };
    }

    /// The bad objects by key, each once, with what lies over bad backing images.
    pub fn bad_objects(&mut self) -> Vec<BadObject> {
        let mut bad: BTreeMap<String, BadObject> = BTreeMap::new();
        for object in self.bad.drain(..) {
            match bad.get_mut(&object.key) {
                Some(known) => known.spoils.extend(object.spoils),
                None => {
                    bad.insert(object.key.clone(), object);
                }
            }
        }
        for object in bad.values_mut() {
            let images: Vec<_> = object
                .spoils
                .iter()
                .filter(|spoils| matches!(spoils.item, Item::BackingImage { .. }))
                .cloned()
                .collect();
            for spoils in images {
                let Item::BackingImage { backing_image } = &spoils.item else { continue };
                let above = self.over.iter().filter(|(image, _)| image == backing_image);
                object.spoils.extend(above.map(|(_, item)| Spoils { item: item.clone(), ..spoils.clone() }));
            }
        }
        bad.into_values().collect()
    }

    /// The verdict over all of it.
    pub fn verdict(&self, bad: bool) -> Verdict {
        let any = |verdict| self.items.iter().any(|row| row.verdict == verdict);
        if bad || any(Verdict::Damaged) {
            Verdict::Damaged
        } else if any(Verdict::Unchecked) || !any(Verdict::Whole) {
            Verdict::Unchecked
        } else {
            Verdict::Whole
        }
    }
}
