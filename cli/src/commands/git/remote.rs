//! `git:remote`: makes a git remote lead to an app.

use paas_proto::App;

use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::{git, ui};

/// adds a git remote to an app repo
#[derive(clap::Args)]
pub(crate) struct Remote {
    /// the app to use
    #[arg(value_name = "APP")]
    name: Option<String>,
    /// the app to use
    #[arg(short, long, conflicts_with = "name")]
    app: Option<String>,
    /// the git remote to create
    #[arg(short, long)]
    remote: Option<String>,
}

impl Remote {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let env = || ["PAAS_APP", "HEROKU_APP"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
        let name = self.app.or(self.name).or_else(env).ok_or_else(|| Failure::usage("Specify an app with --app"))?;
        let app: App = cx.api()?.get(&format!("/apps/{}", path_segment(&name)))?;
        let configured = || git::git(&["config", "paas.remote"]).ok();
        let remote = self.remote.or_else(configured).unwrap_or_else(|| "aws".to_owned());
        let verb = if git::remote_url(&remote).is_some() { "set-url" } else { "add" };
        git::git(&["remote", verb, "--", &remote, &app.git_url])?;
        ui::line(format!("set git remote {remote} to {}", app.git_url));
        Ok(())
    }
}
