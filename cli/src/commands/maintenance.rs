//! `maintenance`: whether visitors see the maintenance page.

use paas_proto::{App, UpdateApp};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::path_segment;
use crate::ui;

pub(crate) mod off;
pub(crate) mod on;

/// display the current maintenance status of app
#[derive(clap::Args)]
pub(crate) struct Maintenance {
    #[command(flatten)]
    app: AppFlag,
}

impl Maintenance {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app: App = cx.api()?.get(&self.app.path(cx, "")?)?;
        ui::line(if app.maintenance { "on" } else { "off" });
        Ok(())
    }
}

fn switch(cx: &Cx, app: &AppFlag, doing: &str, on: bool) -> Done {
    let api = cx.api()?;
    let app = app.name(cx)?;
    ui::action(&format!("{doing} maintenance mode for {}", ui::app(&app)), || {
        let change = UpdateApp { maintenance: Some(on), ..UpdateApp::default() };
        let _: App = api.patch(&format!("/apps/{}", path_segment(&app)), &change)?;
        Ok(((), String::new()))
    })
}
