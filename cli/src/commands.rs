//! Every command, by Heroku's name. The path of its file is its name: `commands/ps/scale.rs` is `ps:scale`.

use crate::cx::Cx;
use crate::error::Done;

mod apps;
mod auth;
mod builds;
mod completions;
mod config;
mod domains;
mod features;
mod git;
mod install;
mod logs;
mod maintenance;
mod placement;
mod ps;
mod releases;
pub(crate) mod run;
mod version;

macro_rules! commands {
    ($($(#[$about:meta])* $name:ident($args:ty)),* $(,)?) => {
        /// One command with its arguments.
        #[derive(clap::Subcommand)]
        pub(crate) enum Command {
            $($(#[$about])* $name($args),)*
        }

        impl Command {
            /// Does what was asked.
            pub(crate) fn run(self, cx: &Cx) -> Done {
                match self {
                    $(Self::$name(args) => args.run(cx),)*
                }
            }
        }
    };
}

commands! {
    #[command(name = "apps", aliases = ["list", "apps:list"])]
    Apps(apps::Apps),
    #[command(name = "apps:create", aliases = ["create"])]
    AppsCreate(apps::create::Create),
    #[command(name = "apps:destroy", aliases = ["destroy", "apps:delete"])]
    AppsDestroy(apps::destroy::Destroy),
    #[command(name = "apps:info", aliases = ["info"])]
    AppsInfo(apps::info::Info),
    #[command(name = "apps:open", aliases = ["open"])]
    AppsOpen(apps::open::Open),
    #[command(name = "apps:rename", aliases = ["rename"])]
    AppsRename(apps::rename::Rename),
    #[command(name = "auth:login", aliases = ["login"])]
    AuthLogin(auth::login::Login),
    #[command(name = "auth:logout", aliases = ["logout"])]
    AuthLogout(auth::logout::Logout),
    #[command(name = "auth:token")]
    AuthToken(auth::token::Token),
    #[command(name = "auth:whoami", aliases = ["whoami"])]
    AuthWhoami(auth::whoami::Whoami),
    #[command(name = "builds")]
    Builds(builds::Builds),
    #[command(name = "builds:create")]
    BuildsCreate(builds::create::Create),
    #[command(name = "builds:info")]
    BuildsInfo(builds::info::Info),
    #[command(name = "builds:output")]
    BuildsOutput(builds::output::Output),
    #[command(name = "completions")]
    Completions(completions::Completions),
    #[command(name = "config")]
    Config(config::Config),
    #[command(name = "config:get")]
    ConfigGet(config::get::Get),
    #[command(name = "config:set", aliases = ["config:add"])]
    ConfigSet(config::set::Set),
    #[command(name = "config:unset", aliases = ["config:remove"])]
    ConfigUnset(config::unset::Unset),
    #[command(name = "domains")]
    Domains(domains::Domains),
    #[command(name = "domains:add")]
    DomainsAdd(domains::add::Add),
    #[command(name = "domains:remove")]
    DomainsRemove(domains::remove::Remove),
    #[command(name = "features")]
    Features(features::Features),
    #[command(name = "features:disable")]
    FeaturesDisable(features::disable::Disable),
    #[command(name = "features:enable")]
    FeaturesEnable(features::enable::Enable),
    #[command(name = "features:info")]
    FeaturesInfo(features::info::Info),
    #[command(name = "git:credentials", hide = true)]
    GitCredentials(git::credentials::Credentials),
    #[command(name = "git:remote")]
    GitRemote(git::remote::Remote),
    #[command(name = "install")]
    Install(install::Install),
    #[command(name = "logs")]
    Logs(logs::Logs),
    #[command(name = "maintenance")]
    Maintenance(maintenance::Maintenance),
    #[command(name = "maintenance:off")]
    MaintenanceOff(maintenance::off::Off),
    #[command(name = "maintenance:on")]
    MaintenanceOn(maintenance::on::On),
    #[command(name = "placement")]
    Placement(placement::Show),
    #[command(name = "placement:set")]
    PlacementSet(placement::set::Set),
    #[command(name = "ps")]
    Ps(ps::Ps),
    #[command(name = "ps:restart", aliases = ["restart", "dyno:restart"])]
    PsRestart(ps::restart::Restart),
    #[command(name = "ps:scale", aliases = ["scale", "dyno:scale"])]
    PsScale(ps::scale::Scale),
    #[command(name = "ps:stop", aliases = ["stop", "kill", "ps:kill", "dyno:stop", "dyno:kill"])]
    PsStop(ps::stop::Stop),
    #[command(name = "ps:type", aliases = ["resize", "ps:resize", "dyno:resize", "dyno:type"])]
    PsType(ps::r#type::Type),
    #[command(name = "releases")]
    Releases(releases::Releases),
    #[command(name = "releases:info")]
    ReleasesInfo(releases::info::Info),
    #[command(name = "releases:output")]
    ReleasesOutput(releases::output::Output),
    #[command(name = "releases:retry")]
    ReleasesRetry(releases::retry::Retry),
    #[command(name = "releases:rollback", aliases = ["rollback"])]
    ReleasesRollback(releases::rollback::Rollback),
    #[command(name = "run")]
    Run(run::Run),
    #[command(name = "run:detached")]
    RunDetached(run::detached::Detached),
    #[command(name = "version")]
    Version(version::Version),
    #[command(name = "__complete", hide = true)]
    Complete(completions::Complete),
}
