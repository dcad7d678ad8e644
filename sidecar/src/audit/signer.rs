//! Signs blocks: checks that a block is what it says and follows the one before, signs it, and has it copied to every sink
//! that is set up. Only a block that is in all of them may be recorded as signed.
//!
//! No number is ever signed twice with different content, as far as the copies tell: a log that was rewritten, or restored
//! from an older dump, doesn't get a second set of good signatures. Signatures are deterministic, so that a repeat after a
//! crash gives the same bytes. Tests: `tests/tests/delivery/audit_*.rs`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use rotator_audit::{Hash, Header, hex, note};

use super::copy::{Block, line};
use super::file::{CopyFile, Known};
use super::key::SigningKey;
use super::s3::{Bucket, Put};

/// Objects under way at once.
const AT_ONCE: usize = 8;

/// What can sign and where copies go.
pub struct Signer {
    key: SigningKey,
    file: Option<(PathBuf, Arc<Mutex<Option<CopyFile>>>)>,
    bucket: Option<Bucket>,
    /// The last block of each tenant that was signed by us.
    last: HashMap<[u8; 16], (u64, Hash)>,
}

/// A block with its signature, in every copy.
pub struct Sealed {
    pub header: Header,
    pub note: String,
}

/// A sink that can't be used at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// `file` or `s3`.
    pub sink: &'static str,
    pub message: String,
    pub hint: String,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Sink(SinkError),
    /// This block isn't signed: it is unsound, or contradicts what was signed before. By tenant and number.
    Block(String, u64, String),
}

struct Candidate {
    block: Block,
    note: String,
    line: String,
    /// In every copy but the file.
    stored: bool,
}

impl Signer {
    pub fn new(key: SigningKey, file: Option<PathBuf>, bucket: Option<Bucket>) -> Self {
        Self {
            key,
            file: file.map(|path| (path, Arc::default())),
            bucket,
            last: HashMap::new(),
        }
    }

    pub fn key_name(&self) -> &str {
        self.key.public().name()
    }

    pub fn public_key(&self) -> String {
        self.key.public().to_string()
    }

    /// Where copies go, for messages and for the database.
    pub fn copies(&self) -> Vec<String> {
        let file = self
            .file
            .as_ref()
            .map(|(path, _)| format!("file:{}", path.display()));
        file.into_iter()
            .chain(self.bucket.as_ref().map(Bucket::shown))
            .collect()
    }

