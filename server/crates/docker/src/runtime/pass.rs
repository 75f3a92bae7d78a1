//! One bounded pass over a process type: look, plan, do what can be done now.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};
use futures_util::StreamExt as _;
use paas_domain::{AppId, ConfigVars, DynoId, DynoKind, DynoName, DynoState, Generation, ProcessType, Timestamp};
use paas_ports::{ImageRef, Observed, ObservedDyno, PortError, Progress, RolloutFailure, ServiceSpec};

use super::Inner;
use super::book::Dyno;
use super::diff::{Action, Desired, Phase, Revision, Seen, diff, progress};
use super::facts::{Exit, Failure, Stop};
use super::look::{Found, Stage};
use super::tag::Tag;
use super::{container, voice};
use crate::engine::{port_error, status};

/// How many dynos one pass starts: about a second's worth.
const STARTS_PER_PASS: usize = 4;
/// How long a pass waits for the last lines of a crashed dyno whose slot it needs.
const DISCARD_LIMIT: Duration = Duration::from_millis(700);
/// How long to wait for the task of an ended dyno to have read its exit status.
const EXIT_LIMIT: Duration = Duration::from_secs(1);
/// The most that making a container may take.
const CREATE_LIMIT: Duration = Duration::from_secs(30);

impl Inner {
    pub(crate) async fn ensure(self: &Arc<Self>, spec: &ServiceSpec) -> Result<Progress, PortError> {
        let group = self.group(&spec.app, &spec.process_type);
        let _pass = group.pass.lock().await;
        let found = self.list_services(&spec.app, &spec.process_type).await?;
        let carried = found.iter().map(|f| f.tag.generation).max().unwrap_or_default().max(group.wish().generation);
        if carried > spec.generation {
            return Err(PortError::Superseded);
        }
        group.set_wish(|wish| {
            wish.generation = spec.generation;
            wish.wanted = spec.quantity.get();
            wish.attachment = spec.attachment.clone();
        });
        let dynos = self.take_up(&spec.app, &spec.process_type, &found).await;

        let desired = Desired { revision: revision(spec), quantity: spec.quantity, revive: spec.revive };
        let observed: Vec<Seen> = dynos.iter().zip(&found).map(|(d, f)| self.seen(d, f)).collect();
        let actions = diff(&desired, &observed);
        let standing = progress(&desired, &observed, &actions);
        let done = self.carry_out(spec, &dynos, &found, actions).await;
        self.publish(&spec.app, &spec.process_type).await?;
        Ok(match (done?, standing) {
            // More to start than fits into one pass.
            (true, Progress::Moving { .. }) => Progress::Moving { look_again: Duration::ZERO },
            (_, standing) => standing,
        })
    }

    /// Enters what was found, lets go of what was not, and waits until every end is known.
    async fn take_up(self: &Arc<Self>, app: &AppId, process_type: &ProcessType, found: &[Found]) -> Vec<Arc<Dyno>> {
        let dynos = self.adopt(found);
        let here: HashSet<&str> = found.iter().map(|f| f.container.as_str()).collect();
        for gone in self.book.of(app, process_type).iter().filter(|d| !here.contains(d.container.as_str())) {
            self.order_stop(gone, true);
            self.book.strike(gone);
        }
        self.ends_known(&dynos, found).await;
        dynos
    }

    async fn ends_known(&self, dynos: &[Arc<Dyno>], found: &[Found]) {
        let ended = dynos.iter().zip(found).filter(|(_, f)| f.stage == Stage::Exited);
        let known = ended.map(|(dyno, _)| {
            let mut facts = dyno.watch();
            async move { facts.wait_for(|f| f.exit.is_some()).await.is_ok() }
        });
        let _ = tokio::time::timeout(EXIT_LIMIT, futures_util::future::join_all(known)).await;
    }

    fn seen(&self, dyno: &Dyno, found: &Found) -> Seen {
        let facts = dyno.facts();
        let tag = &dyno.tag;
        let phase = if facts.stop.is_some() {
            Phase::Leaving
        } else if facts.exit.is_some() || facts.failure.is_some() {
            Phase::Crashed(self.failure(dyno))
        } else if found.stage == Stage::Created {
            Phase::Made
        } else if facts.up_at.is_some() {
            Phase::Up
        } else {
            Phase::Starting
        };
        let revision = Revision { release: tag.release, size: tag.size, restart: tag.restart };
        Seen { id: tag.dyno.clone(), slot: tag.name.slot, revision, phase }
    }

