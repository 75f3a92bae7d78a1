//! What each entry of the catalogue sends, by its id.

mod accepted;
mod cases_of_apps;
mod cases_of_envelope;
mod cases_of_rest;

use std::collections::BTreeMap;

use paas_domain::{Digest, ProcessType};
use paas_ports::outside;
use paas_server::ops::cut_release::{ReleaseParts, cut_release};
use paas_store::{AppScope, Image};
use paas_tests::api_world::{ApiWorld, Ask};
use paas_tests::database::Database;
use serde_json::{Value, json};

/// What an entry does.
pub(crate) struct Case {
    /// What is sent; each must get a fitting answer.
    pub(crate) inputs: Vec<Input>,
    /// The answers that fit, where the entry leaves the choice to us or names none.
    pub(crate) answers: Option<&'static str>,
}

/// What is sent.
pub(crate) enum Input {
    /// A request.
    Ask(Ask),
    /// Bytes that no client library would send.
    Bytes(Vec<u8>),
}

/// Its beginning.
impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Ask(ask) => format!("{ask:?}"),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        };
        write!(f, "{}", text.chars().take(300).collect::<String>())
    }
}

impl From<Vec<Ask>> for Case {
    fn from(asks: Vec<Ask>) -> Self {
        Self { inputs: asks.into_iter().map(Input::Ask).collect(), answers: None }
    }
}

impl From<Vec<Vec<u8>>> for Case {
    fn from(all: Vec<Vec<u8>>) -> Self {
        Self { inputs: all.into_iter().map(Input::Bytes).collect(), answers: None }
    }
}

impl Case {
    /// With these answers instead of the entry's own.
    pub(crate) fn answers(self, answers: &'static str) -> Self {
        Self { answers: Some(answers), ..self }
    }
}

/// The server that all entries are sent to: `mine` and `second` have code, `empty` has none, `theirs` is somebody else's.
pub(crate) struct World {
    /// The server.
    pub(crate) api: ApiWorld,
    theirs: Value,
}

impl World {
    /// Makes it.
    pub(crate) async fn new(database: Database) -> Self {
        let api = ApiWorld::still(database).await;
        for name in ["mine", "second", "empty"] {
            api.create_app(name).await;
        }
        let theirs = Ask::new("POST", "/apps").of(&api.other).json(&json!({"name": "theirs"}));
        let theirs = api.send(&theirs).await.json();
        let world = Self { api, theirs };
        world.release("mine", &world.api.dev.email).await;
        world.release("second", &world.api.dev.email).await;
        world.release("theirs", &world.api.other.email).await;
        world
    }

    /// Gives an app code, as a build would.
    async fn release(&self, app: &str, owner: &str) {
        let cx = &self.api.cx;
        let done = outside::task(async {
            let scope = self.scope(app, owner).await;
            let mut uow = cx.begin().await?;
            let image: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
            let types: BTreeMap<ProcessType, String> = [("web", "serve"), ("worker", "work")]
                .map(|(name, command)| (name.parse().expect("a process type"), command.to_owned()))
                .into();
            let row = Image {
                id: image.clone(),
                process_types: types.clone(),
                builder: "builder".to_owned(),
                size: 1,
                description: None,
            };
            uow.put_image(&scope, &row, cx.now()).await?;
            let app = uow.app(&scope).await?;
            let parts = ReleaseParts {
                image: Some(image),
                config: app.head_config,
                process_types: types,
                description: "Deploy".to_owned(),
                account: app.owner,
                build: None,
                commit: None,
            };
            cut_release(&mut uow, &scope, parts, cx.now()).await?;
            uow.save().await
        });
        done.await.expect("a release");
    }

    async fn scope(&self, app: &str, owner: &str) -> AppScope {
        let key = if owner == self.api.dev.email { &self.api.dev } else { &self.api.other };
        let mut uow = self.api.cx.store.read().await.expect("a look");
        let hash = paas_server::token::token_hash(&key.token);
        let (account, _) = uow.authenticate(&hash, self.api.cx.now()).await.expect("a look").expect("a key");
        uow.authorize(&account.id, app).await.expect("a look").expect("the app").0
    }

    /// What an entry sends; `None` when nobody thought of it.
    pub(crate) async fn case(&self, id: &str) -> Option<Case> {
        if let Some(case) = self.envelope_case(id).await {
            return Some(case);
        }
        if let Some(case) = self.app_case(id).await {
            return Some(case);
        }
        self.rest_case(id).await
    }

    fn post(&self, path: &str, body: &Value) -> Ask {
        self.api.ask("POST", path).json(body)
    }

    fn patch(&self, path: &str, body: &Value) -> Ask {
        self.api.ask("PATCH", path).json(body)
    }

