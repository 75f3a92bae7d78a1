//! The ingress's promises, on the fake and on the router.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use paas_domain::{DynoName, HostName};
use paas_ports::contract::ingress::{Held, IngressBench, Seen};
use paas_ports::{Ingress, Member, Pools};

mod fake {
    use super::*;
    use paas_ports::fake::{Decision, FakeIngress, FakeRequest, FakeRoutes};

    struct FakeBench(Arc<FakeRoutes>);

    #[async_trait]
    impl IngressBench for FakeBench {
        async fn start() -> Self {
            let world = FakeRoutes::new();
            impossible().into_iter().for_each(|host| world.refuse_host(host));
            Self(world)
        }
        fn impossible(&self) -> Vec<HostName> {
            impossible()
        }
        fn ingress(&self) -> Arc<dyn Ingress> {
            Arc::new(FakeIngress::new(self.0.clone()))
        }
        fn pools(&self) -> Arc<dyn Pools> {
            Arc::new(FakeIngress::new(self.0.clone()))
        }
        async fn restart(&self) {}
        async fn dyno(&self, name: &str) -> Member {
            paas_tests::router::member(name, ([127, 0, 0, 1], 1).into())
        }
        async fn ask(&self, host: &str) -> Seen {
            match self.0.begin(host).await {
                Ok(request) => Seen::Served(request.dyno.name.clone()),
                Err(decision) => seen(&decision),
            }
        }
        async fn visit(&self, host: &str, cookies: &mut Option<String>) -> Seen {
            let cookie = cookies.as_ref().and_then(|cookie| cookie.parse().ok());
            match self.0.begin_as(host, cookie.as_ref()).await {
                Ok(request) => {
                    if let Some(told) = &request.cookie {
                        *cookies = Some(told.to_string());
                    }
                    Seen::Served(request.dyno.name.clone())
                }
                Err(decision) => seen(&decision),
            }
        }
        async fn hold(&self, host: &str) -> Box<dyn Held> {
            Box::new(HeldRequest(self.0.begin(host).await.map_err(|d| seen(&d)).expect("a dyno")))
        }
        async fn finish(&self) {}
    }

    fn impossible() -> Vec<HostName> {
        vec!["nobody.example.com".parse().expect("a host name")]
    }

    fn seen(decision: &Decision) -> Seen {
        match decision {
            Decision::NoSuchApp => Seen::NoSuchApp,
            Decision::Maintenance(_) => Seen::Maintenance,
            Decision::Blank(_) => Seen::Blank,
            Decision::NoWebDynos(_) => Seen::NoWebDynos,
            Decision::Crashed(_) => Seen::Crashed,
            Decision::Waits(_) | Decision::Serve { .. } => unreachable!("begin deals with these"),
        }
    }

    struct HeldRequest(FakeRequest);

    #[async_trait]
    impl Held for HeldRequest {
        async fn finish(self: Box<Self>) -> Seen {
            Seen::Served(self.0.dyno.name.clone())
        }
    }

    paas_ports::ingress_contract!(FakeBench);
    mod pools {
        use super::FakeBench;
        paas_ports::pools_contract!(FakeBench);
    }
}

mod router {
    use super::*;
    use paas_router::RouterClient;
    use paas_tests::router::{Peer, Reply, Rig, dyno};
    use tokio::sync::Notify;

    struct RouterBench {
        rig: Rig,
        client: Mutex<Arc<RouterClient>>,
        /// Lets held requests be answered.
        release: Arc<Notify>,
        /// Told when a dyno holds a request.
        holds: Arc<Notify>,
        asked: std::sync::atomic::AtomicUsize,
    }

    impl RouterBench {
        fn client(&self) -> Arc<RouterClient> {
            self.client.lock().expect("not poisoned").clone()
        }

        async fn seen(&self, reply: Reply, id: &str) -> Seen {
            match reply.status {
                200 => Seen::Served(reply.text().parse::<DynoName>().expect("a dyno's name")),
                404 => Seen::NoSuchApp,
                503 => {
                    let line = self.rig.line(id).await;
                    match line.split("code=").nth(1).map(|rest| &rest[..3]) {
                        Some("H10") => Seen::Crashed,
                        Some("H14") => Seen::NoWebDynos,
                        Some("H80") => Seen::Maintenance,
                        Some("H81") => Seen::Blank,
                        _ => panic!("{line}"),
                    }
                }
                _ => panic!("{reply:?}"),
            }
        }

        async fn begin(&self, host: &str, path: &str, more: &str) -> (Peer, String) {
            let number = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let id = format!("contract-request-{number:08}-");
            let mut peer = self.rig.connect().await;
            peer.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {id}\r\n{more}\r\n")).await;
            (peer, id)
        }
    }

    #[async_trait]
    impl IngressBench for RouterBench {
        async fn start() -> Self {
            let rig = Rig::start().await;
            let client = Mutex::new(Arc::new(rig.another_client().await));
            Self { rig, client, release: Arc::default(), holds: Arc::default(), asked: 0.into() }
        }
        fn ingress(&self) -> Arc<dyn Ingress> {
            self.client()
        }
        fn pools(&self) -> Arc<dyn Pools> {
            self.client()
        }
        async fn restart(&self) {
            let next = Arc::new(self.rig.another_client().await);
            *self.client.lock().expect("not poisoned") = next;
        }
        async fn dyno(&self, name: &str) -> Member {
            let (said, release, holds) = (name.to_owned(), self.release.clone(), self.holds.clone());
            dyno(name, move |mut peer| {
                let (name, release, holds) = (said.clone(), release.clone(), holds.clone());
                async move {
                    while let Some(head) = peer.head().await {
                        if head.starts_with("GET /hold ") {
                            holds.notify_one();
                            release.notified().await;
                        }
                        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())).await;
                    }
                }
            })
            .await
        }
        async fn ask(&self, host: &str) -> Seen {
            self.visit(host, &mut None).await
        }
        async fn visit(&self, host: &str, cookies: &mut Option<String>) -> Seen {
            let more = cookies.as_ref().map_or_else(String::new, |cookie| format!("Cookie: theme=dark; {cookie}\r\n"));
            let (mut peer, id) = self.begin(host, "/", &more).await;
            let reply = peer.reply().await;
            let told = reply.head.lines().find_map(|line| line.strip_prefix("Set-Cookie: "));
            if let Some(told) = told.and_then(|told| told.split(';').next()) {
                *cookies = Some(told.to_owned());
            }
            self.seen(reply, &id).await
        }
        async fn hold(&self, host: &str) -> Box<dyn Held> {
            let (peer, _) = self.begin(host, "/hold", "").await;
            self.holds.notified().await;
            Box::new(HeldRequest { peer, release: self.release.clone() })
        }
        async fn finish(&self) {}
    }

    struct HeldRequest {
        peer: Peer,
        release: Arc<Notify>,
    }

    #[async_trait]
    impl Held for HeldRequest {
        async fn finish(mut self: Box<Self>) -> Seen {
            self.release.notify_one();
            Seen::Served(self.peer.reply().await.text().parse().expect("a dyno's name"))
        }
    }

    paas_ports::ingress_contract!(RouterBench);
    mod pools {
        use super::RouterBench;
        paas_ports::pools_contract!(RouterBench);
    }
}
