//! [`Ingress`] on shared load balancers: host rules on 443, as many balancers (*shards*) as it takes.
//!
//! | file | owns |
//! | --- | --- |
//! | `book` | what was promised, as values over the [`Ledger`] |
//! | `allocate`, `quota` | who goes where; decides on a book alone |
//! | `sync` | makes AWS what the book says, one call at a time; `rule`, `page`: a rule in AWS's words |
//! | `group`, `shard`, `record`, `certificate` | target groups, balancers, DNS records, certificates |
//! | `repair` | what somebody else has changed on AWS is changed back |
//!
//! Every row is written before its effect, and what AWS was told last is kept with it. So a route that was
//! published before costs one look at the database and no call, a crash between an effect and its row is found by
//! the rule's priority and tags, and whoever comes late tells AWS the same as everybody else.
//!
//! Differences from our own router, which come with AWS: a rule takes some seconds to reach every node of a
//! balancer after `publish` returned, a closing dot in `Host` matches no rule, and the cookie of session affinity is
//! called `AWSALB`. When no target of a group is
//! healthy the balancer answers with its own 502, 503 or 504.

mod allocate;
mod book;
mod certificate;
mod group;
mod page;
mod quota;
mod record;
mod repair;
mod rule;
mod shard;
mod sync;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use paas_domain::{AppId, HostName, ProcessType};
use paas_ports::{Attachment, Ingress, PortError, Route, outside};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use book::{Certificate, CertificateState, ValidationRecord};
pub use quota::Quotas;
pub use repair::Repaired;

use crate::Aws;
use crate::ledger::{Key, Ledger};
use allocate::{Refusal, Terms};
use book::{Book, Group, Published};

/// How many apps' calls go on beside each other.
const LANES: usize = 64;
/// How often a decision is made again because somebody else wrote meanwhile.
const TRIES: usize = 100;

/// What became of a change.
enum Tried<T> {
    Done(T),
    /// Somebody else has written meanwhile.
    Late,
    NeedsShard(u32),
}

/// The driver.
pub struct AlbIngress {
    aws: Aws,
    ledger: Arc<dyn Ledger>,
    terms: Terms,
    /// One app's calls are made one after the other.
    lanes: Vec<Mutex<()>>,
    /// One of us writes at a time; other servers are found out by the revision.
    writing: Mutex<()>,
    /// A balancer is made once.
    making: Mutex<()>,
    /// Route 53 takes one change of a zone at a time.
    zone: Mutex<()>,
    /// Apps with certificates that are not at rest, and when they were looked at last. Only spares calls: the
    /// sweep looks at every certificate.
    restless: std::sync::Mutex<HashMap<AppId, Instant>>,
}

impl AlbIngress {
    /// Over this account and memory, with AWS's default quotas.
    #[must_use]
    pub fn new(aws: Aws, ledger: Arc<dyn Ledger>) -> Self {
        Self::with_quotas(aws, ledger, Quotas::default())
    }

    /// The same, where AWS has granted other quotas.
    #[must_use]
    pub fn with_quotas(aws: Aws, ledger: Arc<dyn Ledger>, quotas: Quotas) -> Self {
        let terms = Terms { quotas, app_domain: aws.foundation.app_domain.clone() };
        let lanes = (0..LANES).map(|_| Mutex::new(())).collect();
        Self {
            aws,
            ledger,
            terms,
            lanes,
            writing: Mutex::default(),
            making: Mutex::default(),
            zone: Mutex::default(),
            restless: std::sync::Mutex::default(),
        }
    }

    /// The app's turn.
    fn lane(&self, app: &AppId) -> &Mutex<()> {
        let sum = app.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        &self.lanes[sum % LANES]
    }

    async fn book(&self) -> Result<Book, PortError> {
        Book::read(self.ledger.rows().await?.1)
    }

    /// Changes the book as `decide` says, which may be asked several times. Makes the shards that it needs.
    async fn change<T>(&self, mut decide: impl FnMut(&mut Book) -> Result<T, Refusal> + Send) -> Result<T, PortError> {
        for _ in 0..TRIES {
            match self.try_change(&mut decide).await? {
                Tried::Done(done) => return Ok(done),
                Tried::Late => {}
                Tried::NeedsShard(number) => self.make_shard(number).await?,
            }
        }
        Err(PortError::transient("writing what AWS is told", "others write all the time"))
    }

    /// A change that cannot be refused.
    async fn note(&self, mut change: impl FnMut(&mut Book) + Send) -> Result<(), PortError> {
        let mut decide = |book: &mut Book| {
            change(book);
            Ok(())
        };
        for _ in 0..TRIES {
            if matches!(self.try_change(&mut decide).await?, Tried::Done(())) {
                return Ok(());
            }
        }
        Err(PortError::transient("writing what AWS was told", "others write all the time"))
    }

