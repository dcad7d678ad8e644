//! Where an upgrade can start: every released version, from the install script that was kept of it (`tests/released`),
//! and this version itself, upgraded to itself. The latter runs all of `sql/api` again over what `create extension`
//! made, as the next release will do: it finds what can't be run twice before anything is released.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rotator_tests::Cluster;
use rotator_tests::scratch::{root, unique};
use tokio_postgres::Client;

/// The version in development: that of the control file, which `upgrade_rules.rs` compares with Cargo's.
pub const CURRENT: &str = env!("CARGO_PKG_VERSION");

pub struct Origin {
    pub version: String,
    /// What `alter extension` is asked for; none for the default, as users do it.
    target: Option<String>,
}

/// The versions of which an install script is kept.
pub fn released() -> Result<Vec<String>> {
    let folder = root().join("tests/released");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let version = name
            .strip_prefix("rotator--")
            .and_then(|rest| rest.strip_suffix(".sql.gz"));
        versions.extend(version.map(str::to_owned));
    }
    versions.sort();
    Ok(versions)
}

/// The install script of a released version.
pub fn script_of(version: &str) -> Result<String> {
    let file = root().join(format!("tests/released/rotator--{version}.sql.gz"));
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .context("gzip")?;
    ensure!(
        output.status.success(),
        "gzip can't read {}",
        file.display()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// All of them, ready to be created in any database of this cluster.
pub fn origins(cluster: &Cluster) -> Result<Vec<Origin>> {
    let mut all = Vec::new();
    for version in released()? {
        offer(
            cluster,
            &format!("rotator--{version}.sql"),
            &script_of(&version)?,
        )?;
        all.push(Origin {
            version,
            target: None,
        });
    }
    let again = format!("{CURRENT}-again");
    let script = offered(cluster)?.join(format!("rotator--{CURRENT}.sql"));
    let script = std::fs::read_to_string(&script).with_context(|| script.display().to_string())?;
    let (head, parts) = script
        .split_once(PART)
        .context("the install script has parts")?;
    let parts: Vec<&str> = parts
        .split(PART)
        .filter(|part| part.starts_with("api/"))
        .collect();
    ensure!(parts.len() > 20, "{} parts of sql/api", parts.len());
    offer(
        cluster,
        &format!("rotator--{CURRENT}--{again}.sql"),
        &format!("{head}{PART}{}", parts.join(PART)),
    )?;
    all.push(Origin {
        version: CURRENT.to_owned(),
        target: Some(again),
    });
    Ok(all)
}

/// What `scripts/assemble.sh` puts before each file.
const PART: &str = "\n-- file: ";

impl Origin {
    pub async fn create(&self, session: &Client) -> Result<()> {
        session
            .batch_execute(&format!(
                "create extension rotator version '{}'",
                self.version
            ))
            .await
            .with_context(|| format!("creating version {}", self.version))
    }

    pub fn update(&self) -> String {
        match &self.target {
            Some(target) => format!("alter extension rotator update to '{target}'"),
            None => "alter extension rotator update".to_owned(),
        }
    }

    pub async fn upgrade(&self, session: &Client) -> Result<()> {
        session
            .batch_execute(&self.update())
            .await
            .with_context(|| format!("upgrading {}", self.version))
    }
}

/// The folder where the cluster's server looks for scripts of extensions.
pub fn offered(cluster: &Cluster) -> Result<PathBuf> {
    let output = Command::new(cluster.bindir.join("pg_config"))
        .arg("--sharedir")
        .output()
        .context("pg_config")?;
    ensure!(output.status.success(), "pg_config --sharedir");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()).join("extension"))
}

/// Puts a script there, in one step: other tests do the same at this moment.
pub fn offer(cluster: &Cluster, name: &str, script: &str) -> Result<()> {
    let folder = offered(cluster)?;
    let half = folder.join(unique(".offered"));
    let mut file = std::fs::File::create(&half).with_context(|| half.display().to_string())?;
    file.write_all(script.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    Ok(std::fs::rename(&half, folder.join(name))?)
}
