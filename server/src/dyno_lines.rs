//! What dynos say over their links, on its way to who reads along.

use async_trait::async_trait;
use paas_aws::logs::{CloudWatchLogs, Missed};
use paas_domain::DynoName;
use paas_link::{Gap, LinkEvents, LinkedDyno, NumberedLine};
use paas_ports::{LogLine, LogSource, PortError};

/// Hands lines to the app's log. Their storage is the container's own affair (awslogs).
pub struct DynoLines {
    logs: CloudWatchLogs,
}

impl DynoLines {
    /// Into these logs.
    #[must_use]
    pub fn new(logs: CloudWatchLogs) -> Self {
        Self { logs }
    }
}

#[async_trait]
impl LinkEvents for DynoLines {
    async fn connected(&self, dyno: &LinkedDyno) {
        tracing::debug!(app = %dyno.app, name = %dyno.name, "a dyno has linked");
    }

    async fn started(&self, _: &LinkedDyno, _: &DynoName) {}

    async fn lines(&self, dyno: &LinkedDyno, lines: Vec<NumberedLine>) -> Result<(), PortError> {
        let process = dyno.name.to_string();
        let line = |line: NumberedLine| LogLine {
            at: line.at,
            source: LogSource::App,
            process: process.clone(),
            message: String::from_utf8_lossy(&line.bytes).into_owned(),
        };
        self.logs.said(&dyno.app, lines.into_iter().map(line).collect());
        Ok(())
    }

    async fn gap(&self, dyno: &LinkedDyno, gap: Gap) {
        let missed = Missed {
            process: dyno.name.to_string(),
            container: dyno.name.process_type.to_string(),
            task: dyno.task.clone(),
            count: Some(gap.lines.end() - gap.lines.start() + 1),
            after: gap.after,
            before: gap.before,
        };
        self.logs.missed(&dyno.app, missed);
    }

    async fn exited(&self, dyno: &LinkedDyno, code: u8) {
        tracing::debug!(app = %dyno.app, name = %dyno.name, code, "a dyno's command has ended");
    }

    async fn disconnected(&self, _: &LinkedDyno) {}
}
