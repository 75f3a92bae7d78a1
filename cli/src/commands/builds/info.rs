//! `builds:info`.

use paas_proto::Build;

use super::status;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::path_segment;
use crate::ui;

/// view detailed information for a build
#[derive(clap::Args)]
pub(crate) struct Info {
    /// ID of the build
    build: String,
    #[command(flatten)]
    app: AppFlag,
    /// output in json format
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let path = self.app.path(cx, &format!("/builds/{}", path_segment(&self.build)))?;
        let build: Build = cx.api()?.get(&path)?;
        if self.json {
            return ui::json(&build);
        }
        let buildpacks = build.buildpacks.unwrap_or_default();
        let buildpacks: Vec<_> = buildpacks.into_iter().filter_map(|b| b.name.or(b.url)).collect();
        ui::header(&format!("Build {}", build.id));
        ui::object(&[
            ("Buildpacks", buildpacks.join(", ")),
            ("By", build.user.email),
            ("Release", build.release.map_or(String::new(), |release| release.id)),
            ("Stack", build.stack),
            ("Status", status(build.status).to_owned()),
            ("Version", build.source_blob.version.unwrap_or_default()),
            ("When", build.created_at),
        ]);
        Ok(())
    }
}
