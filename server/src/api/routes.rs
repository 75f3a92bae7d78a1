//! Every route: method, path, permission, handler, in this one place.
//!
//! A handler's argument says what its route must have granted ([`Call<OnApp>`] is only to be had through
//! [`app`], which looks the app up as the caller's), so a route without a permission does not compile.

use std::future::Future;
use std::pin::Pin;

use axum::http::Method;

use super::answer::Reply;
use super::auth::Access;
use super::call::{Bearer, Call, Caller, OnApp};
use super::{
    account, addons, apps, buildpacks, builds, certificates, collaborators, config_vars, domains, dyno_sizes, dynos,
    features, formation, log_drains, log_sessions, oauth, outputs, pipelines, placement, regions, releases, slugs,
    sources, stacks, teams,
};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Whoever has the URL: it holds an unguessable token.
    Capability,
    /// Whoever has an account, with a key of this access.
    Account(Access),
    /// The app's owner, with a key of this access.
    App(Access),
}

impl Permission {
    pub(crate) fn access(self) -> Option<Access> {
        match self {
            Self::Capability => None,
            Self::Account(access) | Self::App(access) => Some(access),
        }
    }
}

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handle<P> = Box<dyn Fn(Call<P>) -> Answering + Send + Sync>;

pub(crate) enum Handler {
    Capability(Handle<Bearer>),
    Account(Handle<Caller>),
    App(Handle<OnApp>),
}

/// A route of the API.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) permission: Permission,
    pub(crate) handler: Handler,
    /// Whether the handler reads the body itself.
    pub(crate) upload: bool,
}

fn handle<P, F, Fut>(handler: F) -> Handle<P>
where
    F: Fn(Call<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    Box::new(move |call| Box::pin(handler(call)))
}

