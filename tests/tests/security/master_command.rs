//! Master keys from a command: whatever the command does, the server starts, what needs no key works, the rest is refused
//! with a hint and writes nothing; no byte of a key that it prints as an error reaches a client or the log. What takes
//! time is in `master_command_time`.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::fixture::{refusal, text};
use crate::master_key::{Kept, expect_unavailable, expect_well, kept};

/// A cluster that gets its master keys from a command, and the program that the command runs.
pub struct Commanded {
    pub kept: Kept,
    pub program: PathBuf,
    /// What the master key file holds.
    pub line: String,
}

impl Commanded {
    /// Begins with the file, then prints it by a command.
    pub async fn new() -> Result<Self> {
        let kept = kept().await?;
        let line = std::fs::read_to_string(&kept.db.cluster.master_key)?;
        let program = kept
            .db
            .cluster
            .master_key
            .with_file_name("master-key-command");
        let commanded = Self {
            kept,
            program,
            line,
        };
        commanded.mend().await?;
        Ok(commanded)
    }

    pub fn admin(&self) -> &Client {
        &self.kept.db.admin
    }

    /// What the program does, as a shell script; `$key` is the good file.
    pub fn program_does(&self, script: &str) -> Result<()> {
        let key = self.kept.db.cluster.master_key.display();
        std::fs::write(&self.program, format!("#!/bin/sh\nkey={key}\n{script}\n"))?;
        chown(&self.program, Some(0), Some(0))?;
        Ok(std::fs::set_permissions(
            &self.program,
            Permissions::from_mode(0o755),
        )?)
    }

    pub async fn set(&self, file: &str, command: &str) -> Result<()> {
        for (name, value) in [("file", file), ("command", command)] {
            let value = value.replace('\'', "''");
            self.admin()
                .batch_execute(&format!(
                    "alter system set rotator.master_key_{name} = '{value}'"
                ))
                .await?;
        }
        Ok(self
            .admin()
            .batch_execute("select pg_reload_conf()")
            .await?)
    }

    pub fn command(&self) -> String {
        format!("{} 'an argument' \"$HOME\"", self.program.display())
    }

    /// A program that prints the key, and the setting that runs it.
    pub async fn mend(&self) -> Result<()> {
        self.program_does(
            "[ $# = 2 ] && [ \"$1\" = 'an argument' ] && [ \"$2\" = '$HOME' ] && exec cat $key",
        )?;
        self.set("", &self.command()).await
    }

    /// Restarts with what is wrong, expects this problem, mends it and expects that all is well without another.
    async fn expect_problem(&mut self, why: &str, problem: &str) -> Result<()> {
        self.kept.restart().await?;
        expect_unavailable(&self.kept, why, problem).await?;
        let open = self.kept.db.connect_as(&self.kept.member_of_acme).await?;
        let said = refusal(&open, "select name from rotator.secrets").await?;
        ensure!(
            said.starts_with("RT010") && said.contains("master_key_command"),
            "{why}: no hint: {said}"
        );
        self.mend().await?;
        expect_well(&self.kept, why).await
    }

    fn expect_nothing_of_the_key(&self) -> Result<()> {
        let log = self.kept.db.cluster.log()?;
        let bytes = self.line.trim().rsplit(':').next().context("a line")?;
        for part in [&bytes[..16], &bytes[16..32], &bytes[bytes.len() - 12..]] {
            ensure!(!log.contains(part), "the log has bytes of the key");
        }
        ensure!(log.contains("rotator: "), "the log was looked at");
        Ok(())
    }
}

