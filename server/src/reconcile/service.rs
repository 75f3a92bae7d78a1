//! One process type of one app: its spec, and what its progress means for its rollout and its crash ladder.

use paas_domain::{CRASH_RESET_S, DynoState, ProcessType, Quantity, RolloutState, Timestamp, crash_delay_s};
use paas_ports::{Attachment, ImageRef, Observed, Progress, ServiceSpec};
use paas_store::{FormationLine, Service};

use super::pass::{PassError, Wish, after, sooner};
use crate::cx::Cx;

/// What became of one `ensure`.
pub(super) struct Outcome {
    process_type: ProcessType,
    /// Whether crashed dynos were allowed to be replaced this time.
    revived: bool,
    progress: Progress,
}

/// What a pass found behind its effects.
pub(super) struct Found<'a> {
    pub(super) now: Timestamp,
    pub(super) seen: &'a Observed,
}

/// Asks the runtime to move this process type one step towards what the rows say.
pub(super) async fn ensure(
    cx: &Cx,
    wish: &Wish,
    process_type: &ProcessType,
    command: &str,
    attachment: Option<Attachment>,
) -> Result<Outcome, PassError> {
    let line = wish.formation.iter().find(|line| line.process_type == *process_type);
    let (Some(release), now) = (wish.code(), cx.now()) else {
        return Ok(Outcome { process_type: process_type.clone(), revived: false, progress: Progress::Settled });
    };
    let Some(image) = release.image.clone() else {
        return Ok(Outcome { process_type: process_type.clone(), revived: false, progress: Progress::Settled });
    };
    let row = wish.services.iter().find(|service| service.process_type == *process_type);
    // A crash was counted and its rest is over; or a release or a restart has started the ladder anew.
    let revived = row.is_some_and(|row| {
        row.next_try_at.is_some_and(|at| at <= now) || row.state == RolloutState::Failed && row.next_try_at.is_none()
    });
    let spec = ServiceSpec {
        app: wish.app.id.clone(),
        process_type: process_type.clone(),
        generation: wish.app.generation,
        release: release.version,
        image: ImageRef(image),
        command: command.to_owned(),
        config: wish.config.clone(),
        config_id: release.config.clone(),
        size: line.map(|line| line.size).unwrap_or_default(),
        architecture: wish.architecture,
        capacity: wish.app.capacity,
        quantity: line.map_or_else(Quantity::default, |line| line.quantity),
        attachment,
        restart: line.map_or(0, |line: &FormationLine| line.restart),
        revive: revived,
    };
    let progress = cx.runtime.ensure(&spec).await?;
    Ok(Outcome { process_type: process_type.clone(), revived, progress })
}

/// The row of a process type of which a step was refused for good: what was wanted has failed, what serves serves on.
pub(super) fn refused(wish: &Wish, process_type: &ProcessType, reason: &str, now: Timestamp) -> Service {
    let before = wish.services.iter().find(|service| service.process_type == *process_type);
    let mut row = row_of(wish, process_type, now);
    row.state = RolloutState::Failed;
    row.reason = Some(reason.to_owned());
    if before.is_none_or(|before| before.state != row.state) {
        row.updated_at = now;
    }
    row
}

/// The row as it was, for the release that is wanted: another one starts the crash ladder anew.
fn row_of(wish: &Wish, process_type: &ProcessType, now: Timestamp) -> Service {
    let version = wish.code().map(|release| release.version);
    let before = wish.services.iter().find(|service| service.process_type == *process_type);
    let mut row = before.cloned().unwrap_or(Service {
        process_type: process_type.clone(),
        target_release: None,
        serving_release: None,
        state: RolloutState::Rolling,
        reason: None,
        crashes: 0,
        next_try_at: None,
        updated_at: now,
    });
    if row.target_release != version {
        row.target_release = version;
        row.crashes = 0;
        row.next_try_at = None;
        row.reason = None;
    }
    row
}

