//! Which app a command is about: `--app`, `--remote`, `PAAS_APP` or `HEROKU_APP`, else the git remote.

use crate::cx::Cx;
use crate::error::Failure;
use crate::git::{self, AppRemote};
use crate::text::path_segment;

/// The two flags that nearly every command has.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct AppFlag {
    /// app to run command against
    #[arg(short, long, value_name = "APP")]
    app: Option<String>,
    /// git remote of app to use
    #[arg(short, long, value_name = "REMOTE")]
    remote: Option<String>,
}

impl AppFlag {
    /// The app's name.
    pub(crate) fn name(&self, cx: &Cx) -> Result<String, Failure> {
        self.name_or(None, cx)
    }

    /// The app's name, which some commands also take as an argument.
    pub(crate) fn name_or(&self, argument: Option<&String>, cx: &Cx) -> Result<String, Failure> {
        if let Some(app) = argument.or(self.app.as_ref()) {
            return if app.trim().is_empty() {
                Err(Failure::usage("the app's name is empty"))
            } else {
                Ok(app.clone())
            };
        }
        if self.remote.is_none()
            && let Some(app) =
                ["PAAS_APP", "HEROKU_APP"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()))
        {
            return Ok(app);
        }
        let configured =
            || git::git(&["config", "paas.remote"]).or_else(|_| git::git(&["config", "heroku.remote"])).ok();
        let wanted = self.remote.clone().or_else(configured);
        let remotes = git::app_remotes(&cx.settings()?.git_host);
        choose(remotes, wanted.as_deref())
    }

    /// The API's path of the app, with `rest` behind it (`/dynos`).
    pub(crate) fn path(&self, cx: &Cx, rest: &str) -> Result<String, Failure> {
        Ok(format!("/apps/{}{rest}", path_segment(&self.name(cx)?)))
    }
}

fn choose(mut remotes: Vec<AppRemote>, wanted: Option<&str>) -> Result<String, Failure> {
    if let Some(wanted) = wanted {
        remotes.retain(|remote| remote.name == wanted);
        if remotes.is_empty() {
            return Err(Failure::usage(format!("remote {wanted} not found in git remotes")));
        }
    }
    match remotes.first() {
        None => Err(Failure::usage(
            "Missing required flag app\n\
             Say which app: --app APP, PAAS_APP, or a git remote (paas git:remote --app APP).\n\
             See more help with --help",
        )),
        Some(first) if remotes.iter().all(|remote| remote.app == first.app) => Ok(first.app.clone()),
        Some(first) => {
            let listed: Vec<_> = remotes.iter().map(|r| format!("{} ({})", r.app, r.name)).collect();
            Err(Failure::usage(format!(
                "Multiple apps in git remotes\n  Usage: --remote {}\n     or: --app {}\n\
                 Your local git repository has more than 1 app referenced in git remotes.\n\
                 Because of this, we can't determine which app you want to run this command against.\n\
                 Specify the app you want with --app or --remote.\nRemotes in repo:\n{}",
                first.name,
                first.app,
                listed.join("\n")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remotes(of: &[(&str, &str)]) -> Vec<AppRemote> {
        of.iter().map(|(name, app)| AppRemote { name: (*name).into(), app: (*app).into() }).collect()
    }

    #[test]
    fn one_app_is_enough_to_know() {
        assert_eq!(choose(remotes(&[("aws", "a")]), None).expect("one"), "a");
        assert_eq!(choose(remotes(&[("aws", "a"), ("heroku", "a")]), None).expect("the same"), "a");
        assert_eq!(choose(remotes(&[("aws", "a"), ("staging", "b")]), Some("staging")).expect("named"), "b");
    }

    #[test]
    fn none_or_two_are_refused_with_a_hint() {
        let said = |r: Result<String, Failure>| r.expect_err("refused").message().to_owned();
        assert!(said(choose(vec![], None)).contains("--app APP"));
        assert!(said(choose(remotes(&[("aws", "a")]), Some("x"))).contains("remote x not found"));
        assert!(said(choose(remotes(&[("aws", "a"), ("staging", "b")]), None)).contains("b (staging)"));
    }
}
