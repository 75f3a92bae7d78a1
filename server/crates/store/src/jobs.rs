//! Finite work that may fail half-way: one row a job, a queue in which one runs at a time, stored steps.

use paas_domain::{AppId, JobId, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Takes, Uow};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// From a source to a release that serves. Its subject is a build.
    BuildApp,
    /// The release phase of a release that no build cuts (config, rollback). Its subject is a release.
    RunReleasePhase,
}

impl JobKind {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuildApp => "build_app",
            Self::RunReleasePhase => "run_release_phase",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::BuildApp, Self::RunReleasePhase].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Another one of its queue comes first.
    Waiting,
    /// It holds its queue, also while it waits for its next try.
    Running,
    /// It ended well.
    Done,
    /// It ended otherwise.
    Failed,
}

impl JobState {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Running, Self::Done, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Whose.
    pub app: AppId,
    /// What it is about: the id of a build or of a release.
    pub subject: String,
    /// Where it stands.
    pub state: JobState,
    /// The step that comes next.
    pub step: String,
    /// What its steps wrote down for later ones, as JSON.
    pub memo: String,
    /// Failed tries of the present step.
    pub attempts: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// Since when it exists.
    pub created_at: Timestamp,
}

/// The right to work on a job, until somebody with a higher fence takes it.
#[derive(Clone, Debug)]
pub struct JobLease {
    /// The job as it was claimed.
    pub job: Job,
    /// Its app.
    pub scope: AppScope,
    /// Grows with each claim.
    pub fence: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, app, subject, state, step, memo, attempts, error, created_at, fence FROM jobs ",
            $rest
        )
    };
}

fn job(row: &mut Row) -> Result<Job, StoreError> {
    Ok(Job {
        id: row.parse()?,
        kind: JobKind::parse(&row.text()?).ok_or(StoreError::Corrupt("job kind"))?,
        app: row.parse()?,
        subject: row.text()?,
        state: JobState::parse(&row.text()?).ok_or(StoreError::Corrupt("job state"))?,
        step: row.text()?,
        memo: row.text()?,
        attempts: row.int()?,
        error: row.opt_text()?,
        created_at: row.time()?,
    })
}

/// The steps of a build that need its builder; the others can be done by any server.
pub const BUILDER_STEPS: [&str; 3] = ["stage_source", "run_build", "export_image"];

/// The steps that go on with what a server holds: a build's container, the link of a release phase's dyno.
pub const HELD_STEPS: [&str; 3] = ["export_image", "run_release_phase", "run_phase"];

/// [`HELD_STEPS`] as SQL.
macro_rules! held {
    () => {
        "('export_image', 'run_release_phase', 'run_phase')"
    };
}
pub(crate) use held;

/// Whether the job `j` is one of those that a server takes: its architecture is one parameter, and whether it takes
/// what needs no builder the other.
macro_rules! takes {
    ($before:expr, $builds:literal, $others:literal, $after:expr) => {
        concat!(
            $before,
            " (CASE WHEN j.kind = 'build_app' AND j.step IN ('stage_source', 'run_build', 'export_image') ",
            "THEN EXISTS (SELECT 1 FROM apps AS a WHERE a.id = j.app AND coalesce(a.architecture, ",
            $builds,
            ") = ",
            $builds,
            ") ELSE ",
            $others,
            " = 1 END) ",
            $after
        )
    };
}