/// What the progress means: the service's row, when to look again, and whether this generation is settled.
pub(super) fn judge(wish: &Wish, outcome: &Outcome, found: &Found<'_>) -> (Service, Option<Timestamp>, bool) {
    let now = found.now;
    let version = wish.code().map(|release| release.version);
    let before = wish.services.iter().find(|service| service.process_type == outcome.process_type);
    let mut row = row_of(wish, &outcome.process_type, now);
    if outcome.revived {
        row.next_try_at = None;
    }
    let mut settled = true;
    let look_again = match &outcome.progress {
        Progress::Settled => {
            row.state = RolloutState::Settled;
            row.serving_release = version;
            row.next_try_at = None;
            climb_down(&mut row, found)
        }
        Progress::Serving { look_again: wait } => {
            row.state = RolloutState::Rolling;
            row.serving_release = version;
            settled = false;
            Some(after(now, *wait))
        }
        Progress::Moving { look_again: wait } => {
            row.state = RolloutState::Rolling;
            // What held it up is over; why a dyno crashed is told until none does.
            row.reason = row.reason.filter(|_| row.crashes > 0);
            settled = false;
            Some(after(now, *wait))
        }
        Progress::HeldUp { cause, look_again: wait } => {
            row.state = RolloutState::Rolling;
            row.reason = Some(cause.clone());
            settled = false;
            Some(after(now, *wait))
        }
        Progress::Failed { reason } => {
            let who = reason.dyno.as_ref().map(|dyno| format!("{dyno}: ")).unwrap_or_default();
            row.state = RolloutState::Failed;
            row.reason = Some(format!("{who}{}", reason.message));
            // Without a time the crash was not counted yet.
            let at = *row.next_try_at.get_or_insert_with(|| {
                row.crashes += 1;
                reason.at.plus_s(crash_delay_s(row.crashes)).max(now)
            });
            Some(at)
        }
    };
    let changed =
        before.is_none_or(|before| before.state != row.state || before.serving_release != row.serving_release);
    if changed {
        row.updated_at = now;
    }
    (row, look_again, settled)
}

/// What the app's log is told of a rollout that goes on: what holds it up, once.
pub(super) fn news(wish: &Wish, outcome: &Outcome, row: &Service) -> Option<String> {
    let Progress::HeldUp { cause, .. } = &outcome.progress else { return None };
    let before = wish.services.iter().find(|service| service.process_type == row.process_type);
    let known = before.is_some_and(|before| before.reason.as_ref() == Some(cause));
    (!known).then(|| format!("Error: {cause}: it is tried again until there is"))
}

/// Starts the ladder anew when every dyno has been up long enough; else says when that will be.
fn climb_down(row: &mut Service, found: &Found<'_>) -> Option<Timestamp> {
    if row.crashes == 0 {
        row.reason = None;
        return None;
    }
    let of_type = found.seen.dynos.iter().filter(|dyno| dyno.name.process_type == row.process_type);
    let youngest = of_type.filter(|dyno| dyno.state == DynoState::Up).map(|dyno| dyno.since).max();
    let due = youngest.unwrap_or(found.now).plus_s(CRASH_RESET_S);
    if due > found.now {
        return sooner(None, Some(due));
    }
    row.crashes = 0;
    row.reason = None;
    None
}

#[cfg(test)]
mod tests {
    use paas_domain::{
        AccountId, AppId, ConfigId, ConfigVars, Digest, DynoId, DynoKind, DynoName, DynoSize, Generation, ReleaseId,
        ReleaseStatus, ReleaseVersion,
    };
    use paas_ports::{ObservedDyno, RolloutFailure};
    use paas_store::{App, Release};

    use super::*;

