//! The builder's promises, on the fake and on Docker.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use paas_domain::{AppId, BuildId, ProcessType};
use paas_ports::contract::builder::{BuilderBench, Story};
use paas_ports::{Builder, Registry};

mod fake {
    use super::*;
    use paas_ports::fake::{FakeBuilder, FakeBuilds, FakeImages, FakeRegistry, FakeScript};
    use paas_ports::{BuildFailure, BuildVerdict};

    struct FakeBench {
        builds: Arc<FakeBuilds>,
        images: Arc<FakeImages>,
        folder: tempfile::TempDir,
    }

    impl FakeBench {
        fn script(story: &Story) -> FakeScript {
            let failed = |failure| BuildVerdict::Failed(failure);
            match story {
                Story::Says(words) => FakeScript::says(&format!("{words}\n")),
                Story::TakesAWhile => FakeScript::says("first\n").waits("a while").then_says("last\n"),
                // The fake has no clock: what took too long is a script of its own.
                Story::NeverEnds => FakeScript::says("started\n").ends(failed(BuildFailure::TimedOut)),
                Story::Fails(status) => {
                    FakeScript::says("going wrong\n").ends(failed(BuildFailure::Buildpack(*status)))
                }
                Story::NotDetected => FakeScript::default().ends(failed(BuildFailure::NotDetected)),
                Story::ShowsGreeting => FakeScript::says("GREETING is h\u{e9}llo  'you' $HOME\n"),
                Story::AnnouncesWeb => FakeScript::default().announces(ProcessType::web(), "serve --now"),
                Story::Escapes => FakeScript::default().ends(failed(BuildFailure::Source("It escapes.".into()))),
            }
        }
    }

    #[async_trait]
    impl BuilderBench for FakeBench {
        async fn start() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { builds: FakeBuilds::new(), images: FakeImages::new(), folder }
        }
        fn builder(&self) -> Arc<dyn Builder> {
            Arc::new(FakeBuilder::new(self.builds.clone(), self.registry()))
        }
        async fn restarted(&self) -> Arc<dyn Builder> {
            self.builder()
        }
        fn registry(&self) -> Arc<dyn Registry> {
            Arc::new(FakeRegistry::new(self.images.clone()))
        }
        fn source(&self, story: &Story) -> PathBuf {
            let words = format!("story: {story:?}");
            self.builds.when_source_says(&words, Self::script(story));
            if *story == Story::TakesAWhile {
                let builds = self.builds.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(300));
                    builds.open("a while");
                });
            }
            let path = self.folder.path().join(BuildId::new().to_string());
            std::fs::write(&path, words).expect("a source");
            path
        }
        fn runs(&self, build: &BuildId) -> Option<usize> {
            Some(self.builds.runs(build))
        }
        async fn leftovers(&self, app: &AppId) -> Vec<String> {
            let layers = self.builds.layers_kept(app).then(|| "layers".to_owned());
            self.builds.left().iter().map(ToString::to_string).chain(layers).collect()
        }
        async fn finish(&self) {}
    }

    paas_ports::builder_contract!(FakeBench);
}

mod docker {
    use super::*;
    use paas_tests::engine;
    use paas_tests::story_builder::StoryBuilder;

    struct DockerBench(StoryBuilder);

    #[async_trait]
    impl BuilderBench for DockerBench {
        async fn start() -> Self {
            Self(StoryBuilder::start().await)
        }
        fn builder(&self) -> Arc<dyn Builder> {
            Arc::new(self.0.driver())
        }
        async fn restarted(&self) -> Arc<dyn Builder> {
            self.builder()
        }
        fn registry(&self) -> Arc<dyn Registry> {
            self.0.registry()
        }
        fn source(&self, story: &Story) -> PathBuf {
            // Differs with every run, so that a second one would be seen in the output.
            let run = "echo \"run $(cat /proc/sys/kernel/random/uuid)\"\n";
            let layer = "[ -f \"$1/dep/f\" ] || { mkdir -p \"$1/dep\"; echo hi >\"$1/dep/f\"; }\n\
                         printf '[types]\\nlaunch = true\\ncache = true\\n' >\"$1/dep.toml\"\n";
            let body = match story {
                Story::Says(words) => format!("{layer}echo '{words}'"),
                Story::TakesAWhile => "echo first; sleep 2; echo last".to_owned(),
                Story::NeverEnds => "echo started; sleep 600".to_owned(),
                Story::Fails(status) => format!("echo 'going wrong' >&2; exit {status}"),
                Story::NotDetected => return self.0.source(&[("README", "nothing to run\n")]),
                Story::ShowsGreeting => "printf 'GREETING is %s\\n' \"$GREETING\"".to_owned(),
                Story::AnnouncesWeb => {
                    "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"serve\", \"--now\"]\\n' >\"$1/launch.toml\""
                        .to_owned()
                }
                Story::Escapes => return self.0.source(&[("story.sh", ""), ("../../etc/cron.d/x", "")]),
            };
            self.0.source(&[("story.sh", &format!("{run}{body}\n"))])
        }
        fn runs(&self, _build: &BuildId) -> Option<usize> {
            None
        }
        async fn leftovers(&self, app: &AppId) -> Vec<String> {
            let mut left = engine::objects(&self.0.docker, &format!("paas.app={app}")).await;
            let blobs = self.0.folder.path().join("blobs").join(app.as_str());
            left.extend(blobs.exists().then(|| blobs.display().to_string()));
            left
        }
        async fn finish(&self) {
            self.0.finish().await;
        }
    }

    paas_ports::builder_contract!(DockerBench);
}
