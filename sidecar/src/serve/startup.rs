//! Before anything is served: the database has to answer, and its extension has to fit this binary. What is found then is
//! watched later, since an extension can be updated under a running sidecar (`upkeep.rs`).
//!
//! A server that is down or starting is waited for, since it usually comes back. A server that refuses us (wrong
//! password, no such database) would refuse us forever: that ends the process with a message.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::health::Health;
use crate::db::{DbError, Session, Target};
use crate::failure::{Exit, Failure};

const OURS: &str = env!("CARGO_PKG_VERSION");
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the log says that we are still waiting.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// Whether the database came.
#[derive(PartialEq, Eq)]
pub enum Wait {
    Connected,
    /// Shutdown was asked for first.
    GivenUp,
}

/// Why an attempt to begin came to nothing.
enum Trouble {
    /// Worth another attempt.
    Passing(DbError),
    /// The same at every attempt, until somebody changes something.
    Lasting(Failure),
}

impl From<DbError> for Trouble {
    fn from(error: DbError) -> Self {
        if error.is_transient() {
            Self::Passing(error)
        } else {
            Self::Lasting(error.into())
        }
    }
}

/// Waits until the database accepts us, and its extension fits.
///
/// # Errors
/// What waiting doesn't mend. A server that goes away at any moment of this is waited for again.
pub async fn wait_for_database(
    session: &Session,
    target: &Target,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<Wait, Failure> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut said: Option<(Instant, String)> = None;
    loop {
        let attempt = tokio::select! {
            attempt = attempt(session, target, health, begun) => attempt,
            () = shutdown.cancelled() => return Ok(Wait::GivenUp),
        };
        let error = match attempt {
            Ok(()) => return Ok(Wait::Connected),
            Err(Trouble::Passing(error)) => error,
            Err(Trouble::Lasting(failure)) => return Err(failure),
        };
        let text = error.to_string();
        if said
            .as_ref()
            .is_none_or(|(at, before)| *before != text || at.elapsed() >= REMIND_EVERY)
        {
            tracing::warn!(
                hint = error.hint().unwrap_or_default(),
                waited_s = begun.elapsed().as_secs(),
                "waiting for the database: {text}"
            );
            said = Some((Instant::now(), text));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return Ok(Wait::GivenUp),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(
    session: &Session,
    target: &Target,
    health: &Health,
    begun: Instant,
) -> Result<(), Trouble> {
    session.ready().await?;
    tracing::info!(
        waited_ms = begun.elapsed().as_millis() as u64,
        "connected to {}",
        target.shown()
    );
    check_versions(session, target, health).await
}

/// Compares the extension with this binary: major and minor must be the same.
async fn check_versions(
    session: &Session,
    target: &Target,
    health: &Health,
) -> Result<(), Trouble> {
    let Some(theirs) = session.extension_version().await? else {
        return Err(Trouble::Lasting(Failure::new(
            Exit::Extension,
            format!("the extension rotator is not installed in the database of {}", target.shown()),
        )
        .hint("as a superuser run `create extension rotator` there, or correct the database in ROTATOR_DATABASE_URL")));
    };
    if let Some(failure) = misfit(&theirs) {
        return Err(Trouble::Lasting(failure));
    }
    let status = session
        .engine_status()
        .await
        .map_err(|error| no_status(error, target))?;
    watch_library(health, &theirs, status.library_version.as_deref());
    tracing::info!(
        extension = theirs,
        sidecar = OURS,
        queued = status.queued,
        dead = status.dead,
        "versions fit"
    );
    Ok(())
}

/// In words for whoever sets it up.
fn no_status(error: DbError, target: &Target) -> Trouble {
    let failure = match error.sqlstate() {
        Some("42501") => {
            let role = target.user();
            let database = target.shown();
            let message = format!("the role {role} may not work on the queue ({database})");
            Failure::new(Exit::Config, message).hint(format!(
                "as a superuser run `grant rotator_sidecar to \"{role}\"`"
            ))
        }
        Some("58P01" | "42883") if error.to_string().contains("could not") => Failure::new(
            Exit::Extension,
            format!("the server can't load the extension's library: {error}"),
        )
        .hint("install the extension's files of its version on the server, then restart it"),
        Some("42883" | "3F000" | "42P01") => Failure::new(
            Exit::Extension,
            format!("the extension is incomplete: {error}"),
        )
        .hint("as a superuser run `alter extension rotator update`, or install it again"),
        _ => return error.into(),
    };
    Trouble::Lasting(failure)
}

/// What is wrong with an extension of that version, if anything.
pub fn misfit(extension: &str) -> Option<Failure> {
    compare(extension, OURS)
}

/// The library that the server has loaded may be of another release than the SQL: in the middle of an upgrade, or
/// because its restart was forgotten. That is for the server to mend; we go on, and say so once.
pub fn watch_library(health: &Health, extension: &str, library: Option<&str>) {
    let problem = library
        .filter(|library| release(library) != release(extension))
        .map(|library| {
            format!("the server runs the library of version {library} with the SQL of version {extension}")
        });
    let found = problem.clone();
    if health.set_library_problem(problem) {
        match found {
            Some(problem) => tracing::warn!(
                hint = "install the files of that version, restart the server, run `alter extension rotator update`",
                "{problem}"
            ),
            None => tracing::info!("the extension's library and SQL are of one version again"),
        }
    }
}

/// What is wrong with that pair of versions, if anything.
fn compare(theirs: &str, ours: &str) -> Option<Failure> {
    let (Some(extension), Some(sidecar)) = (release(theirs), release(ours)) else {
        return Some(
            Failure::new(
                Exit::Extension,
                format!("can't compare the extension's version {theirs} with ours, {ours}"),
            )
            .hint("install extension and sidecar of the same release"),
        );
    };
    if extension == sidecar {
        return None;
    }
    let (relation, hint) = if extension < sidecar {
        (
            "older",
            "install the new extension files on the server, then run `alter extension rotator update`",
        )
    } else {
        (
            "newer",
            "install the sidecar of that version, or point ROTATOR_DATABASE_URL at the right database",
        )
    };
    let message = format!(
        "the extension in the database is version {theirs}, {relation} than this sidecar, {ours}"
    );
    Some(Failure::new(Exit::Extension, message).hint(hint))
}

fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether a failed call at start is worth waiting for; exported for the loops, which share the rule.
pub fn pause_after(error: &DbError, failures: u32) -> Duration {
    let longest = if error.is_transient() {
        LONGEST_PAUSE
    } else {
        REMIND_EVERY
    };
    (FIRST_PAUSE * 2u32.saturating_pow(failures.min(10))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_major_and_minor() {
        assert!(compare("0.1.0", "0.1.7").is_none());
        assert!(compare("0.1", "0.1.0").is_none());
        assert!(
            compare("0.9.0", "0.10.0")
                .unwrap()
                .to_string()
                .contains("older than this sidecar")
        );
        assert!(
            compare("1.0.0", "0.9.0")
                .unwrap()
                .to_string()
                .contains("newer than this sidecar")
        );
        assert!(compare("devel", "0.1.0").is_some());
    }

    #[test]
    fn a_library_of_another_release_is_said_once_and_taken_back() {
        let health = Health::default();
        watch_library(&health, "0.1.2", Some("0.1.0"));
        assert_eq!(health.library_problem(), None, "patch levels go together");
        watch_library(&health, "0.2.0", Some("0.1.0"));
        let problem = health.library_problem().unwrap();
        assert!(
            problem.contains("0.1.0") && problem.contains("0.2.0"),
            "{problem}"
        );
        watch_library(&health, "0.2.0", Some("0.2.1"));
        assert_eq!(health.library_problem(), None);
    }

    #[test]
    fn pauses_grow_and_are_longer_when_nothing_will_change_by_itself() {
        let lost = DbError::Lost {
            message: String::new(),
        };
        assert_eq!(pause_after(&lost, 0), FIRST_PAUSE);
        assert_eq!(pause_after(&lost, 99), LONGEST_PAUSE);
        let refused = DbError::Statement {
            sqlstate: "42501".to_owned(),
            message: String::new(),
            hint: None,
        };
        assert_eq!(pause_after(&refused, 99), REMIND_EVERY);
    }
}
