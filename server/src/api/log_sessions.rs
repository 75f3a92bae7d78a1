//! `log-session`: a URL that opens an app's log, and the log behind it.

use paas_logs::session;
use paas_ports::{LogSource, TailQuery};
use paas_proto as proto;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Reply};
use super::call::{Bearer, Call, OnApp};
use super::error::ApiError;
use super::params::Params;
use crate::ops::open_log_session::open_log_session;
use crate::token::token_hash;

/// How many lines a session without `lines` begins with, as Heroku's.
const LINES: u64 = 100;

/// What was asked for, as the session's row keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    lines: usize,
    source: Option<LogSource>,
    process: Option<String>,
    follow: bool,
}

pub(crate) async fn create(call: Call<OnApp>) -> Reply {
    let cx = &call.cx;
    let kept = asked(&call.params)?;
    let query = serde_json::to_string(&kept).map_err(ApiError::internal)?;
    let (id, token) = open_log_session(cx, call.scope(), &query).await?;
    let now = cx.now().to_rfc3339();
    Answer::created(&proto::LogSession {
        created_at: now.clone(),
        id,
        logplex_url: format!("{}/log-sessions/{token}", cx.settings.api_url),
        updated_at: now,
    })
}

fn asked(params: &Params) -> Result<Kept, ApiError> {
    let lines = params.number("lines", 0, u64::from(u32::MAX))?.unwrap_or(LINES);
    let source = match params.text("source")? {
        None => None,
        Some("app") => Some(LogSource::App),
        Some("heroku") => Some(LogSource::Heroku),
        Some(_) => return Err(params.invalid("source", "must be `app` or `heroku`")),
    };
    let mut process = None;
    for name in ["dyno", "dyno_name", "type"] {
        let Some(text) = params.text(name)? else { continue };
        let plain =
            (1..=80).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !plain {
            return Err(params.invalid(name, "must be a dyno such as `web.1` or a process type"));
        }
        // A dyno says more than its type.
        process.get_or_insert_with(|| text.to_owned());
    }
    let lines = usize::try_from(lines).unwrap_or(TailQuery::MAX_LINES).min(TailQuery::MAX_LINES);
    Ok(Kept { lines, source, process, follow: params.boolean("tail")?.unwrap_or(false) })
}

/// 403 when the session is over or never was: Heroku's CLI then says so and ends.
pub(crate) async fn read(call: Call<Bearer>) -> Reply {
    let cx = &call.cx;
    let found = cx.store.read().await?.log_session(&token_hash(call.path("token")), cx.now()).await?;
    let found = found.ok_or_else(|| ApiError::forbidden("This log session is over."))?;
    let kept: Kept = serde_json::from_str(&found.query).map_err(ApiError::internal)?;
    let Kept { lines, source, process, follow } = kept;
    let query = TailQuery { lines, after: None, source, process, follow };
    let body = session::open(&*cx.logs, &found.app, query, call.header("accept"), call.header("last-event-id")).await?;
    Answer::stream(body.content_type, body.bytes)
}
