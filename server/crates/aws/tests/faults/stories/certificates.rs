//! Certificates of custom domains. What is wrong with one is kept in its row, or, when its domain is gone, said in the
//! server's log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types::Certificate as Shown;
use aws_sdk_route53::types::{ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use paas_aws::alb::{Certificate, CertificateState, Quotas};
use paas_aws::ledger::{Key, Ledger as _};
use paas_aws::{AlbIngress, MemoryLedger};

use super::alb::Site;
use crate::cell::{Said, Story, Ways};
use crate::heard;

/// How often a certificate is looked at that is to be issued.
const LOOKS: usize = 600;

#[derive(Clone, Copy, PartialEq)]
enum Act {
    /// The domain comes.
    Request,
    /// Its owner has made the record.
    Show,
    /// Somebody has taken it off the listener.
    Sweep,
    /// The domain goes.
    Remove,
}

pub(super) struct Certificates {
    site: Site,
    act: Act,
}

pub(super) async fn requested(ways: &Arc<Ways>) -> Certificates {
    Certificates { site: Site::new(ways, Quotas::default()).await, act: Act::Request }
}

pub(super) async fn shown(ways: &Arc<Ways>) -> Certificates {
    let story = Certificates { site: Site::new(ways, Quotas::default()).await, act: Act::Show };
    story.validated().await;
    story
}

pub(super) async fn swept(ways: &Arc<Ways>) -> Certificates {
    let story = attached(ways, Act::Sweep).await;
    let site = &story.site;
    let taken = Shown::builder().certificate_arn(story.row().await.and_then(|row| row.arn).expect("an ARN")).build();
    let take = site.account.elb.remove_listener_certificates();
    let take = take.listener_arn(&site.account.foundation.https_listener_arn).certificates(taken);
    take.send().await.expect("taken");
    story
}

pub(super) async fn gone(ways: &Arc<Ways>) -> Certificates {
    attached(ways, Act::Remove).await
}

async fn attached(ways: &Arc<Ways>, act: Act) -> Certificates {
    let story = Certificates { site: Site::new(ways, Quotas::default()).await, act };
    let other = story.validated().await;
    story.until(&other, |row| row.state == CertificateState::Attached).await;
    story
}

impl Certificates {
    /// Publishes the domain and makes the record that AWS asks for.
    async fn validated(&self) -> AlbIngress {
        let (site, ledger): (&Site, &Arc<MemoryLedger>) = (&self.site, &self.site.ledger);
        let other = site.other(ledger);
        site.publish(&other, 1, &[&site.host, &site.custom]).await.expect("published");
        let row = self.until(&other, |row| row.validation.is_some()).await;
        let record = row.validation.expect("a record");
        let value = ResourceRecord::builder().value(record.value).build().expect("a value");
        let set = ResourceRecordSet::builder().name(record.name).r#type(RrType::Cname).ttl(60).resource_records(value);
        site.change_record(ChangeAction::Upsert, set.build().expect("a record")).await;
        other
    }

    async fn until(&self, driver: &AlbIngress, holds: impl Fn(&Certificate) -> bool) -> Certificate {
        for _ in 0..600 {
            driver.look_at_certificates().await;
            if let Some(row) = self.row().await.filter(&holds) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the certificate does not come: {:?}", self.row().await);
    }

    async fn row(&self) -> Option<Certificate> {
        let key = Key::Certificate(self.site.app.clone(), self.site.custom.parse().expect("a host"));
        let body = self.site.ledger.row(&key).await.expect("a look");
        body.map(|body| Certificate::read(&body).expect("read"))
    }

    /// What ACM has for the domain.
    async fn at_acm(&self) -> Vec<String> {
        let mut pages = self.site.account.acm.list_certificates().into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(one) = pages.next().await {
            let one = one.expect("certificates");
            if one.domain_name() == Some(&self.site.custom) {
                found.push(one.certificate_arn().unwrap_or_default().to_owned());
            }
        }
        found
    }

    /// What the listener shows beside its default.
    async fn on_listener(&self) -> Vec<String> {
        let listener = &self.site.account.foundation.https_listener_arn;
        let found = self.site.account.elb.describe_listener_certificates().listener_arn(listener).send().await;
        let found = found.expect("certificates");
        let shown = found.certificates().iter().filter(|one| one.is_default() != Some(true));
        shown.filter_map(|one| one.certificate_arn().map(str::to_owned)).collect()
    }

    /// Looks until it is as wanted; says what is in the way.
    async fn look(&self, driver: &AlbIngress, wanted: CertificateState) -> Result<(), Said> {
        for _ in 0..LOOKS {
            driver.look_at_certificates().await;
            let row = self.row().await.ok_or_else(|| Said::kept("there is no row"))?;
            if let Some(reason) = row.reason {
                return Err(Said::kept(reason));
            }
            if row.state == wanted && (row.validation.is_some() || wanted != CertificateState::Pending) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Said::kept(format!("AWS does not come to an end: {:?}", self.row().await)))
    }
}

#[async_trait]
impl Story for Certificates {
    async fn act(&self) -> Result<(), Said> {
        let (site, driver) = (&self.site, self.site.driver());
        match self.act {
            Act::Request => {
                site.publish(&driver, 1, &[&site.host, &site.custom]).await?;
                self.look(&driver, CertificateState::Pending).await?;
            }
            Act::Show => self.look(&driver, CertificateState::Attached).await?,
            Act::Sweep => {
                driver.repair().await?;
                if let Some(reason) = self.row().await.and_then(|row| row.reason) {
                    return Err(Said::kept(reason));
                }
            }
            Act::Remove => {
                site.publish(&driver, 2, &[&site.host]).await?;
                driver.look_at_certificates().await;
                if self.row().await.is_some() {
                    let heard = heard::last_of(site.app.as_str());
                    return Err(Said::kept(heard.unwrap_or_else(|| "nothing was said".to_owned())));
                }
            }
        }
        Ok(())
    }

    fn restart(&self) {
        self.site.restart();
    }

    async fn wrong(&self) -> Option<String> {
        let (row, acm, shown) = (self.row().await, self.at_acm().await, self.on_listener().await);
        let arn = row.as_ref().and_then(|row| row.arn.clone());
        let right = match self.act {
            Act::Remove => row.is_none() && acm.is_empty() && shown.is_empty(),
            Act::Request => acm.len() == 1 && acm.first() == arn.as_ref() && shown.is_empty(),
            Act::Show | Act::Sweep => acm.len() == 1 && acm.first() == arn.as_ref() && shown == acm,
        };
        (!right).then(|| format!("ACM has {acm:?}, the listener {shown:?}, the row says {row:?}"))
    }

    async fn end(&self) {
        for arn in self.on_listener().await {
            let gone = Shown::builder().certificate_arn(arn).build();
            let listener = &self.site.account.foundation.https_listener_arn;
            let remove = self.site.account.elb.remove_listener_certificates().listener_arn(listener);
            let _ = remove.certificates(gone).send().await;
        }
        for arn in self.at_acm().await {
            let _ = self.site.account.acm.delete_certificate().certificate_arn(arn).send().await;
        }
        self.site.end().await;
    }
}
