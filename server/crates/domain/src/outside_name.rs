//! Names of objects outside the database: containers, volumes, images, later AWS resources.

use crate::{AppId, InstallId};

/// Thirteen characters of an app's id: base32 of the last eight bytes, which are random in a UUIDv7.
///
/// Outside names derive from the id and never from the app's name, so renaming an app moves nothing.
#[must_use]
pub fn app13(app: &AppId) -> String {
    let hex: String = app.as_str().chars().filter(|c| *c != '-').collect();
    let tail = data_encoding::HEXLOWER.decode(&hex.as_bytes()[16..]).unwrap_or_default();
    data_encoding::BASE32_NOPAD.encode(&tail).to_lowercase()
}

/// `paas-<install6>-<app13>-<suffix>`: fits the 32 characters of a target group for suffixes up to 6.
#[must_use]
pub fn outside_name(install: &InstallId, app: &AppId, suffix: &str) -> String {
    format!("paas-{install}-{}-{suffix}", app13(app))
}

/// The last two groups of the id of the app that an outside name of this installation was made for, as
/// `bcce-b302099a8057`; `None` for any other name.
#[must_use]
pub fn app_tail(install: &InstallId, name: &str) -> Option<String> {
    let app13 = name.strip_prefix("paas-")?.strip_prefix(install.as_str())?.strip_prefix('-')?.get(..13)?;
    let bytes = data_encoding::BASE32_NOPAD.decode(app13.to_uppercase().as_bytes()).ok()?;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    Some(format!("{}-{}", &hex[..4], &hex[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_from_the_random_tail() {
        let app: AppId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
        assert_eq!(app13(&app).len(), 13);
        let install = InstallId::random();
        let name = outside_name(&install, &app, "web");
        assert_eq!(name.len(), 5 + 6 + 1 + 13 + 1 + 3);
        assert_eq!(app_tail(&install, &name).as_deref(), Some("bcce-b302099a8057"));
        assert_eq!(app_tail(&InstallId::random(), &name), None);
        assert_eq!(app_tail(&install, &name[..20]), None);
    }
}
