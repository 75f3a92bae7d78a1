//! What an installation has promised: the answers that whoever works with it got.

use std::collections::{BTreeMap, BTreeSet};

use paas_domain::{AppId, BuildId, DynoId, DynoName};
use paas_store::AppScope;

/// Everything that was promised, by app.
#[derive(Default)]
pub struct Promises {
    apps: BTreeMap<AppId, Promised>,
    /// Values of config vars that may be seen nowhere.
    pub canaries: Vec<String>,
}

impl Promises {
    /// An app was made.
    pub fn app_made(&mut self, scope: AppScope, name: &str) {
        self.apps.insert(scope.id().clone(), Promised::of(scope, name));
    }

    /// What one app was promised.
    ///
    /// # Panics
    /// When it was not said to be made.
    pub fn of(&mut self, app: &AppId) -> &mut Promised {
        self.apps.get_mut(app).expect("an app that was promised")
    }

    /// Whether bytes hold a secret.
    #[must_use]
    pub fn are_told(&self, bytes: &[u8]) -> bool {
        // Not byte by byte: that takes seconds in a debug build. What is no text becomes marks; a secret is text.
        let text = String::from_utf8_lossy(bytes);
        self.canaries.iter().any(|canary| text.contains(canary))
    }

    /// What the app that has this name was promised.
    pub fn living(&mut self, name: &str) -> Option<&mut Promised> {
        self.apps.values_mut().find(|app| app.name == name && !app.destroyed)
    }

    /// Every app that was ever made.
    pub fn apps(&self) -> impl Iterator<Item = &Promised> {
        self.apps.values()
    }
}

/// What one app was promised.
pub struct Promised {
    /// The right to look at it.
    pub scope: AppScope,
    /// Its name.
    pub name: String,
    /// What its pages say, and no other app's.
    pub says: Option<String>,
    /// The process types that count their lines when they start, and how many each says.
    pub counts: BTreeMap<String, u32>,
    /// Whether its end was answered.
    pub destroyed: bool,
    /// The config vars that were set, and those that were unset.
    pub config: BTreeMap<String, Option<String>>,
    /// The quantities that were scaled to.
    pub formation: BTreeMap<String, u16>,
    /// The builds that were accepted.
    pub builds: BTreeSet<BuildId>,
    /// The releases that were answered.
    pub versions: BTreeSet<i64>,
    /// The one-off dynos that were accepted, and whether each is to say its count before it is at rest.
    pub one_offs: BTreeMap<DynoId, (DynoName, bool)>,
    /// The commit whose push was answered last as deployed.
    pub deployed: Option<String>,
    /// The commits whose pushes have no answer yet: each may have come to serve.
    pub pushed: BTreeSet<String>,
    /// The commits whose pushes were declined.
    pub declined: BTreeSet<String>,
    /// What stood when something began that is to fail: the current version, and the dynos of the formation.
    pub untouched: Option<(i64, BTreeSet<DynoId>)>,
}

impl Promised {
    fn of(scope: AppScope, name: &str) -> Self {
        Self {
            scope,
            name: name.to_owned(),
            says: None,
            counts: BTreeMap::new(),
            destroyed: false,
            config: BTreeMap::new(),
            formation: BTreeMap::new(),
            builds: BTreeSet::new(),
            versions: BTreeSet::new(),
            one_offs: BTreeMap::new(),
            deployed: None,
            pushed: BTreeSet::new(),
            declined: BTreeSet::new(),
            untouched: None,
        }
    }

    /// A push of this commit was answered: its code serves.
    pub fn push_deployed(&mut self, commit: &str) {
        self.pushed.remove(commit);
        self.deployed = Some(commit.to_owned());
    }

    /// A push of this commit was answered: it was declined.
    pub fn push_declined(&mut self, commit: &str) {
        self.pushed.remove(commit);
        self.declined.insert(commit.to_owned());
    }
}
