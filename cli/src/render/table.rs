//! Two-space separated columns under a header and dashes; where the terminal is too narrow for them, a block of lines for
//! each row.

use console::measure_text_width;

use super::{View, wrap};

/// No column is made narrower: words are not broken below this.
const NARROWEST: usize = 8;
/// Columns before what stands below a row.
const NOTE: usize = 4;

/// The cells must be clean.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]], view: &View) -> String {
    let text = columns(header, rows);
    let most = text.lines().map(measure_text_width).max().unwrap_or(0);
    match view.width {
        Some(width) if most > width => blocks(header, rows, view),
        Some(_) | None => text,
    }
}

/// The first cell of each row, and below it the others by name.
fn blocks<const N: usize>(header: [&str; N], rows: &[[String; N]], view: &View) -> String {
    let label = header.iter().skip(1).map(|name| measure_text_width(name)).max().unwrap_or(0);
    let block = |row: &[String; N]| {
        let mut cells = header.iter().zip(row);
        let first = cells.next().map(|(_, cell)| view.paint.bold(cell)).unwrap_or_default();
        let rest = cells.map(|(name, cell)| format!("\n  {name:label$}  {cell}"));
        first + &rest.collect::<String>()
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// The same, however wide.
pub fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(measure_text_width);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let line = |cells: [&str; N]| padded(cells, widths);
    let dashes = widths.map(|w| "-".repeat(w));
    let mut lines = vec![line(header), line(std::array::from_fn(|n| dashes[n].as_str()))];
    lines.extend(rows.iter().map(|row| line(std::array::from_fn(|n| row[n].as_str()))));
    lines.join("\n")
}

/// One line of a table.
fn padded<const N: usize>(cells: [&str; N], widths: [usize; N]) -> String {
    let padded = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(measure_text_width(cell)))));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// The same for `width` columns: what has no room in a row stands below it, and cells are wrapped where even that is too
/// wide. `cells` and `notes` must be clean.
pub fn folded<const N: usize>(header: [&str; N], rows: &[([String; N], String)], width: usize) -> String {
    const GAP: usize = 2;
    let mut widths = header.map(measure_text_width);
    for (cells, _) in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    // The widest gives way first.
    let room = width.saturating_sub(GAP * N.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let widest = widths.iter_mut().max_by_key(|w| **w);
        match widest.filter(|w| **w > NARROWEST) {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    let line = |cells: [&str; N]| padded(cells, widths);
    let dashes = widths.map(|w| "-".repeat(w));
    let mut lines = vec![line(header), line(std::array::from_fn(|n| dashes[n].as_str()))];
    for (cells, note) in rows {
        let wrapped: [Vec<String>; N] = std::array::from_fn(|n| wrap::words(&cells[n], widths[n]));
        let height = wrapped.iter().map(Vec::len).max().unwrap_or(1);
        for y in 0..height {
            lines.push(line(std::array::from_fn(|n| wrapped[n].get(y).map_or("", String::as_str))));
        }
        lines.push(wrap::hanging(&" ".repeat(NOTE), note, NOTE, Some(width)));
    }
    lines.join("\n")
}

/// Whether a text fits a view of `width` columns; everything fits where nothing is to be wrapped.
pub fn fits(text: &str, width: Option<usize>) -> bool {
    width.is_none_or(|width| text.lines().all(|line| measure_text_width(line) <= width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn folded_rows_keep_to_the_width() {
        let cell = |text: &str| text.to_owned();
        let rows = [
            (
                [cell("one"), cell("somebody.with.a.long.name@department.example.com"), cell("x")],
                cell("a note"),
            ),
            ([cell("two"), cell("ann"), cell("a column of words that is long too")], "word ".repeat(12)),
        ];
        let text = folded(["ID", "WHO", "WHAT"], &rows, 50);
        insta::assert_snapshot!("folded", text);
        assert!(fits(&text, Some(50)) && !fits(&text, Some(30)) && fits(&text, None));
    }

    #[test]
    fn a_row_that_is_too_wide_becomes_a_block() {
        let rows = [["k1".to_owned(), "a b".to_owned(), "c".to_owned()]];
        let shown = |width| table(["ID", "NAME", "A LONG NAME"], &rows, &View { width, ..sample::view() });
        assert_eq!(shown(Some(22)), "ID  NAME  A LONG NAME\n--  ----  -----------\nk1  a b   c");
        assert_eq!(shown(Some(20)), "k1\n  NAME         a b\n  A LONG NAME  c");
        assert_eq!(shown(None), shown(Some(22)), "a program gets columns");
    }
}
