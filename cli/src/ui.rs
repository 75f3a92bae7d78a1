//! What the user sees: Heroku's headers, tables, progress lines and errors.

use std::io::{IsTerminal, Write};

use unicode_width::UnicodeWidthStr;

use crate::error::Failure;
use crate::text::printable;

/// Writes a line of data to stdout.
pub(crate) fn line(text: impl AsRef<str>) {
    bytes(format!("{}\n", text.as_ref()).as_bytes());
}

/// Writes bytes of data to stdout. A reader that has gone away (`paas logs | head`) ends the program quietly.
pub(crate) fn bytes(data: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(data) {
        gone(&error);
    }
}

/// Makes sure that everything written so far is out.
pub(crate) fn flush() {
    if let Err(error) = std::io::stdout().lock().flush() {
        gone(&error);
    }
}

fn gone(error: &std::io::Error) -> ! {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    notice(&format!(" ▸    Couldn't write the output: {error}\n"));
    std::process::exit(1);
}

/// Writes to stderr; nobody left to read it is no reason to stop.
fn notice(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line of progress to stderr.
pub(crate) fn progress(text: &str) {
    notice(&format!("{}\n", printable(text)));
}

/// Asks for something on stderr, and leaves the cursor there.
pub(crate) fn ask(text: &str) {
    notice(&printable(text));
}

/// Shows an error in Heroku's form.
pub(crate) fn error(message: &str) {
    marked(message, "");
}

/// Shows a warning in Heroku's form.
pub(crate) fn warn(message: &str) {
    marked(message, "Warning: ");
}

fn marked(message: &str, first: &str) {
    let mut shown = String::new();
    for (i, line) in printable(message).lines().enumerate() {
        let line = if i == 0 { format!("{first}{line}") } else { line.to_owned() };
        shown.push_str(format!(" ▸    {line}").trim_end());
        shown.push('\n');
    }
    notice(&shown);
}

/// An app's name, with Heroku's mark on a terminal.
pub(crate) fn app(name: &str) -> String {
    if std::io::stderr().is_terminal() { format!("⬢ {name}") } else { name.to_owned() }
}

/// `=== text` and an empty line.
pub(crate) fn header(text: &str) {
    line(format!("=== {}\n", printable(text)));
}

/// Names and values, the values aligned. Values may have several lines.
pub(crate) fn object(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.width()).max().unwrap_or(0) + 2;
    let mut shown = Vec::with_capacity(rows.len());
    for (name, value) in rows {
        shown.push(format!("{name}:{}{}", " ".repeat(width - name.width() - 1), printable(value)));
    }
    line(shown.join("\n"));
}

/// A table as Heroku's CLI 11 draws it: a header, a rule, the rows, an empty line.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>]) {
    line(render_table(headers, rows));
}

fn render_table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell).replace('\n', " ")).collect()).collect();
    let widths: Vec<usize> = (0..headers.len())
        .map(|i| {
            rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.width()).max().unwrap_or(0).max(headers[i].width())
        })
        .collect();
    let draw = |cells: &mut dyn Iterator<Item = &str>| {
        let mut drawn = String::new();
        for (cell, width) in cells.zip(&widths) {
            drawn.push_str(&format!("  {cell}{} ", " ".repeat(width - cell.width())));
        }
        drawn.truncate(drawn.trim_end().len());
        drawn.push('\n');
        drawn
    };
    let mut drawn = draw(&mut headers.iter().copied());
    let rule = widths.iter().map(|width| width + 2).sum::<usize>() + widths.len().saturating_sub(1);
    drawn.push_str(&format!(" {}\n", "─".repeat(rule)));
    for row in &rows {
        drawn.push_str(&draw(&mut row.iter().map(String::as_str)));
    }
    drawn
}

/// JSON with two spaces of indentation.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(format!("writing JSON: {e}")))?;
    line(text);
    Ok(())
}

/// Begins a line of progress, `doing...`, that [`did`] ends.
pub(crate) fn doing(text: &str) {
    notice(&printable(&format!("{text}...")));
}

/// Ends a line of progress: ` done, v4`, or ` !` when it failed.
pub(crate) fn did(text: &str) {
    notice(&printable(&format!(" {text}\n")));
}

/// Shows `doing... done` around `work` on stderr, or `doing... !` when it fails.
///
/// `work` returns its result and what to say after `done` (`, v4`), which may be nothing.
pub(crate) fn action<T>(what: &str, work: impl FnOnce() -> Result<(T, String), Failure>) -> Result<T, Failure> {
    doing(what);
    match work() {
        Ok((result, more)) => {
            did(&format!("done{more}"));
            Ok(result)
        }
        Err(failure) => {
            did("!");
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_like_herokus() {
        let rows = [vec!["zap".to_owned(), "o@x.co".to_owned()], vec!["⬢ é".to_owned(), "a\x1b[0m\nb".to_owned()]];
        let drawn = render_table(&["Name", "Email"], &rows);
        assert_eq!(drawn, "  Name   Email\n ─────────────────────\n  zap    o@x.co\n  ⬢ é    a\\u{1b}[0m b\n");
    }
}
