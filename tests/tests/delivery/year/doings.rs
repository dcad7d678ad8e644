//! What people do about what they are told, and what operators change: each in the product, and then in the model.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rotator_tests::scalar;
use serde_json::Value;
use std::time::SystemTime;

use super::hands::{instant, system};
use super::life::Year;
use super::zone::Instant;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// Of this secret and cycle; by the link in a message where there is one.
    Acknowledge(usize, i32, Option<String>),
    Rotate(usize, i32, Option<String>),
    Snooze(usize, i32),
    Retire(usize),
    MoveExpiry(usize),
    /// Somebody gets a contact, or a new address.
    Contact(usize),
    /// A tenant gets delivery hours, others, or none.
    Window(usize),
    /// Its ladders become others, for alerts that begin after that.
    Ladder(usize),
    /// All that somebody is responsible for becomes somebody else's.
    HandOver(usize),
    /// A vendor will say of an address that nobody is there any more.
    Gone(usize),
}

impl Year {
    /// What comes of a message that arrived, perhaps hours or days later.
    pub fn react(&mut self, index: usize, cycle: i32, urgent: bool, token: &str) {
        let link = (!token.is_empty() && self.chance.once_in(2)).then(|| token.to_owned());
        let hours = |chance: &mut rotator_tests::Chance, most: usize| {
            SignedDuration::from_mins(1 + chance.below(60 * most) as i64)
        };
        let (doing, wait) = match self.chance.below(if urgent { 12 } else { 20 }) {
            0..3 => (
                Doing::Acknowledge(index, cycle, link),
                hours(&mut self.chance, 12),
            ),
            3..6 => (
                Doing::Rotate(index, cycle, link),
                hours(&mut self.chance, 72),
            ),
            6 => (Doing::Snooze(index, cycle), hours(&mut self.chance, 12)),
            _ => return,
        };
        self.plan(self.now + wait, doing);
    }

    /// What would have been done on another day: nothing is open for ever.
    pub fn plan_the_rest(&mut self, end: Instant) {
        let days = end.duration_since(self.now).as_hours() as usize / 24;
        for index in 0..self.model.secrets.len() {
            let mut any_day =
                || self.now + SignedDuration::from_mins(self.chance.below(days * 1440) as i64);
            let (one, two, three) = (any_day(), any_day(), any_day());
            self.plan(one, Doing::Rotate(index, 0, None));
            if self.chance.once_in(4) {
                self.plan(two, Doing::MoveExpiry(index));
            }
            if self.chance.once_in(12) {
                self.plan(three, Doing::Retire(index));
            }
            if self.chance.once_in(6) {
                self.plan(two, Doing::Contact(index % self.model.tenants.len()));
            }
        }
        let tenants = self.model.tenants.len();
        for number in 0..tenants * 4 {
            for doing in [Doing::Window, Doing::Ladder, Doing::HandOver, Doing::Gone] {
                let minutes = self.chance.below(days * 1440) as i64;
                let at = self.now + SignedDuration::from_mins(minutes);
                self.plan(at, doing(number % tenants));
            }
        }
    }

    pub async fn perform(&mut self, doing: Doing) -> Result<()> {
        match doing {
            Doing::Acknowledge(index, cycle, link) => self.acknowledge(index, cycle, link).await,
            Doing::Rotate(index, cycle, link) => self.rotate(index, cycle, link).await,
            Doing::Snooze(index, cycle) => self.snooze(index, cycle).await,
            Doing::Retire(index) => self.retire(index).await,
            Doing::MoveExpiry(index) => self.move_expiry(index).await,
            Doing::Contact(tenant) => self.contact(tenant).await,
            Doing::Window(tenant) => self.window(tenant).await,
            Doing::Ladder(tenant) => self.ladder(tenant).await,
            Doing::HandOver(tenant) => self.hand_over(tenant).await,
            Doing::Gone(tenant) => self.gone(tenant),
        }
    }

    /// Whether it is still about what it was about. Somebody else may have been quicker.
    fn is_about(&self, index: usize, cycle: i32) -> bool {
        let secret = &self.model.secrets[index];
        !secret.retired && (cycle == 0 || secret.cycle == cycle)
    }

