//! Who may open what, and which names are whose.

use super::*;

pub(super) async fn a_transaction_that_is_not_saved_never_was(db: &Database) {
    let store = db.open().await;
    let (account, _) = world(&store).await;
    let before = db.dump().await;
    {
        let mut uow = store.begin().await.expect("a transaction");
        uow.create_app(&name("other"), &account.id, T0).await.expect("an app");
        if !store.is_shared() {
            let mut look = store.read().await.expect("a look does not wait for a writer");
            assert_eq!(look.apps(&account.id).await.expect("apps").len(), 1);
        }
    }
    assert_eq!(db.dump().await, before);
}

pub(super) async fn one_name_one_owner(db: &Database) {
    let store = db.open().await;
    let (dev, scope) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let taken = async |what: &str, change: &dyn Fn() -> &'static str| {
        let mut uow = store.begin().await.expect("a transaction");
        let refused = match change() {
            "app" => uow.create_app(&name("hello"), &other.id, T0).await.err(),
            "email" => uow.create_account("dev@example.com", T0).await.err(),
            _ => uow.create_domain(&scope, &host("www.example.com"), DomainKind::Custom, T0).await.err(),
        };
        assert!(matches!(refused, Some(StoreError::Taken(said)) if said == what), "{what}: {refused:?}");
    };
    saved(&store, async |uow| uow.create_domain(&scope, &host("www.example.com"), DomainKind::Custom, T0).await).await;
    taken("Name", &|| "app").await;
    taken("Email", &|| "email").await;
    taken("Domain", &|| "domain").await;
    // Somebody else's app is as one that is not there, by name and by id.
    let mut look = store.read().await.expect("a look");
    for known in ["hello", scope.id().as_str()] {
        assert!(look.authorize(&dev.id, known).await.expect("a look").is_some());
        assert!(look.authorize(&other.id, known).await.expect("a look").is_none());
    }
    assert_eq!(look.first_account().await.expect("a look"), Some(dev));
}

pub(super) async fn a_host_is_not_taken_by_a_wildcard_of_another_account(db: &Database) {
    let store = db.open().await;
    let (_, mine) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let theirs = app(&store, &other, "theirs").await;
    saved(&store, async |uow| uow.create_domain(&theirs, &host("*.example.com"), DomainKind::Custom, T0).await).await;
    saved(&store, async |uow| uow.create_domain(&theirs, &host("a.example.org"), DomainKind::Custom, T0).await).await;
    let mut look = store.read().await.expect("a look");
    for (wanted, overlaps) in [
        ("www.example.com", true),
        ("deep.www.example.com", true),
        ("*.example.org", true),
        ("example.com", false),
        ("wwwexample.com", false),
        ("*.example.net", false),
        ("b.example.org", false),
    ] {
        let found = look.foreign_overlap(&mine, &host(wanted)).await.expect("a look");
        assert_eq!(found.is_some(), overlaps, "{wanted}");
        assert!(look.foreign_overlap(&theirs, &host(wanted)).await.expect("a look").is_none(), "{wanted}: one's own");
    }
}

