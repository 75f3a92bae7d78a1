//! Config in Secrets Manager.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use paas_aws::{Aws, AwsSecrets};
use paas_domain::{AppId, ConfigId};
use paas_ports::{SecretKey, Secrets as _};

use crate::cell::{CANARY, Said, Story, Ways};

enum Act {
    Keep,
    Remove,
    RemoveApp,
}

pub(super) struct Config {
    account: Aws,
    server: Aws,
    driver: Mutex<Arc<AwsSecrets>>,
    app: AppId,
    key: SecretKey,
    act: Act,
}

async fn of(ways: &Arc<Ways>, act: Act, there: bool) -> Config {
    let foundation = ways.foundation();
    let (account, server) = (ways.account(&foundation), ways.server(&foundation));
    let driver = Mutex::new(Arc::new(AwsSecrets::new(server.clone())));
    let story = Config { account, server, driver, app: AppId::new(), key: SecretKey::Config(ConfigId::new()), act };
    if there {
        AwsSecrets::new(story.account.clone()).ensure(&story.app, &story.key, &vars()).await.expect("kept");
    }
    story
}

fn vars() -> [(String, String); 1] {
    [("PAAS_CONFIG_0".to_owned(), CANARY.to_owned())]
}

pub(super) async fn kept(ways: &Arc<Ways>, there: bool) -> Config {
    of(ways, Act::Keep, there).await
}

pub(super) async fn removed(ways: &Arc<Ways>) -> Config {
    of(ways, Act::Remove, true).await
}

pub(super) async fn all_removed(ways: &Arc<Ways>) -> Config {
    of(ways, Act::RemoveApp, true).await
}

impl Config {
    fn driver(&self) -> Arc<AwsSecrets> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Story for Config {
    async fn act(&self) -> Result<(), Said> {
        let driver = self.driver();
        match self.act {
            Act::Keep => {
                let named = driver.ensure(&self.app, &self.key, &vars()).await?;
                assert!(named.0.len() == 1 && !format!("{named:?}").contains(CANARY), "{named:?}");
            }
            Act::Remove => driver.remove(&self.app, &self.key).await?,
            Act::RemoveApp => driver.remove_app(&self.app).await?,
        }
        Ok(())
    }

    fn restart(&self) {
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(AwsSecrets::new(self.server.clone()));
    }

    async fn wrong(&self) -> Option<String> {
        let there = AwsSecrets::new(self.account.clone()).list(&self.app).await.expect("a list");
        let wanted = usize::from(matches!(self.act, Act::Keep));
        (there.len() != wanted).then(|| format!("there are {} secrets", there.len()))
    }

    async fn end(&self) {
        let _ = AwsSecrets::new(self.account.clone()).remove_app(&self.app).await;
    }
}
