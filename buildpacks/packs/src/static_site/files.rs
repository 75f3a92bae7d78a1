//! From a request's path to the file that answers it, and what is known about that file.
//!
//! Nothing outside the site's folder is ever opened: not by `..`, not by an encoded one, not by a link.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::config::Config;
use crate::layer::hex;

/// Files of the app that are not part of the site when the app's own folder is served.
const NOT_SERVED: [&str; 6] =
    ["Procfile", "app.json", "package.json", "package-lock.json", "project.toml", "static.json"];

/// A folder of files and how it is served.
pub(crate) struct Site {
    /// Canonical, so that a file's canonical path can be compared.
    root: PathBuf,
    pub(crate) config: Config,
    /// Digests of files already served; an app's files never change while it runs.
    tags: Mutex<HashMap<PathBuf, String>>,
}

/// What answers a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This file.
    File(PathBuf),
    /// The same path with a slash: it is a folder.
    Folder,
    /// Nothing, or nothing that may be seen.
    Nothing,
}

impl Site {
    /// A site of the files below `root`.
    ///
    /// # Errors
    /// When there is no such folder.
    pub(crate) fn new(root: &Path, config: Config) -> io::Result<Self> {
        Ok(Self { root: root.canonicalize()?, config, tags: Mutex::default() })
    }

    /// What answers a decoded path.
    pub(crate) fn find(&self, path: &str) -> Found {
        match self.inside(path) {
            Some(file) if file.is_file() => return Found::File(file),
            Some(folder) if folder.is_dir() => {
                if let Some(index) = self.inside(&format!("{}/index.html", path.trim_end_matches('/'))) {
                    return if path.ends_with('/') { Found::File(index) } else { Found::Folder };
                }
            }
            _ => {}
        }
        let page = self.config.clean_urls.then(|| format!("{}.html", path.trim_end_matches('/')));
        let route = || self.config.route(path).map(|file| format!("/{}", file.trim_start_matches('/')));
        let named = page.into_iter().chain(route()).find_map(|file| self.inside(&file).filter(|f| f.is_file()));
        named.map_or(Found::Nothing, Found::File)
    }

    /// The page for what is not there, if the site has one.
    pub(crate) fn error_page(&self) -> Option<PathBuf> {
        let named = self.config.error_page.as_deref().unwrap_or("404.html");
        self.inside(&format!("/{}", named.trim_start_matches('/'))).filter(|file| file.is_file())
    }

    /// The existing file or folder for a decoded path, if it is inside the site and not hidden.
    fn inside(&self, path: &str) -> Option<PathBuf> {
        let mut file = self.root.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if part == ".." || part == "." || (part.starts_with('.') && part != ".well-known") {
                return None;
            }
            file.push(part);
        }
        if NOT_SERVED.iter().any(|name| file == self.root.join(name)) {
            return None;
        }
        file.canonicalize().ok().filter(|real| real.starts_with(&self.root))
    }

    /// The file's entity tag: a digest, since an image's files all carry the same time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn tag(&self, file: &Path) -> io::Result<String> {
        if let Some(tag) = self.tags.lock().unwrap_or_else(PoisonError::into_inner).get(file) {
            return Ok(tag.clone());
        }
        let mut hash = Sha256::new();
        io::copy(&mut File::open(file)?, &mut hash)?;
        let tag = hex(&hash.finalize()[..12]);
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), tag.clone());
        Ok(tag)
    }
}

/// A request's path with its percent signs resolved; `None` when that is no text or no path.
pub(crate) fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (text.starts_with('/') && !text.contains(['\0', '\\'])).then_some(text)
}

/// The content type by the file's ending.
pub(crate) fn content_type(file: &Path) -> &'static str {
    let ending = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        _ => "application/octet-stream",
    }
}

/// Whether a file of this type gets smaller by compression.
pub(crate) fn is_compressible(content_type: &str) -> bool {
    content_type.starts_with("text/")
        || matches!(
            content_type,
            "application/json" | "application/manifest+json" | "application/xml" | "image/svg+xml" | "application/wasm"
        )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn site(config: &str) -> (tempfile::TempDir, Site) {
        let work = tempfile::tempdir().expect("a folder");
        let root = work.path().join("public");
        fs::create_dir_all(root.join("docs")).expect("makes");
        fs::create_dir_all(root.join(".git")).expect("makes");
        for (file, text) in [("index.html", "home"), ("docs/index.html", "docs"), ("about.html", "about")] {
            fs::write(root.join(file), text).expect("writes");
        }
        fs::write(root.join(".git/config"), "hidden").expect("writes");
        fs::write(root.join("Procfile"), "web: x").expect("writes");
        fs::write(work.path().join("secret"), "secret").expect("writes");
        std::os::unix::fs::symlink("../secret", root.join("link")).expect("links");
        let config = serde_json::from_str(config).expect("reads");
        let site = Site::new(&root, config).expect("is there");
        (work, site)
    }

    fn name(found: Found) -> String {
        match found {
            Found::File(file) => file.file_name().expect("a name").to_string_lossy().into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn index_pages_answer_for_folders() {
        let (_work, site) = site("{}");
        assert_eq!(name(site.find("/")), "index.html");
        assert_eq!(site.find("/docs"), Found::Folder);
        assert_eq!(name(site.find("/docs/")), "index.html");
        assert_eq!(site.find("/about"), Found::Nothing);
    }

    #[test]
    fn nothing_outside_and_nothing_hidden() {
        let (_work, site) = site("{}");
        for path in ["/../secret", "/docs/../../secret", "/link", "/.git/config", "/Procfile", "//../secret"] {
            assert_eq!(site.find(path), Found::Nothing, "{path}");
        }
        assert_eq!(decoded("/%2e%2e/secret").map(|path| name(site.find(&path))), Some("Nothing".to_owned()));
    }

    #[test]
    fn clean_urls_and_routes_fill_in() {
        let (_work, site) = site(r#"{"clean_urls": true, "routes": {"/app/**": "index.html"}}"#);
        assert_eq!(name(site.find("/about")), "about.html");
        assert_eq!(name(site.find("/app/deep/link")), "index.html");
        assert_eq!(site.find("/other"), Found::Nothing);
    }

    #[test]
    fn odd_paths_are_no_paths() {
        for path in ["", "x", "/%", "/%zz", "/%00", "/a%5cb", "/%ff"] {
            assert_eq!(decoded(path), None, "{path}");
        }
        assert_eq!(decoded("/a%20b+c").as_deref(), Some("/a b+c"));
    }

    #[test]
    fn a_tag_follows_the_content() {
        let (_work, site) = site("{}");
        let Found::File(home) = site.find("/") else { panic!("no page") };
        let Found::File(about) = site.find("/about.html") else { panic!("no page") };
        assert_ne!(site.tag(&home).expect("reads"), site.tag(&about).expect("reads"));
        assert_eq!(site.tag(&home).expect("reads"), site.tag(&home).expect("reads"));
    }
}
