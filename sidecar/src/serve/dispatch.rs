//! The claim loop: lease what is due, deliver it concurrently, hand results to the reporter. No transaction is open
//! while the network is used, and no lease is renewed: a lease (a minute) is longer than a delivery (20 seconds).
//!
//! A slow destination takes at most half of the slots, and what was claimed but could not be begun in time is given
//! back, its attempt not counted. Elsewhere: reporting (`completions.rs`), channels (`delivery/`).

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::figures::Figures;
use super::health::Health;
use super::startup::pause_after;
use crate::config::Settings;
use crate::db::{Claim, Completion, DbError, Session};
use crate::delivery::{Channels, Outcome};

/// Deliveries at the same time.
const IN_FLIGHT: usize = 32;
/// Of these for one recipient, so that one that hangs leaves room for the others.
const IN_FLIGHT_PER_RECIPIENT: usize = IN_FLIGHT / 2;
/// Rows a claim asks for: twice what was delivered since the one before, within these bounds. Few where a destination is
/// slow, so that other sidecars have their share; many where it is fast, because a claim has a price of its own.
const BATCH: std::ops::RangeInclusive<usize> = 64..=400;
/// Claimed and not begun yet, while there are free slots: those wait for a recipient of theirs, and what is claimed next
/// may be for others. Beyond that nothing more is claimed.
const WAITING_LIMIT: usize = 300;
const LEASE: Duration = Duration::from_secs(60);
/// Begun later than this after its claim, a delivery might outlive the lease.
const BEGIN_WITHIN: Duration = Duration::from_secs(35);
const POLL_EVERY: Duration = Duration::from_secs(5);
/// How long deliveries may take to end once shutdown is asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(25);
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

type Claiming = Pin<Box<dyn Future<Output = Result<Vec<Claim>, DbError>> + Send>>;

struct Waiting {
    claim: Claim,
    /// Just before the claim was asked for: the lease began later.
    since: Instant,
}

/// The claim loop and its state.
pub struct Dispatcher {
    session: Arc<Session>,
    channels: Arc<Channels>,
    settings: Arc<Settings>,
    results: mpsc::Sender<Completion>,
    wake: Arc<Notify>,
    worker: Arc<str>,
    waiting: VecDeque<Waiting>,
    flying: JoinSet<u64>,
    flying_by_recipient: HashMap<u64, usize>,
    /// Since the last claim.
    landed: usize,
}

