//! A real PgBouncer between a sidecar and its database. It refuses to run as root, and reaches the server as the tests do:
//! over the private socket, as the server's user.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Child;

use crate::database::{Role, TestDb};
use crate::patience::until;
use crate::scratch::Scratch;
use crate::sidecar::free_address;

pub struct Pooler {
    address: String,
    _process: Child,
    _folder: Scratch,
}

impl Pooler {
    /// `mode` is `transaction` or `session`. Only this role may log in.
    pub async fn start(db: &TestDb, role: &Role, mode: &str) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let folder = Scratch::new("pooler")?;
        let address = free_address()?;
        let port = address.rsplit(':').next().context("a port")?;
        let (users, settings) = (folder.join("users.txt"), folder.join("pgbouncer.ini"));
        std::fs::write(&users, format!("\"{}\" \"{}\"\n", role.name, role.password))?;
        std::fs::write(
            &settings,
            format!(
                "[databases]\n{} = host={} port={} pool_size=8\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\n\
                 ignore_startup_parameters = extra_float_digits\n",
                db.name,
                db.cluster.socket.display(),
                db.cluster.port,
                users.display(),
            ),
        )?;
        let owner = std::fs::metadata(&db.cluster.data)?.uid();
        let mut command = Command::new("pgbouncer");
        if owner != std::fs::metadata(folder.path())?.uid() {
            command = Command::new("setpriv");
            command.args([&format!("--reuid={owner}"), "--clear-groups", "pgbouncer"]);
        }
        command
            .arg("-q")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .context("starting pgbouncer: is it installed?")?;
        let pooler = Self {
            address,
            _process: process,
            _folder: folder,
        };
        until(
            Duration::from_secs(20),
            "the pooler to listen",
            async || {
                Ok(tokio::net::TcpStream::connect(&pooler.address)
                    .await
                    .is_ok())
            },
        )
        .await?;
        Ok(pooler)
    }

    pub fn url(&self, db: &TestDb, role: &Role) -> String {
        format!(
            "postgres://{}:{}@{}/{}",
            role.name, role.password, self.address, db.name
        )
    }
}
