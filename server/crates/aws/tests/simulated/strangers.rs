//! What bears a name of ours and not our tag: nobody touches it.

use paas_aws::AwsSecrets;
use paas_domain::{AppId, ConfigId, ProcessType, outside_name};
use paas_ports::{PortError, Runtime as _, SecretKey, Secrets as _};
use serde_json::json;

use super::account::{Account, Pace};
use super::drive::{Server, Wish, World};

async fn destroy(server: &Server, app: &AppId) {
    for _ in 0..100 {
        if server.runtime.remove_app(app).await.expect("a try") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    panic!("it is never gone");
}

#[tokio::test(start_paused = true)]
async fn what_lacks_our_tag_survives_sweeps_and_the_end_of_the_app() {
    let world = World::new(Account::new(Pace::default()));
    let (server, wish) = (world.server(false).await, Wish::web());
    server.settle(&wish).await;
    let (service, account) = (outside_name(&world.install, &wish.app, "clock"), &world.account);
    account.plant_service(&service);
    let families = ["web", "-run", "clock"].map(|part| outside_name(&world.install, &wish.app, part));
    let definitions = families.each_ref().map(|family| account.plant_definition(family));
    let secret = format!("paas/{}/{}/config/{}/0", world.install, wish.app, ConfigId::new());
    account.lock().others.secrets.insert(secret.clone(), ("arn:of:somebody".to_owned(), json!([])));
    let there = |when: &str| {
        let state = account.lock();
        assert_eq!(state.ecs.services[&service].now.status, "ACTIVE", "{when}");
        assert!(definitions.iter().all(|arn| state.ecs.definitions[arn].active), "{when}");
        assert!(state.others.secrets.contains_key(&secret), "{when}");
    };
    let next = wish.configured();
    server.settle(&next).await;
    drop(server);
    world.sweep().await;
    there("after a sweep");
    let server = world.server(false).await;
    destroy(&server, &wish.app).await;
    there("after the app's end");
    {
        let state = account.lock();
        let ours =
            state.ecs.services.iter().filter(|(name, found)| **name != service && found.now.status != "INACTIVE");
        assert_eq!(ours.count(), 0);
        assert_eq!(state.ecs.definitions.values().filter(|found| found.active).count(), definitions.len());
        assert_eq!(state.others.secrets.len(), 1);
    }
    // What is left of others is no app of ours.
    assert!(server.runtime.apps().await.expect("a list").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_lacks_our_tag_is_not_taken_over() {
    let world = World::new(Account::new(Pace::default()));
    let (server, wish) = (world.server(false).await, Wish::web());
    let name = outside_name(&world.install, &wish.app, "web");
    world.account.plant_service(&name);
    let spec = wish.service(&ProcessType::web(), 1, None);
    let Err(PortError::Permanent { doing, cause }) = server.runtime.ensure(&spec).await else { panic!("taken over") };
    assert_eq!(doing, "changing the service of web");
    assert!(cause.contains(&name) && cause.contains("does not carry the tag paas:install="), "{cause}");
    server.runtime.remove(&wish.app, &ProcessType::web(), spec.generation).await.expect("nothing of ours is there");
    assert_eq!(world.account.lock().ecs.services[&name].now.status, "ACTIVE");
    // A secret of our name is not read by our dynos either.
    let aws = world.account.aws(&world.install).await;
    let (secrets, key) = (AwsSecrets::new(aws), ConfigId::new());
    let secret = format!("paas/{}/{}/config/{key}/0", world.install, wish.app);
    world.account.lock().others.secrets.insert(secret.clone(), ("arn:of:somebody".to_owned(), json!([])));
    let key = SecretKey::Config(key);
    let vars = [("A".to_owned(), "1".to_owned())];
    let error = secrets.ensure(&wish.app, &key, &vars).await.expect_err("not ours");
    assert!(!error.is_transient() && error.to_string().contains(&secret), "{error}");
    secrets.remove(&wish.app, &key).await.expect("nothing of ours is there");
    assert!(world.account.lock().others.secrets.contains_key(&secret));
}
