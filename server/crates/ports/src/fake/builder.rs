//! A builder in memory. What a build does is a script, chosen by the test or by words in the source.
//!
//! A build is a state and no task: it goes on while nobody looks (a gate that opens lets it pass), and a
//! caller that is dropped, or a server that dies, changes nothing about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, Architecture, BuildId, Digest, ProcessType};
use tokio::io::AsyncRead;
use tokio::sync::{Notify, mpsc};

use super::registry::digest_of;
use crate::{
    BuildSpec, BuildVerdict, Builder, BuiltImage, ImagePlan, LayerSource, PlannedLayer, PortError, Registry, outside,
};

/// One step of a scripted build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeStep {
    /// Writes to the output.
    Say(Bytes),
    /// Waits until [`FakeBuilds::open`] is called with this gate's name.
    Wait(String),
}

/// What a build does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeScript {
    /// Its steps, in order.
    pub steps: Vec<FakeStep>,
    /// How it ends.
    pub verdict: BuildVerdict,
    /// Process types that its buildpacks announce.
    pub default_processes: BTreeMap<ProcessType, String>,
    /// What Heroku would show as the language.
    pub description: Option<String>,
}

impl Default for FakeScript {
    fn default() -> Self {
        Self {
            steps: vec![FakeStep::Say(Bytes::from_static(b"-----> Fake app detected\n"))],
            verdict: BuildVerdict::Succeeded,
            default_processes: BTreeMap::new(),
            description: Some("Fake".to_owned()),
        }
    }
}

impl FakeScript {
    /// A script that says this and succeeds.
    #[must_use]
    pub fn says(text: &str) -> Self {
        Self { steps: vec![FakeStep::Say(Bytes::copy_from_slice(text.as_bytes()))], ..Self::default() }
    }

    /// The same script, with another end.
    #[must_use]
    pub fn ends(mut self, verdict: BuildVerdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// The same script, waiting for a gate after what it has said so far.
    #[must_use]
    pub fn waits(mut self, gate: &str) -> Self {
        self.steps.push(FakeStep::Wait(gate.to_owned()));
        self
    }

    /// The same script, saying more.
    #[must_use]
    pub fn then_says(mut self, text: &str) -> Self {
        self.steps.push(FakeStep::Say(Bytes::copy_from_slice(text.as_bytes())));
        self
    }

    /// The same script, with a process type that its buildpacks announce.
    #[must_use]
    pub fn announces(mut self, process_type: ProcessType, command: &str) -> Self {
        self.default_processes.insert(process_type, command.to_owned());
        self
    }
}

/// Every build that the fake builder has or had. Survives a server's restart.
#[derive(Default)]
pub struct FakeBuilds {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    script: FakeScript,
    by_words: Vec<(String, FakeScript)>,
    builds: HashMap<BuildId, Build>,
    runs: HashMap<BuildId, usize>,
    open: BTreeSet<String>,
    good_layers: BTreeSet<AppId>,
    architecture: Architecture,
    failures: HashMap<&'static str, usize>,
    /// How many more builds go with their builder.
    lost: usize,
}

#[derive(Clone)]
struct Build {
    app: AppId,
    script: FakeScript,
    source: Bytes,
}

impl FakeBuilds {
    /// A world without builds, in which every build succeeds.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What builds do from now on. A build keeps the script it started with.
    pub fn script(&self, script: FakeScript) {
        self.lock().script = script;
    }

    /// What builds do whose source tar holds these words; the words given first win.
    pub fn when_source_says(&self, words: &str, script: FakeScript) {
        self.lock().by_words.push((words.to_owned(), script));
    }

    /// The next so many builds are gone when they are to be exported: another builder ran them.
    pub fn lose(&self, builds: usize) {
        self.lock().lost = builds;
    }

    /// What the images are for that are made from now on.
    pub fn builds_for(&self, architecture: Architecture) {
        self.lock().architecture = architecture;
    }

    /// Opens a gate for every build, now and later.
    pub fn open(&self, gate: &str) {
        self.lock().open.insert(gate.to_owned());
        self.changed.notify_waiters();
    }

    /// How many times this build was really started.
    #[must_use]
    pub fn runs(&self, build: &BuildId) -> usize {
        self.lock().runs.get(build).copied().unwrap_or(0)
    }

    /// Every build that was ever started.
    #[must_use]
    pub fn started(&self) -> Vec<BuildId> {
        self.lock().runs.keys().cloned().collect()
    }

    /// Builds that nobody tidied yet.
    #[must_use]
    pub fn left(&self) -> Vec<BuildId> {
        self.lock().builds.keys().cloned().collect()
    }

    /// Whether the app's layers were marked as good by a tidy after an export.
    #[must_use]
    pub fn layers_kept(&self, app: &AppId) -> bool {
        self.lock().good_layers.contains(app)
    }

