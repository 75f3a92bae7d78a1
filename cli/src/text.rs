//! Text from elsewhere, made safe to show.

/// `text` with control characters written out, so that a message cannot steer the terminal. Keeps newlines and tabs.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `segment` as one segment of a URL's path.
pub(crate) fn path_segment(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of dots would be resolved away by whatever reads the path next.
    if matches!(encoded.as_str(), "." | "..") { encoded.replace('.', "%2E") } else { encoded }
}

/// Bytes as Heroku's CLI shows them: powers of 1024, no decimals.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut scaled = count;
    let mut rest = 0;
    while scaled + u64::from(rest >= 512) >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    format!("{} {}", scaled + u64::from(rest >= 512), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(printable("a\x1b[31mb\x07\nc\td\u{9b}"), "a\\u{1b}[31mb\\u{7}\nc\td\\u{9b}");
    }

    #[test]
    fn segments_stay_segments() {
        assert_eq!(path_segment("web.1"), "web.1");
        assert_eq!(path_segment("../x y?é"), "..%2Fx%20y%3F%C3%A9");
        assert_eq!(path_segment(".."), "%2E%2E");
    }

    #[test]
    fn sizes_are_rounded() {
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KB"),
            (123_456, "121 KB"),
            (9_999_999, "10 MB"),
            (1_048_575, "1 MB"),
        ] {
            assert_eq!(bytes(count), shown, "{count}");
        }
    }
}
