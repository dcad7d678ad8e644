//! A throwaway PostgreSQL with rotator and pg_cron preloaded. Making, starting and stopping one is the work of
//! `scripts/private_pg.sh`, so that tests, demo and developers all run the same thing.
//!
//! Most tests share the cluster of the run ([`Cluster::shared`]); one that restarts the server, moves its clock, takes
//! its master key away or searches its files starts its own ([`Cluster::start`]).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio_postgres::{Client, NoTls};

use crate::scratch::{root, unique};

/// What a private cluster is made with.
#[derive(Default)]
pub struct Options {
    /// The database pg_cron works in; `postgres` if none is named.
    pub cron_database: Option<String>,
    /// Start without a master key file; [`Cluster::write_master_key`] can bring one later.
    pub no_master_key: bool,
    /// The server's time follows [`Cluster::move_clock`].
    pub clock: bool,
    /// Lines for the configuration file, such as `fsync = off`.
    pub settings: Vec<String>,
}

pub struct Cluster {
    pub name: String,
    /// The folder of the unix socket: whoever connects there is trusted, as any role.
    pub socket: PathBuf,
    /// On 127.0.0.1, where a password is asked for.
    pub port: u16,
    pub bindir: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub master_key: PathBuf,
    clock: PathBuf,
    /// The `rotator.so` this server loads.
    pub library: PathBuf,
    private: bool,
}

impl Cluster {
    /// The cluster of this run: `$ROTATOR_CLUSTER`, which `make test` sets, else the one of `scripts/dev-cluster.sh`.
    pub fn shared() -> Result<Self> {
        let name = std::env::var("ROTATOR_CLUSTER").unwrap_or_else(|_| "dev".to_owned());
        Self::existing(&name, false).with_context(|| {
            format!("no cluster {name:?} to test against: run `make test`, or scripts/dev-cluster.sh first")
        })
    }

    /// A cluster of this test's own, stopped and removed when dropped.
    pub async fn start(options: Options) -> Result<Self> {
        let run = std::env::var("ROTATOR_CLUSTER").unwrap_or_else(|_| "dev".to_owned());
        let name = unique(&format!("{run}-own"));
        let mut create = vec!["create".to_owned(), name.clone()];
        if let Some(database) = options.cron_database {
            create.extend(["--cron-database".to_owned(), database]);
        }
        if options.no_master_key {
            create.push("--no-master-key".to_owned());
        }
        if options.clock {
            create.push("--clock".to_owned());
        }
        // Here processes crash, machines don't: what the system was given is safe.
        for setting in std::iter::once("fsync = off".to_owned()).chain(options.settings) {
            create.extend(["--set".to_owned(), setting]);
        }
        script(&create).await?;
        let mut cluster = Self::existing(&name, true)?;
        script(&["start", &name]).await?;
        // The port changes at the first start if somebody took the one that was planned.
        cluster.port = Self::existing(&name, false)?.port;
        Ok(cluster)
    }

    fn existing(name: &str, private: bool) -> Result<Self> {
        let facts: HashMap<String, String> = run(private_pg().args(["show", name]))?
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let fact = |key: &str| {
            facts
                .get(key)
                .cloned()
                .with_context(|| format!("cluster {name} shows no {key}"))
        };
        Ok(Self {
            name: name.to_owned(),
            socket: fact("socket")?.into(),
            port: fact("port")?.parse()?,
            bindir: fact("bindir")?.into(),
            data: fact("data")?.into(),
            log: fact("log")?.into(),
            master_key: fact("master_key")?.into(),
            clock: fact("clock")?.into(),
            library: fact("library")?.into(),
            private,
        })
    }

    /// Stops the server as an administrator would: sessions end, data is flushed.
    pub async fn stop(&self) -> Result<()> {
        script(&["stop", &self.name]).await
    }

    /// Stops it as a power cut would.
    pub async fn crash(&self) -> Result<()> {
        script(&["crash", &self.name]).await
    }

    /// Starts it again, on the same port.
    pub async fn start_again(&self) -> Result<()> {
        script(&["start", &self.name]).await
    }

    pub async fn restart(&self) -> Result<()> {
        script(&["restart", &self.name]).await
    }

