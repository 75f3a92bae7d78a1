//! What every builder promises.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, BuildId, ConfigVars, ProcessType};
use tokio::sync::mpsc;

use crate::{BuildFailure, BuildSpec, BuildVerdict, Builder, PortError, Registry};

/// What the buildpack does with a source. A bench makes a source for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Story {
    /// Writes these words, then succeeds.
    Says(String),
    /// Writes `first`, takes a second or two, writes `last`, succeeds.
    TakesAWhile,
    /// Writes `started` and never ends.
    NeverEnds,
    /// Writes `going wrong` and ends with this status.
    Fails(i32),
    /// No buildpack wants it.
    NotDetected,
    /// Writes `GREETING is ` and the value of that config var.
    ShowsGreeting,
    /// Announces the process type `web` with the command `serve --now`.
    AnnouncesWeb,
    /// A tar with an entry outside of its own folder.
    Escapes,
}

/// A builder and the world around it.
#[async_trait]
pub trait BuilderBench: Send + Sync + Sized + 'static {
    /// A builder without builds.
    async fn start() -> Self;
    /// The driver.
    fn builder(&self) -> Arc<dyn Builder>;
    /// Another driver of the same world, as a server that was restarted makes it.
    async fn restarted(&self) -> Arc<dyn Builder>;
    /// Where images go.
    fn registry(&self) -> Arc<dyn Registry>;
    /// A source tar for this story.
    fn source(&self, story: &Story) -> PathBuf;
    /// How many times the build really ran, where that can be counted. (Where it cannot, the buildpack writes
    /// something that differs with every run.)
    fn runs(&self, build: &BuildId) -> Option<usize>;
    /// Everything that the world still holds of this app but images.
    async fn leftovers(&self, app: &AppId) -> Vec<String>;
    /// Removes what the promises left.
    async fn finish(&self);
}

/// Every promise, as tests for one bench.
#[macro_export]
macro_rules! builder_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            builder,
            BuilderBench,
            $bench,
            [
                a_build_runs_once_and_says_the_same_again,
                a_caller_that_goes_away_stops_nothing,
                nobody_listening_stops_nothing,
                a_failing_buildpack_is_a_verdict,
                an_unknown_language_is_a_verdict,
                a_build_that_takes_too_long_is_ended,
                a_source_that_escapes_is_refused,
                config_vars_reach_the_buildpacks,
                an_export_stores_the_image_and_repeats_it,
                the_same_source_makes_the_same_image,
                announced_processes_are_handed_on,
                a_failed_build_cannot_be_exported,
                tidying_and_removing_leave_nothing,
                whoever_has_anything_is_listed,
            ]
        );
    };
}

fn spec(bench: &impl BuilderBench, app: &AppId, story: &Story) -> BuildSpec {
    BuildSpec {
        app: app.clone(),
        build: BuildId::new(),
        source: bench.source(story),
        commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        config: ConfigVars::new(),
        timeout: Duration::from_secs(60),
    }
}

/// Runs one call of a builder and gathers its output.
async fn gather<T, F>(call: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> (T, String)
where
    F: Future<Output = Result<T, PortError>>,
{
    let (sender, mut receiver) = mpsc::channel::<Bytes>(4);
    let collect = async {
        let mut all = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).expect("output is text")
    };
    let (result, text) = tokio::join!(call(sender), collect);
    (result.expect("the builder works"), text)
}

async fn build(builder: &Arc<dyn Builder>, spec: &BuildSpec) -> (BuildVerdict, String) {
    gather(|output| builder.build(spec, output)).await
}

/// Building again neither runs the buildpacks again nor says anything else.
pub async fn a_build_runs_once_and_says_the_same_again(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::Says("hello there".into()));
    let (verdict, text) = build(&bench.builder(), &spec).await;
    assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
    assert!(text.contains("hello there\n"), "{text}");
    assert_eq!(build(&bench.builder(), &spec).await, (BuildVerdict::Succeeded, text.clone()));
    assert_eq!(build(&bench.restarted().await, &spec).await, (BuildVerdict::Succeeded, text));
    assert_eq!(bench.runs(&spec.build).unwrap_or(1), 1);
}

