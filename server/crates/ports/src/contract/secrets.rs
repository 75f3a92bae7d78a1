//! What every keeper of config promises.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use paas_domain::{AppId, ConfigId, DynoId};

use crate::{PortError, SecretKey, SecretVars, Secrets};

/// Secrets and the world around them.
#[async_trait]
pub trait SecretsBench: Send + Sync + Sized + 'static {
    /// An empty one.
    async fn start() -> Self;
    /// The driver.
    fn secrets(&self) -> Arc<dyn Secrets>;
    /// A new driver of the same world, as after the server's restart.
    fn anew(&self) -> Arc<dyn Secrets>;
    /// The value that the platform gives a dyno for what a definition names; `None` when it is gone.
    async fn read(&self, reference: &str) -> Option<String>;
    /// A driver of another installation beside this one; `None` where the two share nothing.
    fn other_installation(&self) -> Option<Arc<dyn Secrets>>;
    /// Removes what the promises left.
    async fn finish(&self);
}

/// Every promise, as tests for one bench.
#[macro_export]
macro_rules! secrets_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            secrets,
            SecretsBench,
            $bench,
            [
                values_arrive_byte_for_byte,
                however_much_arrives,
                kept_twice_equals_once,
                what_is_kept_stays_as_it_is,
                keys_are_listed_and_removed,
                what_was_removed_can_be_kept_again,
                nothing_to_keep_is_nothing_kept,
                two_apps_never_meet,
                installations_do_not_see_each_other,
            ]
        );
    };
}

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn config() -> SecretKey {
    SecretKey::Config(ConfigId::new())
}

/// Platforms remove in their own time: asks until it is there.
async fn keep(secrets: &dyn Secrets, app: &AppId, key: &SecretKey, vars: &[(String, String)]) -> SecretVars {
    let since = Instant::now();
    loop {
        match secrets.ensure(app, key, vars).await {
            Ok(kept) => return kept,
            Err(PortError::Transient { .. }) if since.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("ensure: {error}"),
        }
    }
}

