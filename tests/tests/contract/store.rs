//! What the store promises, on SQLite and on PostgreSQL: one text of SQL, one behaviour.

mod access;
mod apps;
mod platform;
mod work;

use std::collections::BTreeMap;

use access::*;
use apps::*;
use paas_domain::{
    AppName, Architecture, Capacity, ConfigVars, Digest, DynoId, DynoKind, DynoName, DynoSize, DynoState, Generation,
    HostName, ProcessType, Quantity, ReleaseStatus, RolloutState, Timestamp,
};
use paas_ports::outside;
use paas_store::{
    Account, AppScope, AwsRow, DomainKind, Dyno, Image, JobKind, JobState, MasterKey, NewAuthorization, NewBuild,
    NewDyno, NewRelease, Service, Store, StoreError, Takes, Unbuildable, Uow,
};
use paas_tests::database::Database;
use platform::*;
use secrecy::{ExposeSecret as _, SecretString};
use work::*;

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn at(s: i64) -> Timestamp {
    T0.plus_s(s)
}

fn name(text: &str) -> AppName {
    text.parse().expect("a name")
}

fn host(text: &str) -> HostName {
    text.parse().expect("a host name")
}

fn process(text: &str) -> ProcessType {
    text.parse().expect("a process type")
}

fn digest(n: u8) -> Digest {
    format!("sha256:{}", format!("{n:02x}").repeat(32)).parse().expect("a digest")
}

fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
    pairs.iter().map(|(k, v)| (k.parse().expect("a name"), SecretString::from((*v).to_owned()))).collect()
}

async fn saved<T>(store: &Store, change: impl AsyncFnOnce(&mut Uow) -> Result<T, StoreError>) -> T {
    let mut uow = store.begin().await.expect("a transaction");
    let done = change(&mut uow).await.expect("the change");
    uow.save().await.expect("saved");
    done
}

async fn account(store: &Store, email: &str) -> Account {
    saved(store, async |uow| uow.create_account(email, T0).await).await
}

async fn app(store: &Store, of: &Account, text: &str) -> AppScope {
    saved(store, async |uow| uow.create_app(&name(text), &of.id, T0).await).await
}

async fn world(store: &Store) -> (Account, AppScope) {
    let account = account(store, "dev@example.com").await;
    let app = app(store, &account, "hello").await;
    (account, app)
}

async fn a_release(uow: &mut Uow, app: &AppScope, account: &Account) -> paas_store::Release {
    let config = uow.app(app).await.expect("the app").head_config;
    let new = NewRelease {
        status: ReleaseStatus::Pending,
        image: Some(digest(1)),
        config,
        process_types: BTreeMap::from([(process("web"), "serve".to_owned())]),
        description: "Deploy".to_owned(),
        account: account.id.clone(),
        build: None,
        output: None,
        commit: Some("c0ffee".to_owned()),
    };
    uow.create_release(app, &new, T0).await.expect("a release")
}

fn one_off(slot: u32, hash: Option<&str>) -> NewDyno {
    NewDyno {
        name: DynoName { process_type: process("run"), slot },
        kind: DynoKind::Run,
        release: paas_domain::ReleaseVersion(1),
        size: DynoSize::Basic,
        command: "bash".to_owned(),
        attach: hash.is_some(),
        tty: true,
        attach_hash: hash.map(str::to_owned),
        env: vars(&[("SECRET", "canary-env")]),
        expires_at: Some(Timestamp(86_400_000)),
        link: hash.map(|_| "10.42.0.10:8443".to_owned()),
    }
}

/// One test for each promise and database.
macro_rules! store_contract {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let db = Database::sqlite();
                outside::task(super::$promise(&db)).await;
            })*
        }

        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let db = Database::postgres().await;
                outside::task(super::$promise(&db)).await;
                db.remove().await;
            })*
        }
    };
}

store_contract!(
    a_cancelled_job_is_held_until_its_worker_lets_go,
    a_build_is_for_who_builds_for_its_app,
    a_database_has_one_key,
    a_destroyed_app_frees_its_names_and_leaves_no_row,
    a_host_is_not_taken_by_a_wildcard_of_another_account,
    a_job_has_one_worker_and_only_the_newest_one_counts,
    a_job_that_ends_under_a_claim_has_ended,
    a_slot_is_free_when_its_dyno_has_ended,
    a_transaction_that_is_not_saved_never_was,
    a_wish_raises_the_generation_and_makes_the_app_due,
    an_app_has_one_actor_and_only_the_newest_one_counts,
    who_works_on_an_app_knows_what_others_have_heard,
    an_installation_keeps_its_id,
    builds_end_once,
    config_is_sealed,
    formation_and_rollouts_are_kept,
    images_of_builds_are_looked_through_once,
    jobs_of_one_queue_run_one_after_the_other,
    keys_open_an_account_until_they_end,
    notes_about_dynos_are_written_over_and_go_with_their_app,
    of_many_claims_at_once_one_wins,
    one_name_one_owner,
    releases_are_numbered_without_gaps,
    servers_are_known_while_they_are_seen,
    what_a_server_holds_is_its_own_while_it_is_alive,
    tasks_never_share_a_slot,
    what_a_url_opens_ends,
    what_was_told_of_a_failed_pass_is_known_until_one_ends_well,
    what_an_app_wishes_for_is_kept,
    what_aws_was_told_is_written_by_one_at_a_time,
);
