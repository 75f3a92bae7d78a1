//! `features:disable`.

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;

/// disables an app feature
#[derive(clap::Args)]
pub(crate) struct Disable {
    /// unique identifier or name of the app feature
    feature: String,
    #[command(flatten)]
    app: AppFlag,
}

impl Disable {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        super::switch(cx, &self.app, &self.feature, false)
    }
}
