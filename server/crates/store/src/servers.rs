//! The servers of an installation: who is alive, and what each of them builds for.

use paas_domain::{AppId, Architecture, OutputId, Timestamp};

use crate::jobs::held;
use crate::row::args;
use crate::{StoreError, Uow};

/// A server that was seen lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its id, as leases have it.
    pub id: String,
    /// What it builds for; `None` when it builds nothing.
    pub builds: Option<Architecture>,
    /// When it said last that it is alive.
    pub seen_at: Timestamp,
}

/// A build that nobody can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbuildable {
    /// Whose.
    pub app: AppId,
    /// Its output.
    pub output: OutputId,
    /// What it is to be built for; `None` for anything.
    pub architecture: Option<Architecture>,
}

impl Uow {
    /// Writes that a server is alive, and what it builds for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_server(
        &mut self,
        id: &str,
        builds: Option<Architecture>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO servers (id, builds, seen_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (id) DO UPDATE SET builds = excluded.builds, seen_at = excluded.seen_at";
        self.execute(sql, args![id, builds.as_ref(), now]).await?;
        Ok(())
    }

    /// Forgets a server that ends; one that holds something of a job under way is expected back for as long as one that
    /// died is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_server(&mut self, id: &str) -> Result<(), StoreError> {
        let sql = concat!(
            "DELETE FROM servers WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.worker = $1 \
             AND j.state = 'running' AND j.step IN ",
            held!(),
            ")"
        );
        self.execute(sql, args![id]).await?;
        Ok(())
    }

    /// Forgets the servers that were not seen since then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_servers(&mut self, not_since: Timestamp) -> Result<(), StoreError> {
        self.execute("DELETE FROM servers WHERE seen_at < $1", args![not_since]).await?;
        Ok(())
    }

    /// Every server that is not forgotten.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn servers(&mut self) -> Result<Vec<Server>, StoreError> {
        let rows = self.rows("SELECT id, builds, seen_at FROM servers ORDER BY id", vec![]).await?;
        let server =
            |mut row: crate::row::Row| Ok(Server { id: row.text()?, builds: row.opt_parse()?, seen_at: row.time()? });
        rows.into_iter().map(server).collect()
    }

    /// Builds that are next in their queues, or were begun, and that no server builds for (any more).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unbuildable(&mut self) -> Result<Vec<Unbuildable>, StoreError> {
        let sql = "SELECT j.app, b.output, a.architecture FROM jobs AS j JOIN builds AS b ON b.id = j.subject \
                   JOIN apps AS a ON a.id = j.app WHERE j.kind = 'build_app' \
                   AND (j.state = 'running' AND j.step IN ('stage_source', 'run_build', 'export_image') OR \
                   j.state = 'waiting' AND NOT EXISTS (SELECT 1 FROM jobs AS o WHERE o.queue = j.queue AND \
                   (o.state = 'running' OR (o.state = 'waiting' AND o.id < j.id)))) AND NOT EXISTS (SELECT 1 FROM servers AS s \
                   WHERE s.builds IS NOT NULL AND s.builds = coalesce(a.architecture, s.builds)) ORDER BY j.id";
        let rows = self.rows(sql, vec![]).await?;
        let found = |mut row: crate::row::Row| {
            Ok(Unbuildable { app: row.parse()?, output: row.parse()?, architecture: row.opt_parse()? })
        };
        rows.into_iter().map(found).collect()
    }
}

/// Which jobs a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// Those that build, for apps of this architecture or of none.
    pub builds: Option<Architecture>,
    /// All others, and what is left of a build when its image is there.
    pub others: bool,
}
