//! Config in Secrets Manager: immutable secrets per (app, key), named by task definitions, read by the execution role.
//!
//! A secret's value is a JSON object, so that one secret carries all variables of a dyno; what does not fit into
//! one (64 KB) goes on in the next. Each is written once, by `CreateSecret`, with a client token that its key
//! decides; the server itself never reads one back. ARNs end in characters that AWS chooses, so they are looked up.
//! What does not carry the installation's tag is neither used nor removed, whatever its name.

use async_trait::async_trait;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, Tag};
use paas_domain::AppId;
use paas_ports::outside::check;
use paas_ports::{PortError, SecretKey, SecretVars, Secrets};
use serde_json::{Map, Value};

use crate::{Aws, AwsError, Call, Kind};

/// The most bytes that a secret's value has on AWS ("Secrets Manager quotas", 65,536), less a little.
const MOST_BYTES: usize = 65_000;
/// The most that `ListSecrets` answers at once.
const PAGE: i32 = 100;

/// [`Secrets`] on Secrets Manager. Remembers nothing: another server may have removed what this one kept.
pub struct AwsSecrets {
    aws: Aws,
}

impl AwsSecrets {
    /// The driver of this account.
    #[must_use]
    pub fn new(aws: Aws) -> Self {
        Self { aws }
    }

    /// `paas/<installation>/<app>/config/<id>/<part>`. It does not end like the six characters that AWS adds.
    fn name(&self, app: &AppId, key: &SecretKey, part: usize) -> String {
        let (kind, id) = words(key);
        format!("paas/{}/{app}/{kind}/{id}/{part}", self.aws.install)
    }

    async fn keep(&self, app: &AppId, key: &SecretKey, part: usize, value: String) -> Result<String, AwsError> {
        let (name, (_, id)) = (self.name(app, key, part), words(key));
        let tag = |name: &str, value: &str| Tag::builder().key(name).value(value).build();
        let request = self
            .aws
            .secrets
            .create_secret()
            .name(&name)
            .client_request_token(id)
            .set_kms_key_id(self.aws.foundation.kms_key_arn.clone())
            .tags(tag("paas:install", &self.aws.install.to_string()))
            .tags(tag("paas:app", app.as_str()))
            .secret_string(value);
        let doing = "keeping the config for dynos";
        let made = self.aws.call(Call::CreateSecret, Some(app), doing, request.send()).await;
        match made {
            Ok(made) => made.arn.ok_or_else(|| AwsError::own(Kind::Transient, doing, "AWS named no ARN")),
            // Somebody wrote it before us: a secret is written once.
            Err(error) if error.kind == Kind::Conflict || error.is(&["ResourceExistsException"]) => {
                let found = self.find(app, &name).await?;
                found.ok_or_else(|| {
                    let message = format!(
                        "the secret {name} is there and does not carry the tag paas:install={}: remove it, or give it \
                         the tag if it is ours",
                        self.aws.install
                    );
                    AwsError::own(Kind::Other, doing, message)
                })
            }
            // Removed a moment ago.
            Err(error) if error.is(&["InvalidRequestException"]) && error.message.contains("deletion") => {
                Err(AwsError { kind: Kind::Transient, ..error })
            }
            Err(error) => Err(error),
        }
    }

    /// The ARN of what is there by this name; `None` when it is not ours.
    async fn find(&self, app: &AppId, name: &str) -> Result<Option<String>, AwsError> {
        let doing = "finding the config for dynos";
        let request = self.aws.secrets.describe_secret().secret_id(name);
        let found = self.aws.call(Call::DescribeSecret, Some(app), doing, request.send()).await?;
        if !self.is_ours(found.tags()) {
            return Ok(None);
        }
        found.arn.map(Some).ok_or_else(|| AwsError::own(Kind::Transient, doing, "AWS named no ARN"))
    }

    fn is_ours(&self, tags: &[Tag]) -> bool {
        tags.iter().any(|tag| tag.key() == Some("paas:install") && tag.value() == Some(self.aws.install.as_str()))
    }

