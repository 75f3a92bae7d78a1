//! `releases:rollback`.

use paas_proto::{CreateRelease, NumberOrText, Release};

use super::{find, follow, newest};
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::ui;

/// roll back to a previous release
///
/// If RELEASE is not specified, it will roll back to the last eligible release.
#[derive(clap::Args)]
pub(crate) struct Rollback {
    /// version or ID of the release
    release: Option<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Rollback {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let target = match self.release.as_deref() {
            Some(named) => find(api, &app, Some(named))?,
            None => previous(newest(api, &app, 10)?).ok_or_else(|| {
                Failure::usage(format!("No eligible release found for {} to roll back to.", ui::app(&app)))
            })?,
        };
        let made: Release = ui::action(&format!("Rolling back {} to v{}", ui::app(&app), target.version), || {
            let wanted = CreateRelease { release: Some(NumberOrText::Text(target.id)), ..CreateRelease::default() };
            let made: Release = api.post(&format!("/apps/{}/releases", path_segment(&app)), &wanted)?;
            let said = format!(", v{}", made.version);
            Ok((made, said))
        })?;
        ui::warn("Rollback affects code and config vars; it doesn't add or remove addons.");
        ui::warn(&format!("To undo, run: paas rollback v{}", made.version.saturating_sub(1)));
        follow(api, &app, &made)
    }
}

/// The newest eligible release before the one that serves.
fn previous(mut releases: Vec<Release>) -> Option<Release> {
    releases.sort_by_key(|release| std::cmp::Reverse(release.version));
    let current = releases.iter().find(|release| release.current).map_or(u64::MAX, |release| release.version);
    let mut eligible =
        releases.into_iter().filter(|release| release.eligible_for_rollback && release.version < current);
    // Without a current one among them, the newest is what there is, and the one before it is meant.
    if current == u64::MAX { eligible.nth(1) } else { eligible.next() }
}