    async fn try_change<T>(
        &self,
        decide: &mut (impl FnMut(&mut Book) -> Result<T, Refusal> + Send),
    ) -> Result<Tried<T>, PortError> {
        let _writing = self.writing.lock().await;
        let (revision, rows) = self.ledger.rows().await?;
        let book = Book::read(rows)?;
        let mut next = book.clone();
        let done = match decide(&mut next) {
            Ok(done) => done,
            Err(Refusal::NeedsShard(number)) => return Ok(Tried::NeedsShard(number)),
            Err(Refusal::Port(error)) => return Err(error),
        };
        let changes = book.changes_to(&next);
        let written = changes.is_empty() || self.ledger.write(revision, changes).await?;
        Ok(if written { Tried::Done(done) } else { Tried::Late })
    }

    async fn published(&self, app: &AppId) -> Result<Option<Published>, PortError> {
        let row = self.ledger.row(&Key::Route(app.clone())).await?;
        row.map(|body| book::parse(&body)).transpose()
    }

    /// Makes AWS what the book says of apps that lost a host or got one back. They are looked at again when they
    /// publish next, so a failure is theirs to report.
    async fn sync_others(&self, others: &[AppId]) {
        for other in others {
            if let Err(error) = self.sync(other).await {
                tracing::warn!(app = %other, %error, "its rules are changed when it publishes next");
            }
        }
    }
}

#[async_trait]
impl Ingress for AlbIngress {
    /// The ARN of the target group. ECS may use it once the app's route was published with it.
    async fn place(&self, app: &AppId, process_type: &ProcessType) -> Result<Attachment, PortError> {
        outside::check("Ingress::place");
        let key = Key::Group(app.clone(), process_type.clone());
        if let Some(body) = self.ledger.row(&key).await?
            && let Some(arn) = book::parse::<Group>(&body)?.arn
        {
            return Ok(Attachment(arn));
        }
        let _turn = self.lane(app).lock().await;
        self.change(|book| book.place(app, process_type, &self.terms)).await?;
        self.ensure_group(app, process_type).await.map(Attachment)
    }

    async fn check_hosts(&self, app: &AppId, hosts: &[HostName]) -> Result<(), PortError> {
        outside::check("Ingress::check_hosts");
        self.book().await?.admits(app, hosts, &self.terms)
    }

    async fn publish(&self, route: &Route) -> Result<(), PortError> {
        outside::check("Ingress::publish");
        let (app, wish) = (&route.app, allocate::wish(route));
        if let Some(row) = self.published(app).await? {
            if row.generation > route.generation.0 {
                return Err(PortError::Superseded);
            }
            if !row.removed && row.settled && row.wish.as_deref() == Some(&wish) {
                self.tend_certificates(app).await;
                if row.generation == route.generation.0 {
                    return Ok(());
                }
                // The same route of a newer generation. Somebody who takes a host meanwhile unsettles it.
                let kept = self.change(|book| {
                    let row = book.routes.get_mut(app).filter(|row| row.settled && row.wish.as_ref() == Some(&wish));
                    Ok(row.map(|row| row.generation = row.generation.max(route.generation.0)).is_some())
                });
                if kept.await? {
                    return Ok(());
                }
            }
        }
        let affected = self.change(|book| book.publish(route, &self.terms)).await?;
        self.sync(app).await?;
        self.sync_others(&affected[1..]).await;
        self.work_on_certificates(Some(app)).await;
        Ok(())
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Ingress::remove");
        let book = self.book().await?;
        let known = book.routes.get(app);
        if known.is_none() {
            return self.remove_unknown(app).await;
        }
        let gone = known.is_some_and(|row| row.removed && row.shard.is_none());
        if gone && book.groups_of(app).next().is_none() {
            return Ok(());
        }
        let heirs = self.change(|book| Ok(book.remove(app, &self.terms))).await?;
        self.sync(app).await?;
        self.sync_others(&heirs).await;
        self.work_on_certificates(Some(app)).await;
        self.remove_groups(app).await?;
        self.note(|book| {
            if let Some(row) = book.routes.get_mut(app).filter(|row| row.removed) {
                row.shard = None;
            }
        })
        .await
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Ingress::apps");
        let book = self.book().await?;
        let mut apps = self.apps_of_unknown_groups(&book).await?;
        // One that was removed keeps its shard until nothing of it is left there.
        let there = book.routes.iter().filter(|(_, row)| !row.removed || row.shard.is_some());
        apps.extend(there.map(|(app, _)| app.clone()));
        apps.extend(book.groups.keys().map(|(app, _)| app.clone()));
        apps.extend(book.certificates.keys().map(|(app, _)| app.clone()));
        apps.sort();
        apps.dedup();
        Ok(apps)
    }
}
