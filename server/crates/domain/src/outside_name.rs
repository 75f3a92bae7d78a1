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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_from_the_random_tail() {
        let app: AppId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
        assert_eq!(app13(&app).len(), 13);
        let install = InstallId::random();
        assert_eq!(outside_name(&install, &app, "web").len(), 5 + 6 + 1 + 13 + 1 + 3);
    }
}
