//! `rotator keys reencrypt`: calls `rotator.reencrypt_step` until nothing is left, a transaction a batch, resting in between
//! as --pace says. Nothing is kept here between batches: whoever goes on after a kill goes on where the last commit was,
//! and several may work at once.
//!
//! Rows that are done don't end a rotation while a transaction is open that began before it: that is waited for. A login
//! role that may not re-encrypt watches those who do.

use std::pin::pin;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::standing::{self, Scope};
use crate::cli::Place;
use crate::cli::args::{Pace, Reencrypt};
use crate::cli::output::{Column, print_one};
use crate::cli::progress::Progress;
use crate::cli::session::{Refusal, Session, misunderstood, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

/// How often a batch is tried that another session got in the way of.
const TRIES: u32 = 5;
/// Between looks while there is nothing to do but wait.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rest at least this long after a batch without a row: rows, or the whole rotation, are in other hands.
const BREATH: Duration = Duration::from_millis(10);
/// For how long nothing happens before that is said; and at least that long before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

const RESULT: [Column; 1] = [Column::hidden("reencrypted")];

const STEP: &str = "select rotator.reencrypt_step(max_rows => $1::int4)";

const RETRY: &str = "select rotator.retry_key_rotation(rotation_id => $1::int8)::text";

const STUCK: &str = "no row could be re-encrypted: others have them locked";

const RESUMES: &str =
    "Run it again to go on where it stopped; pg_cron and `rotator serve` go on by themselves.";

/// What one batch came to.
#[derive(Deserialize)]
struct Step {
    done: u64,
    remaining: u64,
    #[serde(default)]
    waiting: u64,
}

pub async fn run(place: &Place, args: Reencrypt) -> Result<Exit, Failure> {
    let mut session = Session::open(place).await?;
    let mut drives = true;
    if let Some(rotation) = args.retry {
        session.call(RETRY, &[Some(&rotation.to_string())]).await?;
        drives = standing::may_drive(&mut session).await?;
    }
    let done = work_off(&mut session, Scope::of(place), args.pace, drives).await?;
    let text = match done {
        0 => "nothing is left to re-encrypt".to_owned(),
        1 => "re-encrypted: 1 row".to_owned(),
        rows => format!("re-encrypted: {rows} rows"),
    };
    let row = Item::from_iter([("reencrypted".to_owned(), Value::from(done))]);
    print_one(args.output.format, &text, &RESULT, &row)?;
    Ok(Exit::Ok)
}

/// What `rotator keys rotate --wait` goes on with.
///
/// # Errors
/// As the command itself.
pub async fn after_rotating(
    session: &mut Session,
    in_tenant: bool,
    pace: Pace,
) -> Result<(), Failure> {
    let scope = if in_tenant { Scope::Tenant } else { Scope::All };
    let drives = standing::may_drive(session).await?;
    let done = work_off(session, scope, pace, drives).await?;
    if drives {
        eprintln!("note: re-encrypted: {done} rows");
    }
    Ok(())
}

/// Goes on until no rotation is under way; gives how many rows were re-encrypted.
async fn work_off(
    session: &mut Session,
    scope: Scope,
    pace: Pace,
    drives: bool,
) -> Result<u64, Failure> {
    let stop = crate::serve::stop_on_signals(|| {}, || {})?;
    let mut work = Work {
        session,
        scope,
        pace,
        stop,
        progress: Progress::new(None),
        done: 0,
        left: 0,
    };
    let worked = if drives {
        work.drive().await
    } else {
        work.watch().await
    };
    work.progress.clear();
    if worked.is_err() && work.done > 0 {
        eprintln!("note: {} rows were re-encrypted before this", work.done);
    }
    worked?;
    let last = standing::last(work.session, scope).await?;
    match standing::failure(&last) {
        Some(failure) => Err(failure),
        None => Ok(work.done),
    }
}

struct Work<'a> {
    session: &'a mut Session,
    scope: Scope,
    pace: Pace,
    stop: CancellationToken,
    progress: Progress,
    done: u64,
    left: u64,
}

