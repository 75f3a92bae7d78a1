//! `domains:add`.

use paas_proto::{CreateDomain, Domain};

use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::Done;
use crate::text::{path_segment, printable};
use crate::ui;

/// add a domain to an app
#[derive(clap::Args)]
pub(crate) struct Add {
    /// the full hostname
    hostname: String,
    #[command(flatten)]
    app: AppFlag,
    /// the name of the SSL cert you want to use for this domain
    #[arg(short, long)]
    cert: Option<String>,
    /// output in json format
    #[arg(short, long)]
    json: bool,
}

impl Add {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let api = cx.api()?;
        let app = self.app.name(cx)?;
        let wanted = CreateDomain { hostname: self.hostname, sni_endpoint: self.cert };
        let domain: Domain = ui::action(&format!("Adding {} to {}", wanted.hostname, ui::app(&app)), || {
            Ok((api.post(&format!("/apps/{}/domains", path_segment(&app)), &wanted)?, String::new()))
        })?;
        if self.json {
            return ui::json(&domain);
        }
        let target = domain.cname.unwrap_or_default();
        ui::line(printable(&format!("Configure your app's DNS provider to point to the DNS Target {target}.")));
        Ok(())
    }
}
