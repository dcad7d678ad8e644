//! Master keys from a command: an absolute path with arguments, no shell, output like the master key file.
//!
//! [`line`] takes the setting apart and checks the program, [`child`] runs it within its limits, [`said`] makes what it
//! printed as an error fit to be shown. The program runs with the server's rights and prints master keys, so nobody but
//! its owner may be able to change it, and of its environment it gets only what [`environment`] lists.

mod child;
mod line;
mod said;

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use super::master_keys::{LARGEST, MasterKeys, Problem, Source};
pub use child::{Interrupts, kill_running};

/// How long the command may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Why the command gave no keys. `said` is the first line of what it printed as an error, redacted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failed {
    #[error("rotator.master_key_command must begin with an absolute path")]
    NotAbsolute,
    #[error("rotator.master_key_command has a quote that is not closed")]
    OpenQuote,
    #[error("the program of rotator.master_key_command cannot be run: {0}")]
    NotRunnable(String),
    #[error("the program of rotator.master_key_command is no regular file")]
    NotAFile,
    #[error(
        "the program of rotator.master_key_command belongs to user {0}, it must belong to the server's user or root"
    )]
    WrongOwner(u32),
    #[error(
        "the program of rotator.master_key_command has mode {0:04o}, nobody but its owner may be able to write it"
    )]
    TooOpen(u32),
    #[error("the master key command did not end within {} seconds{said}", TIME_LIMIT.as_secs())]
    TimedOut { said: String },
    #[error("the master key command printed more than 64 KiB")]
    TooLarge,
    #[error("the master key command {how}{said}")]
    Unsuccessful { how: String, said: String },
    #[error("the output of the master key command cannot be read: {0}")]
    Unreadable(String),
}

/// Runs `command_line` for a server that runs as `server_user`.
pub fn read(
    command_line: &str,
    server_user: u32,
    interrupts: &dyn Interrupts,
) -> Result<MasterKeys, Problem> {
    let output = output(command_line, server_user, interrupts)?;
    MasterKeys::parse(&output, Source::Command)
}

fn output(
    command_line: &str,
    server_user: u32,
    interrupts: &dyn Interrupts,
) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let words = line::words(command_line)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failed::NotAbsolute);
    };
    line::check_program(program, server_user)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment(std::env::vars_os()))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let limits = child::Limits {
        time: TIME_LIMIT,
        output: LARGEST,
    };
    child::run(&mut command, &limits, interrupts)
}

/// What the program gets of the server's environment: where programs, home and certificates are, language and time
/// zone, the way out through a proxy, and everything of AWS, for the commands that ask its key management service.
fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(|(name, _)| is_passed_on(name))
}

fn is_passed_on(name: &OsStr) -> bool {
    const NAMES: &[&str] = &[
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "NO_PROXY",
    ];
    const BEGINNINGS: &[&str] = &["LC_", "AWS_", "ROTATOR_AWS_"];
    let Some(name) = name.to_str() else {
        return false;
    };
    let is_one = |name: &str| {
        NAMES.contains(&name)
            || BEGINNINGS
                .iter()
                .any(|beginning| name.starts_with(beginning))
    };
    is_one(name) || (name == name.to_ascii_lowercase() && is_one(&name.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_an_allow_list() {
        for name in [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "AWS_REGION",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "aws_profile",
            "ROTATOR_AWS_ENDPOINT_URL",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "HTTPS_PROXY",
            "https_proxy",
            "NO_PROXY",
            "no_proxy",
        ] {
            assert!(is_passed_on(name.as_ref()), "{name}");
        }
        for name in [
            "",
            "PGPASSWORD",
            "PGDATA",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "ROTATOR_DATABASE_URL",
            "Path",
            "aWS_REGION",
            "XAWS_REGION",
            "BASH_ENV",
            "PYTHONPATH",
            "GCONV_PATH",
        ] {
            assert!(!is_passed_on(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn keys_are_read_from_what_a_program_prints() {
        struct Never;
        impl Interrupts for Never {
            fn is_pending(&self) -> bool {
                false
            }
            fn process(&self) {}
        }
        let uid =
            std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("stats"));
        let line = "/bin/echo 'a:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE='";
        let keys = read(line, uid, &Never).expect("keys");
        assert_eq!(keys.ids().collect::<Vec<_>>(), ["a"]);
        assert_eq!(keys.source(), Source::Command);
        let problem = |line: &str| read(line, uid, &Never).err().expect("no keys").to_string();
        assert!(problem("/bin/true").ends_with("command holds no key"));
        assert!(problem("/bin/false").ends_with("exited with status 1"));
        assert!(problem("/bin/echo $HOME").starts_with("line 1 of the output"));
        assert!(problem("true").contains("absolute path"));
        assert!(problem("").contains("absolute path"));
        assert!(problem("/nowhere/program").contains("cannot be run: entity not found"));
    }
}