    fn failure(&self, dyno: &Dyno) -> RolloutFailure {
        let facts = dyno.facts();
        let (code, message) = voice::reason(facts.failure.as_ref(), facts.exit, self.timing.boot_timeout.as_secs());
        let at = facts.exit.map_or_else(|| self.clock.now(), |e| e.at);
        RolloutFailure { dyno: Some(dyno.tag.name.clone()), code, message, at }
    }

    /// Does what can be done now; whether more starts are left over.
    async fn carry_out(
        self: &Arc<Self>,
        spec: &ServiceSpec,
        dynos: &[Arc<Dyno>],
        found: &[Found],
        actions: Vec<Action>,
    ) -> Result<bool, PortError> {
        let get = |id: &DynoId| dynos.iter().zip(found).find(|(d, _)| d.tag.dyno == *id);
        let mut discards = Vec::new();
        let mut starts = Vec::new();
        for action in actions {
            match action {
                Action::Discard(id) => discards.extend(get(&id).map(|(dyno, _)| self.discard(dyno))),
                Action::Stop(id) => {
                    if let Some((dyno, found)) = get(&id) {
                        self.let_go(dyno, found.stage, false).await?;
                    }
                }
                other => starts.push(other),
            }
        }
        futures_util::future::join_all(discards).await;
        let left_over = starts.len() > STARTS_PER_PASS;
        let started: Vec<Result<(), PortError>> = futures_util::stream::iter(starts.into_iter().take(STARTS_PER_PASS))
            .map(|action| async move {
                match action {
                    Action::Create { slot, after_crash } => self.launch(spec, slot, after_crash).await,
                    Action::Start(id) => match get(&id) {
                        Some((dyno, _)) => self.start(dyno).await,
                        None => Ok(()),
                    },
                    Action::Discard(_) | Action::Stop(_) => Ok(()),
                }
            })
            .buffer_unordered(STARTS_PER_PASS)
            .collect()
            .await;
        started.into_iter().collect::<Result<(), PortError>>().map(|()| left_over)
    }

    /// Tidies a crashed dyno away, now if its last lines are stored, else as soon as they are. One that is being killed
    /// for a fault keeps its slot until it has ended: a later pass looks again.
    async fn discard(&self, dyno: &Arc<Dyno>) {
        let mut facts = dyno.watch();
        let ended = facts.wait_for(|f| f.exit.is_some());
        if !tokio::time::timeout(DISCARD_LIMIT, ended).await.is_ok_and(|r| r.is_ok()) {
            return;
        }
        self.order_stop(dyno, true);
        let ready = facts.wait_for(|f| f.exit.is_some() && f.exit_said && f.drained);
        if tokio::time::timeout(DISCARD_LIMIT, ready).await.is_ok_and(|r| r.is_ok())
            && self.remove_container(&dyno.container).await.is_ok()
        {
            self.book.strike(dyno);
        }
    }

    /// Orders a dyno to go. One that never ran is removed at once; the others' tasks see to it.
    async fn let_go(&self, dyno: &Dyno, stage: Stage, quick: bool) -> Result<(), PortError> {
        self.order_stop(dyno, quick);
        if stage == Stage::Created {
            self.remove_container(&dyno.container).await?;
            self.book.strike(dyno);
        }
        Ok(())
    }

    pub(crate) fn order_stop(&self, dyno: &Dyno, quick: bool) {
        let now = self.clock.now();
        dyno.note(|f| {
            let asked_at = f.stop.map_or(now, |s| s.asked_at);
            f.stop = Some(Stop { asked_at, quick: quick || f.stop.is_some_and(|s| s.quick) });
        });
    }

