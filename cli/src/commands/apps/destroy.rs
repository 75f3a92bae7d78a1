//! `apps:destroy`: an app and everything of it, after the user has typed its name.

use paas_proto::App;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::{git, tty, ui};

/// permanently destroy an app
///
/// This will also destroy all add-ons on the app.
#[derive(clap::Args)]
pub(crate) struct Destroy {
    #[arg(value_name = "APP", hide = true)]
    name: Option<String>,
    #[command(flatten)]
    app: AppFlag,
    /// the app's name once more, instead of being asked for it
    #[arg(short, long, value_name = "APP")]
    confirm: Option<String>,
}

impl Destroy {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let name = self.app.name_or(self.name.as_ref(), cx)?;
        let path = format!("/apps/{}", path_segment(&name));
        let app: App = api.get(&path)?;
        confirm(&name, self.confirm.as_deref())?;
        ui::action(&format!("Destroying {} (including all add-ons)", ui::app(&name)), || {
            api.delete(&path)?;
            Ok(((), String::new()))
        })?;
        for remote in git::app_remotes(&cx.settings()?.git_host).iter().filter(|remote| remote.app == app.name) {
            git::git(&["remote", "remove", "--", &remote.name])?;
        }
        Ok(())
    }
}

fn confirm(app: &str, given: Option<&str>) -> Done {
    let Some(given) = given else {
        ui::warn(&format!("This will delete {} including all add-ons.", ui::app(app)));
        ui::progress("");
        let question = format!("To proceed, type {app} or re-run this command with --confirm {app}: ");
        let answer = tty::prompt(&question).unwrap_or_default();
        return if answer.trim() == app {
            Ok(())
        } else {
            Err(Failure::new(format!("Confirmation did not match {app}. Aborted.")))
        };
    };
    if given == app { Ok(()) } else { Err(Failure::new(format!("Confirmation {given} did not match {app}. Aborted."))) }
}
