//! Puts an app's platform lines into its stream: in order, as many at once as wait and AWS takes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use paas_domain::{AppId, Clock as _, SystemClock};
use paas_logs::record;
use paas_ports::{PortError, Tail};

use crate::ledger::Ledger;
use crate::{Aws, Call};

/// PutLogEvents: the most events of one call.
const MOST_EVENTS: usize = 10_000;
/// PutLogEvents: the most bytes of one call, each event counted with 26 more.
const MOST_BYTES: usize = 1_048_576;
const EVENT_BYTES: usize = 26;
/// How much may wait while CloudWatch does not answer.
const WAITING_BYTES: usize = 8 << 20;
const DOING: &str = "storing log lines";

/// The stream of what the platform says of an app.
pub(super) fn platform_stream(app: &AppId) -> String {
    format!("{app}/paas/platform")
}

/// See the module.
pub(super) struct Writer {
    stream: String,
    waiting: Mutex<Waiting>,
    /// How many records were ever stored.
    stored: tokio::sync::Mutex<Stored>,
}

/// What became of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// They are stored.
    Stored,
    /// Their app is destroyed: nothing of it is stored any more.
    Never,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<String>,
    bytes: usize,
    /// How many records ever waited.
    queued: u64,
}

#[derive(Default)]
struct Stored {
    count: u64,
    ended: bool,
}

impl Writer {
    pub(super) fn new(app: &AppId) -> Self {
        Self { stream: platform_stream(app), waiting: Mutex::default(), stored: tokio::sync::Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these lines wait for [`Self::store`], all or none; answers their ticket.
    pub(super) fn queue(&self, tails: &[Tail]) -> Result<u64, PortError> {
        let mut waiting = self.waiting();
        if waiting.bytes > WAITING_BYTES {
            return Err(PortError::transient(DOING, "too many wait for CloudWatch Logs to answer"));
        }
        let mut records = Vec::with_capacity(tails.len());
        for tail in tails {
            let mut record = Vec::new();
            record::encode(tail, &mut record).map_err(|e| PortError::permanent(DOING, e))?;
            records.push(String::from_utf8(record).map_err(|e| PortError::permanent(DOING, e))?);
        }
        waiting.queued += records.len() as u64;
        waiting.bytes += records.iter().map(String::len).sum::<usize>();
        waiting.records.extend(records);
        Ok(waiting.queued)
    }

    /// Returns when everything up to this ticket is stored, by this call or by another one. What could not be
    /// stored waits for the next call.
    pub(super) async fn store(
        &self,
        aws: &Aws,
        ledger: &dyn Ledger,
        app: &AppId,
        ticket: u64,
    ) -> Result<Kept, PortError> {
        let mut stored = self.stored.lock().await;
        while stored.count < ticket && !stored.ended {
            let batch = self.batch();
            let count = batch.len();
            if self.put(aws, ledger, app, batch).await? == Kept::Never {
                stored.ended = true;
                return Ok(Kept::Never);
            }
            let mut waiting = self.waiting();
            for record in waiting.records.drain(..count).collect::<Vec<_>>() {
                waiting.bytes -= record.len();
            }
            stored.count += count as u64;
        }
        Ok(Kept::Stored)
    }

    /// Stores nothing any more; what is just being stored is awaited.
    pub(super) async fn end(&self) {
        self.stored.lock().await.ended = true;
    }

    fn batch(&self) -> Vec<String> {
        let waiting = self.waiting();
        let mut bytes = 0;
        let fits = |record: &&String| {
            bytes += record.len() + EVENT_BYTES;
            bytes <= MOST_BYTES
        };
        waiting.records.iter().take(MOST_EVENTS).take_while(fits).cloned().collect()
    }

    async fn put(&self, aws: &Aws, ledger: &dyn Ledger, app: &AppId, records: Vec<String>) -> Result<Kept, PortError> {
        // The time of storing, not the line's own (which the record has): in order, and never too old to be taken.
        let now = SystemClock.now().0;
        let event = |record: String| InputLogEvent::builder().timestamp(now).message(record).build();
        let events: Result<Vec<_>, _> = records.into_iter().map(event).collect();
        let events = events.map_err(|e| PortError::permanent(DOING, e))?;
        let group = &aws.foundation.log_group;
        let put = || {
            let request = aws.logs.put_log_events().log_group_name(group).log_stream_name(&self.stream);
            request.set_log_events(Some(events.clone())).send()
        };
        let answer = match aws.call(Call::PutLogEvents, Some(app), DOING, put()).await {
            Err(error) if error.is(&["ResourceNotFoundException"]) => {
                // Another server may have removed the app, and the stream with it.
                if ledger.is_destroyed(app).await? {
                    return Ok(Kept::Never);
                }
                let request = aws.logs.create_log_stream().log_group_name(group).log_stream_name(&self.stream).send();
                match aws.call(Call::CreateLogStream, Some(app), DOING, request).await {
                    Ok(_) => {}
                    Err(error) if error.is(&["ResourceAlreadyExistsException"]) => {}
                    Err(error) => return Err(error.into()),
                }
                aws.call(Call::PutLogEvents, Some(app), DOING, put()).await?
            }
            answer => answer?,
        };
        match answer.rejected_log_events_info() {
            Some(rejected) => Err(PortError::transient(DOING, format!("CloudWatch did not take all: {rejected:?}"))),
            None => Ok(Kept::Stored),
        }
    }
}
