//! Target groups: one for each process type that is placed.

use aws_sdk_elasticloadbalancingv2::types::{
    Matcher, ProtocolEnum, Tag, TargetGroup, TargetGroupAttribute, TargetTypeEnum,
};
use paas_domain::{AppId, InstallId, ProcessType, outside_name};
use paas_ports::PortError;
use sha2::{Digest as _, Sha256};

use super::AlbIngress;
use super::book::Book;
use crate::call::Call;
use crate::error::{AwsError, Kind};

/// How long a client keeps its target, in seconds: as Heroku's cookie lasts.
const STICKY_S: &str = "86400";
/// The port that web dynos listen on.
const PORT: i32 = 5000;
/// How often a target is asked, in seconds.
const CHECK_EVERY_S: i32 = 5;
/// How long it may take; AWS wants it shorter than the interval.
const CHECK_TIMEOUT_S: i32 = 4;
/// How long a target that leaves finishes what it has: Heroku gives 30 s between SIGTERM and SIGKILL.
const DRAIN_S: &str = "35";
/// The tag with the app's id.
pub(super) const APP: &str = "paas:app";
/// The tag with the installation's id.
pub(super) const INSTALL: &str = "paas:install";
/// The most resources in one DescribeTags.
const TAGS_AT_ONCE: usize = 20;

/// Tags of what belongs to an app.
pub(super) fn tags(install: &InstallId, app: Option<&AppId>) -> Vec<Tag> {
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let mut tags = vec![tag(INSTALL, install.as_str())];
    tags.extend(app.map(|app| tag(APP, app.as_str())));
    tags
}

fn attributes(sticky: bool) -> Vec<TargetGroupAttribute> {
    let of = |key: &str, value: &str| TargetGroupAttribute::builder().key(key).value(value).build();
    let mut attributes = vec![of("deregistration_delay.timeout_seconds", DRAIN_S)];
    if sticky {
        attributes.push(of("stickiness.enabled", "true"));
        attributes.push(of("stickiness.type", "lb_cookie"));
        attributes.push(of("stickiness.lb_cookie.duration_seconds", STICKY_S));
    } else {
        attributes.push(of("stickiness.enabled", "false"));
    }
    attributes
}

/// A group's name: at most 32 characters, the same every time.
fn name(install: &InstallId, app: &AppId, process_type: &ProcessType) -> String {
    let text = process_type.as_str();
    let short = text.len() <= 6 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if short {
        return outside_name(install, app, text);
    }
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
    outside_name(install, app, &format!("x{}", &hash[..5]))
}

/// A resource of AWS with our tags.
pub(super) struct Tagged {
    pub(super) arn: String,
    /// `None` when it is not ours.
    pub(super) install: Option<String>,
    pub(super) app: Option<AppId>,
}

impl AlbIngress {
    /// Makes the group, or finds it, and remembers its ARN.
    pub(super) async fn ensure_group(&self, app: &AppId, process_type: &ProcessType) -> Result<String, PortError> {
        let name = name(&self.aws.install, app, process_type);
        let doing = format!("making the target group of {process_type}");
        // Heroku takes a web dyno for up when it binds its port, whatever it answers. 200-499 is all that a balancer
        // accepts: an app without a page at `/`, or with a log-in in front of it, is healthy.
        let create = self.aws.elb.create_target_group().name(&name).target_type(TargetTypeEnum::Ip);
        let create = create.protocol(ProtocolEnum::Http).port(PORT).vpc_id(&self.aws.foundation.vpc_id);
        let create = create.health_check_path("/").matcher(Matcher::builder().http_code("200-499").build());
        let create = create.health_check_interval_seconds(CHECK_EVERY_S).health_check_timeout_seconds(CHECK_TIMEOUT_S);
        let create = create.healthy_threshold_count(2).unhealthy_threshold_count(2);
        let create = create.set_tags(Some(tags(&self.aws.install, Some(app))));
        let arn = match self.aws.call(Call::CreateTargetGroup, Some(app), &doing, create.send()).await {
            Ok(made) => made.target_groups().first().and_then(TargetGroup::target_group_arn).map(str::to_owned),
            Err(error) if error.is(&["DuplicateTargetGroupName"]) => self.adopt_group(app, &name, &doing).await?,
            Err(error) => return Err(error.into()),
        };
        let arn = arn.ok_or_else(|| PortError::transient(&doing, "AWS did not say its ARN"))?;
        // One that was found may keep its clients still; whether it is to is said when the route is published.
        self.set_attributes(app, &doing, &arn, false).await?;
        let key = (app.clone(), process_type.clone());
        self.note(|book| {
            if let Some(group) = book.groups.get_mut(&key) {
                (group.arn, group.sticky) = (Some(arn.clone()), Some(false));
            }
        })
        .await?;
        Ok(arn)
    }

