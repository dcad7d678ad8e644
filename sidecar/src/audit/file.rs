//! The append-only file of signed blocks: one line each, in one write that is on the disk before anything is said about it.
//!
//! Nothing in it is ever changed or cut off, so that it may lie where only appending is possible (`chattr +a`). A last line
//! that a crash tore is ended with a newline; readers pass over it, and the block is written again. Several sidecars may
//! share a file: each takes a lock on it, and reads what the others wrote before it writes.
//!
//! It also remembers: a block whose number is in the file with another hash is a rewritten or restored log, and isn't
//! signed a second time. Kept in memory is the last block of each tenant, which the next one must name.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rotator_audit::{Hash, Header};

use super::copy::named;

/// A write with its fsync takes milliseconds, reading what others wrote hardly longer.
const LOCKED_FOR: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(10);

/// Which block.
type Which = ([u8; 16], u64);

/// What the file knows about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It may be appended.
    New,
    /// It is there already.
    Written,
    /// Its number, or the one before it, is there with another hash.
    Contradicted,
}

pub struct CopyFile {
    path: PathBuf,
    file: File,
    /// Up to here it was read; always the end of a line.
    read: u64,
    last: HashMap<[u8; 16], (u64, Hash)>,
    /// Blocks that were looked for, or written by us and not recorded in the database yet.
    found: HashMap<Which, Hash>,
}

impl CopyFile {
    /// Opens or makes it, readable by its owner and group, and reads what is in it.
    ///
    /// # Errors
    /// It can't be opened, read or locked.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // A file that was just made is there after a crash only when its folder says so.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        let mut opened = Self {
            path: path.to_owned(),
            file,
            read: 0,
            last: HashMap::new(),
            found: HashMap::new(),
        };
        opened.locked(|_| Ok(()))?;
        Ok(opened)
    }

    /// Whether the path still leads to the file that is open: it may have been moved away and begun anew.
    ///
    /// # Errors
    /// It can't be looked at.
    pub fn is_current(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let (ours, theirs) = (self.file.metadata()?, std::fs::metadata(&self.path)?);
        let same = (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino());
        Ok(same && theirs.len() >= self.read)
    }

    /// What is known about each of these, in their order.
    ///
    /// # Errors
    /// It can't be read.
    pub fn look(&mut self, headers: &[Header]) -> io::Result<Vec<Known>> {
        self.locked(|_| Ok(()))?;
        self.remember(headers)?;
        Ok(headers.iter().map(|header| self.known(header)).collect())
    }

    /// Appends the lines of blocks, unless somebody else just did; they are on the disk when this returns.
    ///
    /// # Errors
    /// It can't be written: then it may hold a part of them, which the next call repairs.
    pub fn append(&mut self, lines: &[(Header, String)]) -> io::Result<()> {
        let headers: Vec<Header> = lines.iter().map(|(header, _)| *header).collect();
        self.locked(|this| {
            this.remember(&headers)?;
            let mut text = String::new();
            for (header, line) in lines {
                if this.known(header) == Known::New {
                    text.push_str(line);
                    this.learn((header.tenant, header.number), header.hash());
                    this.found
                        .insert((header.tenant, header.number), header.hash());
                }
            }
            let written = this.file.write_all(text.as_bytes());
            written
                .and_then(|()| this.file.sync_data())
                .inspect_err(|_| {
                    // What is in it now is known when it has been read again, from its begin.
                    (this.read, this.last, this.found) = (0, HashMap::new(), HashMap::new());
                })?;
            this.read += text.len() as u64;
            Ok(())
        })
    }

    /// The database has recorded it: nobody asks for it any more.
    pub fn recorded(&mut self, header: &Header) {
        self.found.remove(&(header.tenant, header.number));
    }

    fn known(&self, header: &Header) -> Known {
        let hash = header.hash();
        let which = (header.tenant, header.number);
        if let Some(found) = self.found.get(&which) {
            return match *found == hash {
                true => Known::Written,
                false => Known::Contradicted,
            };
        }
        match self.last.get(&header.tenant) {
            Some((number, last)) if *number == header.number => match *last == hash {
                true => Known::Written,
                false => Known::Contradicted,
            },
            Some((number, last)) if number + 1 == header.number && *last != header.previous => {
                Known::Contradicted
            }
            _ => Known::New,
        }
    }

    /// Looks through the whole file for those that may be in its middle: after a crash between writing and recording.
    fn remember(&mut self, headers: &[Header]) -> io::Result<()> {
        let wanted: HashSet<Which> = headers
            .iter()
            .map(|header| (header.tenant, header.number))
            .filter(|which| {
                let last = self.last.get(&which.0);
                last.is_some_and(|(number, _)| which.1 < *number) && !self.found.contains_key(which)
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut lines = Lines::from(&mut self.file, 0)?;
        while let Some(line) = lines.next()? {
            if let Some((tenant, number, hash)) = named(line)
                && wanted.contains(&(tenant, number))
            {
                self.found.entry((tenant, number)).or_insert(hash);
            }
        }
        Ok(())
    }

    fn learn(&mut self, (tenant, number): Which, hash: Hash) {
        let last = self.last.entry(tenant).or_insert((number, hash));
        if number > last.0 {
            *last = (number, hash);
        }
    }

    /// Does something while nobody else writes, having read what others wrote and repaired a torn end.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.lock()?;
        let done = self.catch_up().and_then(|()| work(self));
        let _ = self.file.unlock();
        done
    }

    /// Somebody who hangs with the lock must not make us hang.
    fn lock(&self) -> io::Result<()> {
        let deadline = Instant::now() + LOCKED_FOR;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(io::Error::other("another process keeps it locked"));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(AGAIN),
            }
        }
    }

    fn catch_up(&mut self) -> io::Result<()> {
        let mut news = Vec::new();
        let mut lines = Lines::from(&mut self.file, self.read)?;
        while let Some(line) = lines.next()? {
            news.extend(named(line));
        }
        let (end, torn) = (lines.position, lines.torn);
        for (tenant, number, hash) in news {
            self.learn((tenant, number), hash);
        }
        self.read = end;
        if torn {
            self.file.write_all(b"\n")?;
            self.file.sync_data()?;
            self.read += 1;
            tracing::warn!(file = %self.path.display(), "ended a torn line in the file of signed blocks");
        }
        Ok(())
    }
}