    /// Sets the server's clock, of running sessions too: `+200d`, `-3h`, or `@2027-03-28 00:59:00` (UTC).
    /// Needs [`Options::clock`].
    pub fn move_clock(&self, to: &str) -> Result<()> {
        if !self.clock.exists() {
            bail!("cluster {} was not made with a movable clock", self.name);
        }
        // In one step: the server reads the file at each call of its clock and must never find half of it.
        let next = self.clock.with_extension("next");
        std::fs::write(&next, format!("{to}\n"))?;
        std::fs::rename(&next, &self.clock)?;
        Ok(())
    }

    /// Replaces the master key file by these lines (`id:base64`), readable by the server's user alone.
    pub fn write_master_key(&self, lines: &str) -> Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let owner = std::fs::metadata(&self.data)?;
        std::fs::write(&self.master_key, lines)?;
        std::fs::set_permissions(&self.master_key, std::fs::Permissions::from_mode(0o600))?;
        chown(&self.master_key, Some(owner.uid()), Some(owner.gid()))?;
        Ok(())
    }

    /// A connection as `user`, over the private socket.
    pub async fn connect(&self, user: &str, database: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&self.socket)
            .port(self.port)
            .user(user)
            .dbname(database)
            .connect(NoTls)
            .await
            .with_context(|| format!("connecting to {database} as {user}"))?;
        tokio::spawn(async move {
            // A connection that breaks is seen by whoever uses its client.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Runs SQL as superuser through psql, without a runtime: for `Drop`, and for what only psql can do.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        run(Command::new(self.bindir.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
                "-c",
                sql,
            ])
            .arg("-h")
            .arg(&self.socket)
            .args(["-p", &self.port.to_string()]))
    }

    /// The server's log from the start.
    pub fn log(&self) -> Result<String> {
        let bytes =
            std::fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every file of the data folder that contains these bytes: tables, indexes, WAL (across its pages), everything.
    /// Ask for a `checkpoint` first, so that nothing is in memory only.
    pub fn files_containing(&self, needle: &[u8]) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.data.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(kind) if kind.is_file() && contains(&entry.path(), needle) => {
                        found.push(entry.path())
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.private && std::env::var_os("ROTATOR_KEEP").is_none() {
            show_tail("the server's log", &self.log);
            if let Err(error) = run(private_pg().args(["remove", &self.name])) {
                eprintln!("cluster {} was not removed: {error:#}", self.name);
            }
        }
    }
}

/// Prints the end of a log. The test runner shows it only if the test failed.
pub(crate) fn show_tail(what: &str, file: &Path) {
    const LINES: usize = 40;
    if let Ok(bytes) = std::fs::read(file) {
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- {what}, its last {LINES} of {} lines ---", lines.len());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("{line}");
        }
    }
}

fn contains(file: &Path, needle: &[u8]) -> bool {
    // Files come and go under a running server: one that vanished contains nothing.
    let Ok(bytes) = std::fs::read(file) else {
        return false;
    };
    let found = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let in_wal = file
        .parent()
        .is_some_and(|folder| folder.ends_with("pg_wal"));
    found(&bytes) || (in_wal && found(&without_page_headers(&bytes)))
}

/// A WAL segment as one stream: a record that crosses a page is otherwise cut in two by the header of the next page
/// (`XLogPageHeaderData`, 24 bytes, or 40 when `XLP_LONG_HEADER` is set in its second field).
fn without_page_headers(segment: &[u8]) -> Vec<u8> {
    const PAGE: usize = 8192;
    const LONG_HEADER: u8 = 0x02;
    segment
        .chunks(PAGE)
        .flat_map(|page| {
            let header = if page.get(2).is_some_and(|info| info & LONG_HEADER != 0) {
                40
            } else {
                24
            };
            page.get(header..).unwrap_or_default()
        })
        .copied()
        .collect()
}

fn private_pg() -> Command {
    Command::new(root().join("scripts/private_pg.sh"))
}

/// Runs the script on a thread that may block, so that stand-ins and sidecar clients go on meanwhile.
async fn script<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<()> {
    let mut command = private_pg();
    command.args(arguments);
    tokio::task::spawn_blocking(move || run(&mut command)).await??;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