    async fn set_attributes(&self, app: &AppId, doing: &str, arn: &str, sticky: bool) -> Result<(), AwsError> {
        let attributes = attributes(sticky);
        let modify = || {
            let modify = self.aws.elb.modify_target_group_attributes().target_group_arn(arn);
            modify.set_attributes(Some(attributes.clone())).send()
        };
        self.patiently(Call::ModifyTargetGroupAttributes, app, doing, modify).await.map(drop)
    }

    /// Makes a group keep its clients or not, as its app's route says.
    pub(super) async fn stick(&self, app: &AppId, process_type: &ProcessType, arn: &str) -> Result<(), PortError> {
        let doing = "changing the session affinity";
        let key = (app.clone(), process_type.clone());
        let told = |book: &mut Book, what: Option<bool>| {
            if let Some(group) = book.groups.get_mut(&key).filter(|group| group.arn.as_deref() == Some(arn)) {
                group.sticky = what;
            }
        };
        // Nobody knows what AWS heard while this call is under way, or when it was the last one of a server that died.
        let begun = self.change(|book| {
            told(book, None);
            Ok(book.routes.get(app).map(|route| route.sticky))
        });
        let Some(sticky) = begun.await? else { return Ok(()) };
        match self.set_attributes(app, doing, arn, sticky).await {
            Ok(()) => {}
            Err(error) if error.kind == Kind::NotFound => {
                self.forget_missing_groups(&[arn.to_owned()]).await?;
                return Err(PortError::transient(doing, "the target group is gone; it is made again"));
            }
            Err(error) => return Err(error.into()),
        }
        self.note(|book| told(book, Some(sticky))).await
    }

    /// The group with this name, if it is this app's.
    async fn adopt_group(&self, app: &AppId, name: &str, doing: &str) -> Result<Option<String>, PortError> {
        let found = self.groups_named(app, name, doing).await?;
        let tagged = self.tagged(Some(app), &found, doing).await?;
        match tagged.into_iter().next() {
            None => Err(PortError::transient(doing, "AWS says that it is there and does not show it")),
            Some(group) if self.is_ours(&group) && group.app.as_ref() == Some(app) => Ok(Some(group.arn)),
            Some(_) => {
                let cause = format!("somebody else has a target group {name}: delete or rename it");
                Err(PortError::permanent(doing, cause))
            }
        }
    }

