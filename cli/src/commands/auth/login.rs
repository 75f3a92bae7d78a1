//! `auth:login`: trades an e-mail address and a password (or API key) for a key of this machine, kept in netrc.

use paas_proto::{Account, CreateOauthAuthorization, OauthAuthorization};

use crate::api::Client;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::printable;
use crate::{netrc, tty, ui};

/// login with your credentials
#[derive(clap::Args)]
pub(crate) struct Login {
    /// login with username/password (the only way so far)
    #[arg(short, long)]
    interactive: bool,
    /// duration of token in seconds (default 30 days)
    #[arg(short, long, default_value_t = MAX_AGE_S, value_name = "SECONDS")]
    expires_in: u64,
}

/// The longest that a login may last, as on Heroku.
const MAX_AGE_S: u64 = 30 * 24 * 60 * 60;

impl Login {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let settings = cx.settings()?;
        let _ = self.interactive;
        if settings.key_is_from_env() {
            return Err(Failure::usage("Cannot log in with PAAS_API_KEY set"));
        }
        if self.expires_in > MAX_AGE_S {
            return Err(Failure::usage("Cannot set an expiration longer than thirty days"));
        }
        let path = netrc::path().ok_or_else(|| {
            Failure::new("HOME is not set, so there is nowhere to keep the key. Set PAAS_API_KEY instead.")
        })?;
        let mut kept = netrc::Netrc::read(&path)?;

        ui::progress("paas: Enter your login credentials");
        let email = tty::prompt("Email: ")?;
        let password = tty::prompt_hidden("Password or API key: ")?;
        let client = Client::with_password(settings, email.trim(), &password)?;
        let made = self.authorize(&client)?;
        let key = made.access_token.map(|t| t.token).ok_or_else(|| Failure::new("The server gave no key."))?;
        if key.contains(char::is_whitespace) || made.user.email.contains(char::is_whitespace) {
            return Err(Failure::new("The server gave a key that netrc cannot hold."));
        }

        let entry = netrc::Entry { login: made.user.email, password: key.clone() };
        kept.set(&settings.api_host, &entry)?;
        kept.set(&settings.git_host, &entry)?;
        kept.write(&path)?;
        let account: Account = Client::new(settings, key)?.get("/account")?;
        ui::line(printable(&format!("Logged in as {}", account.email)));
        Ok(())
    }

    fn authorize(&self, client: &Client) -> Result<OauthAuthorization, Failure> {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let wanted = CreateOauthAuthorization {
            description: Some(format!("paas CLI login from {machine}")),
            expires_in: Some(self.expires_in),
            scope: Some(vec!["global".to_owned()]),
        };
        match client.post("/oauth/authorizations", &wanted) {
            Err(failure) if failure.id() == "two_factor" => {
                let code = tty::prompt_hidden("Two-factor code: ")?;
                client.post_with("/oauth/authorizations", &[("heroku-two-factor-code", code.trim())], &wanted)
            }
            result => result,
        }
    }
}