pub(super) async fn keys_open_an_account_until_they_end(db: &Database) {
    let store = db.open().await;
    let (dev, _) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let new = |hash: &str, expires_at| NewAuthorization {
        token_hash: hash.to_owned(),
        token_hint: "H**".to_owned(),
        description: "laptop".to_owned(),
        scope: vec!["read".to_owned(), "write".to_owned()],
        expires_at,
    };
    let key = saved(&store, async |uow| uow.create_authorization(&dev.id, &new("h1", Some(at(60))), T0).await).await;
    saved(&store, async |uow| uow.create_authorization(&dev.id, &new("h2", None), T0).await).await;
    let mut look = store.read().await.expect("a look");
    let (who, found) = look.authenticate("h1", at(59)).await.expect("a look").expect("a key");
    assert_eq!((who, found), (dev.clone(), key.clone()));
    assert!(look.authenticate("h1", at(60)).await.expect("a look").is_none());
    assert!(look.authenticate("laptop", T0).await.expect("a look").is_none());
    assert_eq!(look.authorizations(&dev.id, at(59)).await.expect("keys").len(), 2);
    assert_eq!(look.authorizations(&dev.id, at(60)).await.expect("keys").len(), 1);
    assert!(matches!(look.authorization(&other.id, &key.id, T0).await, Err(StoreError::NotFound(_))));
    drop(look);
    saved(&store, async |uow| uow.update_authorization(&dev.id, &key.id, Some("desk"), None).await).await;
    saved(&store, async |uow| uow.update_authorization(&dev.id, &key.id, None, Some(("h3", "H3"))).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert!(uow.authenticate("h1", T0).await.expect("a look").is_none());
    assert_eq!(uow.authenticate("h3", T0).await.expect("a look").expect("a key").1.description, "desk");
    assert!(!uow.delete_authorization(&other.id, &key.id).await.expect("done"));
    assert!(uow.delete_authorization(&dev.id, &key.id).await.expect("done"));
    assert!(uow.authenticate("h3", T0).await.expect("a look").is_none());
}

pub(super) async fn config_is_sealed(db: &Database) {
    let store = db.open().await;
    let (_, mine) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let theirs = app(&store, &other, "theirs").await;
    let wanted = vars(&[("PLAIN_NAME", "canary-config"), ("EMPTY", ""), ("LINES", "a\r\nb\t\u{1F600} ")]);
    let id = saved(&store, async |uow| uow.create_config(&mine, &wanted, T0).await).await;
    saved(&store, async |uow| uow.set_head_config(&mine, &id).await).await;
    saved(&store, async |uow| uow.create_dyno(&mine, &one_off(1, None), T0).await).await;
    saved(&store, async |uow| uow.create_output(&mine, "canary-output-token", "hash", T0).await).await;
    let mut look = store.read().await.expect("a look");
    assert_eq!(look.config(&mine, &id).await.expect("the config").vars, wanted);
    assert!(matches!(look.config(&theirs, &id).await, Err(StoreError::NotFound(_))));
    drop(look);
    // Neither as text nor as the bytes of a text.
    let dump = format!("{:?}", db.dump().await).to_lowercase();
    for canary in ["canary-config", "canary-env", "canary-output-token", "plain_name"] {
        let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
        assert!(!dump.contains(canary) && !dump.contains(&hex), "{canary} is readable");
    }
    let with_another_key = Store::open(db.url(), MasterKey::new(&[8; 32]).expect("a key")).await.expect("opens");
    let mut look = with_another_key.read().await.expect("a look");
    assert!(matches!(look.config(&mine, &id).await, Err(StoreError::Unsealable)));
}

pub(super) async fn what_a_url_opens_ends(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    saved(&store, async |uow| uow.create_log_session(&app, "l", "{}", T0, at(60)).await).await;
    let of_app = saved(&store, async |uow| uow.create_source(&dev.id, Some(&app), "s1", at(60)).await).await;
    saved(&store, async |uow| uow.create_source(&dev.id, None, "s2", at(90)).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert_eq!(uow.log_session("l", at(59)).await.expect("a look").map(|s| s.app), Some(app.id().clone()));
    assert!(uow.log_session("l", at(60)).await.expect("a look").is_none());
    assert_eq!(uow.source_by_token("s1", at(59)).await.expect("a look"), Some(of_app.clone()));
    assert!(uow.source_by_token("s1", at(60)).await.expect("a look").is_none());
    assert_eq!(uow.source_by_token("s2", at(60)).await.expect("a look").expect("a source").app, None);
    assert!(uow.mark_source_uploaded(&of_app).await.expect("done"));
    assert!(!uow.mark_source_uploaded(&of_app).await.expect("done"), "of two uploads one counts");
    assert_eq!(uow.sources(&app).await.expect("sources").len(), 1);
    let expired = uow.expired_sources(at(60)).await.expect("sources");
    assert_eq!(expired.iter().map(|s| &s.id).collect::<Vec<_>>(), [&of_app.id]);
    uow.delete_source(&of_app).await.expect("done");
    assert!(uow.expired_sources(at(60)).await.expect("sources").is_empty());
}

pub(super) async fn an_installation_keeps_its_id(db: &Database) {
    let store = db.open().await;
    let id = saved(&store, async |uow| uow.installation(None, T0).await).await;
    store.close().await;
    // A second start finds the schema done.
    let store = db.open().await;
    assert_eq!(saved(&store, async |uow| uow.installation(None, at(9)).await).await, id);
}

pub(super) async fn a_database_has_one_key(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let other = async || {
        let key = MasterKey::new(&[8; 32]).expect("a key");
        Store::open(db.url(), key).await.expect("it opens")
    };
    let check = async |store: &Store| {
        let mut uow = store.begin().await.expect("a transaction");
        let checked = uow.check_key().await;
        uow.save().await.expect("saved");
        checked
    };
    assert!(matches!(check(&store).await, Err(StoreError::NotFound(_))), "nobody has started yet");
    saved(&store, async |uow| uow.installation(None, T0).await).await;
    // From before there were marks: what is sealed says whose key it is.
    assert!(matches!(check(&other().await).await, Err(StoreError::OtherKey)));
    check(&store).await.expect("the key of what is sealed");
    saved(&store, async |uow| uow.delete_app(&app, T0).await).await;
    saved(&store, async |uow| uow.forget_app(&app).await).await;
    assert!(matches!(check(&other().await).await, Err(StoreError::OtherKey)), "also when nothing is sealed any more");
    check(&store).await.expect("it is the one that came first");
}