fn capability<F, Fut>(method: Method, path: &'static str, handler: F) -> Route
where
    F: Fn(Call<Bearer>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let upload = method == Method::PUT;
    let handler = Handler::Capability(handle(handler));
    Route { method, path, permission: Permission::Capability, handler, upload }
}

fn account<F, Fut>(method: Method, path: &'static str, access: Access, handler: F) -> Route
where
    F: Fn(Call<Caller>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let handler = Handler::Account(handle(handler));
    Route { method, path, permission: Permission::Account(access), handler, upload: false }
}

fn app<F, Fut>(method: Method, path: &'static str, access: Access, handler: F) -> Route
where
    F: Fn(Call<OnApp>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let handler = Handler::App(handle(handler));
    Route { method, path, permission: Permission::App(access), handler, upload: false }
}

/// What [`declared`] says of a route: method, path and permission.
pub type Declared = (Method, &'static str, Permission);

/// Every route's method, path and permission.
#[must_use]
pub fn declared() -> Vec<Declared> {
    routes().into_iter().map(|route| (route.method, route.path, route.permission)).collect()
}

#[rustfmt::skip]
pub(crate) fn routes() -> Vec<Route> {
    use Access::{Global, Identity, Read, ReadProtected, Write, WriteProtected};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    vec![
        account(GET, "/account", Identity, account::info),
        account(GET, "/users/{user}", Identity, account::info_by_user),
        account(GET, "/account/delinquency", Identity, account::delinquency),
        account(GET, "/account/rate-limits", Identity, account::rate_limits),
        account(GET, "/account/keys", Read, account::no_keys),
        account(POST, "/account/keys", Write, account::refuse_key),
        account(GET, "/account/features", Read, features::none),
        account(GET, "/account/features/{feature}", Read, features::no_account_feature),
        account(PATCH, "/account/features/{feature}", Write, features::no_account_feature),

        account(POST, "/oauth/authorizations", Global, oauth::create),
        account(GET, "/oauth/authorizations", Global, oauth::list),
        account(GET, "/oauth/authorizations/{authorization}", Global, oauth::info),
        account(PATCH, "/oauth/authorizations/{authorization}", Global, oauth::update),
        account(DELETE, "/oauth/authorizations/{authorization}", Global, oauth::delete),
        account(POST, "/oauth/authorizations/{authorization}/actions/regenerate-tokens", Global, oauth::regenerate),
        account(GET, "/oauth/clients", Global, oauth::no_clients),
        account(GET, "/oauth/sessions", Global, oauth::no_sessions),
        account(DELETE, "/oauth/sessions/{session}", Identity, oauth::no_session),

        account(GET, "/regions", Identity, regions::list),
        account(GET, "/regions/{region}", Identity, regions::info),
        account(GET, "/stacks", Identity, stacks::list),
        account(GET, "/stacks/{stack}", Identity, stacks::info),
        account(GET, "/dyno-sizes", Identity, dyno_sizes::list),
        account(GET, "/dyno-sizes/{size}", Identity, dyno_sizes::info),

        account(GET, "/apps", Read, apps::list),
        account(GET, "/users/{user}/apps", Read, apps::list_by_user),
        account(POST, "/apps", Write, apps::create),
        app(GET, "/apps/{app}", Read, apps::info),
        app(PATCH, "/apps/{app}", Write, apps::update),
        app(DELETE, "/apps/{app}", Write, apps::delete),
        app(GET, "/apps/{app}/available-stacks", Read, stacks::list_of_app),
        app(GET, "/apps/{app}/available-dyno-sizes", Read, dyno_sizes::list_of_app),

        app(GET, "/apps/{app}/config-vars", ReadProtected, config_vars::info),
        app(PATCH, "/apps/{app}/config-vars", WriteProtected, config_vars::update),
        app(GET, "/apps/{app}/releases/{release}/config-vars", ReadProtected, config_vars::info_of_release),

        app(GET, "/apps/{app}/formation", Read, formation::list),
        app(PATCH, "/apps/{app}/formation", Write, formation::batch_update),
        app(GET, "/apps/{app}/formation/{formation}", Read, formation::info),
        app(PATCH, "/apps/{app}/formation/{formation}", Write, formation::update),

        app(GET, "/apps/{app}/dynos", Read, dynos::list),
        app(POST, "/apps/{app}/dynos", Write, dynos::create),
        app(DELETE, "/apps/{app}/dynos", Write, dynos::restart_all),
        app(GET, "/apps/{app}/dynos/{dyno}", Read, dynos::info),
        app(DELETE, "/apps/{app}/dynos/{dyno}", Write, dynos::restart),
        app(POST, "/apps/{app}/dynos/{dyno}/actions/stop", Write, dynos::stop),
        app(DELETE, "/apps/{app}/formations/{formation}", Write, dynos::restart_type),
        app(POST, "/apps/{app}/formations/{formation}/actions/stop", Write, dynos::stop_type),

        app(GET, "/apps/{app}/releases", Read, releases::list),
        app(POST, "/apps/{app}/releases", Write, releases::create),
        app(GET, "/apps/{app}/releases/{release}", Read, releases::info),
        app(POST, "/apps/{app}/slugs", Write, slugs::create),
        app(GET, "/apps/{app}/slugs/{slug}", Read, slugs::info),

        account(POST, "/sources", Write, sources::create),
        app(POST, "/apps/{app}/sources", Write, sources::create_for_app),
        capability(PUT, "/sources/{token}", sources::upload),
        app(GET, "/apps/{app}/builds", Read, builds::list),
        app(POST, "/apps/{app}/builds", Write, builds::create),
        app(GET, "/apps/{app}/builds/{build}", Read, builds::info),
        app(GET, "/apps/{app}/builds/{build}/result", Read, builds::result),
        capability(GET, "/outputs/{token}", outputs::follow),
        app(GET, "/apps/{app}/buildpack-installations", Read, buildpacks::list),
        app(PUT, "/apps/{app}/buildpack-installations", Write, buildpacks::replace),
        app(GET, "/apps/{app}/oci-images/{image}", Read, slugs::no_oci_image),

        app(GET, "/apps/{app}/domains", Read, domains::list),
        app(POST, "/apps/{app}/domains", Write, domains::create),
        app(GET, "/apps/{app}/domains/{domain}", Read, domains::info),
        app(PATCH, "/apps/{app}/domains/{domain}", Write, domains::update),
        app(DELETE, "/apps/{app}/domains/{domain}", Write, domains::delete),
        app(GET, "/apps/{app}/sni-endpoints", Read, certificates::none),
        app(POST, "/apps/{app}/sni-endpoints", Write, certificates::refuse),
        app(GET, "/apps/{app}/sni-endpoints/{endpoint}", Read, certificates::not_found),
        app(PATCH, "/apps/{app}/sni-endpoints/{endpoint}", Write, certificates::not_found),
        app(DELETE, "/apps/{app}/sni-endpoints/{endpoint}", Write, certificates::not_found),
        app(POST, "/apps/{app}/acm", Write, certificates::refuse),
        app(PATCH, "/apps/{app}/acm", Write, certificates::refuse),
        app(DELETE, "/apps/{app}/acm", Write, certificates::refuse),

        app(POST, "/apps/{app}/log-sessions", Read, log_sessions::create),
        capability(GET, "/log-sessions/{token}", log_sessions::read),
        app(GET, "/apps/{app}/log-drains", Read, log_drains::none),
        app(POST, "/apps/{app}/log-drains", Write, log_drains::refuse),
        app(GET, "/apps/{app}/log-drains/{drain}", Read, log_drains::not_found),
        app(DELETE, "/apps/{app}/log-drains/{drain}", Write, log_drains::not_found),
        app(GET, "/apps/{app}/telemetry-drains", Read, log_drains::none),

        app(GET, "/apps/{app}/collaborators", Read, collaborators::list),
        app(POST, "/apps/{app}/collaborators", Write, collaborators::refuse),
        app(GET, "/apps/{app}/collaborators/{collaborator}", Read, collaborators::info),
        app(DELETE, "/apps/{app}/collaborators/{collaborator}", Write, collaborators::delete),
        app(GET, "/apps/{app}/features", Read, features::list),
        app(GET, "/apps/{app}/features/{feature}", Read, features::info),
        app(PATCH, "/apps/{app}/features/{feature}", Write, features::update),

        account(GET, "/addons", Read, addons::none),
        account(GET, "/addons/{addon}", Read, addons::no_addon),
        account(GET, "/addon-attachments", Read, addons::none),
        account(GET, "/addon-services", Identity, addons::none),
        account(GET, "/addon-services/{service}", Identity, addons::no_service),
        account(POST, "/actions/addons/resolve", Read, addons::no_addon),
        account(POST, "/actions/addon-attachments/resolve", Read, addons::no_attachment),
        app(GET, "/apps/{app}/addons", Read, addons::none),
        app(POST, "/apps/{app}/addons", Write, addons::no_service),
        app(GET, "/apps/{app}/addons/{addon}", Read, addons::no_addon),
        app(GET, "/apps/{app}/addon-attachments", Read, addons::none),
        app(GET, "/apps/{app}/addon-attachments/{attachment}", Read, addons::no_attachment),

        account(GET, "/pipelines", Read, pipelines::none),
        account(GET, "/pipelines/{pipeline}", Read, pipelines::no_pipeline),
        app(GET, "/apps/{app}/pipeline-couplings", Read, pipelines::no_coupling),
        app(GET, "/apps/{app}/review-app", Read, pipelines::no_review_app),
        account(GET, "/teams", Read, teams::none),
        account(GET, "/teams/{team}", Read, teams::no_team),
        account(POST, "/teams/apps", Write, teams::no_team),
        account(GET, "/enterprise-accounts", Read, teams::none),
        account(GET, "/spaces", Read, teams::none),
        account(GET, "/spaces/{space}", Read, teams::no_space),

        // What Heroku has no word for.
        app(GET, "/paas/apps/{app}/placement", Read, placement::info),
        app(PATCH, "/paas/apps/{app}/placement", Write, placement::update),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reading is by GET and changing is not; what may hold secrets asks for more than `read`.
    #[test]
    fn permissions_fit_their_methods() {
        for (method, path, permission) in declared() {
            let access = permission.access();
            let reading = matches!(access, Some(Access::Identity | Access::Read | Access::ReadProtected));
            // Nothing changes by these, though clients POST or DELETE them.
            let harmless = path.ends_with("/log-sessions") || path.ends_with("/resolve") || path.contains("/sessions/");
            match access {
                Some(Access::Global) | None => {}
                Some(_) => assert!(reading == (method == Method::GET) || harmless, "{method} {path}"),
            }
            let on_app = path.strip_prefix("/paas").unwrap_or(path).starts_with("/apps/{app}");
            assert_eq!(on_app, matches!(permission, Permission::App(_)), "{method} {path}");
            let protected = matches!(access, Some(Access::ReadProtected | Access::WriteProtected));
            assert_eq!(path.ends_with("config-vars"), protected, "{method} {path}");
            assert_eq!(path.ends_with("{token}"), permission == Permission::Capability, "{method} {path}");
        }
    }
}
