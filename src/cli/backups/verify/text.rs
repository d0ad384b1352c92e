//! What a verification found, for people.

use std::time::Duration;

use crate::{
    backupstore::verify::{BadObject, Item, Level, Report, Row, Verdict},
    terminal::{Terminal, escape, human, table},
};

/// Bad objects that are shown one by one; programs get all of them.
const OBJECTS: usize = 50;
/// Offsets shown of each backup.
const OFFSETS: usize = 8;

pub fn show(terminal: &Terminal, level: Level, report: &Report) {
    for note in &report.notes {
        terminal.note(&format!("note: {note}"));
    }
    for text in [tables(report), bad(report), closing(level, report)] {
        if !text.is_empty() {
            terminal.out_styled(text);
        }
    }
}

/// One table for each sort of item.
fn tables(report: &Report) -> String {
    let (mut backups, mut images, mut systems) = (Vec::new(), Vec::new(), Vec::new());
    for row in &report.items {
        let (rows, mut cells) = match &row.item {
            Item::Backup { volume, backup } => (&mut backups, vec![volume.clone(), backup.clone()]),
            Item::Volume { volume } => (&mut backups, vec![volume.clone(), String::new()]),
            Item::BackingImage { backing_image } => (&mut images, vec![backing_image.clone()]),
            Item::SystemBackup { longhorn_version, system_backup } => {
                (&mut systems, vec![system_backup.clone(), longhorn_version.clone()])
            }
        };
        cells.extend(common(row));
        rows.push(cells);
    }
    let table = |first: &[&str], rows: Vec<Vec<String>>| {
        let headings = [first, &["begun", "blocks", "verdict", "why"]].concat();
        (!rows.is_empty()).then(|| table::plain(&headings, &rows) + "\n")
    };
    let tables = [
        table(&["volume", "backup"], backups),
        table(&["backing image"], images),
        table(&["system backup", "longhorn"], systems),
    ];
    tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn common(row: &Row) -> Vec<String> {
    let blocks = if matches!(row.item, Item::SystemBackup { .. }) { String::new() } else { row.blocks.to_string() };
    vec![row.begun.clone().unwrap_or_default(), blocks, row.verdict.to_string(), row.why.clone().unwrap_or_default()]
}

/// The bad objects with what they spoil.
fn bad(report: &Report) -> String {
    let mut lines = Vec::new();
    for object in report.bad.iter().take(OBJECTS) {
        lines.extend(lines_of(object));
    }
    let more = report.bad.len().saturating_sub(OBJECTS) as u64 + report.bad_unnamed;
    if more > 0 {
        lines.push(format!("and {more} more bad objects; -o json names up to 10000 of each volume"));
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("bad objects:\n{}\n", lines.join("\n"))
}

fn lines_of(object: &BadObject) -> Vec<String> {
    let mut lines = vec![format!("  {}", escape(&object.key)), format!("    {}", escape(&object.what))];
    for spoils in &object.spoils {
        let offsets = &spoils.offsets;
        let mut places = offsets.iter().take(OFFSETS).map(u64::to_string).collect::<Vec<_>>().join(", ");
        if offsets.len() > OFFSETS {
            places = format!("{places} and {} more places", offsets.len() - OFFSETS);
        }
        let places = if places.is_empty() { String::new() } else { format!(" at {places}") };
        lines.push(format!("    spoils {}{places}", escape(&spoils.item.to_string())));
    }
    lines
}

/// How many of each verdict, and how much was looked at.
fn closing(level: Level, report: &Report) -> String {
    let verdicts =
        [Verdict::Whole, Verdict::Damaged, Verdict::Unchecked, Verdict::InProgress, Verdict::Crashed, Verdict::Deleted];
    let counts = verdicts.into_iter().filter_map(|verdict| match report.count(verdict) {
        0 => None,
        count => Some(format!("{count} {verdict}")),
    });
    let mut counts = counts.collect::<Vec<_>>().join(", ");
    if counts.is_empty() {
        counts = "nothing to verify".into();
    }
    let totals = &report.totals;
    let needed = format!("{} blocks needed ({})", totals.blocks, human::bytes(totals.bytes));
    let read = format!("{} read ({})", totals.blocks_read, human::bytes(totals.bytes_read));
    let looked = match level {
        Level::Meta => "no block was looked at".to_owned(),
        Level::Exists => format!("{needed}, looked for in a listing; none was read, so a changed bit would not show"),
        Level::Sample(_) => {
            let covered = report.covered.as_ref().map(|covered| {
                let last = covered.last_full_turn.as_ref();
                let last = last.map_or_else(|| "no full turn yet".into(), |end| format!("last full turn {end}"));
                format!("; {} % of this turn done, {last}", covered.percent)
            });
            format!("{needed}, {read}{}", covered.unwrap_or_default())
        }
        Level::Deep => format!("{needed}, {read}"),
    };
    let interrupted = if report.interrupted { "interrupted: " } else { "" };
    let time = human::duration(Duration::from_secs_f64(report.seconds));
    format!("{interrupted}{counts}; {looked}; {time}")
}