    /// The names of what is there and ours whose names begin with `prefix`. A name alone does not make it ours.
    async fn names(&self, app: Option<&AppId>, prefix: &str) -> Result<Vec<String>, AwsError> {
        let mut names = Vec::new();
        let mut next = None;
        loop {
            let filter = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
            let request = self.aws.secrets.list_secrets().filters(filter).max_results(PAGE).set_next_token(next);
            let page = self.aws.call(Call::ListSecrets, app, "listing the config for dynos", request.send()).await?;
            let there = page.secret_list().iter().filter(|secret| secret.deleted_date().is_none());
            let there = there.filter(|secret| self.is_ours(secret.tags()));
            names.extend(there.filter_map(|secret| secret.name.clone()).filter(|name| name.starts_with(prefix)));
            next = page.next_token;
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    /// At once and for good: the rows have the config sealed.
    async fn delete(&self, app: &AppId, name: &str) -> Result<(), AwsError> {
        let request = self.aws.secrets.delete_secret().secret_id(name).force_delete_without_recovery(true);
        match self.aws.call(Call::DeleteSecret, Some(app), "removing the config for dynos", request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Secrets for AwsSecrets {
    async fn ensure(&self, app: &AppId, key: &SecretKey, vars: &[(String, String)]) -> Result<SecretVars, PortError> {
        check("Secrets::ensure");
        let parts = pack(vars)?;
        let mut arns = Vec::with_capacity(parts.len());
        for (n, part) in parts.iter().enumerate() {
            arns.push(self.keep(app, key, n, json(part)).await?);
        }
        // `<arn>:<key>:<stage>:<version>`: the current version of a secret that has only one.
        let named = arns
            .iter()
            .zip(&parts)
            .flat_map(|(arn, part)| part.iter().map(move |(name, _)| ((*name).to_owned(), format!("{arn}:{name}::"))));
        Ok(SecretVars(named.collect()))
    }

    async fn list(&self, app: &AppId) -> Result<Vec<SecretKey>, PortError> {
        check("Secrets::list");
        let prefix = format!("paas/{}/{app}/", self.aws.install);
        let mut keys: Vec<SecretKey> = self
            .names(Some(app), &prefix)
            .await?
            .iter()
            .filter_map(|name| key_of(name.strip_prefix(&prefix)?))
            .collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    async fn remove(&self, app: &AppId, key: &SecretKey) -> Result<(), PortError> {
        check("Secrets::remove");
        let (kind, id) = words(key);
        let prefix = format!("paas/{}/{app}/{kind}/{id}/", self.aws.install);
        // The list may be a moment old; the first part is always there.
        let mut names = self.names(Some(app), &prefix).await?;
        let first = self.name(app, key, 0);
        if !names.contains(&first) {
            match self.find(app, &first).await {
                Ok(ours) => names.extend(ours.map(|_| first)),
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        for name in names {
            self.delete(app, &name).await?;
        }
        Ok(())
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        check("Secrets::remove_app");
        for name in self.names(Some(app), &format!("paas/{}/{app}/", self.aws.install)).await? {
            self.delete(app, &name).await?;
        }
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        check("Secrets::apps");
        let prefix = format!("paas/{}/", self.aws.install);
        let names = self.names(None, &prefix).await?;
        let owner = |name: &String| name.strip_prefix(&prefix)?.split('/').next()?.parse().ok();
        let mut apps: Vec<AppId> = names.iter().filter_map(owner).collect();
        apps.sort();
        apps.dedup();
        Ok(apps)
    }
}

/// A key's kind and id, as names and notes have them.
pub(crate) fn words(key: &SecretKey) -> (&'static str, &str) {
    match key {
        SecretKey::Config(id) => ("config", id.as_str()),
        SecretKey::Dyno(id) => ("dyno", id.as_str()),
    }
}

/// Reads `config/<id>/<part>`.
pub(crate) fn key_of(rest: &str) -> Option<SecretKey> {
    let mut words = rest.split('/');
    let (kind, id) = (words.next()?, words.next()?);
    match kind {
        "config" => id.parse().ok().map(SecretKey::Config),
        "dyno" => id.parse().ok().map(SecretKey::Dyno),
        _ => None,
    }
}

/// Puts variables into as few objects as hold them, in their order: the same ones every time.
fn pack(vars: &[(String, String)]) -> Result<Vec<Vec<(&str, &str)>>, PortError> {
    let mut parts: Vec<Vec<(&str, &str)>> = Vec::new();
    let mut used = 0;
    for (name, value) in vars {
        let needs = json(&[(name, value)]).len();
        if needs > MOST_BYTES {
            return Err(PortError::permanent("keeping the config for dynos", format!("{name} is longer than 64 KB")));
        }
        match parts.last_mut() {
            Some(part) if used + needs <= MOST_BYTES => part.push((name, value)),
            _ => {
                parts.push(vec![(name, value)]);
                used = 0;
            }
        }
        used += needs;
    }
    Ok(parts)
}

fn json(part: &[(&str, &str)]) -> String {
    let object: Map<String, Value> =
        part.iter().map(|(name, value)| ((*name).to_owned(), Value::String((*value).to_owned()))).collect();
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_one_goes_on_in_the_next() {
        let var = |name: &str, length: usize| (name.to_owned(), "x".repeat(length));
        let vars = [var("A", 61_440), var("B", 61_440), var("C", 100), var("D", 3_000)];
        let parts = pack(&vars).expect("fits");
        let names: Vec<Vec<&str>> = parts.iter().map(|part| part.iter().map(|(name, _)| *name).collect()).collect();
        assert_eq!(names, [vec!["A"], vec!["B", "C", "D"]]);
        assert!(parts.iter().all(|part| json(part).len() <= 65_536));
        assert!(pack(&[var("A", 65_000)]).is_err());
        assert!(pack(&[]).expect("nothing").is_empty());
    }

    #[test]
    fn names_say_the_key() {
        let id = paas_domain::ConfigId::new();
        assert_eq!(key_of(&format!("config/{id}/1")), Some(SecretKey::Config(id)));
        assert_eq!(key_of("config/x/1"), None);
        assert_eq!(key_of("other"), None);
    }
}
