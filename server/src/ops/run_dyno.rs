//! `run`: a one-off dyno of the current release.

use paas_domain::{ConfigVars, DynoKind, DynoName, DynoSize, ProcessType};
use paas_store::{Account, AppScope, Dyno, NewDyno};

use crate::cx::{Cx, OpError};
use crate::rendezvous::AttachToken;

/// The most one-off dynos of one app at a time (Heroku: 50 for an unverified account's free use; ours for all).
pub const MAX_ONE_OFF: usize = 50;
/// The longest command line, in bytes. One environment string of a process may have 128 KiB.
pub const MAX_COMMAND_BYTES: usize = 32 * 1024;

/// A one-off dyno that is asked for.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// A shell command line, or the name of a process type whose command is meant.
    pub command: String,
    /// Environment on top of the config vars.
    pub env: ConfigVars,
    /// Whether the caller will attach.
    pub attach: bool,
    /// Whether it gets a terminal when attached.
    pub tty: bool,
    /// How large it is.
    pub size: Option<DynoSize>,
    /// How many seconds it may run; for ever unless said.
    pub time_to_live_s: Option<u32>,
    /// What its name starts with: `run` unless said.
    pub process_type: Option<ProcessType>,
}

/// Writes the wish for a one-off dyno and answers it with its attach token, which works once.
///
/// # Errors
/// [`OpError::Invalid`] without a command; [`OpError::Conflict`] without a release to run.
pub async fn run_dyno(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    request: RunRequest,
) -> Result<(Dyno, Option<AttachToken>), OpError> {
    if request.command.trim().is_empty() {
        return Err(OpError::invalid("Command is required."));
    }
    if request.command.len() > MAX_COMMAND_BYTES || request.command.contains('\0') {
        return Err(OpError::invalid("Command is too long or holds a null byte."));
    }
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let release = uow.current_release(app).await?.filter(|release| release.image.is_some());
    let release =
        release.ok_or_else(|| OpError::Conflict("Cannot run: the app has no code yet. Deploy first.".to_owned()))?;
    if uow.dynos(app).await?.iter().filter(|dyno| dyno.kind == DynoKind::Run).count() >= MAX_ONE_OFF {
        return Err(OpError::invalid(format!("Cannot run more than {MAX_ONE_OFF} one-off dynos at a time.")));
    }
    // `heroku run worker` runs the Procfile's line.
    let named = request.command.trim().parse::<ProcessType>().ok();
    let command = named.and_then(|t| release.process_types.get(&t).cloned()).unwrap_or(request.command);
    let token = request.attach.then(AttachToken::new);
    let process_type = request.process_type.unwrap_or_else(|| "run".parse().expect("run is a process type"));
    let mut new = NewDyno {
        name: DynoName { process_type, slot: random_slot() },
        kind: DynoKind::Run,
        release: release.version,
        size: request.size.unwrap_or_default(),
        command,
        attach: request.attach,
        tty: request.tty,
        attach_hash: token.as_ref().map(|token| data_encoding::HEXLOWER.encode(&token.hash())),
        env: request.env,
        expires_at: request.time_to_live_s.map(|seconds| now.plus_s(i64::from(seconds))),
        // Another server may start it: the client comes to this one.
        link: cx.settings.link.clone().filter(|_| request.attach),
    };
    let taken: Vec<DynoName> = uow.dynos(app).await?.into_iter().map(|dyno| dyno.name).collect();
    while taken.contains(&new.name) {
        new.name.slot = random_slot();
    }
    let dyno = uow.create_dyno(app, &new, now).await?;
    uow.raise_generation(app, now).await?;
    uow.save().await?;
    cx.kick();
    let line = format!("Starting process with command `{}` by user {}", shown(&dyno.command), account.email);
    cx.say(app.id(), paas_ports::LogSource::App, "api", line).await;
    Ok((dyno, token))
}

/// A command line as a log line shows it: one line, without control characters.
fn shown(command: &str) -> String {
    command.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

/// Heroku's one-off dynos have four random digits.
fn random_slot() -> u32 {
    let mut random = [0_u8; 2];
    // A slot is no secret; a draw that is taken is drawn again.
    let _ = getrandom::fill(&mut random);
    1000 + u32::from(u16::from_le_bytes(random)) % 9000
}