    /// Which kinds of sinks are set up.
    pub fn sinks(&self) -> Vec<&'static str> {
        let file = self.file.as_ref().map(|_| "file");
        file.into_iter()
            .chain(self.bucket.as_ref().map(|_| "s3"))
            .collect()
    }

    /// Opens what can be opened now, so that a mistake is told at the start.
    pub async fn open(&mut self) -> Option<Trouble> {
        let file = self.with_file(|_| Ok(())).await.err();
        match (file, &mut self.bucket) {
            (Some(error), _) => Some(Trouble::Sink(error)),
            (None, Some(bucket)) => bucket
                .sign_in()
                .await
                .err()
                .map(|error| Trouble::Sink(s3(error))),
            (None, None) => None,
        }
    }

    /// Signs and copies blocks, which come in the order of their numbers for each tenant.
    pub async fn sign(&mut self, blocks: Vec<(Block, i64)>) -> (Vec<Sealed>, Vec<Trouble>) {
        let mut troubles = Vec::new();
        let mut stopped = HashSet::new();
        let mut candidates = Vec::with_capacity(blocks.len());
        for (block, seen_at) in blocks {
            if stopped.contains(&block.header.tenant) {
                continue;
            }
            if let Some(trouble) = self.check(&block, &candidates) {
                stopped.insert(block.header.tenant);
                troubles.push(trouble);
                continue;
            }
            let header = &block.header;
            let note = self
                .key
                .sign(&note::body(&header.tenant, header.number, &header.hash()));
            let line = line(&block, &note, seen_at);
            candidates.push(Candidate {
                block,
                note,
                line,
                stored: true,
            });
        }
        let candidates = match self.look(candidates, &mut troubles).await {
            Ok(candidates) => candidates,
            Err(error) => {
                troubles.push(Trouble::Sink(error));
                return (Vec::new(), troubles);
            }
        };
        let candidates = self.store(candidates, &mut troubles).await;
        if let Err(error) = self.append(&candidates).await {
            troubles.push(Trouble::Sink(error));
            return (Vec::new(), troubles);
        }
        let sealed: Vec<Sealed> = candidates
            .into_iter()
            .filter(|candidate| candidate.stored)
            .map(|candidate| Sealed {
                header: candidate.block.header,
                note: candidate.note,
            })
            .collect();
        for Sealed { header, .. } in &sealed {
            self.last
                .insert(header.tenant, (header.number, header.hash()));
        }
        (sealed, troubles)
    }

    /// The database has recorded it.
    pub fn recorded(&self, header: &Header) {
        if let Some((_, file)) = &self.file
            && let Some(file) = file.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            file.recorded(header);
        }
    }

    /// What can be seen without any copy.
    fn check(&self, block: &Block, before: &[Candidate]) -> Option<Trouble> {
        let header = &block.header;
        if let Err(unsound) = block.check() {
            return Some(refused(header, &unsound.to_string()));
        }
        let last = before
            .iter()
            .rfind(|candidate| candidate.block.header.tenant == header.tenant)
            .map(|candidate| (candidate.block.header.number, candidate.block.header.hash()))
            .or_else(|| self.last.get(&header.tenant).copied());
        let follows = match last {
            Some((number, hash)) if number == header.number => hash == header.hash(),
            Some((number, hash)) if number + 1 == header.number => hash == header.previous,
            _ => true,
        };
        let first = header.number == 1;
        if follows && first == (header.previous == rotator_audit::NO_PREVIOUS) {
            return None;
        }
        Some(refused(
            header,
            "it does not follow the block that was signed before it",
        ))
    }

    /// Takes out what contradicts the file.
    async fn look(
        &self,
        candidates: Vec<Candidate>,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Vec<Candidate>, SinkError> {
        let headers: Vec<Header> = candidates.iter().map(|one| one.block.header).collect();
        let Some(known) = self.with_file(move |file| file.look(&headers)).await? else {
            return Ok(candidates);
        };
        let known = known.iter().map(|known| *known == Known::Contradicted);
        Ok(without(candidates, known, "the file", troubles))
    }

    /// Stores in S3, and takes out what contradicts it. What it did not take goes on to the file all the same.
    async fn store(
        &mut self,
        mut candidates: Vec<Candidate>,
        troubles: &mut Vec<Trouble>,
    ) -> Vec<Candidate> {
        let Some(bucket) = &mut self.bucket else {
            return candidates;
        };
        for candidate in &mut candidates {
            candidate.stored = false;
        }
        if candidates.is_empty() {
            return candidates;
        }
        if let Err(error) = bucket.sign_in().await {
            troubles.push(Trouble::Sink(s3(error)));
            return candidates;
        }
        let mut answers = Vec::with_capacity(candidates.len());
        {
            let bucket = &*bucket;
            let puts: Vec<_> = candidates
                .iter()
                .map(|one| bucket.put(&one.block.header, &one.line))
                .collect();
            let mut under_way = stream::iter(puts).buffered(AT_ONCE);
            while let Some(answer) = under_way.next().await {
                let failed = answer.is_err();
                answers.push(answer);
                // The rest would wait for the same.
                if failed {
                    break;
                }
            }
        }
        if let Some(Err(error)) = answers.last() {
            troubles.push(Trouble::Sink(s3(error.clone())));
            bucket.sign_out();
        }
        for (candidate, answer) in candidates.iter_mut().zip(&answers) {
            candidate.stored = matches!(answer, Ok(Put::Stored | Put::There));
        }
        let contradicted = answers
            .iter()
            .map(|answer| *answer == Ok(Put::Contradicted));
        let contradicted = contradicted.chain(std::iter::repeat(false));
        without(candidates, contradicted, "S3", troubles)
    }

    async fn append(&self, candidates: &[Candidate]) -> Result<(), SinkError> {
        let lines: Vec<(Header, String)> = candidates
            .iter()
            .map(|one| (one.block.header, one.line.clone()))
            .collect();
        self.with_file(move |file| file.append(&lines))
            .await
            .map(|_| ())
    }

    /// Works on the file where that may block; opens it if it isn't open, or was moved away.
    async fn with_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut CopyFile) -> std::io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, SinkError> {
        let Some((path, file)) = &self.file else {
            return Ok(None);
        };
        let (open, at) = (file.clone(), path.clone());
        let worked = tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let current = open
                .as_ref()
                .is_some_and(|file| file.is_current().unwrap_or(false));
            if !current {
                *open = Some(CopyFile::open(&at)?);
            }
            match open.as_mut() {
                Some(file) => work(file),
                None => Err(std::io::Error::other("it isn't open")),
            }
        })
        .await;
        let result =
            worked.unwrap_or_else(|_| Err(std::io::Error::other("working on it ended abnormally")));
        result.map(Some).map_err(|error| SinkError {
            sink: "file",
            message: format!("can't write {}: {error}", path.display()),
            hint: "check ROTATOR_AUDIT_FILE, its permissions, and whether there is room".to_owned(),
        })
    }
}

/// Takes out what contradicts a copy, and what follows it in its tenant.
fn without(
    candidates: Vec<Candidate>,
    contradicted: impl Iterator<Item = bool>,
    copy: &str,
    troubles: &mut Vec<Trouble>,
) -> Vec<Candidate> {
    let mut stopped = HashSet::new();
    let mut kept = Vec::with_capacity(candidates.len());
    for (candidate, contradicted) in candidates.into_iter().zip(contradicted) {
        let header = &candidate.block.header;
        if contradicted && stopped.insert(header.tenant) {
            troubles.push(refused(
                header,
                &format!("{copy} has another block of that number, or before it"),
            ));
        }
        if !stopped.contains(&header.tenant) {
            kept.push(candidate);
        }
    }
    kept
}

fn refused(header: &Header, problem: &str) -> Trouble {
    Trouble::Block(hex::uuid(&header.tenant), header.number, problem.to_owned())
}

fn s3(error: super::s3::S3Error) -> SinkError {
    SinkError {
        sink: "s3",
        message: error.message,
        hint: error.hint,
    }
}
