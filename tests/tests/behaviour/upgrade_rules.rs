//! The rules that keep upgrades possible: what was released stays as it was, the scripts are put together from the files
//! that were not, an upgrade waits for its library, and the library keeps every function that older SQL calls.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::{Scratch, root};
use rotator_tests::{Cluster, TestDb, refused, scalar};

use crate::upgrade_origin::{CURRENT, offer, offered, released, script_of};

/// The files of a folder with that ending, by name.
fn names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.extend(name.strip_suffix(ending).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

fn sums_hold(folder: &Path, list: &str) -> Result<()> {
    let output = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", list])
        .current_dir(folder)
        .output()
        .context("sha256sum")?;
    ensure!(
        output.status.success(),
        "{list}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn what_was_released_is_as_it_was() -> Result<()> {
    let (sql, kept) = (root().join("sql"), root().join("tests/released"));
    let frozen = names(&sql.join("upgrade"), ".sha256")?;
    ensure!(
        frozen == released()?,
        "frozen {frozen:?}, kept {:?}",
        released()?
    );
    for version in &frozen {
        sums_hold(&sql, &format!("upgrade/{version}.sha256"))?;
        let sums = std::fs::read_to_string(kept.join("SHA256SUMS"))?;
        ensure!(
            sums.contains(&format!("  rotator--{version}.sql.gz\n")),
            "tests/released/SHA256SUMS lacks {version}"
        );
    }
    if !frozen.is_empty() {
        sums_hold(&kept, "SHA256SUMS")?;
    }
    ensure!(
        !frozen.iter().any(|version| version == CURRENT),
        "{CURRENT} is released: the tree is of a later version"
    );
    Ok(())
}

#[test]
fn the_control_file_names_the_version_of_the_crates() -> Result<()> {
    let control = std::fs::read_to_string(root().join("extension/rotator.control"))?;
    ensure!(
        control.contains(&format!("default_version = '{CURRENT}'\n")),
        "Cargo.toml says {CURRENT}: {control}"
    );
    Ok(())
}

#[test]
fn steps_only_make_room() -> Result<()> {
    let folder = root().join("sql/upgrade");
    for name in names(&folder, ".sql")? {
        let text = std::fs::read_to_string(folder.join(format!("{name}.sql")))?;
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"));
        for line in code {
            let line = line.trim_start().to_lowercase();
            ensure!(
                !line.starts_with("create ") && !line.contains("cascade"),
                "{name}: `{line}`: what is made belongs in sql/schema or sql/api, and what is dropped is named"
            );
        }
    }
    Ok(())
}

/// A checkout's worth of what `scripts/assemble.sh` reads, in which version 0.0.1 was released with all there is.
struct Checkout(Scratch);

impl Checkout {
    fn new() -> Result<Self> {
        let checkout = Self(Scratch::new("assemble")?);
        for part in ["sql", "scripts", "extension/rotator.control", "Cargo.toml"] {
            let to = checkout.0.join(part);
            std::fs::create_dir_all(to.parent().context("a parent")?)?;
            let copied = Command::new("cp")
                .arg("-r")
                .arg(root().join(part))
                .arg(&to)
                .status()?;
            ensure!(copied.success(), "cp {part}");
        }
        for file in std::fs::read_dir(checkout.0.join("sql/upgrade"))? {
            let file = file?.path();
            if !file.ends_with("preflight.sql") {
                std::fs::remove_file(file)?;
            }
        }
        let frozen = checkout.run("cd sql && sha256sum schema/*.sql >upgrade/0.0.1.sha256")?;
        ensure!(frozen.status.success());
        checkout.write(
            &format!("sql/upgrade/rotator--0.0.1--{CURRENT}.sql"),
            "drop function if exists rotator.gone();\n",
        )?;
        Ok(checkout)
    }

    fn run(&self, command: &str) -> Result<Output> {
        Command::new("bash")
            .args(["-c", command])
            .current_dir(self.0.path())
            .env("CARGO_TARGET_DIR", self.0.join("target"))
            .output()
            .context("bash")
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.0.join(file), text)?)
    }

    fn append(&self, file: &str, text: &str) -> Result<()> {
        let before = std::fs::read_to_string(self.0.join(file))?;
        self.write(file, &(before + text))
    }

    fn assemble(&self) -> Result<()> {
        let output = self.run("scripts/assemble.sh")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// The files that a script in target/sql consists of.
    fn parts(&self, script: &str) -> Result<Vec<String>> {
        let script = std::fs::read_to_string(self.0.join("target/sql").join(script))?;
        let parts = script
            .lines()
            .filter_map(|line| line.strip_prefix("-- file: "));
        Ok(parts.map(str::to_owned).collect())
    }
}

#[test]
fn an_upgrade_script_is_the_installation_without_what_was_released() -> Result<()> {
    let checkout = Checkout::new()?;
    checkout.append("sql/manifest", "schema/of_a_later_version.sql\n")?;
    checkout.write(
        "sql/schema/of_a_later_version.sql",
        "alter table rotator_internal.secret add column colour text;\n",
    )?;
    checkout.assemble()?;

    let install = checkout.parts(&format!("rotator--{CURRENT}.sql"))?;
    let upgrade = checkout.parts(&format!("rotator--0.0.1--{CURRENT}.sql"))?;
    let step = format!("upgrade/rotator--0.0.1--{CURRENT}.sql");
    ensure!(
        upgrade[..2] == ["upgrade/preflight.sql".to_owned(), step],
        "{upgrade:?}"
    );
    let again: Vec<_> = install
        .iter()
        .filter(|part| part.starts_with("api/") || *part == "schema/of_a_later_version.sql")
        .collect();
    ensure!(
        upgrade[2..].iter().collect::<Vec<_>>() == again,
        "{upgrade:#?}"
    );

    // Two steps on the way: both, in their order.
    let last = format!("sql/upgrade/rotator--0.0.2--{CURRENT}.sql");
    let renamed = checkout.run(&format!("mv sql/upgrade/rotator--0.0.1--{CURRENT}.sql sql/upgrade/rotator--0.0.1--0.0.2.sql; cp sql/upgrade/0.0.1.sha256 sql/upgrade/0.0.2.sha256"))?;
    ensure!(renamed.status.success());
    checkout.write(
        &last,
        "alter type rotator_internal.secret_fields add attribute colour text;\n",
    )?;
    checkout.assemble()?;
    let upgrade = checkout.parts(&format!("rotator--0.0.1--{CURRENT}.sql"))?;
    ensure!(
        upgrade[1].ends_with("0.0.1--0.0.2.sql") && last.ends_with(&upgrade[2]),
        "{upgrade:?}"
    );
    ensure!(
        checkout
            .parts(&format!("rotator--0.0.2--{CURRENT}.sql"))?
            .len()
            == upgrade.len() - 1
    );
    Ok(())
}

#[test]
fn a_released_file_that_was_changed_stops_the_build() -> Result<()> {
    let refused = |checkout: &Checkout, names: &str| -> Result<()> {
        let said = checkout.assemble().err().map(|error| error.to_string());
        ensure!(
            said.as_ref().is_some_and(|said| said.contains(names)),
            "expected a refusal that names {names}: {said:?}"
        );
        Ok(())
    };
    let changed = Checkout::new()?;
    changed.assemble()?;
    changed.append("sql/schema/secret.sql", "\n")?;
    refused(&changed, "schema/secret.sql")?;

    let forgotten = Checkout::new()?;
    forgotten.run("sed -i '/^schema.engine.sql/d' sql/manifest")?;
    refused(&forgotten, "schema/engine.sql")?;

    let without_step = Checkout::new()?;
    without_step.run("rm sql/upgrade/rotator--*.sql")?;
    refused(&without_step, "sql/upgrade/rotator--0.0.1--NEXT.sql")
}

#[tokio::test]
async fn an_upgrade_without_its_library_is_refused() -> Result<()> {
    let db = TestDb::new().await?;
    let preflight = std::fs::read_to_string(root().join("sql/upgrade/preflight.sql"))?;
    offer(
        &db.cluster,
        &format!("rotator--{CURRENT}--99.0.0.sql"),
        &preflight,
    )?;
    let outcome = db
        .admin
        .batch_execute("alter extension rotator update to '99.0.0'")
        .await;
    let error = refused(outcome, "55000")?;
    ensure!(
        error.message().contains(CURRENT) && error.message().contains("99.0.0"),
        "{}",
        error.message()
    );
    let version: String = scalar(
        &db.admin,
        "select extversion from pg_extension where extname = 'rotator'",
        &[],
    )
    .await?;
    ensure!(version == CURRENT, "{version}");
    Ok(())
}

#[test]
fn the_library_has_every_function_that_older_sql_calls() -> Result<()> {
    let cluster = Cluster::shared()?;
    let listed = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&cluster.library)
        .output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let exported: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let mut scripts = vec![(
        CURRENT.to_owned(),
        std::fs::read_to_string(offered(&cluster)?.join(format!("rotator--{CURRENT}.sql")))?,
    )];
    for version in released()? {
        let script = script_of(&version)?;
        scripts.push((version, script));
    }
    for (version, script) in scripts {
        let declared: Vec<&str> = script
            .split("'MODULE_PATHNAME', '")
            .skip(1)
            .filter_map(|rest| rest.split('\'').next())
            .collect();
        ensure!(declared.len() > 10, "{version} declares {declared:?}");
        for symbol in declared {
            ensure!(
                exported.contains(symbol)
                    && exported.contains(format!("pg_finfo_{symbol}").as_str()),
                "version {version} calls {symbol}, which the library no longer has: between the restart and `alter \
                 extension` every call of it would fail"
            );
        }
    }
    Ok(())
}