    async fn groups_named(&self, app: &AppId, name: &str, doing: &str) -> Result<Vec<String>, PortError> {
        let describe = self.aws.elb.describe_target_groups().names(name).send();
        match self.aws.call(Call::DescribeTargetGroups, Some(app), doing, describe).await {
            Ok(found) => {
                Ok(found.target_groups().iter().filter_map(|g| g.target_group_arn().map(str::to_owned)).collect())
            }
            Err(error) if error.kind == Kind::NotFound => Ok(vec![]),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an app's groups. Its rules are gone by now.
    pub(super) async fn remove_groups(&self, app: &AppId) -> Result<(), PortError> {
        let book = self.book().await?;
        for ((of, process_type), group) in book.groups.iter().filter(|((of, _), _)| of == app) {
            let arns = match &group.arn {
                Some(arn) => vec![arn.clone()],
                // It may have been made before its row could say so.
                None => {
                    let name = name(&self.aws.install, app, process_type);
                    let found = self.groups_named(app, &name, "looking for a target group").await?;
                    self.ours(app, &found).await?
                }
            };
            for arn in arns {
                self.delete_group(app, &arn).await?;
            }
            let key = (of.clone(), process_type.clone());
            self.note(|book| drop(book.groups.remove(&key))).await?;
        }
        Ok(())
    }

    async fn delete_group(&self, app: &AppId, arn: &str) -> Result<(), PortError> {
        let doing = "deleting a target group";
        let delete = self.aws.elb.delete_target_group().target_group_arn(arn).send();
        match self.aws.call(Call::DeleteTargetGroup, Some(app), doing, delete).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what carries an app's tag though the ledger does not know the app: rules that name its groups, then
    /// the groups.
    pub(super) async fn remove_unknown(&self, app: &AppId) -> Result<(), PortError> {
        let name = name(&self.aws.install, app, &ProcessType::web());
        let found = self.groups_named(app, &name, "looking for a target group").await?;
        let groups = self.ours(app, &found).await?;
        if groups.is_empty() {
            return Ok(());
        }
        for number in self.book().await?.shards.keys() {
            for (rule, tagged) in self.rules_with_tags(*number).await? {
                if self.is_ours(&tagged) && tagged.app.as_ref() == Some(app) {
                    self.delete_rule(Some(app), rule.rule_arn().unwrap_or_default()).await?;
                }
            }
        }
        for group in groups {
            self.delete_group(app, &group).await?;
        }
        Ok(())
    }

    /// The apps of groups that carry our tag and are in no row.
    pub(super) async fn apps_of_unknown_groups(&self, book: &Book) -> Result<Vec<AppId>, PortError> {
        let doing = "listing target groups";
        let known: Vec<&String> = book.groups.values().filter_map(|group| group.arn.as_ref()).collect();
        let prefix = format!("paas-{}-", self.aws.install);
        let found = self.all_groups(doing).await?.into_iter();
        let unknown: Vec<String> = found
            .filter(|(arn, name)| name.starts_with(&prefix) && !known.contains(&arn))
            .map(|(arn, _)| arn)
            .collect();
        let tagged = self.tagged(None, &unknown, doing).await?;
        Ok(tagged.into_iter().filter(|group| self.is_ours(group)).filter_map(|group| group.app).collect())
    }

    /// Every group of the account: ARN and name.
    pub(super) async fn all_groups(&self, doing: &str) -> Result<Vec<(String, String)>, PortError> {
        let (mut groups, mut marker) = (Vec::new(), None);
        loop {
            let describe = self.aws.elb.describe_target_groups().set_marker(marker).send();
            let page = self.aws.call(Call::DescribeTargetGroups, None, doing, describe).await?;
            groups.extend(page.target_groups().iter().filter_map(|group| {
                Some((group.target_group_arn()?.to_owned(), group.target_group_name()?.to_owned()))
            }));
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                return Ok(groups);
            }
        }
    }

    async fn ours(&self, app: &AppId, arns: &[String]) -> Result<Vec<String>, PortError> {
        let tagged = self.tagged(Some(app), arns, "reading tags").await?.into_iter();
        Ok(tagged.filter(|one| self.is_ours(one) && one.app.as_ref() == Some(app)).map(|one| one.arn).collect())
    }

    /// Whether something carries this installation's tag.
    pub(super) fn is_ours(&self, tagged: &Tagged) -> bool {
        tagged.install.as_deref() == Some(self.aws.install.as_str())
    }

    /// The tags of these resources; those that are gone meanwhile are left out.
    pub(super) async fn tagged(
        &self,
        app: Option<&AppId>,
        arns: &[String],
        doing: &str,
    ) -> Result<Vec<Tagged>, PortError> {
        let mut all = Vec::new();
        for arns in arns.chunks(TAGS_AT_ONCE) {
            let describe = self.aws.elb.describe_tags().set_resource_arns(Some(arns.to_vec())).send();
            let found = match self.aws.call(Call::DescribeTags, app, doing, describe).await {
                Ok(found) => found,
                // One of them is gone, and AWS does not say which.
                Err(error) if error.kind == Kind::NotFound && arns.len() > 1 => {
                    for arn in arns {
                        all.extend(Box::pin(self.tagged(app, std::slice::from_ref(arn), doing)).await?);
                    }
                    continue;
                }
                Err(error) if error.kind == Kind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            for description in found.tag_descriptions() {
                let value = |key: &str| {
                    let tag = description.tags().iter().find(|tag| tag.key() == Some(key));
                    tag.and_then(|tag| tag.value()).map(str::to_owned)
                };
                all.push(Tagged {
                    arn: description.resource_arn().unwrap_or_default().to_owned(),
                    install: value(INSTALL),
                    app: value(APP).and_then(|text| text.parse().ok()),
                });
            }
        }
        Ok(all)
    }

    /// Makes a call that names something just made, which AWS may not know everywhere yet.
    pub(super) async fn patiently<T, E, F>(
        &self,
        call: Call,
        app: &AppId,
        doing: &str,
        mut request: impl FnMut() -> F + Send,
    ) -> Result<T, AwsError>
    where
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<
                Output = Result<
                    T,
                    aws_smithy_runtime_api::client::result::SdkError<
                        E,
                        aws_smithy_runtime_api::client::orchestrator::HttpResponse,
                    >,
                >,
            > + Send,
    {
        let mut wait = std::time::Duration::from_millis(200);
        loop {
            match self.aws.call(call, Some(app), doing, request()).await {
                Err(error) if error.kind == Kind::NotFound && wait.as_millis() < 1_600 => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_name_that_aws_takes() {
        let (install, app) = (InstallId::random(), AppId::new());
        let mut names: Vec<String> = ["web", "api", "API", "web-admin", "a_b", "worker", "workers"]
            .iter()
            .map(|text| name(&install, &app, &text.parse().expect("a process type")))
            .collect();
        assert!(names[0].ends_with("-web"));
        for name in &names {
            assert!(name.len() <= 32 && !name.ends_with('-'), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 7);
    }
}
