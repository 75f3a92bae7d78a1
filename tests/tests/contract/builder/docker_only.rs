//! What only the Docker builder has to show: its cache, its walls, its images.

use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, LogsOptionsBuilder, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use paas_domain::{AppId, BuildId, ConfigVars};
use paas_ports::{BuildFailure, BuildSpec, BuildVerdict, Builder, BuiltImage, ImageRef};
use paas_tests::engine;
use paas_tests::story_builder::StoryBuilder;
use tokio::sync::mpsc;

/// Runs a test with a builder and clears it away also when the test fails.
async fn with_builder<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<StoryBuilder>) -> F + Send + 'static,
) {
    with(StoryBuilder::start().await, test).await;
}

async fn with<F: Future<Output = ()> + Send + 'static>(
    builder: StoryBuilder,
    test: impl FnOnce(Arc<StoryBuilder>) -> F + Send + 'static,
) {
    let builder = Arc::new(builder);
    let result = tokio::spawn(test(builder.clone())).await;
    builder.finish().await;
    if let Err(failed) = result {
        std::panic::resume_unwind(failed.into_panic());
    }
}

fn spec(builder: &StoryBuilder, app: &AppId, story: &str) -> BuildSpec {
    BuildSpec {
        app: app.clone(),
        build: BuildId::new(),
        source: builder.source(&[("story.sh", story), ("page.html", "<h1>hi</h1>\n")]),
        commit: None,
        config: ConfigVars::new(),
        timeout: Duration::from_secs(60),
    }
}