/// A server that dies while a build runs finds it again, with its output from the first byte.
pub async fn a_caller_that_goes_away_stops_nothing(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::TakesAWhile);
    let (sender, mut receiver) = mpsc::channel::<Bytes>(4);
    let builder = bench.builder();
    let of_first = spec.clone();
    let first = tokio::spawn(async move { builder.build(&of_first, sender).await });
    let mut seen = Vec::new();
    while !seen.windows(5).any(|w| w == b"first") {
        seen.extend_from_slice(&receiver.recv().await.expect("output"));
    }
    first.abort();
    drop(receiver);
    let _ = first.await;
    let (verdict, text) = build(&bench.restarted().await, &spec).await;
    assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
    assert!(text.as_bytes().starts_with(&seen) && text.contains("last\n"), "{text}");
    assert_eq!(bench.runs(&spec.build).unwrap_or(1), 1);
}

/// The output's reader may go while the call goes on.
pub async fn nobody_listening_stops_nothing(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::TakesAWhile);
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let verdict = bench.builder().build(&spec, sender).await.expect("the builder works");
    assert_eq!(verdict, BuildVerdict::Succeeded);
}

/// A buildpack's failure is told with its status, after its words.
pub async fn a_failing_buildpack_is_a_verdict(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::Fails(3));
    let expected = BuildVerdict::Failed(BuildFailure::Buildpack(3));
    let (verdict, text) = build(&bench.builder(), &spec).await;
    assert_eq!(verdict, expected, "{text}");
    assert!(text.contains("going wrong\n"), "{text}");
    assert_eq!(build(&bench.restarted().await, &spec).await, (expected, text));
}

/// A source that no buildpack wants is said to be one, again and again.
pub async fn an_unknown_language_is_a_verdict(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::NotDetected);
    let expected = BuildVerdict::Failed(BuildFailure::NotDetected);
    assert_eq!(build(&bench.builder(), &spec).await.0, expected);
    assert_eq!(build(&bench.builder(), &spec).await.0, expected);
}

/// The limit counts from the build's own start: a second caller does not wait for it again.
pub async fn a_build_that_takes_too_long_is_ended(bench: &impl BuilderBench) {
    let mut spec = spec(bench, &AppId::new(), &Story::NeverEnds);
    spec.timeout = Duration::from_secs(8);
    let expected = BuildVerdict::Failed(BuildFailure::TimedOut);
    let (verdict, text) = build(&bench.builder(), &spec).await;
    assert_eq!(verdict, expected, "{text}");
    assert!(text.contains("started"), "{text}");
    let again = tokio::time::timeout(Duration::from_secs(6), async { build(&bench.restarted().await, &spec).await });
    assert_eq!(again.await.expect("at once"), (expected, text));
}

/// A source that reaches out of its folder is refused in words.
pub async fn a_source_that_escapes_is_refused(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::Escapes);
    for _ in 0..2 {
        let (verdict, text) = build(&bench.builder(), &spec).await;
        assert!(matches!(verdict, BuildVerdict::Failed(BuildFailure::Source(_))), "{verdict:?} {text}");
    }
}

/// Config vars arrive byte for byte.
pub async fn config_vars_reach_the_buildpacks(bench: &impl BuilderBench) {
    let mut spec = spec(bench, &AppId::new(), &Story::ShowsGreeting);
    spec.config.set("GREETING".parse().expect("a name"), "h\u{e9}llo  'you' $HOME".to_owned().into());
    let (verdict, text) = build(&bench.builder(), &spec).await;
    assert_eq!(verdict, BuildVerdict::Succeeded, "{text}");
    assert!(text.contains("GREETING is h\u{e9}llo  'you' $HOME\n"), "{text}");
}

/// Exporting again is the same image; another driver exports it too.
pub async fn an_export_stores_the_image_and_repeats_it(bench: &impl BuilderBench) {
    let app = AppId::new();
    let spec = spec(bench, &app, &Story::Says("for export".into()));
    assert_eq!(build(&bench.builder(), &spec).await.0, BuildVerdict::Succeeded);
    let builder = bench.builder();
    let (first, text) = gather(|output| builder.export(&spec, output)).await;
    assert!(text.contains("-----> Compressing...\n") && text.contains("       Done: "), "{text}");
    assert!(first.size > 0);
    assert!(bench.registry().resolve(&app, &first.image).await.expect("an answer"));
    let restarted = bench.restarted().await;
    let (second, _) = gather(|output| restarted.export(&spec, output)).await;
    assert_eq!(first, second);
    assert_eq!(bench.registry().list(&app).await.expect("a list"), [first.image]);
}

