//! What an app is: releases, builds, formation, dynos, and its end.

use super::*;

pub(super) async fn releases_are_numbered_without_gaps(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (store, app, dev) = (store.clone(), app.clone(), dev.clone());
            tokio::spawn(outside::task(async move {
                let mut uow = store.begin().await.expect("a transaction");
                uow.lock_app(&app).await.expect("the row");
                a_release(&mut uow, &app, &dev).await;
                uow.save().await.expect("saved");
            }))
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let mut uow = store.begin().await.expect("a transaction");
    let releases = uow.releases(&app).await.expect("releases");
    assert_eq!(releases.iter().map(|r| r.version.0).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(releases[0].process_types[&process("web")], "serve");
    let finished = uow.finish_release(&app, &releases[9].id, ReleaseStatus::Failed, T0).await.expect("done");
    let again = uow.finish_release(&app, &releases[9].id, ReleaseStatus::Succeeded, T0).await.expect("done");
    assert!(finished && !again, "an end is final");
    assert_eq!(uow.newest_release_with_image(&app).await.expect("a look").expect("one").version.0, 10);
    assert!(uow.current_release(&app).await.expect("a look").is_none());
    uow.set_current_release(&app, &releases[3].id, Some(at(7))).await.expect("done");
    assert_eq!(uow.current_release(&app).await.expect("a look").expect("one").version.0, 4);
    uow.set_current_release(&app, &releases[4].id, None).await.expect("done");
    assert_eq!(uow.app(&app).await.expect("the app").released_at, Some(at(7)));
    let by_version = uow.release_by_version(&app, paas_domain::ReleaseVersion(5)).await.expect("a look");
    assert_eq!(by_version.map(|r| r.id), Some(releases[4].id.clone()));
}

pub(super) async fn a_slot_is_free_when_its_dyno_has_ended(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let first = saved(&store, async |uow| uow.create_dyno(&app, &one_off(7, Some("hash")), T0).await).await;
    assert_eq!((first.state, first.attach, first.tty), (DynoState::Starting, true, true));
    assert_eq!(first.expires_at, Some(Timestamp(86_400_000)));
    {
        let mut uow = store.begin().await.expect("a transaction");
        assert!(matches!(uow.create_dyno(&app, &one_off(7, None), T0).await, Err(StoreError::Taken(_))));
    }
    let env = store.read().await.expect("a look").dyno_env(&app, &first.id).await.expect("its environment");
    assert_eq!(
        env.get(&"SECRET".parse().expect("a name")).map(|v| v.expose_secret().to_owned()),
        Some("canary-env".into())
    );
    let leads = store.read().await.expect("a look").dyno_link(&app, &first.id).await.expect("its row");
    assert_eq!(leads.as_deref(), Some("10.42.0.10:8443"));
    // An attach token works once.
    let claimed = saved(&store, async |uow| uow.claim_attach("hash").await).await.expect("its dyno");
    assert_eq!((claimed.0.id(), &claimed.1.id), (app.id(), &first.id));
    assert!(saved(&store, async |uow| uow.claim_attach("hash").await).await.is_none());
    saved(&store, async |uow| uow.set_dyno_state(&app, &first.id, DynoState::Up, None, at(1)).await).await;
    assert!(saved(&store, async |uow| uow.request_dyno_stop(&app, &first.id, at(2)).await).await);
    saved(&store, async |uow| uow.end_dyno(&app, &first.id, Some(137), at(3)).await).await;
    saved(&store, async |uow| uow.end_dyno(&app, &first.id, Some(0), at(4)).await).await;
    let ended = store.read().await.expect("a look").dyno(&app, &first.id).await.expect("its row");
    assert_eq!((ended.state, ended.exit_code, ended.ended_at), (DynoState::Ended, Some(137), Some(at(3))));
    let gone = store.read().await.expect("a look").dyno_env(&app, &first.id).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "its environment is gone");
    assert!(!saved(&store, async |uow| uow.request_dyno_stop(&app, &first.id, at(5)).await).await);
    saved(&store, async |uow| uow.create_dyno(&app, &one_off(7, None), at(5)).await).await;
    assert_eq!(store.read().await.expect("a look").dynos(&app).await.expect("dynos").len(), 1);
    saved(&store, async |uow| uow.prune_dynos(&app, at(9)).await).await;
    assert!(matches!(store.read().await.expect("a look").dyno(&app, &first.id).await, Err(StoreError::NotFound(_))));
}

