//! What our things are called on ECS, and back. Everything derives from ids.

use paas_domain::{AppId, DynoId, InstallId, ProcessType, outside_name};
use paas_ports::SecretKey;

use crate::secrets::key_of;

/// A service's name, and the family of its task definitions. (ECS allows 255 characters of just the kind that
/// process types are made of.)
pub(crate) fn service(install: &InstallId, app: &AppId, process_type: &ProcessType) -> String {
    outside_name(install, app, process_type.as_str())
}

/// The family of an app's one-off dynos. No process type begins with `-`, so none has this name.
pub(crate) fn one_off_family(install: &InstallId, app: &AppId) -> String {
    outside_name(install, app, "-run")
}

/// What every name of an app begins with.
pub(crate) fn app_prefix(install: &InstallId, app: &AppId) -> String {
    outside_name(install, app, "")
}

/// What every name of an installation begins with.
pub(crate) fn install_prefix(install: &InstallId) -> String {
    format!("paas-{install}-")
}

/// The dyno that a service's task is: its id is the task's. AWS writes 32 hexadecimal digits without hyphens.
pub(crate) fn dyno_of_task(arn: &str) -> Option<DynoId> {
    let id = arn.rsplit('/').next()?;
    if id.len() == 32 && id.is_ascii() {
        let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
        return parts.join("-").parse().ok();
    }
    id.parse().ok()
}

/// The service that a task belongs to, from its group `service:<name>`.
pub(crate) fn service_of_group(group: &str) -> Option<&str> {
    group.strip_prefix("service:")
}

/// The secrets that a definition names, from the `valueFrom`s of its variables.
pub(crate) fn secret_of(value_from: &str) -> Option<SecretKey> {
    // arn:aws:secretsmanager:<region>:<account>:secret:paas/<install>/<app>/<kind>/<id>/<part>-<six>:<name>::
    let name = value_from.split(':').nth(6)?;
    key_of(name.splitn(4, '/').nth(3)?)
}

#[cfg(test)]
mod tests {
    use paas_domain::app_tail;

    use super::*;

    #[test]
    fn names_lead_back() {
        let (install, app) = (InstallId::random(), AppId::new());
        let name = service(&install, &app, &ProcessType::web());
        assert_eq!(app_tail(&install, &name), Some(app.as_str()[19..].to_owned()));
        assert_eq!(app_tail(&InstallId::random(), &name), None);
        assert_ne!(one_off_family(&install, &app), service(&install, &app, &"run".parse().expect("a type")));
        let dyno = dyno_of_task("arn:aws:ecs:us-east-1:111122223333:task/c/0123456789abcdef0123456789abcdef");
        assert_eq!(dyno.map(|d| d.to_string()).as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
        let config = paas_domain::ConfigId::new();
        let arn = format!("arn:aws:secretsmanager:us-east-1:1:secret:paas/{install}/{app}/config/{config}/0-aBcDeF");
        assert_eq!(secret_of(&format!("{arn}:PAAS_CONFIG_0::")), Some(SecretKey::Config(config)));
    }
}