    async fn acknowledge(&mut self, index: usize, cycle: i32, link: Option<String>) -> Result<()> {
        if !self.is_about(index, cycle) || !self.model.is_open(index) {
            return Ok(());
        }
        let (id, tenant) = (
            self.model.secrets[index].id,
            self.model.secrets[index].tenant,
        );
        let days = 1 + self.chance.below(20) as i32;
        let until = self
            .chance
            .once_in(4)
            .then(|| self.now + SignedDuration::from_hours(24 * i64::from(days)));
        let before = self.hands.now().await?;
        if let Some(token) = link {
            let sql = "select rotator.redeem_link($1, 'acknowledge', until => $2)";
            let answer: Value =
                scalar(&self.hands.worker, sql, &[&token, &until.map(system)]).await?;
            ensure!(
                answer["already"] != true,
                "nobody has acknowledged it since it is open: {answer}"
            );
        } else {
            let sql = "select rotator.acknowledge($1, until => $2)";
            self.hands.editors[tenant]
                .execute(sql, &[&id, &until.map(system)])
                .await?;
        }
        let between = super::acts::Between(before, self.hands.now().await?);
        let sql =
            "select acknowledged_until from rotator.alerts where secret_id = $1 and cycle = $2";
        let ends: SystemTime = scalar(&self.hands.editors[tenant], sql, &[&id, &cycle]).await?;
        self.model
            .acknowledge(index, between, until, instant(ends)?)?;
        self.done.acknowledged += 1;
        self.ledger.made(&self.hands, &self.model, before).await?;
        self.withdrawn().await?;
        Ok(())
    }

    pub async fn rotate(&mut self, index: usize, cycle: i32, link: Option<String>) -> Result<()> {
        if !self.is_about(index, cycle) {
            return Ok(());
        }
        let secret = &self.model.secrets[index];
        let (id, tenant) = (secret.id, secret.tenant);
        let asked = match secret.interval {
            None => Some(self.model.days_from(
                index,
                self.now,
                20 + self.chance.below(90) as i32,
            )?),
            Some(_) => None,
        };
        let session = &self.hands.editors[tenant];
        let (between, next) = if let Some(token) = link {
            let (between, _) = self
                .hands
                .between(
                    &self.hands.worker,
                    "rotator.redeem_link($1, 'rotated', next_expiry_date => $2)::text",
                    &[&token, &asked.map(system)],
                )
                .await?;
            let sql = "select expiry_date from rotator.secrets where id = $1";
            (between, Some(scalar(session, sql, &[&id]).await?))
        } else {
            let call = "rotator.mark_rotated($1, next_expiry_date => $2)";
            self.hands
                .between(session, call, &[&id, &asked.map(system)])
                .await?
        };
        let next = instant(next.context("the next expiry date")?)?;
        self.model.rotate(index, between, asked, next)?;
        self.done.rotated += 1;
        self.withdrawn().await?;
        Ok(())
    }

    async fn snooze(&mut self, index: usize, cycle: i32) -> Result<()> {
        let secret = &self.model.secrets[index];
        // When it is overdue, or for longer, only an admin may.
        if !self.is_about(index, cycle) || secret.expiry <= self.now + SignedDuration::from_hours(6)
        {
            return Ok(());
        }
        let most = secret
            .expiry
            .duration_since(self.now)
            .as_mins()
            .min(60 * 24 * 6);
        let until =
            self.now + SignedDuration::from_mins(5 + self.chance.below(most as usize - 10) as i64);
        let sql = "select rotator.snooze($1, $2, 'a freeze')";
        self.hands.editors[secret.tenant]
            .execute(sql, &[&secret.id, &system(until)])
            .await?;
        self.model.snooze(index, until)?;
        self.done.snoozed += 1;
        let withdrawn = self.withdrawn().await?;
        let cycle = self.model.secrets[index].cycle;
        let last = self.model.last_lead(index)?;
        let heard = self.ledger.about(index).any(|row| {
            row.cycle == Some(cycle)
                && row.kind == "reminder"
                && last.is_none_or(|last| row.due >= last)
                && !matches!(row.state.as_str(), "cancelled" | "suppressed")
        });
        if !heard && withdrawn.iter().any(|row| row.rule.starts_with("lead:")) {
            self.model.unremind(index)?;
        }
        Ok(())
    }

    async fn retire(&mut self, index: usize) -> Result<()> {
        let secret = &self.model.secrets[index];
        if secret.retired {
            return Ok(());
        }
        let sql = "select rotator.retire_secret($1)";
        self.hands.editors[secret.tenant]
            .execute(sql, &[&secret.id])
            .await?;
        self.model.retire(index)?;
        self.withdrawn().await?;
        Ok(())
    }

    async fn move_expiry(&mut self, index: usize) -> Result<()> {
        let secret = &self.model.secrets[index];
        // An acknowledgement of what is still due goes on or not: that is not this model's affair.
        if secret.retired
            || secret
                .alert
                .as_ref()
                .is_some_and(|alert| alert.until.is_some())
        {
            return Ok(());
        }
        let to = secret.expiry
            + SignedDuration::from_mins(1440 * 30 + self.chance.below(1440 * 30) as i64);
        let sql = "update rotator.secrets set expiry_date = $2 where id = $1";
        self.hands.editors[secret.tenant]
            .execute(sql, &[&secret.id, &system(to)])
            .await?;
        let now = self.hands.now().await?;
        self.model.move_expiry(index, to, now)?;
        self.withdrawn().await?;
        Ok(())
    }
}
