//! `builds:output`: what a build printed, as it comes.

use paas_proto::Build;

use crate::app_flag::AppFlag;
use crate::commands::releases::output::stream;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::ui;

/// view the output of a build
#[derive(clap::Args)]
pub(crate) struct Output {
    /// ID of the build; the last build when omitted
    build: Option<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Output {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let path = format!("/apps/{}/builds", path_segment(&app));
        let build: Build = match &self.build {
            Some(id) => api.get(&format!("{path}/{}", path_segment(id)))?,
            None => {
                let builds: Vec<Build> = api.list(&path)?;
                let newest = builds.into_iter().max_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
                newest.ok_or_else(|| Failure::new(format!("{} has no builds.", ui::app(&app))))?
            }
        };
        stream(api, &build.output_stream_url)
    }
}