pub(super) async fn formation_and_rollouts_are_kept(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let (web, worker) = (process("web"), process("worker"));
    let two = Quantity::new(2).expect("small");
    for process_type in [&web, &worker] {
        saved(&store, async |uow| uow.set_formation(&app, process_type, two, DynoSize::Basic, T0).await).await;
    }
    saved(&store, async |uow| uow.set_formation(&app, &web, Quantity::default(), DynoSize::Standard1X, at(1)).await)
        .await;
    saved(&store, async |uow| uow.restart_formation(&app, None, at(2)).await).await;
    saved(&store, async |uow| uow.restart_formation(&app, Some(&web), at(3)).await).await;
    let lines = store.read().await.expect("a look").formation(&app).await.expect("lines");
    let seen: Vec<_> = lines.iter().map(|l| (l.process_type.as_str(), l.quantity.get(), l.size, l.restart)).collect();
    assert_eq!(seen, [("web", 0, DynoSize::Standard1X, 2), ("worker", 2, DynoSize::Basic, 1)]);
    let service = Service {
        process_type: web.clone(),
        target_release: Some(paas_domain::ReleaseVersion(4)),
        serving_release: None,
        state: RolloutState::Failed,
        reason: Some("Process exited with status 1".to_owned()),
        crashes: 3,
        next_try_at: Some(at(30)),
        updated_at: at(4),
    };
    saved(&store, async |uow| uow.put_service(&app, &service).await).await;
    saved(&store, async |uow| uow.put_service(&app, &service).await).await;
    assert_eq!(store.read().await.expect("a look").services(&app).await.expect("services"), [service]);
    saved(&store, async |uow| uow.reset_crashes(&app, Some(&worker)).await).await;
    saved(&store, async |uow| uow.reset_crashes(&app, None).await).await;
    let service = store.read().await.expect("a look").services(&app).await.expect("services").remove(0);
    assert_eq!((service.crashes, service.next_try_at), (0, None));
    saved(&store, async |uow| uow.delete_service(&app, &web).await).await;
    assert!(store.read().await.expect("a look").services(&app).await.expect("services").is_empty());
    let dyno = Dyno {
        id: DynoId::new(),
        name: DynoName { process_type: web, slot: 1 },
        kind: DynoKind::Service,
        release: paas_domain::ReleaseVersion(4),
        size: DynoSize::Basic,
        command: "serve".to_owned(),
        state: DynoState::Starting,
        exit_code: None,
        attach: false,
        attach_open: false,
        tty: false,
        stop_requested_at: None,
        expires_at: None,
        created_at: T0,
        updated_at: T0,
        ended_at: None,
    };
    saved(&store, async |uow| uow.put_service_dyno(&app, &dyno).await).await;
    let up = Dyno { state: DynoState::Up, updated_at: at(9), ..dyno };
    saved(&store, async |uow| uow.put_service_dyno(&app, &up).await).await;
    assert_eq!(store.read().await.expect("a look").dynos(&app).await.expect("dynos"), [up]);
}

