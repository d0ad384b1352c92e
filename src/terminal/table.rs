//! Tables as kubectl prints them: plain columns, upper-case headings, no lines, so that `awk` and `column` work too.

use comfy_table::{Table, presets::NOTHING};

use super::escape;

/// Three spaces between columns, as kubectl leaves.
const GAP: u16 = 3;

/// The rows under their headings, one line each, without a line break at the end. Cells are escaped; missing cells are
/// empty.
pub fn plain<H: AsRef<str>, C: AsRef<str>>(headings: &[H], rows: &[Vec<C>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(headings.iter().map(|heading| escape(heading.as_ref()).to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell.as_ref()).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let rows = vec![vec!["pvc-1", "Bound", "1Gi"], vec!["postgres-data", "Lost", ""]];
        assert_eq!(
            plain(&["name", "status", "size"], &rows),
            "NAME            STATUS   SIZE\n\
             pvc-1           Bound    1Gi\n\
             postgres-data   Lost"
        );
    }

    #[test]
    fn a_cell_cannot_break_the_table() {
        assert_eq!(plain(&["key"], &[vec!["a\nb\x1b[2J"]]), "KEY\na\\nb\\u{1b}[2J");
    }

    #[test]
    fn a_long_cell_is_not_wrapped() {
        let key = "backupstore/volumes/".repeat(20);
        assert_eq!(plain(&["key"], &[vec![&key]]).lines().count(), 2);
    }
}
