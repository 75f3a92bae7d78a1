//! Heroku's Platform API v3: HTTP to operations and back. Decides nothing.
//!
//! [`routes`] names every route with its permission; [`dispatch`] takes a request from there to its handler
//! (credentials, rate, version, scope, app, body) and [`envelope`] is around all of it. One file per resource below.
//! What Heroku has and this platform not (yet) is answered as Heroku answers who has none: an empty list, a
//! `not_found` of the right resource, or a refusal that says so.

mod account;
mod addons;
mod answer;
mod apps;
mod auth;
mod buildpacks;
mod builds;
mod call;
mod certificates;
mod collaborators;
mod config_vars;
mod dispatch;
mod domains;
mod dyno_sizes;
mod dynos;
mod envelope;
mod error;
mod features;
mod fixed_id;
mod formation;
mod log_drains;
mod log_sessions;
mod oauth;
mod outputs;
mod paging;
mod params;
mod pipelines;
mod placement;
mod rate_limit;
mod regions;
mod releases;
mod routes;
mod slugs;
mod sources;
mod stacks;
mod teams;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::response::IntoResponse as _;
use axum::routing::{MethodFilter, on};

use crate::cx::Cx;

pub use auth::Access;
pub use routes::{Declared, Permission, declared};

/// What all requests share.
pub(crate) struct Api {
    pub(crate) cx: Cx,
    pub(crate) limits: rate_limit::RateLimits,
}

/// The whole API. Requests to paths that are not in it are answered with Heroku's `not_found`.
///
/// # Panics
/// When two routes are the same: a mistake in [`routes`], found by any test.
pub fn router(cx: Cx) -> Router {
    let api = Arc::new(Api { cx, limits: rate_limit::RateLimits::default() });
    let mut router = Router::new();
    for route in routes::routes() {
        let filter = MethodFilter::try_from(route.method.clone()).expect("a method of HTTP");
        let (path, route, api) = (route.path, Arc::new(route), Arc::clone(&api));
        let handler = move |path: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            dispatch::dispatch(Arc::clone(&api), Arc::clone(&route), path, request)
        };
        router = router.route(path, on(filter, handler));
    }
    router
        .fallback(|| async { error::ApiError::no_route().into_response() })
        .method_not_allowed_fallback(|| async { error::ApiError::method_not_allowed().into_response() })
        .layer(axum::middleware::from_fn(envelope::envelope))
}
