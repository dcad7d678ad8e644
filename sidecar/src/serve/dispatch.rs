//! The claim loop: lease what is due, deliver it concurrently, hand results to the reporter. No transaction is open
//! while the network is used, and no lease is renewed: a lease (a minute) is longer than a delivery (20 seconds).
//!
//! Who may begin, and what has to wait in the database because its destination fails, is `circuit.rs`'s to say; what was
//! claimed but could not be begun in time is given back, its attempt not counted. Elsewhere: reporting
//! (`completions.rs`), channels (`delivery/`).

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{deliver, worker_name};
use super::circuit::{Change, Destinations, Held};
use super::flights::Flights;
use super::health::Health;
use super::startup::pause_after;
use crate::config::Settings;
use crate::db::{Claim, Completion, DbError, Postponed, Session};
use crate::delivery::{Channels, Outcome, Rate};

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
/// How often what waits is looked through for what had better wait elsewhere.
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// How long deliveries may take to end once shutdown is asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(25);
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

type Claiming = Pin<Box<dyn Future<Output = Result<Vec<Claim>, DbError>> + Send>>;

struct Waiting {
    claim: Claim,
    /// Just before the claim was asked for: the lease began later.
    since: Instant,
    destination: u64,
    rate: Option<Rate>,
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
    flying: JoinSet<(u64, Outcome)>,
    flights: Flights,
    destinations: Destinations,
    /// How many wait for each, counted anew by `hold_back`.
    ahead: HashMap<u64, usize>,
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
            flights: Flights::default(),
            destinations: Destinations::default(),
            ahead: HashMap::new(),
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
        let mut hold = interval(HOLD_EVERY);
        hold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.flights
                .make_room(&mut self.destinations, Instant::now());
            let next_turn = self.begin_deliveries(&health);
            let next_room = self.flights.next_look(&self.destinations);
            let next_look = next_turn.into_iter().chain(next_room).min();
            health.figures.set_waiting(self.waiting.len());
            health.figures.set_open_circuits(self.destinations.open());
            // With every slot taken the next batch is fetched before this one is done.
            let enough = if self.destinations.full() {
                self.batch()
            } else {
                WAITING_LIMIT
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
                            self.wait(claims, since);
                            self.hold_back(&health);
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
                _ = poll.tick() => {
                    look = true;
                    self.give_back_stale();
                    self.destinations.forget(Instant::now());
                }
                _ = hold.tick() => self.hold_back(&health),
                () = sleep_until(next_look.unwrap_or_else(Instant::now).into()), if next_look.is_some() => {}
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

    fn wait(&mut self, claims: Vec<Claim>, since: Instant) {
        for claim in claims {
            let (destination, rate) = self.channels.destination(&claim);
            self.waiting.push_back(Waiting {
                claim,
                since,
                destination,
                rate,
            });
        }
    }

    /// Begins what there is room for, oldest first, passing over destinations that have their share. Gives when the next
    /// one has its turn, if somebody waits for that.
    fn begin_deliveries(&mut self, health: &Arc<Health>) -> Option<Instant> {
        let now = Instant::now();
        let mut next_turn = None;
        let mut position = 0;
        while position < self.waiting.len() && !self.destinations.full() {
            let waiting = &self.waiting[position];
            if now.duration_since(waiting.since) > BEGIN_WITHIN {
                position += 1;
                continue;
            }
            let flight = match self
                .destinations
                .begin(waiting.destination, waiting.rate, now)
            {
                Ok(flight) => flight,
                Err(turn) => {
                    next_turn = turn.into_iter().chain(next_turn).min();
                    position += 1;
                    continue;
                }
            };
            let Some(Waiting { claim, .. }) = self.waiting.remove(position) else {
                break;
            };
            let number = self.flights.begin(flight, now);
            let (channels, results) = (self.channels.clone(), self.results.clone());
            let health = health.clone();
            let link = claim
                .link_token
                .as_deref()
                .map(|token| self.settings.link(token));
            self.flying.spawn(async move {
                let outcome = deliver(&channels, &claim, link, &health.figures).await;
                // The reporter outlives us; it only ends when this sender is gone.
                let _ = results.send(outcome.clone().completion(&claim)).await;
                (number, outcome)
            });
        }
        next_turn
    }

    fn landed(&mut self, ended: Result<(u64, Outcome), tokio::task::JoinError>) {
        // A panic inside a delivery is caught below, so there is always an answer.
        let Ok((number, outcome)) = ended else { return };
        self.landed += 1;
        let Some(flight) = self.flights.land(number) else {
            return;
        };
        match self
            .destinations
            .end(&flight, Some(&outcome), Instant::now())
        {
            Some(Change::Opened(pause)) => {
                let seconds = pause.as_secs();
                tracing::warn!(
                    seconds,
                    "a destination fails again and again; nothing is sent there for a while, then one message will find out"
                );
            }
            Some(Change::Closed) => tracing::info!("a destination that had failed works again"),
            None => {}
        }
    }

    /// Lets wait in the database what could not be begun soon, so that it is in nobody's way.
    fn hold_back(&mut self, health: &Health) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        self.ahead.clear();
        let much = self.waiting.len() > WAITING_LIMIT / 2;
        let mut held = Vec::new();
        self.waiting.retain(|waiting| {
            let place = self.ahead.entry(waiting.destination).or_default();
            let (destination, rate) = (waiting.destination, waiting.rate);
            let verdict = self.destinations.hold(destination, rate, *place, much, now);
            *place += 1;
            match verdict {
                Some(Held { wait, error }) => {
                    held.push(Postponed::new(
                        &waiting.claim,
                        spread(wait, &waiting.claim),
                        error,
                    ));
                    false
                }
                None => true,
            }
        });
        if held.is_empty() {
            return;
        }
        health.figures.postponed(held.len());
        // As good as done, for the size of the next batch.
        self.landed += held.len();
        let session = self.session.clone();
        tokio::spawn(async move {
            match session.postpone_notifications(&held).await {
                Ok(postponed) => tracing::debug!(
                    postponed,
                    "held back for destinations that fail or have their pace"
                ),
                Err(error) => {
                    tracing::warn!("could not hold claims back; their leases will run out: {error}")
                }
            }
        });
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
            self.wait(claims, since);
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

/// Up to a quarter longer, so that not all come back at once.
fn spread(wait: Duration, claim: &Claim) -> Duration {
    // The last bits of an id are random.
    let part = u32::from(claim.claim_id.as_bytes()[15]);
    wait + wait * part / 1024
}
