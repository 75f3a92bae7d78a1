//! Header names that mean something to a router.

/// What a header is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// Nothing: it is passed on as it is.
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Via,
    ForwardedFor,
    RequestId,
    Cookie,
    SetCookie,
    /// Ends at each hop.
    HopByHop,
    /// Written by us; what the other side says of it is dropped.
    Ours,
}

/// Looks a name up, in any case.
pub(super) fn classify(name: &str) -> Name {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // The length sorts out nearly every header of a browser without a comparison.
    match name.len() {
        2 if is("te") => Name::HopByHop,
        3 if is("via") => Name::Via,
        4 if is("host") => Name::Host,
        6 if is("expect") => Name::Expect,
        6 if is("cookie") => Name::Cookie,
        7 if is("upgrade") => Name::Upgrade,
        7 if is("trailer") => Name::HopByHop,
        10 if is("connection") => Name::Connection,
        10 if is("keep-alive") => Name::HopByHop,
        10 if is("set-cookie") => Name::SetCookie,
        12 if is("x-request-id") => Name::RequestId,
        12 if is("connect-time") => Name::Ours,
        14 if is("content-length") => Name::ContentLength,
        14 if is("http2-settings") => Name::HopByHop,
        15 if is("x-forwarded-for") => Name::ForwardedFor,
        15 if is("x-request-start") => Name::Ours,
        16 if is("x-forwarded-port") || is("total-route-time") => Name::Ours,
        16 if is("proxy-connection") => Name::HopByHop,
        17 if is("transfer-encoding") => Name::TransferEncoding,
        17 if is("x-forwarded-proto") => Name::Ours,
        18 if is("proxy-authenticate") => Name::HopByHop,
        19 if is("proxy-authorization") => Name::HopByHop,
        _ => Name::Other,
    }
}

/// Whether a request header with an underscore reads like one of those above once a CGI-like server has turned
/// `-` into `_`. Such a header is dropped: it could only deceive the app.
pub(super) fn shadows_ours(name: &str) -> bool {
    name.as_bytes().contains(&b'_') && classify(&name.replace('_', "-")) != Name::Other
}

/// Whether `Connection: <name>` may take this header off a request. Never one that the app trusts or that
/// frames the message.
pub(super) fn may_be_nominated(name: &str) -> bool {
    classify(name) == Name::Other
        && !["authorization", "forwarded", "x-forwarded-host", "x-real-ip", "content-type", "content-encoding"]
            .iter()
            .any(|kept| name.eq_ignore_ascii_case(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(classify("CONTENT-length"), Name::ContentLength);
        assert_eq!(classify("Content_Length"), Name::Other);
        assert!(shadows_ours("X_Forwarded_For") && shadows_ours("content_length"));
        assert!(!shadows_ours("x_custom") && !shadows_ours("x-forwarded-for"));
        assert!(may_be_nominated("X-Custom") && !may_be_nominated("cookie") && !may_be_nominated("X-Request-Id"));
    }
}