pub(super) async fn builds_end_once(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    let output = saved(&store, async |uow| uow.create_output(&app, "token", "hash", T0).await).await;
    let new = NewBuild {
        commit: Some("c0ffee".to_owned()),
        branch: Some("main".to_owned()),
        source_key: None,
        output: output.clone(),
        account: dev.id.clone(),
    };
    let one = saved(&store, async |uow| uow.create_build(&app, &new, T0).await).await;
    let two = saved(&store, async |uow| uow.create_build(&app, &new, T0).await).await;
    saved(&store, async |uow| uow.set_build_source(&app, &one.id, "sources/x.tar").await).await;
    let release = saved(&store, async |uow| Ok(a_release(uow, &app, &dev).await)).await;
    saved(&store, async |uow| uow.succeed_build(&app, &one.id, &digest(1), &release.id, at(1)).await).await;
    assert!(!saved(&store, async |uow| uow.fail_build(&app, &one.id, "late", at(2)).await).await);
    assert!(saved(&store, async |uow| uow.fail_build(&app, &two.id, "superseded", at(2)).await).await);
    let image = Image {
        id: digest(1),
        process_types: BTreeMap::from([(process("web"), "serve".to_owned())]),
        builder: "sha256:b".to_owned(),
        size: 1 << 33,
        description: Some("Python".to_owned()),
        architecture: Architecture::Arm,
    };
    for _ in 0..2 {
        saved(&store, async |uow| uow.put_image(&app, &image, T0).await).await;
    }
    saved(&store, async |uow| uow.set_branch(&app, "main", "c0ffee", T0).await).await;
    saved(&store, async |uow| uow.set_branch(&app, "main", "decaf", T0).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert_eq!(uow.image(&app, &digest(1)).await.expect("the image"), image);
    assert!(matches!(uow.image(&app, &digest(2)).await, Err(StoreError::NotFound(_))));
    assert_eq!(uow.branches(&app).await.expect("branches"), [("main".to_owned(), "decaf".to_owned())]);
    assert!(
        uow.delete_branch(&app, "main").await.expect("done") && !uow.delete_branch(&app, "main").await.expect("done")
    );
    let builds = uow.builds(&app).await.expect("builds");
    assert_eq!(builds[0].release, Some(release.id));
    assert_eq!(builds[0].source_key.as_deref(), Some("sources/x.tar"));
    assert_eq!(builds[1].reason.as_deref(), Some("superseded"));
    assert!(uow.pending_builds(&app).await.expect("builds").is_empty());
    assert_eq!(uow.output_token(&app, &output).await.expect("the token"), "token");
    assert_eq!(uow.output_by_token("hash").await.expect("a look"), Some(output.clone()));
    assert_eq!(uow.output_by_token("token").await.expect("a look"), None);
    assert_eq!(uow.outputs(&app).await.expect("outputs"), [output]);
}

pub(super) async fn a_destroyed_app_frees_its_names_and_leaves_no_row(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    saved(&store, async |uow| uow.create_domain(&app, &host("www.example.com"), DomainKind::Custom, T0).await).await;
    saved(&store, async |uow| uow.create_log_session(&app, "l", "{}", T0, at(60)).await).await;
    saved(&store, async |uow| uow.create_source(&dev.id, Some(&app), "s", at(60)).await).await;
    saved(&store, async |uow| uow.set_formation(&app, &process("web"), Quantity::default(), DynoSize::Eco, T0).await)
        .await;
    saved(&store, async |uow| uow.create_dyno(&app, &one_off(7, None), T0).await).await;
    saved(&store, async |uow| uow.set_branch(&app, "main", "c0ffee", T0).await).await;
    saved(&store, async |uow| Ok(a_release(uow, &app, &dev).await)).await;
    let output = saved(&store, async |uow| uow.create_output(&app, "token", "hash", T0).await).await;
    let build = NewBuild { commit: None, branch: None, source_key: None, output, account: dev.id.clone() };
    saved(&store, async |uow| uow.create_build(&app, &build, T0).await).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b1", "one", T0).await).await;
    saved(&store, async |uow| uow.delete_app(&app, at(1)).await).await;

    let mut uow = store.begin().await.expect("a transaction");
    assert!(uow.authorize(&dev.id, "hello").await.expect("a look").is_none());
    assert!(uow.authorize(&dev.id, app.id().as_str()).await.expect("a look").is_none());
    assert!(uow.apps(&dev.id).await.expect("apps").is_empty());
    assert!(matches!(uow.lock_app(&app).await, Err(StoreError::NotFound("app"))));
    assert!(uow.app(&app).await.expect("its row is still there").deleted_at.is_some());
    assert!(uow.log_session("l", T0).await.expect("a look").is_none());
    assert!(uow.source_by_token("s", T0).await.expect("a look").is_none());
    assert_eq!(uow.sources(&app).await.expect("sources").len(), 1, "its object is still there");
    let again = uow.create_app(&name("hello"), &dev.id, at(2)).await.expect("the name is free at once");
    uow.create_domain(&again, &host("www.example.com"), DomainKind::Custom, at(2)).await.expect("the host is free");
    uow.save().await.expect("saved");

    let due = saved(&store, async |uow| uow.claim_due_app("w", at(2), at(10)).await).await;
    assert!(due.is_some(), "a destroyed app is due");
    saved(&store, async |uow| uow.forget_app(&app).await).await;
    saved(&store, async |uow| uow.forget_app(&again).await).await;
    for (table, rows) in db.dump().await {
        let of_app = rows.iter().filter(|row| row.contains(app.id().as_str())).count();
        assert_eq!(of_app, usize::from(table == "jobs"), "{table}");
    }
    let left = store.read().await.expect("a look").all_app_ids().await.expect("ids");
    assert_eq!(left, [again.id().clone()], "an app that lives is not forgotten");
}

pub(super) async fn notes_about_dynos_are_written_over_and_go_with_their_app(db: &Database) {
    let store = db.open().await;
    let (one, two) = (paas_domain::AppId::new(), paas_domain::AppId::new());
    for (app, key, body) in [(&one, "a", "first"), (&one, "a", "second"), (&one, "b", ""), (&two, "c", "theirs")] {
        saved(&store, async |uow| uow.put_dyno_note(app, key, body).await).await;
    }
    let notes = saved(&store, async |uow| uow.dyno_notes(&one).await).await;
    assert_eq!(notes, [("a", "second"), ("b", "")].map(|(key, body)| (key.to_owned(), body.to_owned())).into());
    let found = saved(&store, async |uow| uow.find_dyno_note("c").await).await;
    assert_eq!(found, Some((two.clone(), "theirs".to_owned())));
    saved(&store, async |uow| uow.drop_dyno_notes(&one, Some("a")).await).await;
    assert_eq!(saved(&store, async |uow| uow.noted_apps().await).await, [one.clone(), two.clone()]);
    saved(&store, async |uow| uow.drop_dyno_notes(&one, None).await).await;
    saved(&store, async |uow| uow.drop_dyno_notes(&one, None).await).await;
    assert_eq!(saved(&store, async |uow| uow.noted_apps().await).await, [two]);
}

pub(super) async fn what_an_app_wishes_for_is_kept(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let seen = async || store.read().await.expect("a look").app(&app).await.expect("the app");
    assert!(!seen().await.session_affinity);
    saved(&store, async |uow| uow.set_session_affinity(&app, true).await).await;
    assert!(seen().await.session_affinity);
    saved(&store, async |uow| uow.set_session_affinity(&app, false).await).await;
    assert!(!seen().await.session_affinity);
    assert_eq!((seen().await.architecture, seen().await.capacity), (None, Capacity::OnDemand));
    saved(&store, async |uow| uow.set_placement(&app, Some(Architecture::Arm), Capacity::Spot).await).await;
    assert_eq!((seen().await.architecture, seen().await.capacity), (Some(Architecture::Arm), Capacity::Spot));
    saved(&store, async |uow| uow.set_placement(&app, None, Capacity::OnDemand).await).await;
    assert_eq!((seen().await.architecture, seen().await.capacity), (None, Capacity::OnDemand));
}
