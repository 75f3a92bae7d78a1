//! `features`: what an app can have switched on.

use paas_proto::{AppFeature, UpdateAppFeature};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::ui;

pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod info;

/// list available app features
#[derive(clap::Args)]
pub(crate) struct Features {
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(long)]
    json: bool,
}

impl Features {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let mut features: Vec<AppFeature> = cx.api()?.list(&format!("/apps/{}/features", path_segment(&app)))?;
        features.retain(|feature| feature.state == "general");
        features.sort_by(|a, b| a.name.cmp(&b.name));
        if self.json {
            return ui::json(&features);
        }
        ui::header(&format!("App Features {}", ui::app(&app)));
        let longest = features.iter().map(|feature| feature.name.chars().count()).max().unwrap_or(0);
        for feature in features {
            let mark = if feature.enabled { "[+]" } else { "[ ]" };
            ui::line(crate::text::printable(&format!("{mark} {:longest$}  {}", feature.name, feature.description)));
        }
        Ok(())
    }
}

fn path(app: &str, feature: &str) -> String {
    format!("/apps/{}/features/{}", path_segment(app), path_segment(feature))
}

fn switch(cx: &Cx, app: &AppFlag, feature: &str, enabled: bool) -> Done {
    let api = cx.api()?;
    let app = app.name(cx)?;
    let (doing, done) = if enabled { ("Enabling", "enabled") } else { ("Disabling", "disabled") };
    ui::action(&format!("{doing} {feature} for {}", ui::app(&app)), || {
        let path = path(&app, feature);
        let before: AppFeature = api.get(&path)?;
        if before.enabled == enabled {
            return Err(Failure::new(format!("{feature} is already {done}.")));
        }
        let _: AppFeature = api.patch(&path, &UpdateAppFeature { enabled })?;
        Ok(((), String::new()))
    })
}