    fn wish(version: i64, services: Vec<Service>) -> Wish {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().expect("a digest");
        let release = Release {
            id: ReleaseId::new(),
            version: ReleaseVersion(version),
            status: ReleaseStatus::Succeeded,
            image: Some(digest),
            config: ConfigId::new(),
            process_types: [(ProcessType::web(), "run".to_owned())].into(),
            description: String::new(),
            account: AccountId::new(),
            build: None,
            output: None,
            commit: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        let app = App {
            id: AppId::new(),
            name: "example".parse().expect("a name"),
            owner: AccountId::new(),
            maintenance: false,
            session_affinity: false,
            architecture: None,
            capacity: paas_domain::Capacity::default(),
            generation: Generation(5),
            settled_generation: Generation(4),
            current_release: Some(release.id.clone()),
            head_config: ConfigId::new(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            released_at: None,
            deleted_at: None,
        };
        Wish::for_test(app, release, ConfigVars::new(), services)
    }

    fn judged(wish: &Wish, progress: Progress, revived: bool, now: i64) -> (Service, Option<Timestamp>, bool) {
        let outcome = Outcome { process_type: ProcessType::web(), revived, progress };
        judge(wish, &outcome, &Found { now: Timestamp(now), seen: &Observed::default() })
    }

    fn failure(at: i64) -> Progress {
        let message = "Process exited with status 1".to_owned();
        Progress::Failed { reason: RolloutFailure { dyno: None, code: None, message, at: Timestamp(at) } }
    }

    #[test]
    fn ten_minutes_up_start_the_ladder_anew() {
        let (mut crashed, ..) = judged(&wish(3, vec![]), failure(1_000), false, 1_000);
        crashed.crashes = 5;
        let wish = wish(3, vec![crashed]);
        let up = |slot: u32, since_s: i64| ObservedDyno {
            id: DynoId::new(),
            name: DynoName { process_type: ProcessType::web(), slot },
            kind: DynoKind::Service,
            release: ReleaseVersion(3),
            generation: Generation(5),
            command: "run".to_owned(),
            size: DynoSize::default(),
            state: DynoState::Up,
            exit_code: None,
            since: Timestamp(0).plus_s(since_s),
            platform_ref: String::new(),
        };
        let judged_at = |now_s: i64| {
            let seen = Observed { dynos: vec![up(1, 50), up(2, 100)] };
            let outcome = Outcome { process_type: ProcessType::web(), revived: false, progress: Progress::Settled };
            judge(&wish, &outcome, &Found { now: Timestamp(0).plus_s(now_s), seen: &seen })
        };
        // The one that came last counts.
        let (row, at, _) = judged_at(699);
        assert_eq!((row.crashes, at), (5, Some(Timestamp(0).plus_s(700))));
        let (row, at, settled) = judged_at(700);
        assert_eq!((row.crashes, row.reason, at, settled), (0, None, None, true));
    }

    #[test]
    fn a_crash_is_counted_once_and_climbs_the_ladder() {
        let (first, at, settled) = judged(&wish(3, vec![]), failure(1_000), false, 1_000);
        assert_eq!((first.crashes, at, settled), (1, Some(Timestamp(1_000)), true));
        // Seen again before its time: the same crash.
        let (same, ..) = judged(&wish(3, vec![first.clone()]), failure(1_000), false, 1_000);
        assert_eq!(same.crashes, 1);
        // Replaced, and crashed again: the second rung.
        let (second, at, _) = judged(&wish(3, vec![first]), failure(2_000), true, 2_000);
        assert_eq!((second.crashes, at), (2, Some(Timestamp(12_000))));
        // A new release starts anew.
        let (anew, ..) = judged(&wish(4, vec![second]), failure(3_000), false, 3_000);
        assert_eq!(anew.crashes, 1);
    }

    #[test]
    fn what_is_refused_fails_beside_what_serves() {
        let (served, ..) = judged(&wish(3, vec![]), Progress::Settled, false, 0);
        // A scale of what serves.
        let refusal = refused(&wish(3, vec![served.clone()]), &ProcessType::web(), "no", Timestamp(9));
        assert_eq!((refusal.state, refusal.reason.as_deref()), (RolloutState::Failed, Some("no")));
        assert_eq!((refusal.serving_release, refusal.updated_at), (Some(ReleaseVersion(3)), Timestamp(9)));
        // Refused again: nothing to write.
        assert_eq!(refused(&wish(3, vec![refusal.clone()]), &ProcessType::web(), "no", Timestamp(10)), refusal);
        // No longer refused.
        let (mended, ..) = judged(&wish(3, vec![refusal]), Progress::Settled, false, 11);
        assert_eq!((mended.state, mended.reason, mended.crashes), (RolloutState::Settled, None, 0));
        // A crash that waits for its next try is not counted a second time.
        let (crashed, ..) = judged(&wish(3, vec![served]), failure(1_000), false, 1_000);
        let refusal = refused(&wish(3, vec![crashed.clone()]), &ProcessType::web(), "no", Timestamp(1_001));
        let (same, ..) = judged(&wish(3, vec![refusal]), failure(1_000), false, 1_002);
        assert_eq!((same.crashes, same.next_try_at), (crashed.crashes, crashed.next_try_at));
    }

    #[test]
    fn what_holds_a_rollout_up_is_told_once_and_forgotten_when_it_moves() {
        let held_up = || Progress::HeldUp { cause: "no room".to_owned(), look_again: std::time::Duration::ZERO };
        let outcome = Outcome { process_type: ProcessType::web(), revived: false, progress: held_up() };
        let (row, at, settled) = judged(&wish(3, vec![]), held_up(), false, 1_000);
        assert_eq!((row.state, row.reason.as_deref(), row.crashes), (RolloutState::Rolling, Some("no room"), 0));
        assert_eq!((at, settled), (Some(Timestamp(1_000)), false));
        assert!(news(&wish(3, vec![]), &outcome, &row).is_some_and(|line| line.contains("no room")));
        assert_eq!(news(&wish(3, vec![row.clone()]), &outcome, &row), None);
        let moving = Progress::Moving { look_again: std::time::Duration::ZERO };
        assert_eq!(judged(&wish(3, vec![row]), moving, false, 2_000).0.reason, None);
    }

    #[test]
    fn serving_is_remembered_while_the_next_release_fails() {
        let (served, ..) = judged(&wish(3, vec![]), Progress::Settled, false, 0);
        assert_eq!(served.serving_release, Some(ReleaseVersion(3)));
        let (failed, ..) = judged(&wish(4, vec![served]), failure(1), false, 1);
        assert_eq!(failed.state, RolloutState::Failed);
        assert_eq!(failed.serving_release, Some(ReleaseVersion(3)));
        assert_eq!(failed.target_release, Some(ReleaseVersion(4)));
    }
}
