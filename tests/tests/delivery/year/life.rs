//! How the year goes: people's doings are put on an agenda by chance, the clock jumps to the next instant at which something
//! may happen, somebody ticks, somebody delivers, and after each step the product's rows are held against the model's.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rotator_tests::{Chance, scalar};
use serde_json::Value;
use uuid::Uuid;

use super::doings::Doing;
use super::hands::{Hands, instant};
use super::ledger::{Ledger, Row};
use super::model::{Model, State};
use super::weather::Weather;
use super::zone::Instant;

/// Instants that are nearer than this to a look at the clock could fall on either side of it.
const BREATH: SignedDuration = SignedDuration::from_secs(7);

pub struct Year {
    pub hands: Hands,
    pub model: Model,
    pub ledger: Ledger,
    pub chance: Chance,
    pub weather: Weather,
    pub agenda: BinaryHeap<Reverse<(Instant, usize, Doing)>>,
    pub now: Instant,
    /// The longest that is mostly waited between two ticks.
    pub pace: SignedDuration,
    pub people: usize,
    pub steps: usize,
    pub done: Tally,
    /// Whose owners have just changed.
    pub handed_over: BTreeSet<usize>,
    /// Addresses of which their vendors will say that nobody is there.
    pub bouncing: BTreeSet<String>,
    /// Contacts whose address was changed: what was queued before goes to the old one.
    pub moved: BTreeSet<(usize, String, &'static str)>,
    planned: usize,
    down: bool,
}

/// What happened, so that a run that tested nothing is seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub rows: usize,
    pub suppressed: usize,
    pub deferred: usize,
    pub digests: usize,
    pub escalations: usize,
    pub reopened: usize,
    pub sent: usize,
    pub failed: usize,
    pub dead: usize,
    pub lost: usize,
    pub acknowledged: usize,
    pub snoozed: usize,
    pub rotated: usize,
    pub crashes: usize,
    pub handed_over: usize,
    pub gone: usize,
    pub fallbacks: usize,
    pub explained: usize,
}

impl Year {
    pub fn new(hands: Hands, model: Model, chance: Chance, weather: Weather, now: Instant) -> Self {
        let mut ledger = Ledger::default();
        for (index, secret) in model.secrets.iter().enumerate() {
            ledger.index.insert(secret.id, index);
        }
        Self {
            hands,
            model,
            ledger,
            chance,
            weather,
            agenda: BinaryHeap::new(),
            now,
            pace: SignedDuration::from_hours(1),
            people: 0,
            steps: 0,
            done: Tally::default(),
            handed_over: BTreeSet::new(),
            bouncing: BTreeSet::new(),
            moved: BTreeSet::new(),
            planned: 0,
            down: false,
        }
    }

    pub fn plan(&mut self, at: Instant, doing: Doing) {
        self.planned += 1;
        self.agenda.push(Reverse((at, self.planned, doing)));
    }

    pub async fn live_until(&mut self, end: Instant) -> Result<()> {
        while self.now < end {
            let to = self.next_step()?.min(end);
            self.step(to)
                .await
                .with_context(|| format!("step {} at {to}", self.steps))?;
            if self.steps.is_multiple_of(1000) {
                eprintln!("{} steps, it is {to}", self.steps);
            }
        }
        Ok(())
    }

    /// The next instant at which something may happen, but not at once after the last.
    fn next_step(&mut self) -> Result<Instant> {
        let rows = self.ledger.open.iter().map(|id| &self.ledger.rows[id]);
        let sendable = rows
            .filter(|row| row.is_open())
            .map(|row| row.available)
            .min();
        let doing = self.agenda.peek().map(|Reverse((at, ..))| *at);
        let next = [self.model.next(), doing, sendable]
            .into_iter()
            .flatten()
            .min();
        let pause = match self.chance.below(400) {
            // Nobody ticks for days.
            0 => SignedDuration::from_hours(24 + self.chance.below(72) as i64),
            1..40 => SignedDuration::from_secs(60 + self.chance.below(900) as i64),
            _ => self.pace,
        };
        let mut to = (self.now + pause).max(next.unwrap_or(self.now) + BREATH);
        // While the database is down nothing happens; what people would have done they do then.
        if let Some(up) = self.weather.database_is_down_until(to) {
            to = up;
            self.down = true;
        }
        let near = |to: Instant| {
            let instants = self.model.secrets.iter().flat_map(|s| &s.instants);
            instants
                .filter(|at| (to - BREATH..to + BREATH).contains(at))
                .max()
        };
        while let Some(near) = near(to) {
            to = *near + BREATH + SignedDuration::from_secs(1);
        }
        Ok(to)
    }