    async fn launch(self: &Arc<Self>, spec: &ServiceSpec, slot: u32, after_crash: bool) -> Result<(), PortError> {
        let tag = Tag {
            app: spec.app.clone(),
            dyno: DynoId::new(),
            name: DynoName { process_type: spec.process_type.clone(), slot },
            kind: DynoKind::Service,
            release: spec.release,
            generation: spec.generation,
            restart: spec.restart,
            size: spec.size,
            command: spec.command.clone(),
            port: spec.attachment.as_ref().map(|_| self.timing.port),
            attach: false,
            tty: false,
        };
        // Nobody to make it anew for: the slot's container of a moment ago is still there. The next pass looks again.
        let Some(dyno) = self.create(tag, &spec.image, &spec.config).await? else { return Ok(()) };
        let now = self.clock.now();
        let mut lines = Vec::new();
        if after_crash {
            lines.push(voice::line(&dyno.tag, now, voice::state_changed("crashed", "starting")));
        }
        lines.push(voice::line(&dyno.tag, now, voice::starting(&dyno.tag)));
        self.say_lines(&spec.app, lines).await;
        self.start(&dyno).await
    }

    /// Makes a container; `None` when its name is taken.
    pub(crate) async fn create(
        self: &Arc<Self>,
        tag: Tag,
        image: &ImageRef,
        config: &ConfigVars,
    ) -> Result<Option<Arc<Dyno>>, PortError> {
        let network = self.network.ensure().await?;
        let body = container::body(&self.install, &network, &tag, image, config);
        let options = CreateContainerOptionsBuilder::new().name(&tag.container_name(&self.install)).build();
        let doing = format!("making {}", tag.name);
        let call = self.docker.create_container(Some(options), body);
        match tokio::time::timeout(CREATE_LIMIT, call).await {
            Ok(Ok(made)) => Ok(Some(self.book.enter(tag, &made.id))),
            Ok(Err(e)) if status(&e) == Some(409) => Ok(None),
            // The image: it has to come back, or another release.
            Ok(Err(e)) if status(&e) == Some(404) => Err(PortError::permanent(doing, e)),
            Ok(Err(e)) => Err(port_error(doing, &e)),
            Err(_) => Err(PortError::transient(doing, "the Docker engine does not answer")),
        }
    }

    /// Starts a dyno whose container is made, and gives it its task.
    pub(crate) async fn start(self: &Arc<Self>, dyno: &Arc<Dyno>) -> Result<(), PortError> {
        let doing = format!("starting {}", dyno.tag.name);
        if dyno.facts().started {
            // Someone else's start may be under way: the engine answers this once it is over. Starting what has
            // run and ended meanwhile would run it twice.
            let seen = self.inspect(&dyno.container, None).await?;
            if seen.is_none_or(|s| s.stage != Stage::Created) {
                self.mind(dyno);
                return Ok(());
            }
        }
        dyno.note(|f| f.started = true);
        match self.docker.start_container(&dyno.container, None::<StartContainerOptions>).await {
            Ok(()) => {}
            // The engine takes a container back when whoever asked for it hung up while it was made. It never ran,
            // so another may be made for the same id.
            Err(e) if status(&e) == Some(404) && e.to_string().contains("No such container") => {
                self.book.erase(dyno);
                // The next pass makes another; a one-off dyno has no next pass of its own.
                return if dyno.tag.is_service() { Ok(()) } else { Err(PortError::transient(doing, e)) };
            }
            Err(e) => match cannot_start(&e) {
                Some(why) => {
                    let at = self.clock.now();
                    dyno.note(|f| {
                        f.failure = Some(Failure::CannotStart(why));
                        // What a shell says of a command that it cannot find.
                        f.exit = Some(Exit { code: 127, at });
                    });
                }
                None => return Err(PortError::transient(doing, e)),
            },
        }
        if !dyno.tag.is_service() && dyno.facts().failure.is_none() {
            // A one-off dyno has nothing to wait for.
            let now = self.clock.now();
            dyno.note(|f| f.up_at = f.up_at.or(Some(now)));
            self.say(&dyno.tag, voice::state_changed("starting", "up")).await;
        }
        self.mind(dyno);
        Ok(())
    }

