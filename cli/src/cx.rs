//! What commands share: settings and the API client, each made when first asked for.

use std::cell::OnceCell;

use crate::api::Client;
use crate::error::Failure;
use crate::settings::Settings;

/// The surroundings of one command. Making one costs nothing.
#[derive(Default)]
pub(crate) struct Cx {
    settings: OnceCell<Settings>,
    api: OnceCell<Client>,
}

impl Cx {
    /// The settings from the environment.
    pub(crate) fn settings(&self) -> Result<&Settings, Failure> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = Settings::from_env()?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// The API, spoken to with the user's key. Fails when there is no key.
    pub(crate) fn api(&self) -> Result<&Client, Failure> {
        if let Some(api) = self.api.get() {
            return Ok(api);
        }
        let settings = self.settings()?;
        let Some(key) = settings.key()? else {
            return Err(Failure::usage("not logged in: run `paas login`, or set PAAS_API_KEY"));
        };
        let client = Client::new(settings, key)?;
        Ok(self.api.get_or_init(|| client))
    }
}
