//! Instants as Heroku's CLI shows them. In UTC, which the output says.

use jiff::Timestamp;

/// `2026/11/23 15:04:05 +0000 (~ 3m ago)`; the text as it came when it is no instant.
pub(crate) fn ago(instant: &str) -> String {
    ago_at(instant, Timestamp::now())
}

fn ago_at(instant: &str, now: Timestamp) -> String {
    let Ok(then) = instant.parse::<Timestamp>() else {
        return crate::text::printable(instant);
    };
    // A server whose clock is a little ahead must not show a negative age.
    let elapsed = (now.as_second() - then.as_second()).max(0);
    let shown = then.strftime("%Y/%m/%d %H:%M:%S +0000");
    match elapsed {
        0..60 => format!("{shown} (~ {elapsed}s ago)"),
        60..3600 => format!("{shown} (~ {}m ago)", elapsed / 60),
        3600..90_000 => format!("{shown} (~ {}h ago)", elapsed / 3600),
        _ => shown.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_long_ago() {
        let now = "2026-11-23T15:04:05Z".parse::<Timestamp>().expect("an instant");
        assert_eq!(ago_at("2026-11-23T15:04:01Z", now), "2026/11/23 15:04:01 +0000 (~ 4s ago)");
        assert_eq!(ago_at("2026-11-23T15:04:09Z", now), "2026/11/23 15:04:09 +0000 (~ 0s ago)");
        assert_eq!(ago_at("2026-11-23T14:04:06Z", now), "2026/11/23 14:04:06 +0000 (~ 59m ago)");
        assert_eq!(ago_at("2026-11-22T15:04:05Z", now), "2026/11/22 15:04:05 +0000 (~ 24h ago)");
        assert_eq!(ago_at("2026-11-01T15:04:05Z", now), "2026/11/01 15:04:05 +0000");
        assert_eq!(ago_at("soon", now), "soon");
    }
}