/// The lines of a file from a position on.
struct Lines<'a> {
    reader: BufReader<&'a mut File>,
    line: Vec<u8>,
    position: u64,
    /// The last line has no newline.
    torn: bool,
}

impl<'a> Lines<'a> {
    fn from(file: &'a mut File, position: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(position))?;
        Ok(Self {
            reader: BufReader::with_capacity(1 << 16, file),
            line: Vec::new(),
            position,
            torn: false,
        })
    }

    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.reader.by_ref().read_until(b'\n', &mut self.line)?;
        self.position += read as u64;
        if read == 0 {
            return Ok(None);
        }
        self.torn = self.line.last() != Some(&b'\n');
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use rotator_audit::NO_PREVIOUS;

    use super::super::copy::tests::{block, signed};
    use super::super::copy::{Block, line};
    use super::super::key::{SigningKey, fresh};
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(label: &str) -> Self {
            let name = format!("rotator-copy-{label}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("blocks.jsonl")
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.path()).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn chain(length: u64) -> Vec<Block> {
        let mut previous = NO_PREVIOUS;
        (1..=length)
            .map(|number| {
                let block = block(number, previous, 2);
                previous = block.header.hash();
                block
            })
            .collect()
    }

    fn lines(blocks: &[Block]) -> Vec<(Header, String)> {
        let key = SigningKey::parse(&fresh("a").unwrap().0).unwrap();
        blocks
            .iter()
            .map(|block| (block.header, line(block, &signed(&key, block), 0)))
            .collect()
    }

    fn headers(blocks: &[Block]) -> Vec<Header> {
        blocks.iter().map(|block| block.header).collect()
    }

    #[test]
    fn a_torn_line_is_ended_and_its_block_written_again() {
        let folder = Folder::new("torn");
        let blocks = chain(3);
        let written = lines(&blocks);
        CopyFile::open(&folder.path())
            .unwrap()
            .append(&written[..2])
            .unwrap();
        let whole = folder.text();
        let torn = &whole[..whole.len() - 30];
        std::fs::write(folder.path(), torn).unwrap();
        let mut file = CopyFile::open(&folder.path()).unwrap();
        assert_eq!(folder.text(), format!("{torn}\n"), "nothing is cut off");
        let known = file.look(&headers(&blocks)).unwrap();
        assert_eq!(known, [Known::Written, Known::New, Known::New]);
        file.append(&written).unwrap();
        let text = folder.text();
        assert_eq!(text.lines().count(), 4);
        let read: Vec<u64> = text
            .lines()
            .filter_map(|line| Some(named(line.as_bytes())?.1))
            .collect();
        assert_eq!(read, [1, 2, 3]);
    }

    #[test]
    fn several_writers_write_a_block_once() {
        let folder = Folder::new("several");
        let blocks = chain(4);
        let written = lines(&blocks);
        let mut one = CopyFile::open(&folder.path()).unwrap();
        let mut other = CopyFile::open(&folder.path()).unwrap();
        one.append(&written[..3]).unwrap();
        other.append(&written).unwrap();
        one.append(&written).unwrap();
        assert_eq!(folder.text().lines().count(), 4);
        assert_eq!(one.look(&headers(&blocks)).unwrap(), [Known::Written; 4]);
        assert_eq!(other.look(&headers(&blocks)).unwrap(), [Known::Written; 4]);
    }

    #[test]
    fn another_block_of_a_known_number_contradicts_it() {
        let folder = Folder::new("fork");
        let blocks = chain(3);
        let mut file = CopyFile::open(&folder.path()).unwrap();
        file.append(&lines(&blocks)).unwrap();
        for block in &blocks {
            file.recorded(&block.header);
        }
        let mut forged = chain(3);
        forged[1] = block(2, blocks[0].header.hash(), 3);
        forged[2] = block(3, forged[1].header.hash(), 2);
        let next = block(4, forged[2].header.hash(), 1);
        let look = [forged[1].header, forged[2].header, next.header];
        assert_eq!(file.look(&look).unwrap(), [Known::Contradicted; 3]);
        let fits = block(4, blocks[2].header.hash(), 1);
        assert_eq!(file.look(&[fits.header]).unwrap(), [Known::New]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_noticed() {
        let folder = Folder::new("moved");
        let file = CopyFile::open(&folder.path()).unwrap();
        assert!(file.is_current().unwrap());
        std::fs::rename(folder.path(), folder.0.join("old")).unwrap();
        assert!(file.is_current().is_err());
        std::fs::write(folder.path(), "").unwrap();
        assert!(!file.is_current().unwrap());
    }
}
