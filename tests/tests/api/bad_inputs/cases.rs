//! What each entry of the catalogue sends, by its id.

mod accepted;
mod of_apps;
mod of_envelope;
mod of_rest;

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
                architecture: paas_domain::Architecture::default(),
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

/// The test that shows an entry which is not run here.
pub(crate) fn elsewhere(id: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(known, _)| *known == id).map(|(_, place)| *place)
}

/// Entries that are not run here, and the test that shows each: they are about what runs (builds, dynos, archives,
/// balancers) or need more than one request.
#[rustfmt::skip]
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("A45", "tests/tests/api/bad_inputs.rs::a_slow_head_is_cut"),
    ("C25", "tests/tests/contract/builder/docker_only.rs::config_vars_do_not_reach_the_lifecycle"),
    ("C44", "tests/tests/api/releases.rs::config_during_a_release_phase"),
    ("C47", "tests/tests/e2e_secrets.rs::a_config_vars_value_is_told_to_nobody"),
    ("D23", "tests/tests/on_fakes/dynos.rs::up_and_down_ten_times_ends_with_none"),
    ("D27", "server/crates/ports/src/contract/runtime/rollout.rs::scaling_down_gives_back_the_highest_slots"),
    ("E19", "server/src/rendezvous/tests.rs::a_token_is_good_once"),
    ("E22", "server/src/rendezvous/tests.rs::who_speaks_no_tls_is_refused"),
    ("E27", "server/src/rendezvous/tests.rs::a_dyno_that_does_not_mind_is_detached"),
    ("E29", "server/src/rendezvous/tests.rs::a_client_that_does_not_read_holds_the_dyno_and_not_the_server"),
    ("F42", "server/crates/aws/src/alb/allocate/tests.rs::nothing_is_ever_misplaced"),
    ("F44", "tests/tests/e2e_aws_many.rs::every_app_answers_for_itself_behind_two_balancers"),
    ("H16", "server/src/archive/tests.rs::stops_at_its_limits"),
    // The engine's disk is the quota of what a build writes; what of it may come into an image is bounded here.
    ("H41", "server/crates/builder/src/tarball.rs::a_layer_has_a_limit"),
    ("H44", "buildpacks/phase/src/output.rs::has_a_limit"),
    // What a build prints of its own secrets is its own affair; the platform prints none.
    ("H45", "tests/tests/contract/builder/docker_only.rs::secrets_stay_in_their_files"),
    ("H48", "tests/tests/on_fakes/procfile_bad_inputs.rs::a_commit_by_somebody_whose_name_is_no_text_is_built"),
    ("H52", "server/crates/ports/src/contract/log_store.rs::stalled_readers_hold_nobody_up"),
    ("I20", "tests/tests/e2e_failures.rs::a_release_phase_that_fails_leaves_the_old_release_serving"),
    ("I21", "tests/tests/on_fakes/dynos.rs::a_release_phase_ends_after_its_hour"),
    ("I22", "tests/tests/git/push.rs::a_push_deploys_and_the_same_again_is_up_to_date"),
    ("J12", "tests/tests/api/envelope.rs::lists_come_in_pages"),
    ("J13", "tests/tests/api/envelope.rs::lists_come_in_pages"),
    ("J24", "tests/tests/api/envelope.rs::requests_are_counted"),
    ("J29", "tests/tests/api/envelope.rs::requests_are_counted"),
    ("J30", "tests/tests/api/envelope.rs::requests_are_counted"),
    ("M29", "tests/tests/api/resources.rs::keys_are_shown_once"),
    ("M42", "server/crates/store/src/seal.rs::opens_only_in_its_place_and_with_its_key"),
    ("O01", "tests/tests/api/resources.rs::what_cannot_be_built_is_a_failed_build"),
    ("O02", "tests/tests/api/resources.rs::what_cannot_be_built_is_a_failed_build"),
    ("O03", "tests/tests/api/resources.rs::what_cannot_be_built_is_a_failed_build"),
    ("O04", "server/src/archive/tests.rs::refuses_what_is_no_archive"),
    ("O09", "server/src/archive/tests.rs::refuses_what_leads_outside"),
    ("O11", "server/src/archive/tests.rs::refuses_what_is_no_archive"),
    ("O15", "server/src/archive/tests.rs::keeps_what_a_source_has"),
    ("O17", "server/src/archive/tests.rs::keeps_what_a_source_has"),
    ("O19", "server/src/archive/tests.rs::refuses_what_leads_outside"),
    ("O21", "server/src/archive/tests.rs::refuses_what_leads_outside"),
    ("O23", "server/src/archive/tests.rs::refuses_what_leads_outside"),
    ("O25", "server/src/archive/tests.rs::stops_at_its_limits"),
    ("O27", "server/src/archive/tests.rs::keeps_what_a_source_has"),
    ("O28", "server/src/archive/tests.rs::keeps_what_a_source_has"),
    ("O30", "server/src/archive/tests.rs::refuses_what_leads_outside"),
    ("O31", "server/src/archive/tests.rs::stops_at_its_limits"),
    ("O32", "server/src/archive/tests.rs::keeps_what_a_source_has"),
];
