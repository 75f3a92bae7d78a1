//! Lines in CloudWatch Logs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use paas_aws::logs::CloudWatchLogs;
use paas_aws::{Aws, MemoryLedger};
use paas_domain::{AppId, Clock as _, SystemClock};
use paas_ports::{LogLine, LogSource, LogStore as _, PortError, TailQuery};

use crate::cell::{Said, Story, Ways};

enum Act {
    Store,
    Read,
    Remove,
}

pub(super) struct Logs {
    account: Aws,
    server: Aws,
    ledger: Arc<MemoryLedger>,
    driver: Mutex<CloudWatchLogs>,
    app: AppId,
    act: Act,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many lines were sent, and which of them were taken.
    sent: usize,
    taken: BTreeSet<String>,
    seen: Vec<String>,
}

async fn of(ways: &Arc<Ways>, act: Act, there: bool) -> Logs {
    let foundation = ways.foundation();
    let (account, server) = (ways.account(&foundation), ways.server(&foundation));
    account.logs.create_log_group().log_group_name(&foundation.log_group).send().await.expect("a log group");
    let ledger = Arc::new(MemoryLedger::default());
    let driver = Mutex::new(CloudWatchLogs::new(server.clone(), ledger.clone()));
    let story = Logs { account, server, ledger, driver, app: AppId::new(), act, state: Mutex::default() };
    if there {
        story.fresh().append(&story.app, vec![line("line 0")]).await.expect("stored");
        story.state().taken.insert("line 0".to_owned());
    }
    story
}

pub(super) async fn stored(ways: &Arc<Ways>) -> Logs {
    of(ways, Act::Store, false).await
}

pub(super) async fn read(ways: &Arc<Ways>) -> Logs {
    of(ways, Act::Read, true).await
}

pub(super) async fn removed(ways: &Arc<Ways>) -> Logs {
    of(ways, Act::Remove, true).await
}

fn line(message: &str) -> LogLine {
    LogLine { at: SystemClock.now(), source: LogSource::Heroku, process: "api".to_owned(), message: message.to_owned() }
}

async fn all(logs: &CloudWatchLogs, app: &AppId) -> Result<Vec<String>, PortError> {
    let query = TailQuery { lines: 1_000, ..TailQuery::default() };
    let tails: Vec<_> = logs.tail(app, query).await?.collect().await;
    Ok(tails.into_iter().map(|tail| tail.line.message).collect())
}

impl Logs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn driver(&self) -> CloudWatchLogs {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another server's, by no line.
    fn fresh(&self) -> CloudWatchLogs {
        CloudWatchLogs::new(self.account.clone(), self.ledger.clone())
    }
}

#[async_trait]
impl Story for Logs {
    async fn act(&self) -> Result<(), Said> {
        let driver = self.driver();
        match self.act {
            Act::Store => {
                let message = {
                    let mut state = self.state();
                    state.sent += 1;
                    format!("line {}", state.sent)
                };
                driver.append(&self.app, vec![line(&message)]).await?;
                self.state().taken.insert(message);
            }
            Act::Read => {
                let seen = all(&driver, &self.app).await?;
                self.state().seen = seen;
            }
            Act::Remove => driver.remove(&self.app).await?,
        }
        Ok(())
    }

    fn restart(&self) {
        let driver = CloudWatchLogs::new(self.server.clone(), self.ledger.clone());
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = driver;
    }

    async fn wrong(&self) -> Option<String> {
        let there = all(&self.fresh(), &self.app).await.expect("lines");
        let state = self.state();
        let seen = if matches!(self.act, Act::Read) { &state.seen } else { &there };
        let distinct: BTreeSet<&String> = seen.iter().collect();
        let taken: BTreeSet<&String> = state.taken.iter().collect();
        match self.act {
            Act::Remove => (!there.is_empty()).then(|| format!("there is {there:?}")),
            _ if distinct.len() != seen.len() => Some(format!("lines are there twice: {seen:?}")),
            _ => (!distinct.is_superset(&taken)).then(|| format!("of {taken:?} there is {seen:?}")),
        }
    }

    async fn end(&self) {
        let group = &self.account.foundation.log_group;
        let _ = self.account.logs.delete_log_group().log_group_name(group).send().await;
    }
}
