//! Values in a form that a POSIX shell reads back.

/// Heroku's quoting: bare when harmless, in single quotes when possible, else in double quotes with `\n` for newlines.
pub(crate) fn quote(value: &str) -> String {
    let special = |c: char| c.is_whitespace() || "\"#!$&'()*,:;<=>?@[\\]^`{|}".contains(c);
    if !value.contains(special) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n']) {
        return format!("'{value}'");
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' | '`' | '!' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_heroku_does() {
        assert_eq!(quote("production"), "production");
        assert_eq!(quote("http://a/b"), "'http://a/b'");
        assert_eq!(quote("x y'z\nsecond"), "\"x y'z\\nsecond\"");
        assert_eq!(quote("it's $HOME"), "\"it's \\$HOME\"");
        assert_eq!(quote(""), "");
    }
}
