//! `releases:retry`: the newest release once more, release phase included.

use paas_proto::{CreateRelease, Formation, Release};

use super::{find, follow};
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::ui;

/// retry the latest release-phase command
///
/// Copies the latest release into a new release and retries the latest release-phase command. App must have a
/// release-phase command.
#[derive(clap::Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    app: AppFlag,
}

impl Retry {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let path = format!("/apps/{}", path_segment(&app));
        let release = find(api, &app, None)?;
        let formation: Vec<Formation> = api.list(&format!("{path}/formation"))?;
        if formation.iter().all(|line| line.r#type != "release") {
            return Err(Failure::usage("App must have a release-phase command to use this command."));
        }
        let made: Release = ui::action(&format!("Retrying v{} on {}", release.version, ui::app(&app)), || {
            let wanted = CreateRelease {
                slug: release.slug.as_ref().map(|slug| slug.id.clone()),
                description: Some(format!("Retry of v{}: {}", release.version, release.description)),
                release: None,
            };
            let made: Release = api.post(&format!("{path}/releases"), &wanted)?;
            let said = format!(", v{}", made.version);
            Ok((made, said))
        })?;
        follow(api, &app, &made)
    }
}
