//! What an installation of the extension is, read from PostgreSQL's catalog, and how two of them differ, named so that
//! the file to mend is obvious. `upgrade_catalog.sql` lists what is compared; [`Cluster`]'s own `pg_dump` in its mode for
//! binary upgrades, the only one that writes down members of an extension, is a second witness for what that list forgot.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rotator_tests::Cluster;
use tokio_postgres::Client;

/// Thing (a function, a column, a policy, …) → property → value.
pub struct Definitions(BTreeMap<String, BTreeMap<String, String>>);

impl Definitions {
    pub async fn of(session: &Client) -> Result<Self> {
        // Names come out qualified whatever the session's path is.
        session
            .batch_execute("set search_path = pg_catalog, pg_temp")
            .await?;
        let rows = session
            .query(include_str!("upgrade_catalog.sql"), &[])
            .await
            .context("upgrade_catalog.sql")?;
        session.batch_execute("reset search_path").await?;
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in rows {
            let (thing, property): (String, String) = (row.get(0), row.get(1));
            all.entry(thing).or_default().insert(property, row.get(2));
        }
        ensure!(all.len() > 300, "only {} things were looked at", all.len());
        Ok(Self(all))
    }

    /// What is not as in a fresh installation, one line each; nothing when they are the same.
    pub fn differences_from(&self, fresh: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for thing in fresh.0.keys().filter(|thing| !self.0.contains_key(*thing)) {
            found.push(format!("missing: {thing}"));
        }
        for (thing, properties) in &self.0 {
            let Some(expected) = fresh.0.get(thing) else {
                found.push(format!("left over: {thing}"));
                continue;
            };
            for (property, value) in properties {
                let wanted = expected.get(property).map_or("(none)", String::as_str);
                if value != wanted {
                    let (value, wanted) = first_difference(value, wanted);
                    found.push(format!("{thing}: {property} is {value}, not {wanted}"));
                }
            }
            for property in expected.keys().filter(|key| !properties.contains_key(*key)) {
                found.push(format!("{thing}: has no {property}"));
            }
        }
        found.sort();
        found
    }
}

/// The first line in which two texts differ: of a function of a hundred lines, nobody wants to read the rest.
fn first_difference<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let mut others = other.lines();
    for line in one.lines() {
        match others.next() {
            Some(theirs) if theirs == line => {}
            theirs => return (line, theirs.unwrap_or("(the end)")),
        }
    }
    ("(the end)", others.next().unwrap_or(other))
}

/// The same installation as statements, by pg_dump. Sorted, because objects of the same name rank may come in another
/// order; without numbers of objects, transactions and sequences, which are of one database.
pub fn statements(cluster: &Cluster, database: &str) -> Result<Vec<String>> {
    let output = Command::new(cluster.bindir.join("pg_dump"))
        .args([
            "--schema-only",
            "--binary-upgrade",
            "-U",
            "postgres",
            "-d",
            database,
        ])
        .arg("-h")
        .arg(&cluster.socket)
        .args(["-p", &cluster.port.to_string()])
        .output()
        .context("pg_dump")?;
    ensure!(
        output.status.success(),
        "pg_dump: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let numbered = [
        "binary_upgrade_",
        "frozenxid",
        "WHERE oid = '",
        "pg_catalog.setval(",
        "\\restrict",
        "\\unrestrict",
    ];
    let mut lines: Vec<String> = String::from_utf8(output.stdout)?
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .filter(|line| !numbered.iter().any(|number| line.contains(number)))
        .map(str::to_owned)
        .collect();
    ensure!(lines.len() > 3000, "pg_dump wrote {} lines", lines.len());
    lines.sort();
    Ok(lines)
}

/// Lines that only one of two sorted lists has, as `+` and `-`.
pub fn line_differences(upgraded: &[String], fresh: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for line in upgraded {
        *counts.entry(line).or_default() += 1;
    }
    for line in fresh {
        *counts.entry(line).or_default() -= 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(line, count)| format!("{}{}", if count > 0 { '+' } else { '-' }, line))
        .collect()
}
