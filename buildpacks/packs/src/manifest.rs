//! The files by which an app says what it is and needs: text of its author's, read with care.
//!
//! Beside an app's files a build has its config vars as files. A link to one of those would put a secret into an
//! error message, a process type or a label, so nothing here is read through a link that leads out of the app.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where an app's own file is: `None` when there is none, or what has its name leads out of the app.
pub(crate) fn find(app: &Path, name: &str) -> Option<PathBuf> {
    let root = app.canonicalize().ok()?;
    let file = root.join(name).canonicalize().ok()?;
    (file.starts_with(&root) && file.is_file()).then_some(file)
}

/// Whether the app has this file.
pub(crate) fn has(app: &Path, name: &str) -> bool {
    find(app, name).is_some()
}

/// An app's own file, byte by byte.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn read(app: &Path, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = find(app, name) else { return Ok(None) };
    let unreadable = |e| Failure::new(format!("{name} cannot be read: {e}"), "Commit it as an ordinary file.");
    fs::read(file).map(Some).map_err(unreadable)
}

/// An app's own file as text, without the byte-order mark that some editors put in front.
///
/// # Errors
/// When it is there and cannot be read, or is not UTF-8.
pub(crate) fn read_text(app: &Path, name: &str) -> Result<Option<String>, Failure> {
    let Some(bytes) = read(app, name)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(format!("{name} is not valid UTF-8 text"), "Save it as UTF-8 in your editor, and commit it.")
    })?;
    Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_followed_only_inside_the_app() {
        let work = tempfile::tempdir().expect("a folder");
        let app = work.path().join("app");
        fs::create_dir_all(app.join("deploy")).expect("makes");
        fs::write(work.path().join("secret"), "s3cret").expect("writes");
        fs::write(app.join("deploy/Procfile"), "web: serve").expect("writes");
        for (name, target) in [
            ("Procfile", "deploy/Procfile"),
            ("out", "../secret"),
            ("absolute", &work.path().join("secret").display().to_string()),
            ("by-another", "out"),
            ("nowhere", "gone"),
            ("circle", "circle"),
            ("folder", "deploy"),
        ] {
            symlink(target, app.join(name)).expect("links");
        }
        symlink("..", app.join("up")).expect("links");
        assert_eq!(read(&app, "Procfile"), Ok(Some(b"web: serve".to_vec())));
        for name in ["out", "absolute", "by-another", "nowhere", "circle", "folder", "up/secret", "none"] {
            assert_eq!((has(&app, name), read(&app, name)), (false, Ok(None)), "{name}");
        }
    }

    #[test]
    fn text_is_text() {
        let app = tempfile::tempdir().expect("a folder");
        fs::write(app.path().join("mark"), "\u{feff}3.13\n").expect("writes");
        assert_eq!(read_text(app.path(), "mark"), Ok(Some("3.13\n".to_owned())));
        fs::write(app.path().join("utf-16"), b"\xff\xfe3\0.\x001\x003\0").expect("writes");
        let seen = read_text(app.path(), "utf-16").expect_err("is no text");
        assert_eq!(
            seen.to_string(),
            " !     Error: utf-16 is not valid UTF-8 text.\n !\n !     Save it as UTF-8 in your editor, and commit it.\n"
        );
    }
}
