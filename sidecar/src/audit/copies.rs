//! What was signed, as the copies outside of the database tell: the append-only file, or a folder with the objects of S3.
//!
//! All of it is read once, and each signature checked. Kept in memory is a hash a block; the leaves are read again where a
//! block differs. A torn line is passed over: the sidecar wrote that block again, and if it didn't, the block is missing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rotator_audit::{Hash, Note, hex};

use super::copy::{Block, NoCopy, parse};
use super::key::PublicKey;

/// A copy that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read {path}: {problem}")]
pub struct CopiesError {
    pub path: String,
    pub problem: String,
}

/// A block in a copy.
pub struct Entry {
    pub hash: Hash,
    pub first_id: i64,
    /// Microseconds since 1970, by the database's clock: committed before this moment.
    pub seen_at: i64,
    place: (usize, u64, u64),
}

/// All copies, by tenant and number.
#[derive(Default)]
pub struct Copies {
    paths: Vec<PathBuf>,
    tenants: HashMap<[u8; 16], BTreeMap<u64, Entry>>,
    /// Lines that were never written to their end.
    pub torn: u64,
    /// What is wrong with the copies themselves: tenant, number if it can be read, and what.
    pub problems: Vec<String>,
}

impl Copies {
    /// Reads a file, or all files of a folder and those below it. May be called several times.
    ///
    /// # Errors
    /// Something can't be read.
    pub fn add(&mut self, path: &Path, keys: &[PublicKey]) -> Result<(), CopiesError> {
        let unreadable = |error: std::io::Error| CopiesError {
            path: path.display().to_string(),
            problem: error.to_string(),
        };
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            let entries = std::fs::read_dir(path).map_err(unreadable)?;
            let mut inside = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(unreadable)?;
            inside.sort();
            return inside.iter().try_for_each(|path| self.add(path, keys));
        }
        self.paths.push(path.to_owned());
        let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(unreadable)?);
        let (mut line, mut position, mut number) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(unreadable)?;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            self.line(
                &line,
                (self.paths.len() - 1, position, read as u64),
                number,
                keys,
            );
            position += read as u64;
        }
    }

    fn line(&mut self, line: &[u8], place: (usize, u64, u64), number: u64, keys: &[PublicKey]) {
        let shown = self.paths[place.0].display().to_string();
        let copied = match parse(line) {
            Ok(copied) => copied,
            Err(NoCopy::Torn) => {
                self.torn += 1;
                return;
            }
            Err(NoCopy::Changed) => {
                self.problems.push(format!(
                    "line {number} of {shown} was changed: what it holds contradicts itself"
                ));
                return;
            }
        };
        let header = &copied.block.header;
        let about = format!(
            "block {} of tenant {}",
            header.number,
            hex::uuid(&header.tenant)
        );
        let signed =
            Note::parse(&copied.note).is_ok_and(|note| keys.iter().any(|key| key.signed(&note)));
        if !signed && !keys.is_empty() {
            self.problems.push(format!(
                "the copy of {about} (line {number} of {shown}) is not signed by the given key"
            ));
            return;
        }
        let hash = header.hash();
        let tenant = self.tenants.entry(header.tenant).or_default();
        match tenant.get(&header.number) {
            Some(known) if known.hash == hash => {}
            Some(_) => self.problems.push(format!(
                "the copies have two different blocks as {about} (line {number} of {shown})"
            )),
            None => {
                let entry = Entry {
                    hash,
                    first_id: copied.block.ids.first().copied().unwrap_or_default(),
                    seen_at: copied.seen_at,
                    place,
                };
                tenant.insert(header.number, entry);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    pub fn tenants(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.tenants.keys()
    }

    /// The blocks of a tenant, by their numbers.
    pub fn of(&self, tenant: &[u8; 16]) -> Option<&BTreeMap<u64, Entry>> {
        self.tenants.get(tenant)
    }

    /// The block itself, from where it stands.
    pub fn block(&self, entry: &Entry) -> Option<Block> {
        let (path, position, length) = entry.place;
        let mut file = File::open(self.paths.get(path)?).ok()?;
        file.seek(SeekFrom::Start(position)).ok()?;
        let mut line = Vec::new();
        file.take(length).read_to_end(&mut line).ok()?;
        Some(parse(&line).ok()?.block)
    }
}