/// Reproducible: the image depends on the source and the builder, not on the app, the day or the cache.
pub async fn the_same_source_makes_the_same_image(bench: &impl BuilderBench) {
    let mut images = Vec::new();
    let same_app = AppId::new();
    for app in [&AppId::new(), &same_app, &same_app] {
        let spec = spec(bench, app, &Story::Says("the same".into()));
        let builder = bench.builder();
        assert_eq!(build(&builder, &spec).await.0, BuildVerdict::Succeeded);
        images.push(gather(|output| builder.export(&spec, output)).await.0.image);
        builder.tidy(app, &spec.build).await.expect("tidied");
    }
    assert_eq!(images[0], images[1]);
    assert_eq!(images[1], images[2]);
}

/// What buildpacks announce is handed on as a command line.
pub async fn announced_processes_are_handed_on(bench: &impl BuilderBench) {
    let spec = spec(bench, &AppId::new(), &Story::AnnouncesWeb);
    let builder = bench.builder();
    assert_eq!(build(&builder, &spec).await.0, BuildVerdict::Succeeded);
    let (image, _) = gather(|output| builder.export(&spec, output)).await;
    assert_eq!(image.default_processes.get(&ProcessType::web()).map(String::as_str), Some("serve --now"));
}

/// There is no image of a build that failed, or of one that never was: that one can be built.
pub async fn a_failed_build_cannot_be_exported(bench: &impl BuilderBench) {
    let app = AppId::new();
    let failing = spec(bench, &app, &Story::Fails(1));
    let (sender, _receiver) = mpsc::channel(16);
    let never_was = bench.builder().export(&failing, sender.clone()).await;
    assert!(matches!(never_was, Err(PortError::NotFound(_))), "{never_was:?}");
    build(&bench.builder(), &failing).await;
    assert!(bench.builder().export(&failing, sender).await.is_err());
    assert!(bench.registry().list(&app).await.expect("a list").is_empty());
}

/// Removal succeeds when there is nothing, and leaves nothing when there was something.
pub async fn tidying_and_removing_leave_nothing(bench: &impl BuilderBench) {
    let app = AppId::new();
    let builder = bench.builder();
    builder.tidy(&app, &BuildId::new()).await.expect("nothing to tidy");
    builder.remove_app(&app).await.expect("nothing to remove");
    for story in [Story::Says("soon gone".into()), Story::Fails(1)] {
        let spec = spec(bench, &app, &story);
        if build(&builder, &spec).await.0 == BuildVerdict::Succeeded {
            gather(|output| builder.export(&spec, output)).await;
            builder.tidy(&app, &spec.build).await.expect("tidied");
            builder.tidy(&app, &spec.build).await.expect("tidied again");
        }
    }
    builder.remove_app(&app).await.expect("removed");
    builder.remove_app(&app).await.expect("removed again");
    assert_eq!(bench.leftovers(&app).await, Vec::<String>::new());
}

/// Apps that the builder keeps something for are found without knowing them: while a build runs, when it has ended,
/// and for their layers; not once they are removed.
pub async fn whoever_has_anything_is_listed(bench: &impl BuilderBench) {
    let (builder, building, built) = (bench.builder(), AppId::new(), AppId::new());
    let listed = async |app: &AppId| {
        let apps = bench.restarted().await.apps().await.expect("a list");
        apps.into_iter().filter(|there| there == app).count()
    };
    assert_eq!((listed(&building).await, listed(&built).await), (0, 0));
    let running = spec(bench, &building, &Story::NeverEnds);
    let (sender, mut receiver) = mpsc::channel::<Bytes>(4);
    let of_first = running.clone();
    let first = {
        let builder = Arc::clone(&builder);
        tokio::spawn(async move { builder.build(&of_first, sender).await })
    };
    receiver.recv().await.expect("output");
    let spec = spec(bench, &built, &Story::Says("listed".into()));
    assert_eq!(build(&builder, &spec).await.0, BuildVerdict::Succeeded);
    gather(|output| builder.export(&spec, output)).await;
    assert_eq!((listed(&building).await, listed(&built).await), (1, 1));
    builder.tidy(&built, &spec.build).await.expect("tidied");
    assert_eq!(listed(&built).await, 1, "its layers are kept");
    first.abort();
    for app in [&building, &built] {
        builder.remove_app(app).await.expect("removed");
        assert_eq!(listed(app).await, 0);
    }
}
