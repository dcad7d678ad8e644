//! Reading the master key file, checked the way PostgreSQL checks `ssl_key_file`: owner and mode of the file that a link
//! ends at, so that secrets mounted by Kubernetes (`..data`) and Docker work. It must not lie in the data directory,
//! neither the link nor the file: every base backup would carry the key beside what it protects.

use std::fs::File;
use std::io::{Error, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

use super::master_keys::{LARGEST, MasterKeys, Problem, Source};

/// Why the file can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unusable {
    #[error("rotator.master_key_file must be an absolute path")]
    NotAbsolute,
    #[error("the master key file cannot be opened: {0}")]
    Unopenable(String),
    #[error("the master key file is no regular file")]
    NotAFile,
    #[error(
        "the master key file is inside the data directory, where every base backup would carry it"
    )]
    InDataDirectory,
    #[error("the master key file belongs to user {0}, it must belong to the server's user or root")]
    WrongOwner(u32),
    #[error(
        "the master key file has mode {0:04o}, it must be 0600 or less (0640 or less when it belongs to root)"
    )]
    TooOpen(u32),
    #[error("the master key file is larger than 64 KiB")]
    TooLarge,
    #[error("the master key file cannot be read: {0}")]
    Unreadable(String),
}

/// Whom the keys are read for.
pub struct Server<'a> {
    pub user: u32,
    pub data_directory: &'a Path,
}

/// Reads and checks the file at `path`.
pub fn read(path: &str, server: &Server<'_>) -> Result<MasterKeys, Problem> {
    let contents = contents(Path::new(path), server)?;
    MasterKeys::parse(&contents, Source::File)
}

fn contents(path: &Path, server: &Server<'_>) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    if !path.is_absolute() {
        return Err(Unusable::NotAbsolute);
    }
    let unopenable = |error: Error| Unusable::Unopenable(error.kind().to_string());
    // Nonblocking: don't wait for a writer should the path name a FIFO.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(unopenable)?;
    // Of the opened file, not of the path: nobody can swap them in between.
    let metadata = file.metadata().map_err(unopenable)?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    if is_inside(path, server.data_directory).map_err(unopenable)? {
        return Err(Unusable::InDataDirectory);
    }
    match metadata.uid() {
        uid if uid == server.user && mode & 0o077 != 0 => return Err(Unusable::TooOpen(mode)),
        uid if uid == server.user => {}
        0 if mode & 0o037 != 0 => return Err(Unusable::TooOpen(mode)),
        0 => {}
        uid => return Err(Unusable::WrongOwner(uid)),
    }
    if metadata.len() > LARGEST as u64 {
        return Err(Unusable::TooLarge);
    }
    // Allocated once, so that growing leaves no copy behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(LARGEST + 1));
    file.take(LARGEST as u64 + 1)
        .read_to_end(&mut contents)
        .map_err(|error| Unusable::Unreadable(error.kind().to_string()))?;
    if contents.len() > LARGEST {
        return Err(Unusable::TooLarge);
    }
    Ok(contents)
}

/// Whether `path`, or what it leads to, lies in `folder`.
fn is_inside(path: &Path, folder: &Path) -> Result<bool, Error> {
    let folder = folder.canonicalize()?;
    let beside = path.parent().unwrap_or(path).canonicalize()?;
    Ok(beside.starts_with(&folder) || path.canonicalize()?.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    const ONE: &str = "a:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("rotator-master-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(folder.join("data")).expect("a folder");
            Folder(folder)
        }

        fn write(&self, name: &str, mode: u32, contents: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, contents).expect("writes");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
            path
        }

        fn problem(&self, path: impl AsRef<Path>, user: u32) -> Option<Unusable> {
            let server = Server {
                user,
                data_directory: &self.0.join("data"),
            };
            contents(path.as_ref(), &server).err()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn owner_of(path: &Path) -> u32 {
        std::fs::metadata(path).expect("stats").uid()
    }

    #[test]
    fn permissions_and_owner_are_checked() {
        let folder = Folder::new("mode");
        let path = folder.write("key", 0o600, ONE);
        let uid = owner_of(&path);
        let with_mode = |mode: u32, server: u32| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
            folder.problem(&path, server)
        };
        assert_eq!(with_mode(0o600, uid), None);
        assert_eq!(with_mode(0o400, uid), None);
        for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
            assert_eq!(with_mode(mode, uid), Some(Unusable::TooOpen(mode)));
        }
        if uid == 0 {
            assert_eq!(with_mode(0o640, 7), None);
            assert_eq!(with_mode(0o644, 7), Some(Unusable::TooOpen(0o644)));
        } else {
            assert_eq!(with_mode(0o600, uid + 1), Some(Unusable::WrongOwner(uid)));
        }
    }

    #[test]
    fn what_is_no_file_of_a_few_lines_is_refused() {
        let folder = Folder::new("kind");
        let missing = folder.problem(folder.0.join("missing"), 0);
        assert!(matches!(missing, Some(Unusable::Unopenable(_))));
        assert_eq!(folder.problem("keys", 0), Some(Unusable::NotAbsolute));
        assert_eq!(folder.problem("/", 0), Some(Unusable::NotAFile));
        assert_eq!(folder.problem("/dev/null", 0), Some(Unusable::NotAFile));
        let fits = folder.write("fits", 0o600, vec![b'#'; LARGEST]);
        assert_eq!(folder.problem(&fits, owner_of(&fits)), None);
        let large = folder.write("large", 0o600, vec![b'#'; LARGEST + 1]);
        let problem = folder.problem(&large, owner_of(&large));
        assert_eq!(problem, Some(Unusable::TooLarge));
    }

    #[test]
    fn neither_link_nor_file_may_be_in_the_data_directory() {
        let folder = Folder::new("inside");
        let outside = folder.write("key", 0o600, ONE);
        let inside = folder.write("data/key", 0o600, ONE);
        let uid = owner_of(&outside);
        let link = |to: &str, at: &str| {
            symlink(to, folder.0.join(at)).expect("links");
            folder.0.join(at)
        };
        assert_eq!(folder.problem(&outside, uid), None);
        for path in [
            inside,
            link("data/key", "to-inside"),
            link("../key", "data/to-outside"),
            link("data", "folder").join("key"),
            folder.0.join("data/../data/key"),
        ] {
            let problem = folder.problem(&path, uid);
            assert_eq!(problem, Some(Unusable::InDataDirectory), "{path:?}");
        }
        assert_eq!(folder.problem(folder.0.join("data/../key"), uid), None);
        // As Kubernetes mounts a secret.
        std::fs::create_dir(folder.0.join("..2026_11_22")).expect("a folder");
        folder.write("..2026_11_22/master.key", 0o400, ONE);
        link("..2026_11_22", "..data");
        assert_eq!(
            folder.problem(link("..data/master.key", "master.key"), uid),
            None
        );
    }
}
