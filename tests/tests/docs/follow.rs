//! Following a page: runs a block as its marker says, and compares what it printed with what the page shows.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::TestDb;
use rotator_tests::scratch::{release_folder, root, unique};
use serde_json::Value;

use crate::markdown::Block;
use crate::postgrest;

pub struct Example {
    pub db: TestDb,
    pub claims: Value,
    pub delivered: String,
    /// Where `sh` blocks run.
    pub folder: PathBuf,
    /// What the last block printed and no `prints` block has shown yet.
    printed: VecDeque<String>,
    /// The id in the last answer over HTTP.
    made: Option<String>,
}

impl Example {
    pub fn new(db: TestDb) -> Self {
        Self {
            db,
            claims: Value::Null,
            delivered: String::new(),
            folder: root(),
            printed: VecDeque::new(),
            made: None,
        }
    }

    /// Follows every block that has a marker for us; how many there were.
    pub async fn follow_all(&mut self, blocks: &[Block]) -> Result<usize> {
        let mut followed = 0;
        for block in blocks {
            let Some(marker) = block.marker.as_deref().filter(|marker| *marker != "claims") else {
                continue;
            };
            self.follow(marker, block).await.with_context(|| {
                format!(
                    "the block at line {}, <!-- {marker} -->:\n{}",
                    block.line, block.content
                )
            })?;
            followed += 1;
        }
        Ok(followed)
    }

    async fn follow(&mut self, marker: &str, block: &Block) -> Result<()> {
        if marker == "delivered" {
            return shows(
                &mut self.delivered.lines().map(str::to_owned).collect(),
                block,
            );
        }
        if marker == "prints" {
            return shows(&mut self.printed, block);
        }
        let (expected, role) = marker
            .split_once(" as ")
            .context("run as ROLE, or refused as ROLE")?;
        let (worked, output) = match block.language.as_str() {
            "sql" => self.psql(role, &block.content)?,
            "sh" => self.shell(role, &block.content)?,
            "http" => (true, self.http(role, &block.content).await?),
            other => bail!("{other} blocks can't be run"),
        };
        ensure!(worked == (expected == "run"), "it printed:\n{output}");
        self.printed = output.lines().map(str::to_owned).collect();
        Ok(())
    }

    fn psql(&self, role: &str, sql: &str) -> Result<(bool, String)> {
        let file = std::env::temp_dir().join(unique("rotator-docs-sql"));
        std::fs::write(&file, sql)?;
        let outcome = output(
            Command::new(self.db.cluster.bindir.join("psql"))
                .args(["-X", "-v", "ON_ERROR_STOP=1", "-d"])
                .arg(self.address(role))
                .arg("-f")
                .arg(&file),
        );
        std::fs::remove_file(&file)?;
        let (worked, printed) = outcome?;
        // At its prompt psql says ERROR without the place in a file.
        let place = format!("psql:{}:", file.display());
        let lines = printed.lines().map(|line| match line.strip_prefix(&place) {
            Some(rest) => rest.split_once(": ").map_or(rest, |(_, message)| message),
            None => line,
        });
        Ok((worked, lines.collect::<Vec<_>>().join("\n")))
    }

    fn shell(&self, role: &str, script: &str) -> Result<(bool, String)> {
        let path = std::env::var("PATH")?;
        output(
            Command::new("bash")
                .args(["-euo", "pipefail", "-c", script])
                .current_dir(&self.folder)
                .env("TZ", "America/New_York")
                .env("PATH", format!("{}:{path}", release_folder()?.display()))
                .env("ROTATOR_DATABASE_URL", self.address(role)),
        )
    }

    async fn http(&mut self, subject: &str, request: &str) -> Result<String> {
        self.claims["sub"] = subject.into();
        let request = match &self.made {
            Some(id) => request.replace("<id>", id),
            None => request.to_owned(),
        };
        let answer = postgrest::answer(&self.db, &self.claims, &request).await?;
        if let Some(id) = serde_json::from_str::<Value>(&answer)?[0]["id"].as_str() {
            self.made = Some(id.to_owned());
        }
        Ok(answer)
    }

    /// As the demo prints it: over the private socket, where nobody asks for a password.
    fn address(&self, role: &str) -> String {
        let cluster = &self.db.cluster;
        format!(
            "host={} port={} user={role} dbname={}",
            cluster.socket.display(),
            cluster.port,
            self.db.name
        )
    }
}

pub fn output(command: &mut Command) -> Result<(bool, String)> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let mut text = String::from_utf8(output.stdout)?;
    text.push_str(&String::from_utf8(output.stderr)?);
    Ok((output.status.success(), text))
}

/// Every line of the block must come in `printed`, in that order; others may stand between them (a reader needn't see
/// all), and times, ids and tokens may differ.
fn shows(printed: &mut VecDeque<String>, block: &Block) -> Result<()> {
    let all: Vec<String> = printed.iter().cloned().collect();
    for line in block
        .content
        .lines()
        .map(masked)
        .filter(|line| !line.is_empty())
    {
        loop {
            match printed.pop_front() {
                Some(candidate) if masked(&candidate) == line => break,
                Some(_) => {}
                None => bail!(
                    "{line:?} was not printed, at least not at its place, but:\n{}",
                    all.join("\n")
                ),
            }
        }
    }
    Ok(())
}

/// A line without what differs from run to run.
fn masked(line: &str) -> String {
    const NAMES: &str =
        "Sun Mon Tue Wed Thu Fri Sat Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
    let is_name = |word: &str| NAMES.split(' ').any(|name| name == bare(word));
    let line = line.replace('"', " ");
    let words: Vec<&str> = line
        .split_whitespace()
        .filter(|word| !word.chars().all(|c| "-+|─".contains(c)))
        .collect();
    let mut masked = Vec::with_capacity(words.len());
    for (position, word) in words.iter().enumerate() {
        let bare = bare(word);
        let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
        let moment = |c: char| c.is_ascii_digit() || "-:.+TZ".contains(c);
        let day_of_month = bare.chars().all(|c| c.is_ascii_digit())
            && words.get(position + 1).is_some_and(|next| is_name(next));
        masked.push(if let Some((address, _)) = word.split_once("/a/") {
            format!("{}/a/TOKEN", address.split(':').next().unwrap_or(""))
        } else if bare.len() == 36 && bare.chars().all(hex) {
            "ID".to_owned()
        } else if is_name(word) || day_of_month {
            "DATE".to_owned()
        } else if bare.len() >= 4 && bare.chars().all(moment) && !bare.starts_with('.') {
            "TIME".to_owned()
        } else {
            (*word).to_owned()
        });
    }
    masked.join(" ")
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| "\",".contains(c))
}
