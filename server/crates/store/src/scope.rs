//! The proof that its holder may work on one app.

use paas_domain::AppId;

/// A right to work on one app. Only authorization, a job's claim and an app's lease can mint one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppScope {
    id: AppId,
}

impl AppScope {
    pub(crate) fn mint(id: AppId) -> Self {
        Self { id }
    }

    /// Which app.
    #[must_use]
    pub fn id(&self) -> &AppId {
        &self.id
    }
}
