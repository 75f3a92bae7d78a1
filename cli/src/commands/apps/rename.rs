//! `apps:rename`.

use paas_proto::{App, UpdateApp};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::{path_segment, printable};
use crate::{git, ui};

/// rename an app
///
/// This will locally update the git remote if it is set to the old app.
#[derive(clap::Args)]
pub(crate) struct Rename {
    /// new unique name of the app
    newname: String,
    #[command(flatten)]
    app: AppFlag,
}

impl Rename {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let old = self.app.name(cx)?;
        let app: App = ui::action(&format!("Renaming {} to {}", ui::app(&old), self.newname), || {
            let change = UpdateApp { name: Some(self.newname.clone()), ..UpdateApp::default() };
            Ok((api.patch(&format!("/apps/{}", path_segment(&old)), &change)?, String::new()))
        })?;
        ui::line(printable(&format!("{} | {}", app.web_url.unwrap_or_default(), app.git_url)));
        for remote in git::app_remotes(&cx.settings()?.git_host).iter().filter(|remote| remote.app == old) {
            git::git(&["remote", "set-url", "--", &remote.name, &app.git_url])?;
            ui::line(format!("Git remote {} updated", remote.name));
        }
        ui::warn("Don't forget to update git remotes for all other local checkouts of the app.");
        Ok(())
    }
}
