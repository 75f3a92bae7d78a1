//! Which platform a story runs on. The story is the same.

use std::time::Duration;

use super::Platform;

/// What is behind the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This machine's engine and our own router.
    Local,
    /// The AWS account of the rig (`tests/aws-rig`), with its load balancers in front.
    Aws,
}

/// Makes two tests of each story, a function that takes a [`Kind`]: `local::…` and `aws::…`.
#[macro_export]
macro_rules! on_each_platform {
    ($($story:ident),+ $(,)?) => {
        mod local {
            $(#[test]
            fn $story() {
                super::$story($crate::platform::Kind::Local);
            })+
        }
        mod aws {
            $(#[test]
            fn $story() {
                super::$story($crate::platform::Kind::Aws);
            })+
        }
    };
}

impl Platform {
    /// What it runs on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.account.is_some() { Kind::Aws } else { Kind::Local }
    }

    /// Whether requests pass our own router, whose lines are in the logs and whose pages have Heroku's codes. A load
    /// balancer writes no line when a request passes.
    #[must_use]
    pub fn has_router(&self) -> bool {
        self.kind() == Kind::Local
    }

    /// How long what happens soon may take. On AWS targets are checked before they serve, and drain before they go.
    #[must_use]
    pub fn soon(&self) -> Duration {
        match self.kind() {
            Kind::Local => Duration::from_secs(20),
            Kind::Aws => Duration::from_secs(60),
        }
    }

    /// The host name that an app has by itself.
    #[must_use]
    pub fn host(&self, app: &str) -> String {
        match &self.account {
            None => format!("{app}.localhost"),
            Some(account) => format!("{app}.{}", account.domain),
        }
    }

    /// An app's URL, as the platform says it.
    #[must_use]
    pub fn url(&self, app: &str) -> String {
        let host = self.host(app);
        match &self.account {
            None => format!("http://{host}:{}/", self.port("http")),
            Some(account) => format!("https://{host}:{}/", account.front_tls),
        }
    }

    /// The port at which apps are asked.
    #[must_use]
    pub fn front_port(&self) -> u16 {
        self.account.as_ref().map_or_else(|| self.port("http"), |account| account.front)
    }

    /// A host name of somebody else's domain that leads here, as its owner has set it.
    ///
    /// # Panics
    /// When the rig does not take it.
    pub fn leads_here(&self, host: &str, target: &str) {
        if let Some(account) = &self.account {
            account.set_elsewhere(host, target);
        }
    }
}
