//! Has sealed blocks of the audit log signed and copied, and then recorded as signed, where `ROTATOR_AUDIT_KEY` is set. It
//! asks for the oldest blocks without a signature every few seconds; a sink that is away holds them up and nothing else,
//! and what has gathered is caught up when it is back.
//!
//! Nothing is kept but what the copies say: killed between copy and record, the next one finds the copy. Several sidecars
//! may sign at once; each block is in a copy once. What is wrong is in the log once, and in `/readyz` and `/metrics` while
//! it lasts. Signing itself: `crate::audit`. Tests: `tests/tests/delivery/audit_*.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::startup::pause_after;
use crate::audit::{Sealed, Signer, SigningKey, SinkError, Trouble};
use crate::config::{ConfigError, Settings};
use crate::db::{DbError, Session};
use crate::failure::{Exit, Failure};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A full batch has some dozen megabytes at most.
const BATCH: i32 = 64;
/// How long a stop waits for the round under way.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The signer that the settings ask for, if they do.
///
/// # Errors
/// A key that is missing or damaged, a file or an address that can't be used. A sink that is merely away is waited for.
pub async fn signer(settings: &Settings) -> Result<Option<Signer>, Failure> {
    let Some(key) = &settings.audit_key else {
        if settings.audit_file.is_some() || settings.audit_s3.is_some() {
            let message =
                "ROTATOR_AUDIT_FILE or ROTATOR_AUDIT_S3_URL is set, and ROTATOR_AUDIT_KEY is not";
            return Err(Failure::new(Exit::Config, message).hint(
                "make a key with `rotator audit new-key`: blocks are signed before they are copied",
            ));
        }
        return Ok(None);
    };
    let key = SigningKey::parse(key.expose()).map_err(|error| {
        let hint = "set it to the line that `rotator audit new-key` printed, or ROTATOR_AUDIT_KEY_FILE to a file with it";
        Failure::from(ConfigError::invalid("ROTATOR_AUDIT_KEY", &error.to_string(), hint))
    })?;
    let bucket = settings.audit_s3.clone().map(|to| {
        crate::audit::Bucket::new(
            to.url,
            to.retention_days,
            settings.aws_endpoint_url.as_ref(),
        )
    });
    let bucket = bucket
        .transpose()
        .map_err(|error| Failure::new(Exit::Config, error.message).hint(error.hint))?;
    let mut signer = Signer::new(key, settings.audit_file.clone(), bucket);
    match signer.open().await {
        Some(Trouble::Sink(error)) if error.sink == "file" => {
            return Err(Failure::new(Exit::Config, error.message).hint(error.hint));
        }
        Some(Trouble::Sink(error)) => tracing::warn!(hint = error.hint, "{}", error.message),
        _ => {}
    }
    let copies = signer.copies();
    tracing::info!(
        public_key = signer.public_key(),
        copies = copies.join(" "),
        "signing sealed blocks of the audit log"
    );
    if copies.is_empty() {
        tracing::warn!(
            hint = "set ROTATOR_AUDIT_FILE or ROTATOR_AUDIT_S3_URL",
            "signatures of the audit log are in the database alone: nobody can tell when its end is cut off"
        );
    }
    Ok(Some(signer))
}

/// Signs until shutdown. Without a signer it only waits.
///
/// # Errors
/// None: what goes wrong is logged, and tried again.
pub async fn run(
    session: Session,
    signer: Option<Signer>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let Some(signer) = signer else {
        shutdown.cancelled().await;
        return Ok(());
    };
    let mut driver = Driver {
        session,
        signer,
        health,
        said: BTreeSet::new(),
        failures: 0,
    };
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = look.tick() => {}
        }
        loop {
            let mut round = std::pin::pin!(driver.round());
            let next = tokio::select! {
                next = &mut round => next,
                () = shutdown.cancelled() => {
                    let _ = timeout(STOP_LIMIT, round).await;
                    return Ok(());
                }
            };
            match next {
                Next::Again => {}
                Next::Look => break,
                Next::Pause(pause) => tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = tokio::time::sleep(pause) => break,
                },
            }
        }
    }
}

enum Next {
    /// There was a full batch.
    Again,
    Look,
    Pause(Duration),
}

struct Driver {
    session: Session,
    signer: Signer,
    health: Arc<Health>,
    /// What the log has said and what still holds.
    said: BTreeSet<String>,
    failures: u32,
}

impl Driver {
    async fn round(&mut self) -> Next {
        let blocks = match self.session.unsigned_audit_blocks(BATCH).await {
            Ok(blocks) => blocks,
            Err(error) => return self.failed(&error),
        };
        self.failures = 0;
        let asked = blocks.len();
        let blocks = blocks
            .into_iter()
            .map(|one| (one.block, one.seen_at))
            .collect();
        let (sealed, troubles) = self.signer.sign(blocks).await;
        let mut recorded = 0;
        for one in &sealed {
            match self.record(one).await {
                Ok(()) => recorded += 1,
                Err(error) => {
                    self.health.audit.set_waiting(asked - recorded);
                    return self.failed(&error);
                }
            }
        }
        if recorded > 0 {
            self.health.audit.add_signed(recorded as u64);
            tracing::debug!(blocks = recorded, "signed blocks of the audit log");
        }
        self.health.audit.set_waiting(asked - recorded);
        self.tell(troubles);
        if recorded == asked && asked == usize::try_from(BATCH).unwrap_or_default() {
            Next::Again
        } else {
            Next::Look
        }
    }

    async fn record(&mut self, sealed: &Sealed) -> Result<(), DbError> {
        let copies = self.signer.copies();
        let name = self.signer.key_name().to_owned();
        let header = &sealed.header;
        self.session
            .record_audit_signature(header, &sealed.note, &name, &copies)
            .await?;
        self.signer.recorded(header);
        Ok(())
    }

    fn failed(&mut self, error: &DbError) -> Next {
        self.failures += 1;
        let text = format!("signing the audit log: {error}");
        if self.said.insert(text.clone()) {
            let sqlstate = error.sqlstate().unwrap_or_default();
            tracing::error!(sqlstate, hint = error.hint().unwrap_or_default(), "{text}");
        }
        // A database that is away is told by everybody else.
        self.health
            .audit
            .set_trouble((!error.is_transient()).then_some(text));
        Next::Pause(pause_after(error, self.failures))
    }

    /// Says in the log what is news, and to the probes what holds.
    fn tell(&mut self, troubles: Vec<Trouble>) {
        let mut holds = BTreeSet::new();
        let (mut sinks, mut first) = (Vec::new(), None);
        let mut contradicted = 0;
        for trouble in troubles {
            let (text, hint) = match trouble {
                Trouble::Sink(SinkError {
                    sink,
                    message,
                    hint,
                }) => {
                    sinks.push(sink);
                    (message, hint)
                }
                Trouble::Block(tenant, number, problem) => {
                    contradicted += 1;
                    let text =
                        format!("block {number} of tenant {tenant} is not signed: {problem}");
                    let hint = "the audit log was rewritten, or restored from an older dump: docs/audit.md";
                    (text, hint.to_owned())
                }
            };
            if !self.said.contains(&text) {
                tracing::error!(hint, "audit log: {text}");
            }
            first.get_or_insert_with(|| text.clone());
            holds.insert(text);
        }
        if holds.is_empty() && !self.said.is_empty() {
            tracing::info!("blocks of the audit log are signed and copied again");
        }
        self.said = holds;
        self.health.audit.set_sinks(&self.signer.sinks(), &sinks);
        self.health.audit.set_contradicted(contradicted);
        self.health.audit.set_trouble(first);
    }
}
