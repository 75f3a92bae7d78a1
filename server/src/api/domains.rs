//! `domain`: host names that lead to an app.

use paas_domain::HostName;
use paas_proto as proto;
use paas_store::{App, Domain, DomainKind};

use super::answer::{Answer, Reply};
use super::apps;
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::paging::{Attribute, Key, Kind, page};
use crate::cx::Cx;
use crate::ops::create_app::own_hostname;
use crate::ops::manage_domains::{add_domain, find_domain, remove_domain};

const ATTRIBUTES: [Attribute<Domain>; 2] = [
    Attribute { name: "hostname", kind: Kind::Name, key: |domain| Key::text(&domain.hostname) },
    Attribute { name: "id", kind: Kind::Id, key: |domain| Key::text(&domain.id) },
];

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    let domains = call.cx.store.read().await?.domains(call.scope()).await?;
    let mut page = page(&call.headers, domains, &ATTRIBUTES)?;
    let mut shown = Vec::with_capacity(page.items.len());
    for domain in std::mem::take(&mut page.items) {
        shown.push(serde_json::to_value(show(&call.cx, call.app(), &domain)?).map_err(ApiError::internal)?);
    }
    page.answer(shown)
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let domain = find_domain(&mut uow, call.scope(), call.path("domain")).await?;
    Answer::ok(&show(&call.cx, call.app(), &domain)?)
}

pub(crate) async fn create(call: Call<OnApp>) -> Reply {
    let params = &call.params;
    if params.says("sni_endpoint") {
        params.required_text("sni_endpoint")?;
        return Err(ApiError::not_found("sni_endpoint"));
    }
    params.required_text("hostname")?;
    let hostname = params.parsed::<HostName>("hostname")?.ok_or_else(|| params.invalid("hostname", "is required"))?;
    let domain = add_domain(&call.cx, call.scope(), &hostname).await?;
    Answer::created(&show(&call.cx, call.app(), &domain)?)
}

pub(crate) async fn update(call: Call<OnApp>) -> Reply {
    let domain = find_domain(&mut call.cx.store.read().await?, call.scope(), call.path("domain")).await?;
    if call.params.says("sni_endpoint") {
        return Err(ApiError::not_found("sni_endpoint"));
    }
    Answer::ok(&show(&call.cx, call.app(), &domain)?)
}

pub(crate) async fn delete(call: Call<OnApp>) -> Reply {
    let domain = remove_domain(&call.cx, call.scope(), call.path("domain")).await?;
    Answer::ok(&show(&call.cx, call.app(), &domain)?)
}

fn show(cx: &Cx, app: &App, domain: &Domain) -> Result<proto::Domain, ApiError> {
    let custom = domain.kind == DomainKind::Custom;
    Ok(proto::Domain {
        acm_status: None,
        acm_status_reason: None,
        app: apps::named(app),
        cname: if custom { Some(own_hostname(cx, &app.name)?.to_string()) } else { None },
        created_at: domain.created_at.to_rfc3339(),
        hostname: domain.hostname.to_string(),
        id: domain.id.to_string(),
        kind: if custom { proto::DomainKind::Custom } else { proto::DomainKind::Heroku },
        sni_endpoint: None,
        status: if custom { "succeeded" } else { "none" }.to_owned(),
        updated_at: domain.created_at.to_rfc3339(),
    })
}