impl Work<'_> {
    async fn drive(&mut self) -> Result<(), Failure> {
        let limit = Duration::from_secs(self.pace.wait_for);
        let mut waits: Option<Instant> = None;
        let mut moved = Instant::now();
        let mut remained = 0;
        let mut said = false;
        loop {
            let begun = Instant::now();
            let step = self.step().await?;
            let took = begun.elapsed();
            self.done += step.done;
            self.left = step.remaining;
            if self.scope == Scope::Tenant {
                let standing = standing::look(self.session, self.scope).await?;
                if standing.running == 0 {
                    return Ok(());
                }
                self.left = standing.left;
            }
            // Nothing is known to be left while rows are still counted.
            if self.done + self.left > 0 {
                self.progress.set_total(self.done + self.left);
            }
            self.progress.show(self.done);
            if self.stop.is_cancelled() && step.remaining + step.waiting > 0 {
                return Err(self.stopped());
            }
            if step.remaining > 0 {
                waits = None;
                let rest = rest(took, self.pace.pace);
                if step.done > 0 || step.remaining != remained {
                    (moved, remained, said) = (Instant::now(), step.remaining, false);
                } else if moved.elapsed() > PATIENCE.max(limit) {
                    return Err(self.stuck(moved.elapsed()));
                } else if moved.elapsed() > PATIENCE && !said {
                    said = true;
                    self.progress.note(&format!("for a while {STUCK}"));
                }
                self.pause(rest.max(if step.done > 0 {
                    Duration::ZERO
                } else {
                    BREATH
                }))
                .await;
                continue;
            }
            moved = Instant::now();
            if step.waiting == 0 {
                return Ok(());
            }
            let standing = standing::look(self.session, self.scope).await?;
            let what = standing
                .trouble
                .unwrap_or_else(|| "a transaction that began before it is still open".to_owned());
            match waits {
                None => {
                    waits = Some(Instant::now());
                    self.progress.note(&format!(
                        "{} not completed yet: {what}; waiting for up to {} s",
                        rotations(step.waiting),
                        self.pace.wait_for
                    ));
                }
                Some(since) if since.elapsed() >= limit => {
                    let message = format!("{} not completed yet: {what}", rotations(step.waiting));
                    return Err(Failure::new(Exit::Failed, message).hint(RESUMES));
                }
                Some(_) => {}
            }
            self.pause(LOOK_EVERY).await;
        }
    }

    /// One batch. It is finished even if a signal comes.
    async fn step(&mut self) -> Result<Step, Failure> {
        let batch = self.pace.batch.to_string();
        let mut tries = 1;
        loop {
            let parameters = [Some(batch.as_str())];
            let mut call = pin!(self.session.call(STEP, &parameters));
            let answer = tokio::select! {
                biased;
                answer = &mut call => answer,
                () = self.stop.cancelled() => {
                    self.progress.note("stopping after this batch (another Ctrl-C stops at once)");
                    call.await
                }
            };
            match answer {
                Ok(rows) => {
                    let step: Value = only(&rows, 0)?;
                    let step = serde_json::from_value(step);
                    return step.map_err(|error| misunderstood(&error.to_string()).into());
                }
                Err(refusal) if is_in_the_way(&refusal) && tries < TRIES => tries += 1,
                Err(refusal) => return Err(explain(refusal)),
            }
        }
    }

    /// Others do it; this says how far they are.
    async fn watch(&mut self) -> Result<(), Failure> {
        self.progress.note(
            "this login role may not re-encrypt itself; watching pg_cron or `rotator serve` do it",
        );
        let mut total = 0;
        let mut moved = Instant::now();
        loop {
            let standing = standing::look(self.session, self.scope).await?;
            if standing.running == 0 {
                return Ok(());
            }
            if standing.left != self.left {
                (self.left, moved) = (standing.left, Instant::now());
            }
            total = total.max(self.left);
            self.progress.set_total(total);
            self.progress.show(total - self.left);
            if self.stop.is_cancelled() {
                return Err(self.stopped());
            }
            if moved.elapsed() >= Duration::from_secs(self.pace.wait_for) {
                let what = standing
                    .trouble
                    .map_or_else(String::new, |what| format!(": {what}"));
                let message = format!(
                    "the rotation has not moved for {} s{what}",
                    self.pace.wait_for
                );
                return Err(Failure::new(Exit::Failed, message).hint(
                    "It goes on by itself where pg_cron or `rotator serve` is at work; a rotator_admin can see with `rotator doctor`.",
                ));
            }
            self.pause(LOOK_EVERY).await;
        }
    }

    async fn pause(&self, rest: Duration) {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn stuck(&self, still: Duration) -> Failure {
        let message = format!("for {} s {STUCK}; {} are left", still.as_secs(), self.left);
        Failure::new(Exit::Failed, message).hint(RESUMES)
    }

    fn stopped(&self) -> Failure {
        let message = format!(
            "stopped: {} rows re-encrypted, {} are left",
            self.done, self.left
        );
        Failure::new(Exit::Aborted, message).hint(RESUMES)
    }
}

/// How long to rest after a batch that took so long, so that working is `percent` of the time.
fn rest(took: Duration, percent: u32) -> Duration {
    took * (100 - percent.min(100)) / percent.max(1)
}

fn rotations(count: u64) -> String {
    match count {
        1 => "1 rotation is".to_owned(),
        count => format!("{count} rotations are"),
    }
}

/// A deadlock with another session, a row that both changed, or a lock that wasn't had in time: the database undid the
/// batch, so it can be done again.
fn is_in_the_way(refusal: &Refusal) -> bool {
    matches!(
        refusal.sqlstate.as_deref(),
        Some("40P01" | "40001" | "55P03")
    )
}

fn explain(refusal: Refusal) -> Failure {
    match refusal.sqlstate.as_deref() {
        Some("42501") => Failure::new(Exit::Failed, refusal.message).hint(
            "Re-encrypting takes rotator_admin; pg_cron and `rotator serve` do it by themselves. See `rotator keys status`.",
        ),
        _ => refusal.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_what_the_pace_leaves() {
        let took = Duration::from_millis(20);
        assert_eq!(rest(took, 100), Duration::ZERO);
        assert_eq!(rest(took, 50), took);
        assert_eq!(rest(took, 10), took * 9);
        assert_eq!(rest(took, 1), took * 99);
    }

    #[test]
    fn an_answer_of_the_database_is_read_with_what_it_may_leave_out() {
        let step: Step =
            serde_json::from_str(r#"{"done": 3, "remaining": 4, "rotation": null}"#).unwrap();
        assert_eq!((step.done, step.remaining, step.waiting), (3, 4, 0));
    }
}
