//! The `Host` of a request, and the name it is looked up by.

/// What a `Host` header (or the authority of an absolute target) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host<'a> {
    /// A name as it was written, without port and closing dot.
    Name(&'a str),
    /// An IPv6 address in brackets: well-formed, and never an app's.
    Address,
    /// Neither.
    Bad,
}

/// Reads `text`: a name or an address, and a port that means nothing to routing.
pub(crate) fn parse(text: &[u8]) -> Host<'_> {
    if let Some(rest) = text.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|b| *b == b']') else { return Host::Bad };
        let good = rest[..end].iter().all(|b| b.is_ascii_hexdigit() || *b == b':' || *b == b'.');
        return if good && end > 1 && is_port(&rest[end + 1..]) { Host::Address } else { Host::Bad };
    }
    let (name, port) = text.split_at(text.iter().position(|b| *b == b':').unwrap_or(text.len()));
    let good = !name.is_empty()
        && name.len() <= 255
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && is_port(port);
    match std::str::from_utf8(name) {
        Ok(name) if good => Host::Name(name.strip_suffix('.').unwrap_or(name)),
        _ => Host::Bad,
    }
}

/// Nothing, or a colon and up to five digits.
fn is_port(text: &[u8]) -> bool {
    text.is_empty() || (text[0] == b':' && text.len() <= 6 && text[1..].iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_all_spellings() {
        for text in ["victim", "victim:443", "victim:99999", "victim.", "victim.:80", "victim:"] {
            assert_eq!(parse(text.as_bytes()), Host::Name("victim"), "{text}");
        }
        assert_eq!(parse(b"127.0.0.1"), Host::Name("127.0.0.1"));
        assert_eq!(parse(b"[::1]"), Host::Address);
        assert_eq!(parse(b"[::1]:80"), Host::Address);
        for bad in [
            "",
            ":80",
            "user@victim",
            "victim/",
            "victim#",
            "a.com, b.com",
            "a.com b.com",
            "a:b",
            "a:80:80",
            "a:+80",
            "a:123456",
            "ex\u{e4}mple",
            "a%2e",
            "a\\b",
            "a?b",
            "[::1",
            "[]",
            "[::1]x",
            "[v1.x]",
            "a\tb",
            "*.a",
        ] {
            assert_eq!(parse(bad.as_bytes()), Host::Bad, "{bad}");
        }
    }
}