impl Uow {
    /// Writes a job that waits its turn in `queue`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_job(
        &mut self,
        of: &AppScope,
        queue: &str,
        kind: JobKind,
        subject: &str,
        first_step: &str,
        now: Timestamp,
    ) -> Result<JobId, StoreError> {
        let id = JobId::new();
        let sql = "INSERT INTO jobs (id, queue, kind, app, subject, state, step, memo, attempts, run_at, fence, \
                   created_at, updated_at) VALUES ($1, $2, $3, $4, $5, 'waiting', $6, '{}', 0, $7, 0, $7, $7)";
        self.execute(sql, args![&id, queue, kind.as_str(), of.id(), subject, first_step, now]).await?;
        Ok(id)
    }

    /// Takes the next job that may run and that this server takes: the oldest waiting one of a free queue, or a running
    /// one whose worker is gone. Steps that go on with what a server holds (a build's container, the link of a release
    /// phase's dyno) are that server's while it is alive.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_job(
        &mut self,
        owner: &str,
        takes: Takes,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<JobLease>, StoreError> {
        // All is asked twice: what was found may have been claimed, or have ended, while its row was waited for.
        let sql = takes!(
            concat!(
                "UPDATE jobs SET state = 'running', lease_owner = $1, lease_until = $3, fence = fence + 1, updated_at = $2, \
                   worker = CASE WHEN step IN ('stage_source', 'run_build') OR step IN ",
                held!(),
                " THEN $1 ELSE worker END WHERE id = (SELECT id FROM jobs AS j WHERE run_at <= $2 AND"
            ),
            "$4",
            "$5",
            concat!(
                "AND (j.step NOT IN ",
                held!(),
                " OR coalesce(j.worker, $1) = $1 OR \
                   NOT EXISTS (SELECT 1 FROM servers AS s WHERE s.id = j.worker)) AND ((state = 'running' AND \
                   (lease_until IS NULL OR lease_until <= $2)) OR (state = 'waiting' AND NOT EXISTS \
                   (SELECT 1 FROM jobs AS o WHERE o.queue = j.queue AND (o.state = 'running' OR \
                   (o.state = 'waiting' AND o.id < j.id))))) ORDER BY id LIMIT 1) AND (state = 'waiting' OR (state = 'running' AND \
                   (lease_until IS NULL OR lease_until <= $2))) RETURNING id"
            )
        );
        let args = args![owner, now, until, takes.builds.as_ref(), takes.others];
        let Some(mut row) = self.row(sql, args).await? else { return Ok(None) };
        let id: JobId = row.parse()?;
        let mut row = self.row(select!("WHERE id = $1"), args![&id]).await?.ok_or(StoreError::NotFound("job"))?;
        let job = job(&mut row)?;
        let scope = AppScope::mint(job.app.clone());
        Ok(Some(JobLease { job, scope, fence: row.int()? }))
    }

    /// When the next job can be claimed that this server takes, for the loop's sleep.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn next_due_job(&mut self, takes: Takes) -> Result<Option<Timestamp>, StoreError> {
        let sql = takes!(
            "SELECT min(CASE WHEN lease_until > run_at THEN lease_until ELSE run_at END) FROM jobs AS j \
             WHERE (state = 'running' OR state = 'waiting') AND",
            "$1",
            "$2",
            ""
        );
        match self.row(sql, args![takes.builds.as_ref(), takes.others]).await? {
            Some(mut row) => row.opt_time(),
            None => Ok(None),
        }
    }

    /// Keeps a lease alive while a long step runs.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it was lost.
    pub async fn renew_job(&mut self, lease: &JobLease, until: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 'running'";
        self.fenced(sql, args![&lease.job.id, lease.fence, until]).await
    }

    /// Writes that a step is done and which one comes next, in the transaction that writes its result.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease was lost: then the transaction must not be saved.
    pub async fn advance_job(
        &mut self,
        lease: &JobLease,
        next_step: &str,
        memo: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE jobs SET step = $3, memo = $4, attempts = 0, updated_at = $5 \
                   WHERE id = $1 AND fence = $2 AND state = 'running'";
        self.fenced(sql, args![&lease.job.id, lease.fence, next_step, memo, now]).await
    }

    /// Ends a job, in the transaction that writes its last result.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease was lost.
    pub async fn finish_job(
        &mut self,
        lease: &JobLease,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let state = if error.is_some() { JobState::Failed } else { JobState::Done };
        let sql = "UPDATE jobs SET state = $3, error = $4, lease_owner = NULL, lease_until = NULL, updated_at = $5 \
                   WHERE id = $1 AND fence = $2 AND state = 'running'";
        self.fenced(sql, args![&lease.job.id, lease.fence, state.as_str(), error, now]).await
    }

    /// Gives a job back for another try of its step at `run_at`. It keeps its queue.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease was lost.
    pub async fn retry_job(
        &mut self,
        lease: &JobLease,
        error: &str,
        run_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE jobs SET attempts = attempts + 1, error = $3, run_at = $4, lease_owner = NULL, \
                   lease_until = NULL, updated_at = $5 WHERE id = $1 AND fence = $2 AND state = 'running'";
        self.fenced(sql, args![&lease.job.id, lease.fence, error, run_at, now]).await
    }

    /// Drops the jobs about this subject that have not begun; whether there was one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cancel_waiting_job(
        &mut self,
        of: &AppScope,
        subject: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET state = 'failed', error = $3, updated_at = $4 \
                   WHERE app = $1 AND subject = $2 AND state = 'waiting'";
        Ok(self.execute(sql, args![of.id(), subject, reason, now]).await? > 0)
    }

    /// Ends every job of an app that is being destroyed, whoever works on it. Whoever does holds it until they let go
    /// ([`Uow::let_go_of_job`]) or their lease runs out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cancel_jobs(&mut self, of: &AppScope, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE jobs SET state = 'failed', error = $2, fence = fence + 1, updated_at = $3 \
                   WHERE app = $1 AND (state = 'waiting' OR state = 'running')";
        self.execute(sql, args![of.id(), reason, now]).await?;
        Ok(())
    }

    /// Says that nobody works on a cancelled job any more; what was last asked for may still happen until then. Of a job
    /// that was not cancelled, or that somebody else took, nothing changes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn let_go_of_job(&mut self, lease: &JobLease, until: Timestamp) -> Result<(), StoreError> {
        // Cancelling raises the fence by one, and so does whoever takes a job.
        let sql = "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND fence = $2 + 1 AND state = 'failed' \
                   AND lease_until > $3";
        self.execute(sql, args![&lease.job.id, lease.fence, until]).await?;
        Ok(())
    }

    /// Until when somebody may still be at work on a job of the app, cancelled ones included; `None` when nobody is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn jobs_held_until(&mut self, of: &AppScope, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT max(lease_until) FROM jobs WHERE app = $1 AND lease_until > $2";
        match self.row(sql, args![of.id(), now]).await? {
            Some(mut row) => row.opt_time(),
            None => Ok(None),
        }
    }

    /// Checks that the lease still holds, without changing anything: before an effect outside.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it does not.
    pub async fn check_job(&mut self, lease: &JobLease) -> Result<(), StoreError> {
        let sql = "SELECT 1 FROM jobs WHERE id = $1 AND fence = $2 AND state = 'running'";
        self.row(sql, args![&lease.job.id, lease.fence]).await?.map(drop).ok_or(StoreError::Fenced)
    }

    /// The app's jobs, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn jobs(&mut self, of: &AppScope) -> Result<Vec<Job>, StoreError> {
        let rows = self.rows(select!("WHERE app = $1 ORDER BY id"), args![of.id()]).await?;
        rows.into_iter().map(|mut row| job(&mut row)).collect()
    }

    /// Whether a job of the app has not ended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_open_job(&mut self, of: &AppScope) -> Result<bool, StoreError> {
        let sql = select!("WHERE app = $1 AND state IN ('waiting', 'running') LIMIT 1");
        Ok(self.row(sql, args![of.id()]).await?.is_some())
    }

    /// The newest job about a subject.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn job_about(&mut self, of: &AppScope, subject: &str) -> Result<Option<Job>, StoreError> {
        let sql = select!("WHERE app = $1 AND subject = $2 ORDER BY id DESC LIMIT 1");
        self.row(sql, args![of.id(), subject]).await?.map(|mut row| job(&mut row)).transpose()
    }

    async fn fenced(&mut self, sql: &'static str, args: Vec<crate::row::Value>) -> Result<(), StoreError> {
        match self.execute(sql, args).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }
}
