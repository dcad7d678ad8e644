//! Taking data elsewhere: PostgreSQL's own programs at work on a cluster, and another cluster that knows nothing of the
//! first but its master key.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::cluster::{Cluster, Options};

impl Cluster {
    /// Runs one of the server's programs (`pg_dump`, `pg_restore`, …) as superuser: what it printed.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.tool_with(&[], program, arguments)
    }

    /// The same with environment variables.
    pub fn tool_with(
        &self,
        environment: &[(&str, &str)],
        program: &str,
        arguments: &[&str],
    ) -> Result<String> {
        let (worked, printed) = self.run_tool("postgres", environment, program, arguments)?;
        ensure!(worked, "{program} {arguments:?}: {printed}");
        Ok(printed)
    }

    /// As any role, over the private socket: whether it worked, and what it printed, or said instead.
    pub fn tool_as(&self, user: &str, program: &str, arguments: &[&str]) -> Result<(bool, String)> {
        self.run_tool(user, &[], program, arguments)
    }

    fn run_tool(
        &self,
        user: &str,
        environment: &[(&str, &str)],
        program: &str,
        arguments: &[&str],
    ) -> Result<(bool, String)> {
        let output = Command::new(self.bindir.join(program))
            .args(arguments)
            .env("PGHOST", &self.socket)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", user)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {program}"))?;
        let printed = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&printed).into_owned(),
        ))
    }

    /// A cluster of its own identity with this one's master key, and nothing else of it.
    pub async fn another(&self, options: Options) -> Result<Cluster> {
        let fresh = Cluster::start(Options {
            no_master_key: true,
            ..options
        })
        .await?;
        fresh.give_master_key_of(self)?;
        Ok(fresh)
    }

    /// Puts the other cluster's master key file in place of this one's.
    pub fn give_master_key_of(&self, other: &Cluster) -> Result<()> {
        self.write_master_key(&std::fs::read_to_string(&other.master_key)?)
    }
}

/// Uses up so many transaction ids.
pub async fn spend_transactions(session: &Client, count: u32) -> Result<()> {
    session
        .batch_execute(&format!(
            "do $$ begin for i in 1..{count} loop perform pg_current_xact_id(); commit; end loop; end $$"
        ))
        .await
        .context("spending transaction ids")
}