    /// `POST` of each of these bodies.
    fn posts(&self, path: &str, bodies: &[Value]) -> Vec<Ask> {
        bodies.iter().map(|body| self.post(path, body)).collect()
    }
}

/// Why an entry is not run here.
pub(crate) fn elsewhere(id: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(known, _)| *known == id).map(|(_, reason)| *reason)
}

const RENDEZVOUS: &str = "the rendezvous' own tests (server/src/rendezvous)";
const ARCHIVE: &str = "server/src/archive.rs: its tests make the archive";
const BUILDER: &str = "the builder's suites: it is about what runs in a build";
const NO_OAUTH_APPS: &str = "there are no OAuth clients, invitations, transfers or teams yet";
const NO_PIPELINES: &str = "there are no pipelines yet";
const NO_FETCH: &str =
    "the server fetches no source from anywhere: only its own uploads are built (H05, H06, H08, H09, H13)";
const NO_GIT_BUILDPACKS: &str = "there are no buildpacks from git repositories yet";
const NO_DASHBOARD: &str = "there is no dashboard yet, so no cookie is looked at";
const RUNTIME: &str = "contract_runtime: it is about which dynos run";
const AWS: &str = "it is about AWS, which is not there yet";

/// Entries that are not run here, and where they are, or why they cannot be.
#[rustfmt::skip]
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("A45", "a_slow_head_is_cut, below"), ("A59", NO_DASHBOARD),
    ("C25", "the builder takes nothing but files from config vars; contract_builder"),
    ("C43", "there are no collaborators yet"), ("C44", "api_resources: config_during_a_release_phase"),
    ("C47", "the canary of the end-to-end suite"), ("C48", "there is no cache of config vars"),
    ("D23", RUNTIME), ("D27", RUNTIME),
    ("E16", "no Idempotency-Key is read yet"), ("E19", RENDEZVOUS), ("E22", RENDEZVOUS), ("E27", RENDEZVOUS),
    ("E29", RENDEZVOUS), ("E32", "there are no websockets"), ("E33", "run:inside is not there yet: no such route"),
    ("F42", AWS), ("F44", AWS), ("F45", "an account's names are free at once; a cool-off needs public DNS"),
    ("F53", "no TXT record is read"), ("F55", "there is no ACME yet"),
    ("H12", NO_FETCH), ("H15", NO_FETCH), ("H16", ARCHIVE), ("H36", NO_GIT_BUILDPACKS), ("H38", NO_GIT_BUILDPACKS),
    ("H41", BUILDER), ("H44", BUILDER), ("H45", BUILDER), ("H48", "git_push: commits come by git"),
    ("H49", "there is no build cache in the API yet: no such route"),
    ("H52", "contract_log_store: a reader that stalls holds up nobody"), ("H54", "builds cannot be cancelled yet"),
    ("I14", NO_PIPELINES), ("I15", NO_PIPELINES), ("I18", NO_PIPELINES),
    ("I20", "crash_steps and the end-to-end suite: release phases run in jobs"),
    ("I21", "crash_steps: release phases run in jobs"), ("I22", "crash_steps: release phases run in jobs"),
    ("J12", "api_envelope: lists_come_in_pages"), ("J13", "api_envelope: lists_come_in_pages"),
    ("J24", "api_envelope: requests_are_counted"), ("J29", "api_envelope: requests_are_counted"),
    ("J30", "api_envelope: requests_are_counted"),
    ("M07", NO_OAUTH_APPS), ("M08", NO_OAUTH_APPS), ("M09", NO_OAUTH_APPS), ("M10", NO_OAUTH_APPS),
    ("M14", NO_OAUTH_APPS), ("M15", NO_OAUTH_APPS), ("M16", NO_OAUTH_APPS), ("M17", NO_OAUTH_APPS),
    ("M19", NO_OAUTH_APPS), ("M20", NO_OAUTH_APPS), ("M29", "api_resources: keys_are_shown_once"),
    ("M41", NO_DASHBOARD), ("M42", "server/crates/store/src/seal.rs: a key that is all zeros is refused"),
    ("O01", "api_resources: what_cannot_be_built_is_a_failed_build"),
    ("O02", "api_resources: what_cannot_be_built_is_a_failed_build"),
    ("O03", "api_resources: what_cannot_be_built_is_a_failed_build"),
    ("O04", ARCHIVE), ("O09", ARCHIVE), ("O11", ARCHIVE), ("O15", ARCHIVE), ("O17", ARCHIVE), ("O19", ARCHIVE),
    ("O21", ARCHIVE), ("O23", ARCHIVE), ("O25", ARCHIVE), ("O27", ARCHIVE), ("O28", ARCHIVE), ("O30", ARCHIVE),
    ("O31", ARCHIVE), ("O32", ARCHIVE),
];