async fn gather(mut output: mpsc::Receiver<Bytes>) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = output.recv().await {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn build(builder: &StoryBuilder, spec: &BuildSpec) -> (BuildVerdict, String) {
    let (sender, receiver) = mpsc::channel(4);
    let driver = builder.driver();
    let (verdict, text) = tokio::join!(driver.build(spec, sender), gather(receiver));
    (verdict.expect("the builder works"), text)
}

async fn export(builder: &StoryBuilder, spec: &BuildSpec) -> BuiltImage {
    let (sender, receiver) = mpsc::channel(4);
    let driver = builder.driver();
    let (image, _) = tokio::join!(driver.export(spec, sender), gather(receiver));
    image.expect("exported")
}

/// Builds, exports, tidies: what the core does for a good push.
async fn whole(builder: &StoryBuilder, app: &AppId, story: &str) -> (String, BuiltImage) {
    let spec = spec(builder, app, story);
    let (verdict, text) = build(builder, &spec).await;
    assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
    let image = export(builder, &spec).await;
    builder.driver().tidy(app, &spec.build).await.expect("tidied");
    (text, image)
}

/// Runs a command in a built image, as the runtime does, and gives its output.
async fn run(builder: &StoryBuilder, image: &ImageRef, command: &str) -> String {
    let body = bollard::models::ContainerCreateBody {
        image: Some(image.0.to_string()),
        env: Some(vec![format!("PAAS_COMMAND={command}")]),
        labels: Some([("paas.install".to_owned(), builder.install.to_string())].into()),
        host_config: Some(bollard::models::HostConfig { network_mode: Some("none".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let docker = &builder.docker;
    let id = docker
        .create_container(Some(CreateContainerOptionsBuilder::new().build()), body)
        .await
        .expect("a container")
        .id;
    docker.start_container(&id, None::<StartContainerOptions>).await.expect("started");
    use futures_util::StreamExt as _;
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let _ = docker.wait_container(&id, Some(options)).next().await;
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let parts: Vec<_> = docker.logs(&id, Some(options)).collect().await;
    parts.into_iter().map(|part| String::from_utf8_lossy(&part.expect("a log").into_bytes()).into_owned()).collect()
}

const CACHED: &str = r#"
if [ -f "$1/deps/stamp" ]; then echo "deps are cached: $(cat "$1/deps/stamp") $(grep of "$1/deps.toml")"
else mkdir -p "$1/deps"; date +%s%N >"$1/deps/stamp"; echo "deps are new"; fi
printf '[types]\nlaunch = true\ncache = true\n[metadata]\nof = "deps"\n' >"$1/deps.toml"
"#;

#[tokio::test]
async fn layers_are_kept_after_a_good_build_only() {
    with_builder(|builder| async move {
        let app = AppId::new();
        let (first, one) = whole(&builder, &app, CACHED).await;
        assert!(first.contains("deps are new"), "{first}");
        let (second, two) = whole(&builder, &app, CACHED).await;
        assert!(second.contains("deps are cached") && second.contains("of = \"deps\""), "{second}");
        assert_eq!(one.image, two.image);

        // A build that fails after it touched a layer costs that layer.
        let failing = spec(&builder, &app, &format!("{CACHED}\necho half >\"$1/deps/half-done\"; exit 1"));
        assert_eq!(build(&builder, &failing).await.0, BuildVerdict::Failed(BuildFailure::Buildpack(1)));
        builder.driver().tidy(&app, &failing.build).await.expect("tidied");
        let (third, _) = whole(&builder, &app, &format!("{CACHED}\nls \"$1/deps\"")).await;
        assert!(third.contains("deps are new") && !third.contains("half-done"), "{third}");

        // One that fails without touching it does not.
        let failing = spec(&builder, &app, "exit 1");
        build(&builder, &failing).await;
        builder.driver().tidy(&app, &failing.build).await.expect("tidied");
        let (fourth, _) = whole(&builder, &app, CACHED).await;
        assert!(fourth.contains("deps are cached"), "{fourth}");

        // A build whose export was never written down is not believed.
        let spec = spec(&builder, &app, &format!("{CACHED}\necho more >\"$1/deps/more\""));
        build(&builder, &spec).await;
        export(&builder, &spec).await;
        let (fifth, _) = whole(&builder, &app, CACHED).await;
        assert!(fifth.contains("deps are new"), "{fifth}");
    })
    .await;
}

#[tokio::test]
async fn a_launch_only_layer_is_reused_without_its_content() {
    const STORY: &str = r#"
if grep -q v1 "$1/rt.toml" 2>/dev/null; then echo "rt is reused"; ls -d "$1/rt" 2>/dev/null
else mkdir -p "$1/rt"; date +%s%N >"$1/rt/stamp"; echo "rt is new"; fi
printf '[types]\nlaunch = true\n[metadata]\nversion = "v1"\n' >"$1/rt.toml"
"#;
    with_builder(|builder| async move {
        let app = AppId::new();
        let (first, one) = whole(&builder, &app, STORY).await;
        assert!(first.contains("rt is new"), "{first}");
        let (second, two) = whole(&builder, &app, STORY).await;
        assert!(second.contains("rt is reused") && !second.contains("/rt\n"), "{second}");
        assert_eq!(one.image, two.image);
        let command = "cat /layers/test_story/rt/stamp";
        let stamp = run(&builder, &one.image, command).await;
        // The registry has lost the image: the layer comes from its kept tar.
        engine::remove_objects(&builder.docker, &format!("paas.install={}", builder.install)).await;
        builder.registry().remove_app(&app).await.expect("removed");
        let spec = spec(&builder, &app, STORY);
        // The volume is gone as well, so this build starts from what was written down.
        assert!(build(&builder, &spec).await.1.contains("rt is reused"));
        let three = export(&builder, &spec).await;
        assert_eq!(run(&builder, &three.image, command).await, stamp);
    })
    .await;
}

#[tokio::test]
async fn a_lost_image_is_made_again_of_the_volume() {
    with_builder(|builder| async move {
        let app = AppId::new();
        let (_, one) = whole(&builder, &app, CACHED).await;
        builder.registry().remove_app(&app).await.expect("removed");
        // Nothing keeps the tar of a cached layer; the engine has no image of it: it is read again.
        let (text, two) = whole(&builder, &app, CACHED).await;
        assert!(text.contains("deps are cached"), "{text}");
        assert_eq!(one.image, two.image);
        assert!(builder.registry().resolve(&app, &two.image).await.expect("an answer"));
    })
    .await;
}

#[tokio::test]
async fn a_build_has_no_privileges() {
    const STORY: &str = r#"
id -u; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status
[ -e /var/run/docker.sock ] && echo socket
echo x 2>/dev/null >/cnb/order.toml && echo wrote
for f in /platform/env/*; do stat -c '%n %a' "$f"; done
exit 0
"#;
    with_builder(|builder| async move {
        let (_, text) = build(&builder, &spec(&builder, &AppId::new(), STORY)).await;
        assert!(text.starts_with("1000\n"), "{text}");
        assert!(text.contains("CapEff:\t0000000000000000") && text.contains("CapBnd:\t0000000000000000"), "{text}");
        assert!(text.contains("NoNewPrivs:\t1"), "{text}");
        assert!(!text.contains("socket") && !text.contains("wrote"), "{text}");
        assert!(text.contains("/platform/env/BUILD_INFO 400"), "{text}");
    })
    .await;
}

/// The build's container, which is there until it is tidied away.
async fn container(builder: &StoryBuilder, spec: &BuildSpec) -> bollard::models::ContainerInspectResponse {
    let names = engine::objects(&builder.docker, &format!("paas.build={}", spec.build)).await;
    let name = names.iter().find_map(|n| n.strip_prefix("container /")).expect("the build container");
    builder.docker.inspect_container(name, None::<InspectContainerOptions>).await.expect("it")
}

#[tokio::test]
async fn a_build_may_not_start_processes_without_end() {
    with_builder(|builder| async move {
        let spec = spec(&builder, &AppId::new(), "cat /sys/fs/cgroup/pids.max 2>/dev/null || true");
        let (verdict, text) = build(&builder, &spec).await;
        assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
        let host = container(&builder, &spec).await.host_config.expect("a host's side");
        let limit = i64::from(paas_builder::BuildLimits::default().pids);
        assert!((1..=4096).contains(&limit));
        assert_eq!(host.pids_limit, Some(limit));
        assert!(text.is_empty() || text.trim() == limit.to_string(), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_ca_bundle_is_there_in_builds_and_in_no_image() {
    const CANARY: &str = "canary-of-the-authorities";
    const STORY: &str = "cat \"$SSL_CERT_FILE\" || cat \"$(cat /platform/env/SSL_CERT_FILE)\"";
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, CANARY).expect("a bundle");
    let builder = StoryBuilder::start().await.with_ca_bundle(bundle);
    with(builder, |builder| async move {
        let (text, built) = whole(&builder, &AppId::new(), STORY).await;
        assert!(text.contains(CANARY), "{text}");
        let command =
            format!("echo \"[$SSL_CERT_FILE]\"; grep -rs {CANARY} /paas /layers /workspace /platform /cnb | wc -l");
        assert_eq!(run(&builder, &built.image, &command).await, "[]\n0\n");
        let image = builder.docker.inspect_image(built.image.0.as_str()).await.expect("the image");
        assert!(!serde_json::to_string(&image).expect("json").contains("ca-bundle"));
    })
    .await;
}

#[tokio::test]
async fn config_vars_do_not_reach_the_lifecycle() {
    with_builder(|builder| async move {
        let app = AppId::new();
        let story = "cat /platform/env/CNB_PLATFORM_API 2>/dev/null || echo none";
        let (_, plain) = whole(&builder, &AppId::new(), story).await;
        let mut spec = spec(&builder, &app, story);
        for (name, value) in [
            ("CNB_PLATFORM_API", "0.1"),
            ("CNB_ORDER_PATH", "/nowhere"),
            ("CNB_BUILDPACKS_DIR", "/nowhere"),
            ("CNB_LAYERS_DIR", "/tmp"),
            ("CNB_USER_ID", "0"),
            ("CNB_STACK_ID", "evil"),
            ("CNB_LOG_LEVEL", "nonsense"),
        ] {
            spec.config.set(name.parse().expect("a name"), value.to_owned().into());
        }
        let (verdict, text) = build(&builder, &spec).await;
        assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
        assert_eq!(text.trim(), "0.1", "buildpacks see it as any other");
        assert_eq!(export(&builder, &spec).await.image, plain.image, "and nothing else does");
    })
    .await;
}

#[tokio::test]
async fn profile_scripts_run_in_dynos_only() {
    with_builder(|builder| async move {
        let app = AppId::new();
        let mut spec = spec(&builder, &app, "");
        spec.source = builder.source(&[
            ("story.sh", "echo \"build: ${FROM_PROFILE:-not run}\""),
            (".profile.d/a.sh", "export FROM_PROFILE=\"first\"\n"),
            (".profile.d/b.sh", "export FROM_PROFILE=\"$FROM_PROFILE second\"\n"),
            (".profile.d/not-a-script", "export FROM_PROFILE=wrong\n"),
        ]);
        let (verdict, text) = build(&builder, &spec).await;
        assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
        assert_eq!(text, "build: not run\n");
        let built = export(&builder, &spec).await;
        assert_eq!(run(&builder, &built.image, "echo \"dyno: $FROM_PROFILE\"").await, "dyno: first second\n");
    })
    .await;
}

#[tokio::test]
async fn a_command_line_reaches_the_shell_byte_for_byte() {
    with_builder(|builder| async move {
        let (_, built) = whole(&builder, &AppId::new(), "true").await;
        let command = "printf '%s|' \"it's\" 'a \"b\"' '$HOME `id` \\n' \u{e9}\nprintf '%s\n' two  'lines\tand a tab'";
        let said = run(&builder, &built.image, command).await;
        assert_eq!(said, "it's|a \"b\"|$HOME `id` \\n|\u{e9}|two\nlines\tand a tab\n");
    })
    .await;
}

/// A Procfile may be a link to another file of the app. One to a config var, which a build has as a file, would show
/// that in process types, commands and labels.
#[tokio::test]
async fn a_procfile_that_leads_out_of_the_app_tells_nothing() {
    const CANARY: &str = "canary-4b81e0";
    let page = ("public/index.html", "<h1>hi</h1>\n");
    with(StoryBuilder::stock().await, move |builder| async move {
        let spec = |files: &[(&str, &str)], links: &[(&str, &str)]| {
            let mut config = ConfigVars::new();
            config.set("SECRET".parse().expect("a name"), format!("{CANARY}: {CANARY}").into());
            let source = builder.source_with_links(files, links);
            let timeout = Duration::from_secs(120);
            BuildSpec { app: AppId::new(), build: BuildId::new(), source, commit: None, config, timeout }
        };
        let inside =
            spec(&[page, ("deploy/Procfile", "web: serve\nworker: work\n")], &[("Procfile", "deploy/Procfile")]);
        let (verdict, text) = build(&builder, &inside).await;
        assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
        let built = export(&builder, &inside).await;
        let types: Vec<&str> = built.default_processes.keys().map(paas_domain::ProcessType::as_str).collect();
        assert_eq!(types, ["web", "worker"]);

        for target in ["/platform/env/SECRET", "../platform/env/SECRET"] {
            let outside = spec(&[page], &[("Procfile", target)]);
            let (verdict, text) = build(&builder, &outside).await;
            assert!(!text.contains(CANARY), "{text}");
            assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
            let read = builder.docker.download_from_container(
                &container(&builder, &outside).await.id.expect("an id"),
                Some(
                    bollard::query_parameters::DownloadFromContainerOptionsBuilder::new()
                        .path("/layers/config")
                        .build(),
                ),
            );
            let parts: Vec<Bytes> = futures_util::TryStreamExt::try_collect(read).await.expect("what the build left");
            assert!(!String::from_utf8_lossy(&parts.concat()).contains(CANARY), "a buildpack read it");
            let (sender, receiver) = mpsc::channel(4);
            let driver = builder.driver();
            let (image, said) = tokio::join!(driver.export(&outside, sender), gather(receiver));
            let why = image.expect_err("it is refused").to_string();
            assert!(why.contains("Procfile is a link that leads out of the app"), "{why}");
            assert!(!why.contains(CANARY) && !said.contains(CANARY), "{why} {said}");
        }
    })
    .await;
}

/// With the platform's own buildpacks, of which nothing is kept from one to the other.
#[tokio::test]
async fn two_cold_builds_of_one_source_are_one_image() {
    with(StoryBuilder::stock().await, |builder| async move {
        let source = builder.source(&[
            ("public/index.html", "<h1>hi</h1>\n"),
            ("static.json", "{\"clean_urls\": true}"),
            ("Procfile", "web: static-server\nworker: sleep 1\n"),
        ]);
        let mut images = Vec::new();
        for _ in 0..2 {
            let spec = BuildSpec {
                app: AppId::new(),
                build: BuildId::new(),
                source: source.clone(),
                commit: Some("0".repeat(40)),
                config: ConfigVars::new(),
                timeout: Duration::from_secs(120),
            };
            let (verdict, text) = build(&builder, &spec).await;
            assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
            images.push(export(&builder, &spec).await.image);
        }
        assert_eq!(images[0], images[1]);
    })
    .await;
}

#[tokio::test]
async fn secrets_stay_in_their_files() {
    const CANARY: &str = "canary-7f3a9c";
    with_builder(|builder| async move {
        let app = AppId::new();
        let mut spec = spec(&builder, &app, CACHED);
        spec.config.set("TOKEN".parse().expect("a name"), CANARY.to_owned().into());
        let (verdict, text) = build(&builder, &spec).await;
        assert_eq!(verdict, BuildVerdict::Succeeded);
        assert!(!text.contains(CANARY));
        let names = engine::objects(&builder.docker, &format!("paas.app={app}")).await;
        let container = names.iter().find_map(|n| n.strip_prefix("container /")).expect("the build container");
        let inspect = builder.docker.inspect_container(container, None::<InspectContainerOptions>).await.expect("it");
        assert!(!serde_json::to_string(&inspect).expect("json").contains(CANARY));
        let image = export(&builder, &spec).await;
        let inspect = builder.docker.inspect_image(image.image.0.as_str()).await.expect("the image");
        assert!(!serde_json::to_string(&inspect).expect("json").contains(CANARY));
        let found =
            run(&builder, &image.image, &format!("grep -rs {CANARY} /layers /workspace /platform | wc -l")).await;
        assert_eq!(found.trim(), "0");
        builder.driver().tidy(&app, &spec.build).await.expect("tidied");
        assert!(builder.docker.inspect_container(container, None::<InspectContainerOptions>).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn too_much_memory_is_a_verdict() {
    // `tail` keeps what has no line end.
    const STORY: &str = "echo started; head -c 2000m /dev/zero | tail -n 1 >/dev/null; exit 1";
    with_builder(|builder| async move {
        let (verdict, text) = build(&builder, &spec(&builder, &AppId::new(), STORY)).await;
        assert_eq!(verdict, BuildVerdict::Failed(BuildFailure::OutOfMemory), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_build_killed_from_outside_is_run_again() {
    with_builder(|builder| async move {
        let app = AppId::new();
        let spec = spec(&builder, &app, "[ -f \"$1/../x\" ] || { echo waiting; sleep 30; }");
        let (sender, mut receiver) = mpsc::channel(4);
        let of_first = spec.clone();
        let driver = builder.driver();
        let first = tokio::spawn(async move { driver.build(&of_first, sender).await });
        receiver.recv().await.expect("output");
        let names = engine::objects(&builder.docker, &format!("paas.app={app}")).await;
        let container = names.iter().find_map(|n| n.strip_prefix("container /")).expect("the build container");
        let kill = bollard::query_parameters::KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        builder.docker.kill_container(container, Some(kill)).await.expect("killed");
        let error = first.await.expect("no panic").expect_err("no verdict");
        assert!(error.is_transient(), "{error}");
        assert!(engine::objects(&builder.docker, &format!("paas.build={}", spec.build)).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_image_is_as_the_standard_says_and_runs() {
    const STORY: &str = r#"
mkdir -p "$1/tool/bin" "$1/tool/env.launch"
printf '#!/bin/sh\necho "tool says $1"\n' >"$1/tool/bin/tool"; chmod +x "$1/tool/bin/tool"
printf kept >"$1/tool/env.launch/FROM_LAYER.override"
printf '[types]\nlaunch = true\ncache = true\n[metadata]\nversion = "9"\n' >"$1/tool.toml"
printf '[[processes]]\ntype = "web"\ncommand = ["tool", "hello"]\ndefault = true\n' >"$1/launch.toml"
ln -s page.html index.html
"#;
    with_builder(|builder| async move {
        let app = AppId::new();
        let (_, built) = whole(&builder, &app, STORY).await;
        let image = builder.docker.inspect_image(built.image.0.as_str()).await.expect("the image");
        let config = image.config.expect("a config");
        assert_eq!(config.entrypoint, Some(vec!["/paas/launcher".to_owned()]));
        assert_eq!(config.working_dir.as_deref(), Some("/workspace"));
        assert_eq!(config.user.as_deref(), Some("1000:1000"));
        let labels = config.labels.expect("labels");
        let label = |name: &str| -> serde_json::Value {
            serde_json::from_str(&labels[&format!("io.buildpacks.{name}.metadata")]).expect("json")
        };
        let lifecycle = label("lifecycle");
        let layers = image.root_fs.and_then(|fs| fs.layers).unwrap_or_default();
        let tool = &lifecycle["buildpacks"][0]["layers"]["tool"];
        assert_eq!(tool["data"]["version"], "9");
        for sha in
            [&tool["sha"], &lifecycle["app"][0]["sha"], &lifecycle["launcher"]["sha"], &lifecycle["config"]["sha"]]
        {
            assert!(layers.iter().any(|layer| sha == layer), "{sha}");
        }
        assert!(layers.iter().any(|layer| &lifecycle["runImage"]["topLayer"] == layer));
        assert_eq!(label("build")["processes"][0]["type"], "web");
        let command = "tool $FROM_LAYER; pwd; cat index.html; stat -c '%u %Y %a' page.html";
        let said = run(&builder, &built.image, command).await;
        assert_eq!(said, "tool says kept\n/workspace\n<h1>hi</h1>\n1000 315532801 644\n");
        assert_eq!(built.description.as_deref(), Some("Story"));
    })
    .await;
}

#[tokio::test]
async fn a_foreign_image_gets_the_launcher() {
    with_builder(|builder| async move {
        let app = AppId::new();
        let (_, built) = whole(&builder, &app, "true").await;
        let other = AppId::new();
        let foreign = builder.driver().add_launcher(&other, built.image.0.as_str()).await.expect("added");
        assert_eq!(foreign.command, ["/paas/launcher"]);
        let again = builder.driver().add_launcher(&other, built.image.0.as_str()).await.expect("added again");
        assert_eq!(foreign, again);
        assert_ne!(foreign.image, built.image);
        assert_eq!(run(&builder, &foreign.image, "echo it $((6 * 7))").await, "it 42\n");
    })
    .await;
}
