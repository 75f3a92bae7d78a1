//! One request on its way to its handler, and what is known of its sender by then.

use axum::body::Body;
use axum::http::HeaderMap;
use paas_store::{Account, App, AppScope};

use super::params::Params;
use crate::cx::Cx;

/// A request whose route's permission was granted; `P` is what it granted.
pub(crate) struct Call<P> {
    pub(crate) cx: Cx,
    pub(crate) granted: P,
    pub(crate) headers: HeaderMap,
    pub(crate) params: Params,
    pub(crate) path: Vec<(String, String)>,
    /// What the caller has left of their rate limit.
    pub(crate) remaining: u32,
}

/// No account: the URL itself is the permission.
#[derive(Default)]
pub(crate) struct Bearer {
    /// The body as it comes, for uploads; everybody else gets [`Call::params`].
    pub(crate) upload: Option<Body>,
}

/// An account.
pub(crate) struct Caller {
    pub(crate) account: Account,
}

/// An account and one of its apps.
pub(crate) struct OnApp {
    pub(crate) account: Account,
    pub(crate) app: App,
    pub(crate) scope: AppScope,
}

impl<P> Call<P> {
    /// A part of the path by its name in the route's declaration.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The text of a header, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Call<OnApp> {
    pub(crate) fn account(&self) -> &Account {
        &self.granted.account
    }

    pub(crate) fn app(&self) -> &App {
        &self.granted.app
    }

    pub(crate) fn scope(&self) -> &AppScope {
        &self.granted.scope
    }
}
