//! `maintenance:on`.

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;

/// put the app into maintenance mode
#[derive(clap::Args)]
pub(crate) struct On {
    #[command(flatten)]
    app: AppFlag,
}

impl On {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        super::switch(cx, &self.app, "Enabling", true)
    }
}