#[tokio::test]
async fn what_the_program_does_wrong_is_told_and_nothing_is_written() -> Result<()> {
    let mut commanded = Commanded::new().await?;
    commanded.kept.restart().await?;
    expect_well(&commanded.kept, "the first start with a command").await?;
    let detail = text(
        commanded.admin(),
        "select detail from rotator.doctor() where check_name = 'master key'",
    )
    .await?;
    ensure!(detail.ends_with("from the command"), "{detail}");
    for (why, script, problem) in [
        (
            "exit 1",
            "cat $key; echo 'no access' >&2; exit 1",
            "exited with status 1: no access",
        ),
        (
            "the key on stderr",
            "echo \"bad key $(cat $key)\" >&2; exit 2",
            "exited with status 2: bad key ",
        ),
        (
            "the key on stderr, bare",
            "sed 's/.*://' $key >&2; exit 3",
            "exited with status 3: ...",
        ),
        ("killed", "kill -9 $$", "was killed by signal 9"),
        (
            "a gigabyte",
            "exec head -c 1000000000 /dev/zero",
            "printed more than 64 KiB",
        ),
        (
            "partial write",
            "exec head -c 40 $key",
            "line 1 of the output of the master key command does not hold 32 bytes",
        ),
        (
            "trailing NUL",
            "cat $key; printf '\\000'",
            "line 2 of the output of the master key command",
        ),
        (
            "empty output",
            "exit 0",
            "the output of the master key command holds no key",
        ),
        (
            "standard input",
            "read line && echo $line; exit 4",
            "exited with status 4",
        ),
        (
            "another name",
            "sed 's/^[^:]*/another/' $key",
            "holds no key called",
        ),
        (
            "wrong key",
            "sed 's/:.*/:QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUI=/' $key",
            "does not open data key",
        ),
    ] {
        commanded.program_does(script)?;
        commanded.expect_problem(why, problem).await?;
    }
    commanded.expect_nothing_of_the_key()
}

#[tokio::test]
async fn what_cannot_or_must_not_be_run_is_refused() -> Result<()> {
    let mut commanded = Commanded::new().await?;
    let file = commanded.kept.db.cluster.master_key.display().to_string();
    for (command, problem) in [
        ("cat key".to_owned(), "must begin with an absolute path"),
        (
            format!("'{}", commanded.command()),
            "a quote that is not closed",
        ),
        (
            "/nowhere/program".to_owned(),
            "cannot be run: entity not found",
        ),
        ("/".to_owned(), "no regular file"),
        (format!("/bin/cat {file} | /nowhere"), "cat: '|'"),
    ] {
        commanded.set("", &command).await?;
        commanded.expect_problem(&command, problem).await?;
    }
    for (mode, owner, problem) in [
        (0o644, 0, "cannot be run: permission denied"),
        (0o775, 0, "has mode 0775"),
        (0o757, 0, "has mode 0757"),
        (0o755, 1, "belongs to user 1"),
    ] {
        std::fs::set_permissions(&commanded.program, Permissions::from_mode(mode))?;
        chown(&commanded.program, Some(owner), Some(owner))?;
        commanded.expect_problem(problem, problem).await?;
    }
    let command = commanded.command();
    commanded.set(&file, &command).await?;
    commanded
        .expect_problem("both settings", "are both set")
        .await?;
    commanded.set("", "").await?;
    commanded
        .expect_problem("neither setting", "neither")
        .await?;
    Ok(())
}

#[tokio::test]
async fn it_runs_in_a_clean_place() -> Result<()> {
    let mut commanded = Commanded::new().await?;
    let seen = commanded.program.with_file_name("seen");
    commanded.program_does(&format!(
        "{{ env; echo \"IN=$(readlink /proc/self/cwd)\"; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls -l /proc/self/fd; }} >>{} && exec cat $key",
        seen.display()
    ))?;
    std::fs::write(&seen, "")?;
    std::fs::set_permissions(&seen, Permissions::from_mode(0o666))?;
    // Once by the postmaster, once by a backend.
    commanded.kept.restart().await?;
    commanded
        .admin()
        .batch_execute("select rotator.reload_master_key()")
        .await?;
    expect_well(&commanded.kept, "looking around").await?;
    let seen = std::fs::read_to_string(&seen)?;
    ensure!(seen.matches("IN=/\n").count() >= 2, "{seen}");
    for line in seen.lines() {
        if let Some(mask) = line
            .strip_prefix("SigBlk:")
            .or(line.strip_prefix("SigIgn:"))
        {
            ensure!(
                u64::from_str_radix(mask.trim(), 16)? & 0x7fff_ffff == 0,
                "{line}"
            );
        } else if let Some((name, _)) = line.split_once('=') {
            let added = ["PWD", "OLDPWD", "SHLVL", "_", "IN"];
            let allowed = [
                "PATH", "HOME", "LANG", "TZ", "TMPDIR", "NO_PROXY", "no_proxy",
            ];
            let beginnings = ["LC_", "AWS_", "SSL_CERT_", "HTTPS_PROXY", "https_proxy"];
            ensure!(
                added.contains(&name)
                    || allowed.contains(&name)
                    || beginnings
                        .iter()
                        .any(|beginning| name.starts_with(beginning)),
                "{line}"
            );
        }
        ensure!(
            !line.contains("socket:") && !line.contains("base/") && !line.contains("pg_wal"),
            "{line}"
        );
    }
    Ok(())
}
