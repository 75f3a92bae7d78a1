//! What the engine's driver promises beyond the port: walls around dynos, memory quotas, terminals, its own cost.

use std::time::Instant;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, StartContainerOptions,
};
use paas_domain::{ConfigVars, Quantity};
use paas_ports::contract::runtime::bench::{
    dynos, exit_of, logged, next, one_off, pool, settle, settled, texts, until, web,
};
use paas_ports::{Progress, ServiceSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::docker::DockerBench;
use super::*;

/// Runs a test body on a bench and clears away whatever becomes of it.
async fn on_bench<F: Future<Output = ()> + Send + 'static>(body: impl FnOnce(Arc<DockerBench>) -> F) {
    let bench = Arc::new(DockerBench::start().await);
    let result = tokio::spawn(body(Arc::clone(&bench))).await;
    bench.finish().await;
    if let Err(broken) = result {
        std::panic::resume_unwind(broken.into_panic());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dyno_has_walls_and_no_secret_on_them() {
    on_bench(|bench| async move {
        let mut spec = web(&*bench, "serve");
        let mut config = ConfigVars::new();
        config.set("TOKEN".parse().expect("a key"), "canary-7d1f".into());
        spec.config = config;
        settled(&*bench, &spec).await;
        let dyno = dynos(&*bench, &spec.app).await.remove(0);
        let seen = bench.docker.inspect_container(&dyno.platform_ref, None::<InspectContainerOptions>).await;
        let seen = seen.expect("it is there");
        let text = format!("{seen:?}");
        assert!(!text.contains("canary-7d1f"), "a config var is readable");
        let host = seen.host_config.expect("has one");
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!((host.memory, host.memory_swap), (Some(1024 << 20), Some(1024 << 20)));
        assert_eq!(host.pids_limit, Some(256));
        assert_eq!(host.privileged, Some(false));
        assert!(host.port_bindings.unwrap_or_default().is_empty() && host.binds.unwrap_or_default().is_empty());
        assert_eq!(seen.config.and_then(|c| c.user).as_deref(), Some("1000:1000"));
        assert!(seen.name.expect("has one").contains(bench.install.as_str()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynos_do_not_reach_each_other() {
    on_bench(|bench| async move {
        let spec = web(&*bench, "serve");
        settled(&*bench, &spec).await;
        let address = bench.pools().up(&pool(&spec))[0].address.expect("has one");
        TcpStream::connect(address).await.expect("the host reaches it");
        let (id, other) = one_off(&*bench, &format!("connect {address}"), false);
        bench.runtime().start_once(&id, &other).await.expect("start_once");
        assert_eq!(exit_of(&*bench, &other.app, &id).await, 1, "another app's dyno reaches it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_made_once_and_again_when_it_is_gone() {
    on_bench(|bench| async move {
        let network = paas_docker::Network::new(bench.docker.clone(), &bench.install, "test");
        let ensured = || async {
            // The engine itself would make two of one name.
            let all = futures_util::future::join_all((0..8).map(|_| network.ensure())).await;
            let mut ids: Vec<String> = all.into_iter().map(|id| id.expect("a network")).collect();
            ids.dedup();
            assert_eq!(ids.len(), 1, "{ids:?}");
            // By its name it is found, which fails when there are two.
            let found = bench.docker.inspect_network(network.name(), None::<InspectNetworkOptions>).await;
            assert_eq!(found.expect("one").id.as_ref(), Some(&ids[0]));
            ids.remove(0)
        };
        let first = ensured().await;
        bench.docker.remove_network(&first).await.expect("removed");
        assert_ne!(ensured().await, first);
        network.remove().await.expect("removed");
        network.remove().await.expect("removed again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_above_the_quota_is_said_and_above_twice_the_quota_kills() {
    on_bench(|bench| async move {
        let mut spec = ServiceSpec { attachment: None, ..web(&*bench, "eat 600") };
        spec.process_type = "worker".parse().expect("a process type");
        settled(&*bench, &spec).await;
        let lines = logged(&*bench, &spec.app, "Error R14 (Memory quota exceeded)").await;
        // Measured while it still eats, perhaps.
        let said = lines.iter().any(|l| l.starts_with("heroku[worker.1]: Process running mem=") && l.ends_with("%)"));
        assert!(said, "{lines:#?}");

        let spec =
            ServiceSpec { command: "eat 1500".to_owned(), release: paas_domain::ReleaseVersion(4), ..next(&spec) };
        let failed = loop {
            match bench.runtime().ensure(&spec).await.expect("ensure") {
                Progress::Failed { reason } => break reason,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        assert_eq!((failed.code, failed.message.as_str()), (Some("R15"), "Error R15 (Memory quota vastly exceeded)"));
        let lines = logged(&*bench, &spec.app, "to crashed").await;
        assert!(lines.contains(&"heroku[worker.2]: Process running mem=1024M(200.0%)".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"heroku[worker.2]: Process exited with status 137".to_owned()), "{lines:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_passes_bytes_that_look_like_frames() {
    on_bench(|bench| async move {
        let (id, mut spec) = one_off(&*bench, "print ODD", true);
        spec.tty = true;
        spec.config.set("ODD".parse().expect("a key"), "\u{1}\u{2}\u{0}frames?\n".replace('\u{0}', "").into());
        bench.runtime().start_once(&id, &spec).await.expect("start_once");
        let mut stream = bench.runtime().attach(&id).await.expect("attach");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("reads");
        // A terminal ends lines with both.
        assert_eq!(read, b"\x01\x02frames?\r\n");

        let (id, mut spec) = one_off(&*bench, "say prompt; cat", true);
        spec.tty = true;
        bench.runtime().start_once(&id, &spec).await.expect("start_once");
        let mut stream = bench.runtime().attach(&id).await.expect("attach");
        // Ctrl-P Ctrl-Q is the engine's own "detach", which must not be ours; Ctrl-D ends input.
        stream.write_all(b"a\x10\x11b\n\x04").await.expect("writes");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("reads");
        let text = String::from_utf8_lossy(&read).into_owned();
        assert!(text.contains("prompt") && text.contains('b'), "{text:?}");
        assert_eq!(exit_of(&*bench, &spec.app, &id).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dyno_that_is_hung_up_hears_so_and_nothing_else() {
    on_bench(|bench| async move {
        let (id, spec) = one_off(&*bench, "say ready; cat; worker", true);
        bench.runtime().start_once(&id, &spec).await.expect("start_once");
        bench.runtime().hang_up(&id).await.expect("one that was never attached to is left alone");
        let mut stream = bench.runtime().attach(&id).await.expect("attach");
        let mut ready = [0; 6];
        stream.read_exact(&mut ready).await.expect("it runs");
        bench.runtime().hang_up(&id).await.expect("hang_up");
        // 128 and SIGHUP's number.
        assert_eq!(exit_of(&*bench, &spec.app, &id).await, 129);
        bench.runtime().hang_up(&id).await.expect("what has ended is left alone");
        let lines = logged(&*bench, &spec.app, "State changed from up to complete").await;
        assert!(!lines.iter().any(|line| line.contains("SIGTERM")), "{lines:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_launcher_is_a_crash_and_not_a_loop() {
    on_bench(|bench| async move {
        let spec = ServiceSpec { image: paas_tests::dyno_image::empty(&bench.docker).await, ..web(&*bench, "serve") };
        let failed = loop {
            match bench.runtime().ensure(&spec).await.expect("ensure") {
                Progress::Failed { reason } => break reason,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        assert!(failed.message.starts_with("Process could not be started: "), "{failed:?}");
        let lines = logged(&*bench, &spec.app, "State changed from starting to crashed").await;
        assert!(lines.contains(&"heroku[web.1]: Process exited with status 127".to_owned()), "{lines:#?}");
        let gone = format!("sha256:{}", "0".repeat(64));
        let spec = ServiceSpec { image: ImageRef(gone.parse().expect("a digest")), ..web(&*bench, "serve") };
        let refused = bench.runtime().ensure(&spec).await;
        assert!(refused.as_ref().is_err_and(|e| !e.is_transient()), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dyno_that_is_killed_for_a_fault_keeps_its_slot_until_it_has_ended() {
    on_bench(|bench| async move {
        // Never listens; its fault is known before its end.
        let spec = ServiceSpec { revive: true, ..web(&*bench, "worker") };
        until("a second one has crashed", || async {
            bench.runtime().ensure(&spec).await.expect("ensure");
            let log = bench.lines(&spec.app).await;
            log.iter().filter(|line| texts(line).contains("State changed from starting to")).count() > 1
        })
        .await;
        let log: Vec<String> = bench.lines(&spec.app).await.iter().map(texts).collect();
        assert!(!log.iter().any(|line| line.contains("web.2") || line.contains("to down")), "{log:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_removed_behind_our_back_is_replaced() {
    on_bench(|bench| async move {
        let spec = web(&*bench, "serve");
        settled(&*bench, &spec).await;
        let dyno = dynos(&*bench, &spec.app).await.remove(0);
        let force = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
        bench.docker.remove_container(&dyno.platform_ref, Some(force)).await.expect("removes");
        settled(&*bench, &spec).await;
        let again = dynos(&*bench, &spec.app).await.remove(0);
        assert_eq!((again.name, again.id != dyno.id), (dyno.name, true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_app_leaves_no_file_either() {
    on_bench(|bench| async move {
        let spec = web(&*bench, "say hello; serve");
        settled(&*bench, &spec).await;
        let (id, mut run) = one_off(&*bench, "worker", false);
        run.app = spec.app.clone();
        bench.runtime().start_once(&id, &run).await.expect("start_once");
        until("it is removed", || async { bench.runtime().remove_app(&spec.app).await.expect("remove_app") }).await;
        // Whatever still runs of it writes nothing any more.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(bench.state_files(), Vec::<String>::new());
    })
    .await;
}

/// The engine dies and comes back: what ran has ended, is seen as crashed, and is replaced when that is allowed.
///
/// On an engine of its own, beside the one that everyone uses; needs root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_restarts_costs_one_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("engine.sock");
    let mut engine = OwnEngine::start(dir.path());
    let docker = answering(&socket).await;
    let image = paas_tests::dyno_image::make(&docker, env!("CARGO_BIN_EXE_test-dyno").as_ref()).await;
    let bench = DockerBench::start_on(docker, socket.clone(), image).await;
    let spec = web(&bench, "say one; serve");
    settled(&bench, &spec).await;
    let before = dynos(&bench, &spec.app).await;

    engine.die();
    let down = bench.runtime().ensure(&spec).await;
    assert!(down.as_ref().is_err_and(|e| e.is_transient()), "{down:?}");
    engine.come_back();
    answering(&socket).await;

    let Progress::Failed { reason } = settle(&bench, &spec).await else { panic!("it has ended") };
    assert!(reason.message.starts_with("Process exited with status "), "{reason:?}");
    let lines = logged(&bench, &spec.app, "State changed from up to crashed").await;
    assert_eq!(lines.iter().filter(|l| *l == "app[web.1]: one").count(), 1, "{lines:#?}");
    settled(&bench, &ServiceSpec { revive: true, ..spec.clone() }).await;
    let after = dynos(&bench, &spec.app).await;
    assert_eq!((after.len(), &after[0].name), (1, &before[0].name));
    assert_ne!(after[0].id, before[0].id);
    assert!(bench.listens(&bench.pools().up(&pool(&spec))[0]).await);

    bench.finish().await;
}

/// An engine of one test's own. It leaves the machine's packet filter to the engine that everyone uses.
struct OwnEngine {
    dir: std::path::PathBuf,
    child: std::process::Child,
}

impl OwnEngine {
    fn start(dir: &std::path::Path) -> Self {
        Self { dir: dir.to_owned(), child: Self::spawn(dir) }
    }

    fn spawn(dir: &std::path::Path) -> std::process::Child {
        let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a file");
        // Of one that was killed: the next one would take whoever has its numbers by now for it.
        let _ = std::fs::remove_file(dir.join("pid"));
        let _ = std::fs::remove_file(dir.join("exec/containerd/containerd.pid"));
        std::process::Command::new("dockerd")
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            // Named, not "none": an engine without a default bridge takes away the one that is there.
            .args(["--host", &format!("unix://{}", at("engine.sock")), "--bridge", "docker0"])
            .args(["--iptables=false", "--ip-forward=false", "--ip-masq=false", "--ip6tables=false"])
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("not run: no dockerd")
    }

    fn die(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("waits");
    }

    fn come_back(&mut self) {
        self.child = Self::spawn(&self.dir);
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        // In peace, so that it ends its own helpers too.
        let _ = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        // One that was killed before left its folder mounted.
        let _ = std::process::Command::new("umount").arg(self.dir.join("data")).status();
    }
}

async fn answering(socket: &std::path::Path) -> bollard::Docker {
    for _ in 0..300 {
        if let Ok(docker) = paas_docker::engine::connect(socket).await
            && docker.ping().await.is_ok()
        {
            return docker;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the engine does not come up");
}

/// Prints how much the driver adds to what the engine itself takes, from create to routed.
/// Run with `--features bench -- --nocapture --test-threads=1`.
#[cfg_attr(feature = "bench", tokio::test(flavor = "multi_thread", worker_threads = 2))]
#[cfg_attr(not(feature = "bench"), allow(dead_code))]
async fn create_to_routed_beside_the_bare_engine() {
    on_bench(|bench| async move {
        let warm = web(&*bench, "serve");
        settled(&*bench, &warm).await;
        let (mut bare, mut ours, mut routed) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..15 {
            bare.push(bare_start(&bench, round).await);
            let spec = web(&*bench, "serve");
            let since = Instant::now();
            let runtime = bench.runtime();
            let (pools, attachment) = (bench.pools(), pool(&spec));
            let asked = spec.clone();
            let pass = tokio::spawn(async move { runtime.ensure(&asked).await });
            let bound = tokio::spawn(bound(Arc::clone(&bench), spec.app.clone()));
            while pools.up(&attachment).is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let at = Instant::now();
            ours.push(at - since);
            routed.push(at.saturating_duration_since(bound.await.expect("joins")));
            pass.await.expect("joins").expect("ensure");
            let none = ServiceSpec { quantity: Quantity::default(), ..next(&spec) };
            settled(&*bench, &none).await;
        }
        for (what, times) in [("bare engine", &mut bare), ("driver", &mut ours), ("bound to routed", &mut routed)] {
            times.sort();
            let at = |n: usize| times.get(n).copied().unwrap_or_default();
            println!(
                "{what}: min {:?} median {:?} max {:?} ({})",
                at(0),
                at(times.len() / 2),
                at(times.len().saturating_sub(1)),
                times.len()
            );
        }
    })
    .await;
}

/// When this app's only dyno listens, found out without the driver.
async fn bound(bench: Arc<DockerBench>, app: AppId) -> Instant {
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![format!("paas.app={app}")])]);
    let options = bollard::query_parameters::ListContainersOptionsBuilder::new().filters(&filters).build();
    loop {
        let list = bench.docker.list_containers(Some(options.clone())).await.expect("lists");
        let networks = list.into_iter().next().and_then(|c| c.network_settings).and_then(|n| n.networks);
        let ip = networks.and_then(|n| n.into_values().next()).and_then(|n| n.ip_address);
        if let Some(ip) = ip.filter(|ip| !ip.is_empty()) {
            while TcpStream::connect((ip.as_str(), 5000)).await.is_err() {
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Creates and starts a like container by the engine's own calls, until it answers.
async fn bare_start(bench: &DockerBench, round: usize) -> Duration {
    let network = format!("paas-{}-dynos", bench.install);
    let name = format!("paas-{}-bare-{round}", bench.install);
    let limits = HostConfig {
        network_mode: Some(network.clone()),
        memory: Some(1024 << 20),
        memory_swap: Some(1024 << 20),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        pids_limit: Some(256),
        ..HostConfig::default()
    };
    let body = ContainerCreateBody {
        image: Some(bench.image().0.to_string()),
        entrypoint: Some(vec!["/paas/launcher".to_owned()]),
        env: Some(vec!["PAAS_COMMAND=serve".to_owned(), "PORT=5000".to_owned()]),
        labels: Some([("paas.install".to_owned(), bench.install.to_string())].into()),
        host_config: Some(limits),
        ..ContainerCreateBody::default()
    };
    let since = Instant::now();
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    bench.docker.create_container(Some(options), body).await.expect("creates");
    bench.docker.start_container(&name, None::<StartContainerOptions>).await.expect("starts");
    let seen = bench.docker.inspect_container(&name, None::<InspectContainerOptions>).await.expect("looks");
    let networks = seen.network_settings.and_then(|n| n.networks).unwrap_or_default();
    let ip = networks.get(&network).and_then(|n| n.ip_address.clone()).expect("has an address");
    while TcpStream::connect((ip.as_str(), 5000)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = since.elapsed();
    let force = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
    bench.docker.remove_container(&name, Some(force)).await.expect("removes");
    took
}