    pub(crate) async fn remove(
        self: &Arc<Self>,
        app: &AppId,
        process_type: &ProcessType,
        up_to: Generation,
    ) -> Result<(), PortError> {
        let group = self.group(app, process_type);
        let _pass = group.pass.lock().await;
        if group.wish().generation > up_to {
            return Err(PortError::Superseded);
        }
        let found = self.list_services(app, process_type).await?;
        if found.is_empty() && group.wish() == Default::default() {
            return Ok(());
        }
        group.set_wish(|wish| {
            wish.generation = up_to;
            wish.wanted = 0;
        });
        let dynos = self.take_up(app, process_type, &found).await;
        for (dyno, found) in dynos.iter().zip(&found).filter(|(d, _)| d.tag.generation <= up_to) {
            self.let_go(dyno, found.stage, false).await?;
        }
        self.publish(app, process_type).await
    }

    pub(crate) async fn observe(self: &Arc<Self>, app: &AppId) -> Result<Observed, PortError> {
        let found = self.list_app(app).await?;
        let dynos = self.adopt(&found);
        self.ends_known(&dynos, &found).await;
        Ok(Observed { dynos: dynos.iter().zip(&found).map(|(d, f)| observed(d, f)).collect() })
    }

    pub(crate) async fn remove_app(self: &Arc<Self>, app: &AppId) -> Result<bool, PortError> {
        let found = self.list_app(app).await?;
        let dynos = self.adopt(&found);
        for (dyno, found) in dynos.iter().zip(&found) {
            self.order_stop(dyno, true);
            if found.stage != Stage::Running {
                self.remove_container(&dyno.container).await?;
                self.book.erase(dyno);
            }
        }
        for process_type in self.files.process_types(app) {
            self.group(app, &process_type).set_wish(|wish| wish.wanted = 0);
            self.publish(app, &process_type).await?;
        }
        if self.list_app(app).await?.is_empty() {
            self.drop_groups(app);
            return Ok(true);
        }
        Ok(false)
    }

    /// Stops one dyno, whatever it is.
    pub(crate) async fn stop(self: &Arc<Self>, dyno: &DynoId) -> Result<(), PortError> {
        let Some(found) = self.find(dyno).await? else { return Ok(()) };
        let dynos = self.adopt(std::slice::from_ref(&found));
        let dyno = &dynos[0];
        if !dyno.tag.is_service() && found.stage == Stage::Created {
            return self.cancel(dyno).await;
        }
        self.let_go(dyno, found.stage, false).await?;
        if dyno.tag.is_service() {
            self.publish(&dyno.tag.app, dyno.tag.process_type()).await?;
        }
        Ok(())
    }
}

fn revision(spec: &ServiceSpec) -> Revision {
    Revision { release: spec.release, size: spec.size, restart: spec.restart }
}

fn observed(dyno: &Dyno, found: &Found) -> ObservedDyno {
    let facts = dyno.facts();
    let tag = &dyno.tag;
    let (state, since): (DynoState, Timestamp) = match (facts.exit, facts.stop, facts.up_at) {
        (Some(exit), None, _) if tag.is_service() => (DynoState::Crashed, exit.at),
        (Some(exit), _, _) => (DynoState::Ended, exit.at),
        (None, Some(stop), _) => (DynoState::Stopping, stop.asked_at),
        (None, None, _) if facts.failure.is_some() => (DynoState::Crashed, found.created),
        (None, None, Some(up_at)) => (DynoState::Up, up_at),
        (None, None, None) => (DynoState::Starting, found.created),
    };
    ObservedDyno {
        id: tag.dyno.clone(),
        name: tag.name.clone(),
        kind: tag.kind,
        release: tag.release,
        generation: tag.generation,
        command: tag.command.clone(),
        size: tag.size,
        state,
        exit_code: facts.exit.map(|e| e.code),
        since,
        platform_ref: dyno.container.clone(),
    }
}

/// Why the engine will never start this container; `None` when another try may do.
fn cannot_start(e: &bollard::errors::Error) -> Option<String> {
    let bollard::errors::Error::DockerResponseServerError { status_code, message } = e else { return None };
    let words = ["OCI runtime", "exec format", "executable file not found", "no such file or directory"];
    let final_word = matches!(status_code, 400 | 404 | 500) && words.iter().any(|word| message.contains(word));
    final_word.then(|| message.chars().take(200).collect())
}
