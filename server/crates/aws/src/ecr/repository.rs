//! Repositories and what is in them, by ECR's own API.

use std::collections::BTreeSet;

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageIdentifier, ImageTagMutability, ListImagesFilter, Repository, Tag,
    TagStatus,
};
use paas_domain::{AppId, Digest};
use paas_ports::PortError;

use super::EcrRegistry;
use super::manifest::MANIFEST;
use crate::{AwsError, Call, Kind};

const ABSENT: &str = "RepositoryNotFoundException";

impl EcrRegistry {
    /// Makes the app's repository when this process has not seen it yet.
    pub(super) async fn ensure_repository(&self, app: &AppId) -> Result<(), PortError> {
        if self.state().ready.contains(app) {
            return Ok(());
        }
        let doing = "making the app's repository";
        let name = self.repository(app);
        let mut request = self.aws.ecr.create_repository().repository_name(&name);
        request = request.image_tag_mutability(ImageTagMutability::Immutable);
        for (key, value) in [("paas:install", self.aws.install.as_str()), ("paas:app", app.as_str())] {
            let tag = Tag::builder().key(key).value(value).build();
            request = request.tags(tag.map_err(|e| PortError::permanent(doing, e))?);
        }
        if let Some(key) = &self.aws.foundation.kms_key_arn {
            let kms = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).kms_key(key).build();
            request = request.encryption_configuration(kms.map_err(|e| PortError::permanent(doing, e))?);
        }
        match self.aws.call(Call::CreateRepository, Some(app), doing, request.send()).await {
            Ok(_) => {}
            Err(error) if error.is(&["RepositoryAlreadyExistsException"]) => {
                self.is_ours(app, doing).await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.state().ready.insert(app.clone());
        Ok(())
    }

    /// Nothing is known of this app's repository any more.
    pub(super) fn forget(&self, app: &AppId) {
        let mut state = self.state();
        state.ready.remove(app);
        state.manifests.retain(|(of, _), _| of != app);
    }

    /// Whether the repository is there; fails when it is there and carries another installation's tag, or none.
    async fn is_ours(&self, app: &AppId, doing: &str) -> Result<bool, PortError> {
        let name = self.repository(app);
        let request = self.aws.ecr.describe_repositories().repository_names(&name).send();
        let found = match self.aws.call(Call::DescribeRepositories, Some(app), doing, request).await {
            Ok(found) => found,
            Err(error) if error.is(&[ABSENT]) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let Some(arn) = found.repositories().first().and_then(|repository| repository.repository_arn()) else {
            return Ok(false);
        };
        let Some(tags) = self.tags(Some(app), arn, doing).await? else { return Ok(false) };
        let ours = |tag: &Tag| tag.key() == "paas:install" && tag.value() == self.aws.install.as_str();
        if tags.iter().any(ours) {
            return Ok(true);
        }
        let why = format!("there is a repository {name} that does not carry this installation's tag");
        Err(AwsError::own(Kind::Other, doing, why).into())
    }

    /// Every app that has a repository which carries this installation's tag.
    pub(super) async fn holders(&self) -> Result<Vec<AppId>, PortError> {
        let doing = "listing the apps' repositories";
        let prefix = format!("paas-{}-", self.aws.install);
        let (mut arns, mut next) = (BTreeSet::new(), None);
        loop {
            let request = self.aws.ecr.describe_repositories().max_results(1_000).set_next_token(next).send();
            let page = self.aws.call(Call::DescribeRepositories, None, doing, request).await?;
            let ours = |found: &&Repository| found.repository_name().is_some_and(|name| name.starts_with(&prefix));
            arns.extend(page.repositories().iter().filter(ours).filter_map(|found| found.repository_arn.clone()));
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        self.state().holders.retain(|arn, _| arns.contains(arn));
        let mut apps = Vec::with_capacity(arns.len());
        for arn in arns {
            let known = self.state().holders.get(&arn).cloned();
            let holder = match known {
                Some(app) => Some(app),
                None => self.tags(None, &arn, doing).await?.as_deref().and_then(|tags| self.holder(tags)),
            };
            if let Some(app) = holder {
                self.state().holders.insert(arn, app.clone());
                apps.push(app);
            }
        }
        Ok(apps)
    }

    /// The app whose repository has these tags, when they are this installation's.
    fn holder(&self, tags: &[Tag]) -> Option<AppId> {
        let value = |key: &str| tags.iter().find(|tag| tag.key() == key).map(Tag::value);
        let ours = value("paas:install") == Some(self.aws.install.as_str());
        value("paas:app").filter(|_| ours)?.parse().ok()
    }

    /// A repository's tags; `None` when it is gone.
    async fn tags(&self, app: Option<&AppId>, arn: &str, doing: &str) -> Result<Option<Vec<Tag>>, PortError> {
        let request = self.aws.ecr.list_tags_for_resource().resource_arn(arn).send();
        match self.aws.call(Call::ListTagsOfRepository, app, doing, request).await {
            Ok(found) => Ok(Some(found.tags().to_vec())),
            Err(error) if error.is(&[ABSENT]) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The digest of the manifest that the image's tag names.
    pub(super) async fn manifest_of(&self, app: &AppId, image: &Digest) -> Result<Option<Digest>, PortError> {
        let doing = "looking for the image";
        let id = ImageIdentifier::builder().image_tag(image.hex()).build();
        let request = self.aws.ecr.batch_get_image().repository_name(self.repository(app)).image_ids(id);
        let request = request.accepted_media_types(MANIFEST).send();
        let answer = match self.aws.call(Call::BatchGetImage, Some(app), doing, request).await {
            Ok(answer) => answer,
            Err(error) if error.is(&[ABSENT]) => {
                self.state().ready.remove(app);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(found) = answer.images().first().and_then(|image| image.image_id()?.image_digest()) {
            return found.parse().map(Some).map_err(|e| PortError::permanent(doing, e));
        }
        match answer.failures().first() {
            Some(failure) if failure.failure_code().is_none_or(|code| code.as_str() != "ImageNotFound") => {
                Err(PortError::transient(doing, failure.failure_reason().unwrap_or("ECR gave no reason")))
            }
            _ => Ok(None),
        }
    }

    /// Removes the image's tag, its only one: the image goes with it.
    pub(super) async fn delete_image(&self, app: &AppId, image: &Digest) -> Result<(), PortError> {
        let doing = "removing the image";
        let id = ImageIdentifier::builder().image_tag(image.hex()).build();
        let request = self.aws.ecr.batch_delete_image().repository_name(self.repository(app)).image_ids(id).send();
        let answer = match self.aws.call(Call::BatchDeleteImage, Some(app), doing, request).await {
            Ok(answer) => answer,
            Err(error) if error.is(&[ABSENT]) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match answer.failures().first() {
            Some(failure) if failure.failure_code().is_none_or(|code| code.as_str() != "ImageNotFound") => {
                Err(PortError::transient(doing, failure.failure_reason().unwrap_or("ECR gave no reason")))
            }
            _ => Ok(()),
        }
    }

    /// The images of the app's repository.
    pub(super) async fn list_images(&self, app: &AppId) -> Result<Vec<Digest>, PortError> {
        let doing = "listing the images";
        let (mut images, mut next) = (Vec::new(), None);
        loop {
            let tagged = ListImagesFilter::builder().tag_status(TagStatus::Tagged).build();
            let request = self.aws.ecr.list_images().repository_name(self.repository(app)).filter(tagged);
            let request = request.max_results(1_000).set_next_token(next).send();
            let page = match self.aws.call(Call::ListImages, Some(app), doing, request).await {
                Ok(page) => page,
                Err(error) if error.is(&[ABSENT]) => return Ok(images),
                Err(error) => return Err(error.into()),
            };
            let tags = page.image_ids().iter().filter_map(|image| image.image_tag());
            // A tag that is no digest was made by somebody else.
            images.extend(tags.filter_map(|tag| format!("sha256:{tag}").parse::<Digest>().ok()));
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                return Ok(images);
            }
        }
    }

    /// Removes the app's repository with all that is in it, when it is ours. Succeeds when there is none.
    pub(super) async fn delete_repository(&self, app: &AppId) -> Result<(), PortError> {
        let doing = "removing the app's repository";
        if !self.is_ours(app, doing).await? {
            return Ok(());
        }
        let request = self.aws.ecr.delete_repository().repository_name(self.repository(app)).force(true).send();
        match self.aws.call(Call::DeleteRepository, Some(app), doing, request).await {
            Ok(_) => Ok(()),
            Err(error) if error.is(&[ABSENT]) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
