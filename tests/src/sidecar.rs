//! The real `rotator` binary: as a running sidecar ([`Sidecar`]) and as a command ([`Cli`]). Both get a clean
//! environment and a folder of their own, so nothing of the developer's machine reaches them.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::cluster::show_tail;
use crate::database::{Role, TestDb};
use crate::patience::eventually;
use crate::scratch::{Scratch, release_folder};
use crate::terminal::Terminal;

const READY: Duration = Duration::from_secs(20);
const DRAINED: Duration = Duration::from_secs(30);

pub struct Sidecar {
    pub address: String,
    pub role: Option<Role>,
    /// Whether the end of its log is printed when it goes: yes, except where nothing captures what is printed.
    pub shows_log: bool,
    child: Child,
    log: PathBuf,
    // Dropped last: the log is in it.
    _folder: Scratch,
}

impl Sidecar {
    /// Starts `rotator serve` as a fresh login role with `rotator_sidecar` granted, and waits until it is ready.
    /// `settings` are environment variables on top of database URL, listen address and public URL.
    pub async fn start(db: &TestDb, settings: &[(&str, &str)]) -> Result<Self> {
        let role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
        let mut sidecar = Self::spawn(&db.url(&role), settings).await?;
        sidecar.role = Some(role);
        sidecar.ready().await?;
        Ok(sidecar)
    }

    /// Starts it against any database URL and doesn't wait: for tests of a start that goes wrong or takes long.
    pub async fn spawn(database_url: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = Scratch::new("sidecar")?;
        let log = folder.join("sidecar.log");
        let out = File::create(&log)?;
        let address = free_address()?;
        let mut command = rotator(&folder)?;
        command
            .arg("serve")
            .env("ROTATOR_DATABASE_URL", database_url)
            .env("ROTATOR_LISTEN", &address)
            .env("ROTATOR_PUBLIC_URL", format!("http://{address}"))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out);
        let child = command.spawn().context("starting rotator serve")?;
        Ok(Self {
            address,
            role: None,
            shows_log: true,
            child,
            log,
            _folder: folder,
        })
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&mut self) -> Result<()> {
        let url = self.url("/readyz");
        eventually(READY, "the sidecar to be ready", async || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the sidecar ended instead of getting ready: {status}");
            }
            let answer = http().get(&url).send().await;
            Ok(answer
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(()))
        })
        .await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All it has printed so far, both streams.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Waits until a line of its log contains this, and gives the line.
    pub async fn logged(&self, limit: Duration, text: &str) -> Result<String> {
        eventually(
            limit,
            &format!("{text:?} in the sidecar's log"),
            async || {
                Ok(self
                    .log()?
                    .lines()
                    .find(|line| line.contains(text))
                    .map(str::to_owned))
            },
        )
        .await
    }

    /// SIGKILL: it gets no chance to finish anything.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the sidecar")
    }

    /// SIGTERM, then waits for it to drain and end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.ended(DRAINED).await
    }

    /// Its process id, while it runs.
    pub fn process(&self) -> Result<u32> {
        self.child.id().context("the sidecar has ended")
    }

    /// Sends a signal, `libc::SIGSTOP` for one that hangs.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let id = self.process()?;
        // SAFETY: kill only sends a signal, to a child of ours that was not waited for yet, so its id is still its own.
        if unsafe { libc::kill(i32::try_from(id)?, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).context("sending a signal to the sidecar");
        }
        Ok(())
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("the sidecar did not end within {limit:?}"))?
            .context("waiting for the sidecar")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // The process itself goes by kill_on_drop.
        if self.shows_log {
            show_tail("the sidecar's log", &self.log);
        }
    }
}

/// One run of the command line tool.
pub struct Cli {
    command: Command,
    input: Option<String>,
    folder: Scratch,
}

/// What it printed and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cli {
    /// As that login role; `arguments` as one would type them.
    pub fn new<S: AsRef<OsStr>>(db: &TestDb, role: &Role, arguments: &[S]) -> Result<Self> {
        let mut cli = Self::offline(arguments)?;
        cli.command.env("ROTATOR_DATABASE_URL", db.url(role));
        Ok(cli)
    }

    /// Without a database.
    pub fn offline<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Self> {
        let folder = Scratch::new("cli")?;
        let mut command = rotator(&folder)?;
        command.args(arguments);
        Ok(Self {
            command,
            input: None,
            folder,
        })
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// What comes in on standard input.
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    /// Puts a file into the folder it runs in.
    pub fn file(self, name: &str, content: &[u8]) -> Result<Self> {
        std::fs::write(self.folder.join(name), content)?;
        Ok(self)
    }

    pub async fn run(mut self) -> Result<Printed> {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().context("starting rotator")?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        if let Some(input) = self.input {
            // It may end before it has read everything; what it printed then says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin);
        let output = child.wait_with_output().await?;
        Ok(Printed {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// At a terminal, going on while the test looks and types.
    pub fn at_terminal(self) -> Result<Terminal> {
        Terminal::start(self.command, self.folder)
    }

    /// As [`Cli::run`], expecting success: what it printed on standard output.
    pub async fn ok(self) -> Result<String> {
        let printed = self.run().await?;
        if printed.code != 0 {
            bail!(
                "rotator ended with {}: {}",
                printed.code,
                printed.stderr.trim()
            );
        }
        Ok(printed.stdout)
    }
}

/// A client for the sidecar's pages: follows no redirects, so that a test sees them.
pub fn http() -> reqwest::Client {
    use std::sync::OnceLock;
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT
        .get_or_init(|| {
            // Fails only if it was done before.
            let _ = rustls::crypto::ring::default_provider().install_default();
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(20))
                .pool_max_idle_per_host(0)
                .build()
                .expect("a client with these settings can be built")
        })
        .clone()
}

fn rotator(folder: &Scratch) -> Result<Command> {
    let binary = release_folder()?.join("rotator");
    if !binary.exists() {
        bail!("{} is missing: run `make` first", binary.display());
    }
    let mut command = Command::new(binary);
    command
        .env_clear()
        .current_dir(folder.path())
        .kill_on_drop(true);
    for kept in [
        "PATH",
        "HOME",
        "LANG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "RUST_BACKTRACE",
    ] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    Ok(command)
}

/// An address on loopback that was free a moment ago. Not of those that the system gives to whoever connects or asks for any,
/// nor of the clusters': between this and its use many of these are given away.
pub fn free_address() -> Result<String> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run beside this one are other processes, which begin elsewhere.
    let begin = std::process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", FIRST + next % COUNT);
        if std::net::TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    bail!("all ports from {FIRST} on are taken")
}
