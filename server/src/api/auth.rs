//! Who calls, and what their key allows.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use paas_store::{Account, Authorization};

use super::error::ApiError;
use crate::cx::Cx;
use crate::token::token_hash;

/// The longest token that is looked up. Ours have about 50 characters.
const MAX_TOKEN: usize = 512;

/// What a route does, in the terms of OAuth scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Says who the caller is.
    Identity,
    /// Reads what is no secret.
    Read,
    /// Changes what is no secret.
    Write,
    /// Reads config vars and what else may hold secrets.
    ReadProtected,
    /// Changes them.
    WriteProtected,
    /// Works on the account itself: its keys.
    Global,
}

impl Access {
    /// Whether a key with these scopes may.
    pub(crate) fn allowed_by(self, scopes: &[String]) -> bool {
        let any = |names: &[&str]| scopes.iter().any(|scope| names.contains(&scope.as_str()));
        match self {
            Self::Identity => any(&["global", "identity", "read", "write", "read-protected", "write-protected"]),
            Self::Read => any(&["global", "read", "write", "read-protected", "write-protected"]),
            Self::Write => any(&["global", "write", "write-protected"]),
            Self::ReadProtected => any(&["global", "read-protected", "write-protected"]),
            Self::WriteProtected => any(&["global", "write-protected"]),
            Self::Global => any(&["global"]),
        }
    }
}

/// Every scope that a key can have.
pub(crate) const SCOPES: [&str; 6] = ["global", "identity", "read", "write", "read-protected", "write-protected"];

/// The account that a request's credentials open, and the key it came with.
///
/// # Errors
/// 401 without good credentials, 400 with two of them: nobody should have to know which one counts.
pub(crate) async fn authenticate(cx: &Cx, headers: &HeaderMap) -> Result<(Account, Authorization), ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next().ok_or_else(ApiError::unauthorized)?;
    if given.next().is_some() {
        return Err(ApiError::bad_request("There is more than one Authorization header."));
    }
    let token = value.to_str().ok().and_then(token).ok_or_else(ApiError::unauthorized)?;
    let mut uow = cx.store.read().await?;
    let found = uow.authenticate(&token_hash(&token), cx.now()).await?;
    found.ok_or_else(ApiError::unauthorized)
}

/// The token in `Bearer TOKEN` or `Basic base64(ANYONE:TOKEN)`.
pub(crate) fn token(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let bytes = STANDARD.decode(rest).or_else(|_| STANDARD_NO_PAD.decode(rest)).ok()?;
        String::from_utf8(bytes).ok()?.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    let plain = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    plain.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_send_a_token() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for good in ["Bearer t-1".to_owned(), "bearer  t-1 ".into(), basic(":t-1"), basic("me@x.y:t-1"), basic("_:t-1")]
        {
            assert_eq!(token(&good).as_deref(), Some("t-1"), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Digest t-1", "t-1", "Basic !!", "Basic //4=", "Bearer a b"] {
            assert_eq!(token(bad), None, "{bad}");
        }
        assert_eq!(token(&basic("no colon")), None);
        assert_eq!(token(&format!("Bearer {}", "x".repeat(600))), None);
    }
}
