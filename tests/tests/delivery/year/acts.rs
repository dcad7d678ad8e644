//! What people do in the model: it says what must come of it, from what the product answered and when.

use anyhow::{Context, Result, bail, ensure};
use jiff::{SignedDuration, Span};

use super::model::{Model, Secret, State};
use super::zone::Instant;

/// Two clocks around a call: it happened in between.
#[derive(Clone, Copy, Debug)]
pub struct Between(pub Instant, pub Instant);

/// A day of a wait may be one of the wall, in whatever zone.
const DAYLIGHT: SignedDuration = SignedDuration::from_hours(1);

impl Between {
    fn holds(self, at: Instant) -> bool {
        self.0 <= at && at <= self.1
    }

    fn holds_after(self, at: Instant, days: i64) -> bool {
        let wait = SignedDuration::from_hours(24 * days);
        self.0 + wait - DAYLIGHT <= at && at <= self.1 + wait + DAYLIGHT
    }
}

impl Model {
    /// Whether there is an alert that somebody could take.
    pub fn is_open(&self, index: usize) -> bool {
        self.secrets[index]
            .alert
            .as_ref()
            .is_some_and(|alert| alert.state == State::Open)
    }

    /// Acknowledged; `until` is what the product says, `asked` what was asked for.
    pub fn acknowledge(
        &mut self,
        index: usize,
        at: Between,
        asked: Option<Instant>,
        until: Instant,
    ) -> Result<()> {
        let secret = &mut self.secrets[index];
        let days = [1, 2, 7, 14][usize::from(secret.priority - 1)];
        match asked {
            Some(asked) => ensure!(asked == until, "until {until}, not {asked}"),
            // Nothing expires unnoticed.
            None if until == secret.expiry => ensure!(
                secret.expiry > at.0
                    && at.1 + SignedDuration::from_hours(24 * days) + DAYLIGHT > secret.expiry,
                "until the expiry {until}, which lies further off than {days} days"
            ),
            None => ensure!(
                at.holds_after(until, days) && (secret.expiry <= at.1 || until < secret.expiry),
                "until {until}: not {days} days from {at:?}, with expiry {}",
                secret.expiry
            ),
        }
        self.skip_repeats(index, at.0)?;
        let secret = &mut self.secrets[index];
        let alert = secret.alert.as_mut().context("an alert")?;
        if alert.state == State::Open {
            alert.taken_at = Some(at.0);
        }
        alert.state = State::Acknowledged;
        alert.until = Some(until);
        self.plan(index)
    }

    /// Marked as rotated just now; `next` is the expiry date that the product gave.
    pub fn rotate(
        &mut self,
        index: usize,
        at: Between,
        asked: Option<Instant>,
        next: Instant,
    ) -> Result<()> {
        let secret = &mut self.secrets[index];
        let zone = &self.tenants[secret.tenant].zone;
        match (asked, secret.interval) {
            (Some(asked), _) => ensure!(next == asked, "{next}, not {asked}"),
            (None, Some(interval)) => {
                let [first, last] = [
                    zone.add(at.0, interval.span())?,
                    zone.add(at.1, interval.span())?,
                ];
                ensure!(
                    Between(first, last).holds(next),
                    "the next expiry is {next}, not {} after {at:?}",
                    interval.text()
                );
            }
            (None, None) => bail!("rotated without a date"),
        }
        secret.cycle += 1;
        secret.expiry = next;
        secret.snoozed = None;
        secret.alert = None;
        secret.handled.clear();
        self.plan(index)
    }

    pub fn snooze(&mut self, index: usize, until: Instant) -> Result<()> {
        self.secrets[index].snoozed = Some(until);
        self.plan(index)
    }

    /// A snooze withdrew the last reminder before anybody heard of it: the ladder begins with it when it goes.
    pub fn unremind(&mut self, index: usize) -> Result<()> {
        if let Some(alert) = &mut self.secrets[index].alert
            && alert.taken.iter().all(|taken| *taken == 0)
        {
            alert.reminded = None;
        }
        self.plan(index)
    }

    pub fn retire(&mut self, index: usize) -> Result<()> {
        let secret = &mut self.secrets[index];
        secret.retired = true;
        secret.snoozed = None;
        secret.alert = None;
        self.plan(index)
    }

    /// The expiry date was moved: the cycle goes on, an alert that has nothing due any more has ended, and what is due by the
    /// new date is announced.
    pub fn move_expiry(&mut self, index: usize, to: Instant, now: Instant) -> Result<()> {
        self.secrets[index].expiry = to;
        self.secrets[index].snoozed = None;
        let due = self.missed(index, now)?;
        let secret = &mut self.secrets[index];
        if let Some(alert) = &mut secret.alert {
            // The ladder of one that goes on begins anew with the new date's last reminder.
            alert.taken.fill(0);
            alert.reminded = None;
            alert.held = SignedDuration::ZERO;
            alert.ladder_from = now;
            if !due {
                alert.state = State::Resolved;
                alert.until = None;
                secret.handled.clear();
            }
        }
        self.plan(index)
    }

    /// A message that was queued and is not to go out after all: if its reminder is still due, it comes again.
    pub fn forget(&mut self, index: usize, rule: &str, due: Instant) -> Result<()> {
        if let Some(lead) = rule.strip_prefix("lead:") {
            self.secrets[index].handled.remove(&(lead.parse()?, due));
        }
        self.plan(index)
    }

    /// For what a test's report says of a secret.
    pub fn describe(&self, index: usize) -> String {
        let Secret {
            id,
            tenant,
            priority,
            owners,
            interval,
            expiry,
            cycle,
            retired,
            snoozed,
            alert,
            handled,
            wake,
            ..
        } = &self.secrets[index];
        let leads: Vec<i32> = self
            .policies(&self.secrets[index])
            .iter()
            .map(|p| p.lead)
            .collect();
        format!(
            "{} {id} P{priority} cycle {cycle} {owners:?}\n  expiry {expiry}, every {interval:?}, leads {leads:?}, retired {retired}, \
             snoozed {snoozed:?}\n  {alert:?}\n  handled {handled:?}, wake {wake:?}",
            self.tenants[*tenant].slug
        )
    }

    /// Days before now, for a date that shows what was asked for.
    pub fn days_from(&self, index: usize, now: Instant, days: i32) -> Result<Instant> {
        let zone = &self.tenants[self.secrets[index].tenant].zone;
        zone.add(now, Span::new().days(days))
    }
}
