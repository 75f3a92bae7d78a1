//! `releases:output`: what the release phase printed.

use std::io::BufRead;

use super::find;
use crate::api::Client;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::ui;

/// view the release command output
#[derive(clap::Args)]
pub(crate) struct Output {
    /// version or ID of the release; the last release when omitted
    release: Option<String>,
    #[command(flatten)]
    app: AppFlag,
}

impl Output {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let release = find(api, &self.app.name(cx)?, self.release.as_deref())?;
        let Some(url) = &release.output_stream_url else {
            ui::warn(&format!("Release v{} has no release output available.", release.version));
            return Ok(());
        };
        match stream(api, url) {
            Err(failure) if failure.status() == Some(404) => {
                ui::warn("Release command not started yet. Please try again in a few seconds.");
                Ok(())
            }
            result => result,
        }
    }
}

/// Copies a stream to stdout as it comes.
pub(crate) fn stream(api: &Client, url: &str) -> Done {
    let mut input = api.stream(url, &[])?;
    loop {
        let chunk = input.fill_buf().map_err(|e| Failure::new(format!("The output broke off: {e}")))?;
        if chunk.is_empty() {
            return Ok(());
        }
        ui::bytes(chunk);
        ui::flush();
        let read = chunk.len();
        input.consume(read);
    }
}
