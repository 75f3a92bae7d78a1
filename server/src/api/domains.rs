//! `domain`: host names that lead to an app.
//!
//! Where the platform has certificates for custom domains (AWS), `acm_status` is `pending`, `ok` or `failed`, and
//! `acm_status_reason` says which DNS record the owner is to make, or what is wrong.

use std::collections::BTreeMap;

use paas_domain::HostName;
use paas_proto as proto;
use paas_store::{App, AppScope, Domain, DomainKind, Uow};

use super::answer::{Answer, Reply};
use super::apps;
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::paging::{Attribute, Key, Kind, page};
use crate::aws_ledger::{self, CertificateShown};
use crate::cx::Cx;
use crate::ops::create_app::own_hostname;
use crate::ops::manage_domains::{add_domain, find_domain, remove_domain};

const ATTRIBUTES: [Attribute<Domain>; 2] = [
    Attribute { name: "hostname", kind: Kind::Name, key: |domain| Key::text(&domain.hostname) },
    Attribute { name: "id", kind: Kind::Id, key: |domain| Key::text(&domain.id) },
];

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let domains = uow.domains(call.scope()).await?;
    let certificates = certificates(&mut uow, call.scope()).await?;
    drop(uow);
    let mut page = page(&call.headers, domains, &ATTRIBUTES)?;
    let mut shown = Vec::with_capacity(page.items.len());
    for domain in std::mem::take(&mut page.items) {
        shown.push(
            serde_json::to_value(show(&call.cx, call.app(), &domain, &certificates)?).map_err(ApiError::internal)?,
        );
    }
    page.answer(shown)
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let domain = find_domain(&mut uow, call.scope(), call.path("domain")).await?;
    let certificates = certificates(&mut uow, call.scope()).await?;
    Answer::ok(&show(&call.cx, call.app(), &domain, &certificates)?)
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
    Answer::created(&show(&call.cx, call.app(), &domain, &BTreeMap::new())?)
}

pub(crate) async fn update(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let domain = find_domain(&mut uow, call.scope(), call.path("domain")).await?;
    let certificates = certificates(&mut uow, call.scope()).await?;
    if call.params.says("sni_endpoint") {
        return Err(ApiError::not_found("sni_endpoint"));
    }
    Answer::ok(&show(&call.cx, call.app(), &domain, &certificates)?)
}

pub(crate) async fn delete(call: Call<OnApp>) -> Reply {
    let domain = remove_domain(&call.cx, call.scope(), call.path("domain")).await?;
    Answer::ok(&show(&call.cx, call.app(), &domain, &BTreeMap::new())?)
}

type Certificates = BTreeMap<HostName, CertificateShown>;

async fn certificates(uow: &mut Uow, app: &AppScope) -> Result<Certificates, ApiError> {
    aws_ledger::certificates(uow, app).await.map_err(ApiError::from)
}

fn show(cx: &Cx, app: &App, domain: &Domain, certificates: &Certificates) -> Result<proto::Domain, ApiError> {
    let certificate = certificates.get(&domain.hostname);
    let custom = domain.kind == DomainKind::Custom;
    Ok(proto::Domain {
        acm_status: certificate.map(|certificate| certificate.status.to_owned()),
        acm_status_reason: certificate.and_then(|certificate| certificate.reason.clone()),
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