    /// Makes the next `times` calls of this method (`"build"`, `"export"`, …) fail as an outage would.
    pub fn fail_next(&self, method: &'static str, times: usize) {
        self.lock().failures.insert(method, times);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, method: &'static str) -> Result<(), PortError> {
        match self.lock().failures.get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(PortError::transient(format!("builder {method}"), "the fake builder was told to fail"))
            }
            _ => Ok(()),
        }
    }

    async fn passed(&self, gate: &str) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().open.contains(gate) {
                return;
            }
            changed.await;
        }
    }
}

/// A [`Builder`] in memory.
#[derive(Clone)]
pub struct FakeBuilder {
    world: Arc<FakeBuilds>,
    registry: Arc<dyn Registry>,
}

impl FakeBuilder {
    /// A driver of this world that pushes to `registry`.
    #[must_use]
    pub fn new(world: Arc<FakeBuilds>, registry: Arc<dyn Registry>) -> Self {
        Self { world, registry }
    }
}

struct OneLayer {
    diff_id: Digest,
    bytes: Bytes,
}

#[async_trait]
impl LayerSource for OneLayer {
    async fn open(&self, diff_id: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError> {
        if *diff_id != self.diff_id {
            return Err(PortError::NotFound(format!("layer {diff_id}")));
        }
        Ok(Box::new(std::io::Cursor::new(self.bytes.clone())))
    }
}

#[async_trait]
impl Builder for FakeBuilder {
    async fn build(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuildVerdict, PortError> {
        outside::check("Builder::build");
        self.world.enter("build")?;
        let known = self.world.lock().builds.get(&spec.build).cloned();
        let build = if let Some(build) = known {
            build
        } else {
            let source = std::fs::read(&spec.source).map_err(|e| PortError::permanent("reading the source", e))?;
            let mut state = self.world.lock();
            let says = |words: &str| source.windows(words.len().max(1)).any(|w| w == words.as_bytes());
            let found = state.by_words.iter().find(|(words, _)| says(words)).map(|(_, script)| script.clone());
            let script = found.unwrap_or_else(|| state.script.clone());
            let build = Build { app: spec.app.clone(), script, source: source.into() };
            *state.runs.entry(spec.build.clone()).or_default() += 1;
            state.builds.insert(spec.build.clone(), build.clone());
            build
        };
        for step in &build.script.steps {
            match step {
                // Nobody listening stops no build.
                FakeStep::Say(bytes) => drop(output.send(bytes.clone()).await),
                FakeStep::Wait(gate) => self.world.passed(gate).await,
            }
        }
        Ok(build.script.verdict)
    }

    async fn export(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuiltImage, PortError> {
        outside::check("Builder::export");
        self.world.enter("export")?;
        {
            let mut state = self.world.lock();
            if state.lost > 0 {
                state.lost -= 1;
                state.builds.remove(&spec.build);
            }
        }
        let build = self.world.lock().builds.get(&spec.build).cloned();
        let Some(build) = build else { return Err(PortError::NotFound(format!("build {}", spec.build))) };
        if build.script.verdict != BuildVerdict::Succeeded {
            return Err(PortError::permanent("exporting the image", "this build failed"));
        }
        let diff_id = digest_of(&build.source);
        let size = build.source.len() as u64;
        let architecture = self.world.lock().architecture;
        let word = if architecture == Architecture::Arm { "arm64" } else { "amd64" };
        let config = serde_json::json!({
            "architecture": word, "os": "linux",
            "config": {"Entrypoint": ["/paas/launcher"], "Labels": {"commit": spec.commit}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id.as_str()]},
        });
        let plan = ImagePlan {
            config: config.to_string().into(),
            layers: vec![PlannedLayer { diff_id: diff_id.clone(), size }],
        };
        let _ = output.send(Bytes::from_static(b"-----> Compressing...\n       Done: 0.1M\n")).await;
        let image = self.registry.push(&spec.app, &plan, &OneLayer { diff_id, bytes: build.source }).await?;
        Ok(BuiltImage {
            image,
            size,
            default_processes: build.script.default_processes,
            builder: digest_of(b"fake builder").to_string(),
            description: build.script.description,
            architecture,
        })
    }

    async fn tidy(&self, app: &AppId, build: &BuildId) -> Result<(), PortError> {
        outside::check("Builder::tidy");
        self.world.enter("tidy")?;
        let mut state = self.world.lock();
        if state.builds.remove(build).is_some_and(|b| b.script.verdict == BuildVerdict::Succeeded) {
            state.good_layers.insert(app.clone());
        }
        Ok(())
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Builder::remove_app");
        self.world.enter("remove_app")?;
        let mut state = self.world.lock();
        state.builds.retain(|_, build| build.app != *app);
        state.good_layers.remove(app);
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Builder::apps");
        self.world.enter("apps")?;
        let state = self.world.lock();
        let of_builds = state.builds.values().map(|build| &build.app);
        let apps: BTreeSet<&AppId> = of_builds.chain(&state.good_layers).collect();
        Ok(apps.into_iter().cloned().collect())
    }
}
