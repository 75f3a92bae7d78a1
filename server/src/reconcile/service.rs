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
        quantity: line.map_or_else(Quantity::default, |line| line.quantity),
        attachment,
        restart: line.map_or(0, |line: &FormationLine| line.restart),
        revive: revived,
    };
    let progress = cx.runtime.ensure(&spec).await?;
    Ok(Outcome { process_type: process_type.clone(), revived, progress })
}

/// What the progress means: the service's row, when to look again, and whether this generation is settled.
pub(super) fn judge(wish: &Wish, outcome: &Outcome, found: &Found<'_>) -> (Service, Option<Timestamp>, bool) {
    let now = found.now;
    let version = wish.code().map(|release| release.version);
    let before = wish.services.iter().find(|service| service.process_type == outcome.process_type);
    let mut row = before.cloned().unwrap_or(Service {
        process_type: outcome.process_type.clone(),
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
        AccountId, AppId, ConfigId, ConfigVars, Digest, Generation, ReleaseId, ReleaseStatus, ReleaseVersion,
    };
    use paas_ports::RolloutFailure;
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
    fn serving_is_remembered_while_the_next_release_fails() {
        let (served, ..) = judged(&wish(3, vec![]), Progress::Settled, false, 0);
        assert_eq!(served.serving_release, Some(ReleaseVersion(3)));
        let (failed, ..) = judged(&wish(4, vec![served]), failure(1), false, 1);
        assert_eq!(failed.state, RolloutState::Failed);
        assert_eq!(failed.serving_release, Some(ReleaseVersion(3)));
        assert_eq!(failed.target_release, Some(ReleaseVersion(4)));
    }
}
