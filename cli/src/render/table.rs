//! Two-space separated columns under a header and dashes.

use console::measure_text_width;

/// The cells must be clean.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
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
