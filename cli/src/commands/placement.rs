//! `placement`: what an app runs on.

use paas_proto::Placement;

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::path_segment;
use crate::ui;

pub(crate) mod set;

/// show what an app runs on
///
/// The architecture that its next push is built for, and the capacity that its dynos are taken from.
#[derive(clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let app = self.app.name(cx)?;
        let placement: Placement = cx.api()?.get(&path(&app))?;
        if self.json {
            return ui::json(&placement);
        }
        ui::header(&format!("{} Placement", ui::app(&app)));
        ui::object(&[("Architecture", placement.architecture), ("Capacity", placement.capacity)]);
        Ok(())
    }
}

fn path(app: &str) -> String {
    format!("/paas/apps/{}/placement", path_segment(app))
}
