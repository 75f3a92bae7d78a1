//! Memory quotas: R14 above the quota, R15 at twice the quota, where the kernel steps in.

use std::time::Duration;

use bollard::models::ContainerMemoryStats;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;

use super::Inner;
use super::book::Dyno;
use super::facts::Failure;
use super::voice;

/// How many dynos are measured at the same time.
const AT_ONCE: usize = 8;

impl Inner {
    /// Measures every running dyno again and again.
    pub(crate) async fn watch_memory(&self) {
        loop {
            tokio::time::sleep(self.timing.memory_every).await;
            let running = self.book.all().into_iter().filter(|d| {
                let facts = d.facts();
                facts.started && facts.exit.is_none()
            });
            futures_util::stream::iter(running)
                .for_each_concurrent(AT_ONCE, |dyno| async move { self.measure(&dyno).await })
                .await;
        }
    }

    async fn measure(&self, dyno: &Dyno) {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut stats = Box::pin(self.docker.stats(&dyno.container, Some(options)));
        let Ok(Some(Ok(stats))) = tokio::time::timeout(Duration::from_secs(5), stats.next()).await else { return };
        let used = stats.memory_stats.map_or(0, |m| used_bytes(&m));
        let quota_mib = dyno.tag.size.memory_mib();
        if used > u64::from(quota_mib) * 1024 * 1024 {
            let now = self.clock.now();
            let lines = vec![
                voice::line(&dyno.tag, now, voice::memory(used, quota_mib)),
                voice::line(&dyno.tag, now, voice::MEMORY_EXCEEDED),
            ];
            self.say_lines(&dyno.tag.app, lines).await;
        }
    }

    /// The kernel killed something in this dyno for memory: the whole dyno goes, as on Heroku.
    pub(crate) async fn out_of_memory(&self, dyno: &Dyno) {
        let facts = dyno.facts();
        if facts.stop.is_none() && dyno.blame(Failure::MemoryVastlyExceeded) {
            self.changed(dyno).await;
            self.say_memory_vastly_exceeded(dyno).await;
            self.kill(dyno).await;
        }
    }

    pub(crate) async fn say_memory_vastly_exceeded(&self, dyno: &Dyno) {
        let quota_mib = dyno.tag.size.memory_mib();
        let most = u64::from(quota_mib) * 2 * 1024 * 1024;
        let now = self.clock.now();
        let lines = vec![
            voice::line(&dyno.tag, now, voice::memory(most, quota_mib)),
            voice::line(&dyno.tag, now, voice::MEMORY_VASTLY_EXCEEDED),
        ];
        self.say_lines(&dyno.tag.app, lines).await;
    }
}

/// What the app itself holds: the page cache that the kernel may drop at any time is not counted.
fn used_bytes(memory: &ContainerMemoryStats) -> u64 {
    let stats = memory.stats.as_ref();
    // `total_inactive_file` on cgroup v1, `inactive_file` on v2.
    let cache = stats.and_then(|s| s.get("total_inactive_file").or_else(|| s.get("inactive_file"))).copied();
    memory.usage.unwrap_or_default().saturating_sub(cache.unwrap_or_default())
}
