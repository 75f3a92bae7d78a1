//! `apps:create`: an app with its own host name and its first two releases.
//!
//! Heroku's first push of an app is v3: v1 is "Initial release" and v2 "Enable Logplex". So it is here.

use paas_domain::{AppName, Architecture, Capacity, HostName, ReleaseStatus, Timestamp};
use paas_store::{Account, App, AppScope, DomainKind, NewRelease, ProcessTable, StoreError, Uow};

use crate::cx::{Cx, Offer, OpError};

const ADJECTIVES: [&str; 32] = [
    "agile", "ancient", "autumn", "boiling", "calm", "cold", "damp", "dry", "fast", "frozen", "gentle", "glacial",
    "hidden", "icy", "immense", "lively", "mighty", "misty", "morning", "peaceful", "polar", "quiet", "radiant",
    "rocky", "rugged", "sharp", "silent", "stark", "stormy", "sunny", "thawing", "young",
];
const NOUNS: [&str; 32] = [
    "anchorage",
    "atoll",
    "basin",
    "bayou",
    "beach",
    "brook",
    "canyon",
    "castle",
    "cliffs",
    "coast",
    "cove",
    "everglades",
    "falls",
    "fjord",
    "forest",
    "gorge",
    "harbor",
    "headland",
    "inlet",
    "island",
    "lake",
    "meadow",
    "mesa",
    "oasis",
    "plains",
    "reef",
    "ridge",
    "river",
    "savannah",
    "spire",
    "tundra",
    "woodland",
];

/// Makes an app. Without a name it gets one of Heroku's kind: `misty-harbor-48211`.
///
/// # Errors
/// [`OpError::Invalid`] when the name is taken or reserved.
pub async fn create_app(cx: &Cx, account: &Account, name: Option<AppName>) -> Result<(AppScope, App), OpError> {
    let now = cx.now();
    // A generated name that is taken is drawn again; a wished one is refused.
    for attempt in 0.. {
        let chosen = name.clone().unwrap_or_else(generated_name);
        refuse_reserved(&chosen)?;
        let mut uow = cx.begin().await?;
        match create(cx, &mut uow, account, &chosen, now).await {
            Err(StoreError::Taken(_)) if name.is_none() && attempt < 10 => {}
            Err(StoreError::Taken(_)) => {
                return Err(OpError::invalid(format!("Name {chosen} is already taken")));
            }
            Err(other) => return Err(other.into()),
            Ok(scope) => {
                let app = uow.app(&scope).await?;
                uow.save().await?;
                cx.kick();
                return Ok((scope, app));
            }
        }
    }
    Err(OpError::Conflict("no free name was found".to_owned()))
}

/// Host names under the app domain that are ours, or that look as if they were; and those that machines look up by
/// themselves, to be told where their proxy or their mail is.
const RESERVED: &[&str] = &[
    "api",
    "git",
    "registry",
    "www",
    "admin",
    "dashboard",
    "status",
    "router",
    "logs",
    "rendezvous",
    "particleboard",
    "postmaster",
    "hostmaster",
    "webmaster",
    "abuse",
    "security",
    "support",
    "metrics",
    "login",
    "signup",
    "auth",
    "oauth",
    "sso",
    "account",
    "accounts",
    "billing",
    "exec",
    "data",
    "mail",
    "smtp",
    "imap",
    "ns1",
    "ns2",
    "ftp",
    "ssh",
    "vpn",
    "proxy",
    "root",
    "internal",
    "local",
    "localhost",
    "wpad",
    "isatap",
    "autodiscover",
    "autoconfig",
    "mta-sts",
    "noreply",
    "paas",
];

/// Refuses a name that is the platform's own, or that a browser would show as another one (`xn--`).
///
/// # Errors
/// [`OpError::Invalid`].
pub fn refuse_reserved(name: &AppName) -> Result<(), OpError> {
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("xn--") {
        return Err(OpError::invalid(format!("Name {name} is reserved")));
    }
    Ok(())
}

async fn create(
    cx: &Cx,
    uow: &mut Uow,
    account: &Account,
    name: &AppName,
    now: Timestamp,
) -> Result<AppScope, StoreError> {
    let scope = uow.create_app(name, &account.id, now).await?;
    let hostname = own_hostname(cx, name)?;
    uow.create_domain(&scope, &hostname, DomainKind::Heroku, now).await?;
    if cx.settings.offer == Offer::Fargate {
        // Where every builder is an ARM one, apps are ARM ones unless they say otherwise.
        let builders: Vec<Architecture> = uow.servers().await?.into_iter().filter_map(|server| server.builds).collect();
        let usual = cx.settings.offer.architecture();
        let architecture = builders.iter().find(|one| **one == usual).or(builders.first()).copied().unwrap_or(usual);
        uow.set_placement(&scope, Some(architecture), Capacity::default()).await?;
    }
    let config = uow.app(&scope).await?.head_config;
    for description in ["Initial release", "Enable Logplex"] {
        let release = NewRelease {
            status: ReleaseStatus::Succeeded,
            image: None,
            config: config.clone(),
            process_types: ProcessTable::new(),
            description: description.to_owned(),
            account: account.id.clone(),
            build: None,
            output: None,
            commit: None,
        };
        let release = uow.create_release(&scope, &release, now).await?;
        uow.set_current_release(&scope, &release.id, None).await?;
    }
    Ok(scope)
}

/// The host name that an app of this name has by itself.
///
/// # Errors
/// When the app domain is no domain: a mistake in the settings.
pub fn own_hostname(cx: &Cx, name: &AppName) -> Result<HostName, StoreError> {
    format!("{name}.{}", cx.settings.app_domain).parse().map_err(|_| StoreError::Corrupt("app domain"))
}

fn generated_name() -> AppName {
    let mut random = [0_u8; 4];
    // A name is no secret: without randomness the attempt's name is simply the same again.
    let _ = getrandom::fill(&mut random);
    let number = 10_000 + u32::from(u16::from_le_bytes([random[2], random[3]])) % 90_000;
    let (adjective, noun) = (ADJECTIVES[usize::from(random[0]) % 32], NOUNS[usize::from(random[1]) % 32]);
    format!("{adjective}-{noun}-{number}").parse().expect("the words make a good name")
}
