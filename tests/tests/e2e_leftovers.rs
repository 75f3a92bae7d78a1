//! What a real engine must not keep: of an app that is destroyed while it is built or migrated, and of builds whose
//! image no release names.

use std::time::Duration;

use paas_tests::platform::{Method, Platform, until};

/// Destroys an app and waits until nothing of it is left anywhere.
fn destroy(platform: &Platform, name: &str) {
    let id = platform.app_id(name);
    let images = platform.images_of(&id);
    let destroyed = platform.api(Method::Delete, &format!("/apps/{name}"), None);
    assert!(destroyed.status < 300, "{destroyed:?}");
    platform.app_is_gone(&id);
    platform.images_are_gone(&images);
}

#[test]
fn an_app_that_is_destroyed_while_it_is_built_leaves_nothing() {
    let platform = Platform::default();
    let app = platform.empty_repository("doomed");
    app.write(
        "package.json",
        "{\"name\": \"doomed\", \"version\": \"1.0.0\", \"scripts\": {\"build\": \"echo it begins; sleep 600\", \"start\": \"node .\"}}\n",
    );
    app.write("index.js", "\n");
    app.commit("First");
    app.paas("create doomed").done();
    let push = app.spawn("git push aws main");
    push.writes("it begins", Duration::from_secs(60));
    destroy(&platform, "doomed");
    push.wait().exits(1);
    // Its name is free, and what is built next is whole.
    let next = platform.repository("procfile-only");
    next.paas("create doomed").done();
    next.push().done();
    platform.serves("doomed", "Hello from procfile-only v1", platform.soon());
    platform.finish();
}

#[test]
fn an_app_that_is_destroyed_during_its_release_phase_leaves_nothing() {
    let platform = Platform::default();
    let app = platform.repository("release-phase");
    app.write("release.pl", "$| = 1; print \"it migrates\\n\"; sleep 600;\n");
    app.commit("Slow");
    app.paas("create phased").done();
    let push = app.spawn("git push aws main");
    push.writes("it migrates", Duration::from_secs(60));
    destroy(&platform, "phased");
    push.wait().exits(1);
    platform.finish();
}

#[test]
fn an_image_that_no_release_names_goes_and_an_old_release_still_runs() {
    use bollard::query_parameters::TagImageOptionsBuilder;

    let platform = Platform::default();
    let app = platform.repository("procfile-only");
    app.paas("create pictured").done();
    app.push().done();
    app.replace("serve.pl", "procfile-only v1", "procfile-only v2");
    app.commit("Second");
    app.push().done();
    platform.serves("pictured", "Hello from procfile-only v2", platform.soon());
    let id = platform.app_id("pictured");
    let named = platform.images_of(&id);
    assert_eq!(named.len(), 2, "one for each release");

    // What a build leaves that dies behind its export: an image that the app holds and no row tells of.
    let builder = std::env::var("PAAS_TEST_BUILDER").expect("not run: PAAS_TEST_BUILDER is not set");
    let repository = format!("paas-{}/{id}", platform.install());
    let left = platform.with_engine(async |docker| {
        let image = docker.inspect_image(&builder).await.expect("the builder's image").id.expect("its id");
        let tag = &image.strip_prefix("sha256:").expect("a digest")[..12];
        let options = TagImageOptionsBuilder::new().repo(&repository).tag(tag).build();
        docker.tag_image(&image, Some(options)).await.expect("tagged");
        image
    });
    assert!(platform.images_of(&id).contains(&left));
    // Once the app has been quiet for a sweep, at the next one.
    until("it goes", Duration::from_secs(120), || (!platform.images_of(&id).contains(&left)).then_some(()));
    let kept = platform.images_of(&id);
    assert!(kept.len() == 2 && named.iter().all(|image| kept.contains(image)), "{kept:?}, of {named:?}");
    app.paas("rollback v3").done();
    platform.serves("pictured", "Hello from procfile-only v1", platform.soon());
    platform.finish();
}
