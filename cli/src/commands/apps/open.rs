//! `apps:open`: the app in a browser, or its URL where there is none.

use std::process::{Command, Stdio};

use paas_proto::App;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::printable;
use crate::ui;

/// open the app in a web browser
#[derive(clap::Args)]
pub(crate) struct Open {
    /// base URL path of app
    path: Option<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Open {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app: App = cx.api()?.get(&self.app.path(cx, "")?)?;
        let base = app.web_url.filter(|url| url.starts_with("http://") || url.starts_with("https://"));
        let base = base.ok_or_else(|| Failure::new(format!("{} has no URL.", app.name)))?;
        let path = self.path.unwrap_or_default();
        let url = format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'));
        let browser = std::env::var("BROWSER").ok().filter(|b| !b.is_empty());
        let on_desktop =
            ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|n| std::env::var_os(n).is_some_and(|v| !v.is_empty()));
        if browser.is_none() && !on_desktop {
            ui::line(printable(&url));
            return Ok(());
        }
        ui::line(printable(&format!("Opening {url}...")));
        let program = browser.unwrap_or_else(|| "xdg-open".to_owned());
        Command::new(&program)
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Failure::new(format!("Couldn't run {program}: {e}")))?;
        Ok(())
    }
}
