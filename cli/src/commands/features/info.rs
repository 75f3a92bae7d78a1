//! `features:info`.

use paas_proto::AppFeature;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::ui;

/// display information about a feature
#[derive(clap::Args)]
pub(crate) struct Info {
    /// unique identifier or name of the app feature
    feature: String,
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let feature: AppFeature = cx.api()?.get(&super::path(&app, &self.feature))?;
        if self.json {
            return ui::json(&feature);
        }
        ui::header(&feature.name);
        ui::object(&[
            ("Description", feature.description),
            ("Docs", feature.doc_url),
            ("Enabled", feature.enabled.to_string()),
        ]);
        Ok(())
    }
}
