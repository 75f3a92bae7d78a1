//! `slug`: what a build made. Here it stands for an image; its archive cannot be had.

use paas_proto as proto;
use paas_store::{Image, Release};

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::fixed_id::slug_id;
use super::stacks;

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let wanted = call.path("slug");
    let releases = uow.releases(call.scope()).await?;
    let of_slug = |release: &&Release| release.image.as_ref().is_some_and(|image| slug_id(image) == wanted);
    let release = releases.iter().find(of_slug).ok_or_else(|| ApiError::not_found("slug"))?;
    let image = release.image.as_ref().ok_or_else(|| ApiError::not_found("slug"))?;
    let image = uow.image(call.scope(), image).await.map_err(|_| ApiError::not_found("slug"))?;
    let url = format!("{}/apps/{}/slugs/{wanted}", call.cx.settings.api_url, call.app().id);
    Answer::ok(&show(&image, release, url))
}

pub(crate) async fn create(_: Call<OnApp>) -> Reply {
    let message = "Slugs can't be uploaded to this platform: upload a source and build it (POST /apps/{app}/builds).";
    Err(ApiError::invalid_params(message))
}

pub(crate) async fn no_oci_image(_: Call<OnApp>) -> Reply {
    Err(ApiError::not_found("oci_image"))
}

fn show(image: &Image, release: &Release, url: String) -> proto::Slug {
    proto::Slug {
        blob: proto::SlugBlob { method: "get".to_owned(), url },
        buildpack_provided_description: image.description.clone(),
        checksum: Some(format!("SHA256:{}", image.id.hex())),
        commit: release.commit.clone(),
        commit_description: None,
        created_at: release.created_at.to_rfc3339(),
        deleted_at: None,
        id: slug_id(&image.id),
        process_types: image.process_types.iter().map(|(t, command)| (t.to_string(), command.clone())).collect(),
        size: u64::try_from(image.size).ok(),
        stack: stacks::named(),
        updated_at: release.updated_at.to_rfc3339(),
    }
}
