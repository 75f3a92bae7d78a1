//! `maintenance:off`.

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;

/// take the app out of maintenance mode
#[derive(clap::Args)]
pub(crate) struct Off {
    #[command(flatten)]
    app: AppFlag,
}

impl Off {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        super::switch(cx, &self.app, "Disabling", false)
    }
}
