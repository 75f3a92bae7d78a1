//! Requests that keep coming while something happens to an app: half of the clients keep their connection, the others
//! open one for each request. Nothing is asked twice: what failed once has failed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::platform::{Platform, until};

/// How many ask at the same time.
const CLIENTS: u32 = 8;
/// How long a whole answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// How long the requests that were asked for may take.
const SENT_WITHIN: Duration = Duration::from_secs(240);
/// The most failures that are kept word for word.
const KEPT: usize = 20;

/// Who asks at one port, whatever host it asks for.
pub struct Client {
    agent: ureq::Agent,
    port: u16,
}

impl Client {
    /// One that keeps its connection, or opens another for each request.
    #[must_use]
    pub fn at(port: u16, keeps: bool) -> Self {
        let idle = usize::from(keeps);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(ANSWER_WITHIN))
            .max_redirects(0)
            .max_idle_connections(idle)
            .max_idle_connections_per_host(idle);
        Self { agent: config.build().new_agent(), port }
    }

    /// Asks once, for the page of this host.
    ///
    /// # Errors
    /// In a sentence, when there is no whole answer.
    pub fn get(&self, host: &str) -> Result<(u16, String), String> {
        let request = self.agent.get(format!("http://127.0.0.1:{}/", self.port)).header("Host", host);
        let mut answer = request.call().map_err(|error| format!("no answer: {error}"))?;
        let status = answer.status().as_u16();
        let body =
            answer.body_mut().read_to_string().map_err(|error| format!("{status}, and no whole body: {error}"))?;
        Ok((status, body))
    }
}

/// Requests on one app, whose answers are 200 and hold the same words.
pub struct Traffic<'a> {
    platform: &'a Platform,
    host: String,
    says: &'a str,
    pause: Duration,
    ended: AtomicBool,
    sent: AtomicUsize,
    failed: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl<'a> Traffic<'a> {
    /// So many requests per second on an app that says `says`.
    #[must_use]
    pub fn on(platform: &'a Platform, app: &str, says: &'a str, per_second: u32) -> Self {
        Self {
            platform,
            host: platform.host(app),
            says,
            pause: Duration::from_secs(1) * CLIENTS / per_second,
            ended: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            failures: Mutex::default(),
        }
    }

    /// Does something while the requests come, and lets them go on until there were so many.
    ///
    /// # Panics
    /// When one failed, and when the work panics.
    pub fn while_doing(&self, at_least: usize, work: impl FnOnce()) {
        std::thread::scope(|threads| {
            let clients: Vec<_> = (0..CLIENTS).map(|n| threads.spawn(move || self.ask(n % 2 == 0))).collect();
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                work();
                until(&format!("{at_least} requests"), SENT_WITHIN, || {
                    (self.sent.load(Ordering::Relaxed) >= at_least).then_some(())
                });
            }));
            self.ended.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().expect("a client");
            }
            let (sent, failed) = (self.sent.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
            let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("{sent} requests on {}, {failed} failed: {failures:#?}", self.host);
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
            assert_eq!(failed, 0, "of {sent} requests");
        });
    }

    fn ask(&self, keeps: bool) {
        let client = Client::at(self.platform.front_port(), keeps);
        let begun = Instant::now();
        let mut next = begun;
        while !self.ended.load(Ordering::Relaxed) {
            let since = Instant::now();
            let failure = match client.get(&self.host) {
                Ok((200, body)) if body.contains(self.says) => None,
                Ok((status, body)) => Some(format!("{status} {body:?}")),
                Err(failure) => Some(failure),
            };
            self.sent.fetch_add(1, Ordering::Relaxed);
            if let Some(failure) = failure {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                if failures.len() < KEPT {
                    let kind = if keeps { "a kept connection" } else { "a new connection" };
                    let at = since - begun;
                    failures.push(format!("at {at:.1?} on {kind}, after {:.1?}: {failure}", since.elapsed()));
                }
            }
            next = (next + self.pause).max(since);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}