async fn assert_reads(bench: &impl SecretsBench, kept: &SecretVars, vars: &[(String, String)]) {
    assert_eq!(
        kept.0.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        vars.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for ((name, reference), (_, value)) in kept.0.iter().zip(vars) {
        let read = bench.read(reference).await;
        assert!(read.as_deref() == Some(value), "{name} came back as {:?} bytes", read.map(|text| text.len()));
        assert!(value.len() < 8 || !reference.contains(value.as_str()), "a reference holds no value");
    }
}

/// What was kept is what is read, in the order given.
pub async fn values_arrive_byte_for_byte(bench: &impl SecretsBench) {
    let app = AppId::new();
    let vars = vars(&[
        ("PAAS_CONFIG_0", "-----BEGIN KEY-----\nab+/= \"quoted\" 'x' $HOME `x` \\ é🦀\n-----END KEY-----\n\n"),
        ("A_TOKEN", "x9_-"),
    ]);
    let kept = keep(&*bench.secrets(), &app, &config(), &vars).await;
    assert_reads(bench, &kept, &vars).await;
    bench.secrets().remove_app(&app).await.expect("remove_app");
}

/// More than any one secret holds (64 KB on AWS) arrives all the same.
pub async fn however_much_arrives(bench: &impl SecretsBench) {
    let app = AppId::new();
    let part = |n: usize, length: usize| (format!("PAAS_CONFIG_{n}"), format!("{n}{}", "x".repeat(length - 1)));
    let vars = [part(0, 61_440), part(1, 61_440), part(2, 1_000), part(3, 61_440)];
    let kept = keep(&*bench.secrets(), &app, &config(), &vars).await;
    assert_reads(bench, &kept, &vars).await;
    bench.secrets().remove_app(&app).await.expect("remove_app");
    assert!(bench.secrets().list(&app).await.expect("list").is_empty());
}

/// Asked twice, also by a new server: one secret, one answer.
pub async fn kept_twice_equals_once(bench: &impl SecretsBench) {
    let (app, key, vars) = (AppId::new(), config(), vars(&[("PAAS_CONFIG_0", "one")]));
    let first = keep(&*bench.secrets(), &app, &key, &vars).await;
    assert_eq!(bench.secrets().ensure(&app, &key, &vars).await.expect("ensure again"), first);
    assert_eq!(bench.anew().ensure(&app, &key, &vars).await.expect("ensure by a new server"), first);
    assert_eq!(bench.secrets().list(&app).await.expect("list"), [key]);
    bench.secrets().remove_app(&app).await.expect("remove_app");
}

/// A secret is written once: dynos that start later read what the first ones read.
pub async fn what_is_kept_stays_as_it_is(bench: &impl SecretsBench) {
    let (app, key) = (AppId::new(), config());
    let kept = keep(&*bench.secrets(), &app, &key, &vars(&[("PAAS_CONFIG_0", "one")])).await;
    let again = bench.anew().ensure(&app, &key, &vars(&[("PAAS_CONFIG_0", "two")])).await.expect("ensure");
    assert_eq!(again, kept);
    assert_eq!(bench.read(&kept.0[0].1).await.as_deref(), Some("one"));
    bench.secrets().remove_app(&app).await.expect("remove_app");
}

/// Config and one-off dynos are told apart, and one goes without the others.
pub async fn keys_are_listed_and_removed(bench: &impl SecretsBench) {
    let (app, secrets) = (AppId::new(), bench.secrets());
    let mut keys = vec![config(), config(), SecretKey::Dyno(DynoId::new())];
    let mut kept = Vec::new();
    for key in &keys {
        kept.push(keep(&*secrets, &app, key, &vars(&[("PAAS_CONFIG_0", "a value")])).await);
    }
    let mut listed = secrets.list(&app).await.expect("list");
    keys.sort();
    listed.sort();
    assert_eq!(listed, keys);
    assert!(secrets.apps().await.expect("apps").contains(&app));
    secrets.remove(&app, &keys[0]).await.expect("remove");
    secrets.remove(&app, &keys[0]).await.expect("remove again");
    secrets.remove(&AppId::new(), &keys[1]).await.expect("remove of nobody's");
    let mut listed = bench.anew().list(&app).await.expect("list");
    listed.sort();
    assert_eq!(listed, keys[1..]);
    secrets.remove_app(&app).await.expect("remove_app");
    secrets.remove_app(&app).await.expect("remove_app again");
    assert!(secrets.list(&app).await.expect("list").is_empty());
    assert!(!secrets.apps().await.expect("apps").contains(&app));
    for secret in kept {
        assert_eq!(bench.read(&secret.0[0].1).await, None);
    }
}

/// A rollback may need what nothing named for a while.
pub async fn what_was_removed_can_be_kept_again(bench: &impl SecretsBench) {
    let (app, key, secrets) = (AppId::new(), config(), bench.secrets());
    let vars = vars(&[("PAAS_CONFIG_0", "again")]);
    keep(&*secrets, &app, &key, &vars).await;
    secrets.remove(&app, &key).await.expect("remove");
    let kept = keep(&*secrets, &app, &key, &vars).await;
    assert_reads(bench, &kept, &vars).await;
    secrets.remove_app(&app).await.expect("remove_app");
}

/// No vars make no secret.
pub async fn nothing_to_keep_is_nothing_kept(bench: &impl SecretsBench) {
    let app = AppId::new();
    assert_eq!(bench.secrets().ensure(&app, &config(), &[]).await.expect("ensure"), SecretVars(vec![]));
}

/// One app's keys are no other app's.
pub async fn two_apps_never_meet(bench: &impl SecretsBench) {
    let (one, two, key, secrets) = (AppId::new(), AppId::new(), config(), bench.secrets());
    keep(&*secrets, &one, &key, &vars(&[("PAAS_CONFIG_0", "one")])).await;
    let kept = keep(&*secrets, &two, &key, &vars(&[("PAAS_CONFIG_0", "two")])).await;
    secrets.remove_app(&one).await.expect("remove_app");
    assert_eq!(bench.read(&kept.0[0].1).await.as_deref(), Some("two"));
    assert_eq!(secrets.list(&two).await.expect("list"), [key]);
    secrets.remove_app(&two).await.expect("remove_app");
}

/// What another installation keeps for our app's id is neither seen nor removed.
pub async fn installations_do_not_see_each_other(bench: &impl SecretsBench) {
    let Some(other) = bench.other_installation() else { return };
    let (app, key, ours) = (AppId::new(), config(), bench.secrets());
    let theirs = keep(&*other, &app, &key, &vars(&[("PAAS_CONFIG_0", "theirs")])).await;
    assert!(ours.list(&app).await.expect("list").is_empty());
    let kept = keep(&*ours, &app, &key, &vars(&[("PAAS_CONFIG_0", "ours")])).await;
    assert_eq!(bench.read(&kept.0[0].1).await.as_deref(), Some("ours"));
    ours.remove_app(&app).await.expect("remove_app");
    assert_eq!(bench.read(&theirs.0[0].1).await.as_deref(), Some("theirs"));
    assert!(!ours.apps().await.expect("apps").contains(&app));
    other.remove_app(&app).await.expect("remove_app");
}