    async fn step(&mut self, to: Instant) -> Result<()> {
        self.steps += 1;
        self.hands.set_clock(to)?;
        self.now = self.hands.now().await?;
        if std::mem::take(&mut self.down) || self.chance.once_in(1500) {
            self.done.crashes += 1;
            self.hands.crash().await?;
        }
        let begun = self.now - SignedDuration::from_secs(1);
        while let Some(Reverse((at, ..))) = self.agenda.peek()
            && *at <= self.now
        {
            let Reverse((_, _, doing)) = self.agenda.pop().context("it was there")?;
            let what = format!("{doing:?}");
            self.perform(doing).await.context(what)?;
        }
        self.ledger.made(&self.hands, &self.model, begun).await?;
        self.withdrawn().await?;
        self.tick(begun).await?;
        self.deliver(begun).await?;
        if self.steps.is_multiple_of(25) {
            self.alerts().await?;
            self.answers().await?;
        }
        Ok(())
    }

    /// What was to be said and isn't any more has a reason, and comes again if that passes. Gives what that is.
    pub async fn withdrawn(&mut self) -> Result<Vec<Row>> {
        let mut withdrawn = Vec::new();
        let mut untaken = BTreeSet::new();
        for was in self.ledger.refresh(&self.hands).await? {
            let row = self.ledger.rows[&was.id].clone();
            let (Some(index), true) = (row.secret, row.is_news()) else {
                continue;
            };
            if row.state == "dead" {
                self.died(&row, index).await?;
            }
            if !matches!(row.state.as_str(), "suppressed" | "cancelled") {
                continue;
            }
            self.done.suppressed += 1;
            let secret = &self.model.secrets[index];
            let state = secret.alert.as_ref().map(|alert| alert.state);
            let over =
                secret.retired || row.cycle != Some(secret.cycle) || state == Some(State::Resolved);
            let snoozed = secret.snoozed.is_some_and(|end| end > self.now);
            let moved = row.rule.starts_with("lead:")
                && !secret
                    .handled
                    .iter()
                    .any(|(lead, due)| row.rule == format!("lead:{lead}") && row.due == *due);
            ensure!(
                over || snoozed
                    || moved
                    || state == Some(State::Acknowledged)
                    || self.handed_over.contains(&index)
                    || self.is_spoken_for(&was),
                "withdrawn without a reason: {row:?}\n{}{}",
                self.model.describe(index),
                self.ledger.story(index)
            );
            let taken_back =
                snoozed || state == Some(State::Acknowledged) || self.handed_over.contains(&index);
            if over || moved {
                continue;
            } else if !taken_back {
                self.ledger.spoken_for.insert(row.id);
                continue;
            } else if row.kind == "escalation" {
                untaken.insert((index, row.rule.clone()));
            } else if (snoozed || self.handed_over.contains(&index))
                && state != Some(State::Acknowledged)
            {
                self.model.forget(index, &row.rule, row.due)?;
            }
            withdrawn.push(row);
        }
        // A step of which nothing went out, nor of a later one, is taken again.
        for (index, rule) in untaken {
            let secret = &self.model.secrets[index];
            let begun = secret.alert.as_ref().map(|alert| alert.ladder_from);
            let mut said = false;
            for row in self.ledger.about(index) {
                said |= row.cycle == Some(secret.cycle)
                    && row.kind == "escalation"
                    && begun.is_none_or(|begun| row.queued >= begun)
                    && (!matches!(row.state.as_str(), "suppressed" | "cancelled")
                        || self.ledger.spoken_for.contains(&row.id))
                    && self.model.is_no_earlier(index, &rule, &row.rule)?;
            }
            if !said {
                self.model.untake(index, &rule)?;
            }
        }
        Ok(withdrawn)
    }

    /// What died has somebody in its stead, or needs nobody, or is said to be undeliverable.
    async fn died(&self, row: &Row, index: usize) -> Result<()> {
        let secret = &self.model.secrets[index];
        let open = secret
            .alert
            .as_ref()
            .is_some_and(|alert| alert.state == State::Open);
        let over = secret.retired || row.cycle != Some(secret.cycle) || !open;
        let kin = |other: &&Row| {
            (other.cycle, &other.rule, other.due) == (row.cycle, &row.rule, row.due)
                && !matches!(other.state.as_str(), "dead" | "cancelled" | "suppressed")
        };
        ensure!(
            over || self.is_undeliverable(row.id).await?
                || self.ledger.instead(row.id).next().is_some()
                || self.ledger.about(index).any(|other| kin(&other)),
            "it died, and nobody is told instead: {row:?}\n{}{}",
            self.model.describe(index),
            self.ledger.story(index)
        );
        Ok(())
    }