impl Dispatcher {
    pub fn new(
        session: Session,
        channels: Arc<Channels>,
        settings: Arc<Settings>,
        results: mpsc::Sender<Completion>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            session: Arc::new(session),
            channels,
            settings,
            results,
            wake,
            worker: worker_name().into(),
            waiting: VecDeque::new(),
            flying: JoinSet::new(),
            flying_by_recipient: HashMap::new(),
            landed: 0,
        }
    }

    /// Claims and delivers until shutdown, then drains.
    pub async fn run(mut self, health: Arc<Health>, shutdown: CancellationToken) {
        let wake = self.wake.clone();
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut claiming: Option<(Claiming, Instant)> = None;
        // Whether the queue may hold more than we know of.
        let mut look = true;
        let mut asked = 0;
        let mut failures = 0;
        let mut not_before = tokio::time::Instant::now();
        loop {
            self.begin_deliveries(&health);
            health.figures.set_waiting(self.waiting.len());
            // With every slot taken the next batch is fetched before this one is done.
            let enough = if self.flying.len() < IN_FLIGHT {
                WAITING_LIMIT
            } else {
                self.batch()
            };
            let room = self.waiting.len() < enough;
            if look && room && claiming.is_none() && tokio::time::Instant::now() >= not_before {
                asked = self.batch();
                claiming = Some((self.claim(asked), Instant::now()));
                look = false;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = self.flying.join_next() => self.landed(ended),
                claimed = async { if let Some((claiming, _)) = &mut claiming { claiming.await } else { std::future::pending().await } } => {
                    let since = claiming.take().map_or_else(Instant::now, |(_, since)| since);
                    match claimed {
                        Ok(claims) => {
                            if failures > 0 {
                                tracing::info!("claiming works again");
                            }
                            failures = 0;
                            health.figures.claimed(claims.len());
                            // A full batch: there may be more.
                            look |= claims.len() == asked;
                            self.waiting.extend(claims.into_iter().map(|claim| Waiting { claim, since }));
                        }
                        Err(error) => {
                            let pause = pause_after(&error, failures);
                            if failures == 0 {
                                let sqlstate = error.sqlstate().unwrap_or_default();
                                tracing::error!(sqlstate, hint = error.hint().unwrap_or_default(), "can't claim: {error}");
                            }
                            failures += 1;
                            not_before = tokio::time::Instant::now() + pause;
                            look = true;
                        }
                    }
                }
                () = wake.notified() => look = true,
                _ = poll.tick() => { look = true; self.give_back_stale(); }
                () = sleep_until(not_before), if look && room && claiming.is_none() => {}
            }
        }
        health.drain();
        health.figures.set_waiting(0);
        self.drain(claiming).await;
    }

    fn batch(&self) -> usize {
        (2 * self.landed).clamp(*BATCH.start(), *BATCH.end())
    }

    fn claim(&mut self, rows: usize) -> Claiming {
        let (session, worker) = (self.session.clone(), self.worker.clone());
        self.landed = 0;
        Box::pin(async move {
            let rows = i32::try_from(rows).unwrap_or(i32::MAX);
            session.claim_notifications(&worker, rows, LEASE).await
        })
    }

    /// Begins what there is room for, oldest first, passing over recipients that have their share.
    fn begin_deliveries(&mut self, health: &Arc<Health>) {
        let mut position = 0;
        while self.flying.len() < IN_FLIGHT && position < self.waiting.len() {
            let waiting = &self.waiting[position];
            let recipient = recipient_key(&waiting.claim);
            let busy = self
                .flying_by_recipient
                .get(&recipient)
                .copied()
                .unwrap_or(0);
            if busy >= IN_FLIGHT_PER_RECIPIENT || waiting.since.elapsed() > BEGIN_WITHIN {
                position += 1;
                continue;
            }
            let Some(Waiting { claim, .. }) = self.waiting.remove(position) else {
                break;
            };
            *self.flying_by_recipient.entry(recipient).or_default() += 1;
            let (channels, results) = (self.channels.clone(), self.results.clone());
            let health = health.clone();
            let link = claim
                .link_token
                .as_deref()
                .map(|token| self.settings.link(token));
            self.flying.spawn(async move {
                let result = deliver(&channels, &claim, link, &health.figures).await;
                // The reporter outlives us; it only ends when this sender is gone.
                let _ = results.send(result).await;
                recipient
            });
        }
    }

    fn landed(&mut self, ended: Result<u64, tokio::task::JoinError>) {
        // A panic inside a delivery is caught below, so there is always an answer.
        let Ok(recipient) = ended else { return };
        self.landed += 1;
        if let Some(count) = self.flying_by_recipient.get_mut(&recipient) {
            *count -= 1;
            if *count == 0 {
                self.flying_by_recipient.remove(&recipient);
            }
        }
    }

    /// Gives back what waited so long that its lease might end during its delivery.
    fn give_back_stale(&mut self) {
        let (stale, fresh): (VecDeque<_>, _) = self
            .waiting
            .drain(..)
            .partition(|waiting| waiting.since.elapsed() > BEGIN_WITHIN);
        self.waiting = fresh;
        if stale.is_empty() {
            return;
        }
        let session = self.session.clone();
        tokio::spawn(async move { release(&session, stale).await });
    }

    /// Finishes what is in flight, gives back what wasn't begun.
    async fn drain(mut self, claiming: Option<(Claiming, Instant)>) {
        let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
        // A claim under way would leave rows leased that nobody works on.
        if let Some((claiming, since)) = claiming
            && let Ok(Ok(claims)) = timeout(RELEASE_LIMIT, claiming).await
        {
            self.waiting
                .extend(claims.into_iter().map(|claim| Waiting { claim, since }));
        }
        let waiting = std::mem::take(&mut self.waiting);
        let session = self.session.clone();
        let giving_back = tokio::spawn(async move {
            let claims = waiting.len();
            if claims > 0
                && timeout(RELEASE_LIMIT, release(&session, waiting))
                    .await
                    .is_err()
            {
                tracing::warn!(
                    claims,
                    "could not give claims back; their leases will run out"
                );
            }
        });
        tracing::info!(in_flight = self.flying.len(), "draining");
        while !self.flying.is_empty() {
            match timeout_at(deadline, self.flying.join_next()).await {
                Ok(Some(ended)) => self.landed(ended),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(
                        deliveries = self.flying.len(),
                        "not done in time; they may be delivered again"
                    );
                    self.flying.shutdown().await;
                }
            }
        }
        let _ = giving_back.await;
    }
}

async fn deliver(
    channels: &Channels,
    claim: &Claim,
    link: Option<String>,
    figures: &Figures,
) -> Completion {
    let begun = Instant::now();
    let under_way = figures.begin(&claim.channel);
    let outcome = AssertUnwindSafe(channels.deliver(claim, link))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Outcome::transient("internal error of the sidecar; its log says more"));
    under_way.end(&outcome);
    let label = outcome.label();
    let milliseconds = begun.elapsed().as_millis() as u64;
    let (id, channel, attempt) = (claim.id, claim.channel.as_str(), claim.attempt);
    match &outcome {
        Outcome::Delivered { .. } => {
            tracing::info!(notification = %id, channel, attempt, milliseconds, "delivered");
        }
        Outcome::Retry { error, after, .. } => {
            let retry_after_s = after.map(|after| after.as_secs());
            tracing::warn!(notification = %id, channel, attempt, milliseconds, retry_after_s, "not delivered ({label}): {error}");
        }
        Outcome::Permanent { error, .. } => {
            tracing::error!(notification = %id, channel, attempt, milliseconds, "not delivered ({label}): {error}");
        }
    }
    outcome.completion(claim)
}

async fn release(session: &Session, waiting: VecDeque<Waiting>) {
    let (ids, claims): (Vec<Uuid>, Vec<Uuid>) = waiting
        .iter()
        .map(|waiting| (waiting.claim.id, waiting.claim.claim_id))
        .unzip();
    match session.release_notifications(&ids, &claims).await {
        Ok(released) => tracing::info!(released, "gave back claims that were not begun"),
        Err(error) => {
            tracing::warn!("could not give claims back; their leases will run out: {error}")
        }
    }
}

fn recipient_key(claim: &Claim) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&claim.channel, &claim.recipient).hash(&mut hasher);
    hasher.finish()
}

/// Tells sidecars apart in the attempts they leave: host, process, and a few random bits for containers where both repeat.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut salt = [0u8; 3];
    // Without randomness the name is merely less unique.
    let _ = getrandom::fill(&mut salt);
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{}:{salt}", host.trim(), std::process::id())
}
