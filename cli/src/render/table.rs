//! Two-space separated columns under a header and dashes; where the terminal is too narrow for them, a block of lines for
//! each row.

use console::measure_text_width;

use super::View;

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

fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(measure_text_width);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| {
            format!("{cell}{}", " ".repeat(width.saturating_sub(measure_text_width(cell))))
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let dashes = widths.map(|w| "-".repeat(w));
    let mut lines = vec![line(header), line(std::array::from_fn(|n| dashes[n].as_str()))];
    lines.extend(rows.iter().map(|row| line(std::array::from_fn(|n| row[n].as_str()))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_row_that_is_too_wide_becomes_a_block() {
        let rows = [["k1".to_owned(), "a b".to_owned(), "c".to_owned()]];
        let shown = |width| table(["ID", "NAME", "A LONG NAME"], &rows, &View { width, ..sample::view() });
        assert_eq!(shown(Some(22)), "ID  NAME  A LONG NAME\n--  ----  -----------\nk1  a b   c");
        assert_eq!(shown(Some(20)), "k1\n  NAME         a b\n  A LONG NAME  c");
        assert_eq!(shown(None), shown(Some(22)), "a program gets columns");
    }
}