    /// It is said of the first of its chain.
    async fn is_undeliverable(&self, last: Uuid) -> Result<bool> {
        let sql = "with recursive chain as (
                select n.fallback_of, n.undeliverable_at from rotator_internal.notification as n where n.id = $1
                union all
                select n.fallback_of, n.undeliverable_at
                from chain as c join rotator_internal.notification as n on n.id = c.fallback_of
            ) select bool_or(c.undeliverable_at is not null) from chain as c";
        scalar(&self.hands.db.admin, sql, &[&last]).await
    }

    /// What waited for the window, and a later reminder of the same to the same recipient waited or came as well.
    fn is_spoken_for(&self, was: &Row) -> bool {
        let Some(index) = was.secret else {
            return false;
        };
        was.state == "deferred"
            && self.ledger.about(index).any(|row| {
                row.cycle == was.cycle
                    && row.kind == was.kind
                    && row.recipient == was.recipient
                    && row.id != was.id
                    && row.due >= was.due
            })
    }

    async fn tick(&mut self, begun: Instant) -> Result<()> {
        let ticker = self.chance.below(self.hands.tickers.len());
        let sql = "with clock as materialized (select clock_timestamp() as at)
            select at, rotator.tick(at) from clock";
        let row = self.hands.tickers[ticker].query_one(sql, &[]).await?;
        let (at, mut answer): (_, Value) = (instant(row.try_get(0)?)?, row.try_get(1)?);
        for _ in 0..50 {
            if answer["more"] != true {
                break;
            }
            answer = self.hands.tickers[ticker]
                .query_one("select rotator.tick()", &[])
                .await?
                .try_get(0)?;
        }
        let expected = self.model.tick(at)?;
        let made = self.ledger.made(&self.hands, &self.model, begun).await?;
        self.ledger.compare(&self.model, at, &expected, &made)?;
        let mut fresh = made.clone();
        let deferred: Vec<Uuid> = self.of_state("deferred");
        self.withdrawn().await?;
        for id in deferred {
            let row = &self.ledger.rows[&id];
            if row.state == "deferred" {
                ensure!(
                    row.available > at || made.contains(&id),
                    "it opened at {}: {row:?}",
                    row.available
                );
            } else {
                fresh.push(id);
            }
        }
        self.ledger.digests(&fresh)?;
        for row in made.iter().map(|id| &self.ledger.rows[id]) {
            self.done.rows += 1;
            self.done.digests += usize::from(row.rule == "digest");
            self.done.escalations += usize::from(row.kind == "escalation");
            self.done.reopened += usize::from(row.rule == "reopened");
            self.done.deferred += usize::from(row.state == "deferred");
            self.done.suppressed += usize::from(row.state == "suppressed");
        }
        Ok(())
    }

    fn of_state(&self, state: &str) -> Vec<Uuid> {
        let rows = self.ledger.open.iter().map(|id| &self.ledger.rows[id]);
        rows.filter(|row| row.state == state)
            .map(|row| row.id)
            .collect()
    }

    /// Every alert is in the state that it should be in, and none is open that nobody was told of.
    pub async fn alerts(&mut self) -> Result<()> {
        let sql = "select a.secret_id, a.cycle, a.state, a.acknowledged_until from rotator_internal.alert as a";
        let mut told: BTreeSet<(usize, i32)> = BTreeSet::new();
        for row in self.ledger.rows.values() {
            told.extend(row.secret.zip(row.cycle));
        }
        let mut seen = BTreeSet::new();
        for row in self.hands.db.admin.query(sql, &[]).await? {
            let index = self.ledger.index[&row.try_get::<_, Uuid>(0)?];
            let (cycle, state): (i32, &str) = (row.try_get(1)?, row.try_get(2)?);
            let secret = &self.model.secrets[index];
            if cycle < secret.cycle || secret.retired {
                ensure!(
                    state == "resolved",
                    "{state} in cycle {cycle}: {}",
                    self.model.describe(index)
                );
                continue;
            }
            seen.insert(index);
            ensure!(
                told.contains(&(index, cycle)),
                "nobody was told: {}",
                self.model.describe(index)
            );
            let alert = secret
                .alert
                .as_ref()
                .with_context(|| format!("no alert: {}", self.model.describe(index)))?;
            let until: Option<std::time::SystemTime> = row.try_get(3)?;
            let until = until.map(instant).transpose()?;
            // One that ends while it is snoozed ends with that.
            let ends = [alert.until, alert.until.max(secret.snoozed)];
            ensure!(
                state == format!("{:?}", alert.state).to_lowercase()
                    && (alert.state != State::Acknowledged || ends.contains(&until)),
                "it is {state} until {until:?}: {}{}",
                self.model.describe(index),
                self.ledger.story(index)
            );
        }
        for (index, secret) in self.model.secrets.iter().enumerate() {
            ensure!(
                secret.alert.is_none() || seen.contains(&index),
                "without an alert: {}",
                self.model.describe(index)
            );
        }
        Ok(())
    }
}
