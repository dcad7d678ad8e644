//! What must happen, worked out from the rules alone: which rows each tick makes, in which state an alert is, and whether a
//! message may go out. It knows what people did and when the clock was read, and nothing of how the product does it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use uuid::Uuid;

use super::people::{Ladder, Owners, Policy, Tenant, Told};
use super::zone::{Instant, Interval, lead_instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Acknowledged,
    Resolved,
}

/// The alert of a secret's cycle.
#[derive(Clone, Debug)]
pub struct Alert {
    pub state: State,
    pub until: Option<Instant>,
    /// When it was acknowledged.
    pub taken_at: Option<Instant>,
    /// When the last acknowledgement ended by itself.
    pub held_until: Option<Instant>,
    /// The ladder as it was when the alert began, and how often each step was taken.
    pub ladder: Ladder,
    pub taken: Vec<u32>,
    /// What steps count from: the last reminder before the expiry, moved on by acknowledgements.
    pub reminded: Option<Instant>,
    /// By how much they moved on what counts from the expiry.
    pub held: SignedDuration,
    /// Since when it climbs this ladder: a moved date begins another.
    pub ladder_from: Instant,
}

impl Alert {
    fn new(ladder: Ladder, now: Instant) -> Self {
        Self {
            state: State::Open,
            until: None,
            taken_at: None,
            held_until: None,
            taken: vec![0; ladder.rungs.len()],
            ladder,
            reminded: None,
            held: SignedDuration::ZERO,
            ladder_from: now,
        }
    }
}

pub struct Secret {
    pub id: Uuid,
    pub tenant: usize,
    pub priority: u8,
    pub owners: Owners,
    pub interval: Option<Interval>,
    pub expiry: Instant,
    pub cycle: i32,
    pub retired: bool,
    pub policies: Option<Vec<Policy>>,
    pub snoozed: Option<Instant>,
    pub alert: Option<Alert>,
    /// Reminders that were queued, suppressed, or that a more urgent one spoke for.
    pub handled: BTreeSet<(i32, Instant)>,
    /// When something may happen next, and after that.
    pub wake: Option<Instant>,
    pub instants: Vec<Instant>,
}

/// A row that a tick must make.
#[derive(Clone, Debug)]
pub struct Expected {
    pub secret: usize,
    pub cycle: i32,
    pub kind: &'static str,
    pub rule: String,
    /// The rule's instant; of repeats that were missed together, from the first to the last.
    pub due_from: Instant,
    pub due: Instant,
    pub told: Told,
    /// One of these it is in.
    pub states: &'static [&'static str],
    /// For what is deferred: until when.
    pub opens: Option<Instant>,
}

/// Made to be sent now, by itself or in a digest.
pub const TO_SEND: &[&str] = &["queued", "merged"];
pub const SUPPRESSED: &[&str] = &["suppressed"];
pub const DEFERRED: &[&str] = &["deferred"];
/// It came due while the acknowledgement held, and was looked at after.
const EITHER: &[&str] = &["queued", "merged", "deferred", "suppressed"];

pub struct Model {
    pub tenants: Vec<Tenant>,
    pub secrets: Vec<Secret>,
}

impl Model {
    pub fn policies<'a>(&'a self, secret: &'a Secret) -> &'a [Policy] {
        let default = &self.tenants[secret.tenant].policies;
        secret.policies.as_ref().unwrap_or(default)
    }

    fn lead_instants(&self, secret: &Secret) -> Result<Vec<(i32, Instant)>> {
        let zone = &self.tenants[secret.tenant].zone;
        let leads: BTreeSet<i32> = self.policies(secret).iter().map(|p| p.lead).collect();
        leads
            .into_iter()
            .map(|lead| {
                let due = lead_instant(zone, secret.expiry, lead, secret.interval)?;
                Ok((lead, due))
            })
            .collect()
    }

    /// When the last reminder before the expiry is due.
    pub fn last_lead(&self, index: usize) -> Result<Option<Instant>> {
        let leads = self.lead_instants(&self.secrets[index])?;
        let ahead = leads.into_iter().filter(|(lead, _)| *lead >= 0);
        Ok(ahead.map(|(_, due)| due).max())
    }

    /// When the next thing happens of itself.
    pub fn next(&self) -> Option<Instant> {
        self.secrets.iter().filter_map(|secret| secret.wake).min()
    }

    /// Works out anew when this secret must be looked at.
    pub fn plan(&mut self, index: usize) -> Result<()> {
        let secret = &self.secrets[index];
        let mut instants = Vec::new();
        if !secret.retired {
            let mut at = |instant: Option<Instant>| {
                instants.extend(instant.map(|due| due.max(secret.snoozed.unwrap_or(due))));
            };
            for (lead, due) in self.lead_instants(secret)? {
                if !secret.handled.contains(&(lead, due)) {
                    at(Some(due));
                }
            }
            match &secret.alert {
                Some(alert) if alert.state == State::Acknowledged => at(alert.until),
                Some(alert) if alert.state == State::Open => {
                    self.next_times(index, alert)?.into_iter().for_each(at);
                }
                _ => {}
            }
        }
        self.secrets[index].wake = instants.iter().min().copied();
        self.secrets[index].instants = instants;
        Ok(())
    }

    pub fn plan_tenant(&mut self, tenant: usize) -> Result<()> {
        for index in 0..self.secrets.len() {
            if self.secrets[index].tenant == tenant {
                self.plan(index)?;
            }
        }
        Ok(())
    }

    /// Which of these must exist after a tick that looked at the clock then.
    pub fn tick(&mut self, now: Instant) -> Result<Vec<Expected>> {
        let mut expected = Vec::new();
        for index in 0..self.secrets.len() {
            if self.secrets[index].wake.is_some_and(|wake| wake <= now) {
                let before = expected.len();
                self.reopen(index, now, &mut expected)?;
                if self.secrets[index].snoozed.is_none_or(|end| end <= now) {
                    self.secrets[index].snoozed = None;
                    let reopened = expected.len();
                    self.remind(index, now, &mut expected)?;
                    let mut policies = self.policies(&self.secrets[index]).iter();
                    let names = policies.any(|policy| policy.recipient.is_some());
                    one_says_it(&mut expected[before..], reopened - before, names);
                    self.escalate(index, now, &mut expected)?;
                }
                self.plan(index)?;
            }
        }
        Ok(expected)
    }

    /// An acknowledgement that outlived its time.
    fn reopen(&mut self, index: usize, now: Instant, expected: &mut Vec<Expected>) -> Result<()> {
        let secret = &mut self.secrets[index];
        if secret.snoozed.is_some_and(|end| end > now) {
            return Ok(());
        }
        let Some(alert) = &mut secret.alert else {
            return Ok(());
        };
        let Some(until) = alert.until.filter(|until| *until <= now) else {
            return Ok(());
        };
        if alert.state != State::Acknowledged {
            return Ok(());
        }
        let due = secret.snoozed.map_or(until, |end| end.max(until));
        alert.reopen(secret.expiry, now);
        self.skip_repeats(index, now)?;
        let secret = &self.secrets[index];
        let tenant = &self.tenants[secret.tenant];
        let mut told = tenant.reached(&secret.owners.owner, None);
        if told.is_empty() {
            told = tenant.instead(&secret.owners);
        }
        for told in told {
            let mut row = self.row(index, now, "reminder", "reopened", due, told)?;
            // Whether a tick saw in between that a snooze went on for longer.
            row.due_from = until;
            expected.push(row);
        }
        Ok(())
    }

    /// Whether a reminder of its current date is due that was not dealt with.
    pub fn missed(&self, index: usize, now: Instant) -> Result<bool> {
        let secret = &self.secrets[index];
        let instants = self.lead_instants(secret)?;
        Ok(instants.into_iter().any(|lead| lead.1 <= now))
    }

    fn remind(&mut self, index: usize, now: Instant, expected: &mut Vec<Expected>) -> Result<()> {
        let secret = &self.secrets[index];
        let (missed, later): (Vec<_>, Vec<_>) = self
            .lead_instants(secret)?
            .into_iter()
            .filter(|lead| !secret.handled.contains(lead))
            .partition(|lead| lead.1 <= now);
        let to_come = later.iter().any(|(lead, _)| *lead >= 0);
        // The most urgent one speaks for all; of two at the same instant, the one of the shorter lead.
        let Some(&(lead, due)) = missed.iter().max_by_key(|(lead, due)| (*due, -lead)) else {
            return Ok(());
        };
        let tenant = &self.tenants[secret.tenant];
        let told = tenant.reminded(self.policies(secret), lead, &secret.owners);
        let ladder = tenant.ladder(secret.priority);
        let secret = &mut self.secrets[index];
        secret.handled.extend(missed);
        // None yet, or one that a date that was moved has ended: it begins from the beginning.
        if secret
            .alert
            .as_ref()
            .is_none_or(|alert| alert.state == State::Resolved)
        {
            secret.alert = Some(Alert::new(ladder, now));
        }
        // The ladder counts from the first reminder after which none is to come before the expiry.
        if !to_come && let Some(alert) = &mut secret.alert {
            alert.reminded.get_or_insert(now);
        }
        let rule = format!("lead:{lead}");
        for told in told {
            expected.push(self.row(index, now, "reminder", &rule, due, told)?);
        }
        Ok(())
    }

    /// The row of a message that is due now, in the state that acknowledgement and hours ask for.
    pub fn row(
        &self,
        index: usize,
        now: Instant,
        kind: &'static str,
        rule: &str,
        due: Instant,
        told: Told,
    ) -> Result<Expected> {
        let secret = &self.secrets[index];
        let tenant = &self.tenants[secret.tenant];
        let alert = secret.alert.as_ref();
        let acknowledged = alert.is_some_and(|alert| alert.state == State::Acknowledged);
        let held = alert.and_then(|alert| alert.held_until);
        let mut opens = None;
        if let (Some(window), 2..) = (&tenant.window, secret.priority) {
            let opening = window.opening(&tenant.zone, now)?;
            // Deferred to the next opening, but never past the expiry.
            opens = (opening > now && opening < secret.expiry).then_some(opening);
        }
        let states = match opens {
            _ if acknowledged => SUPPRESSED,
            _ if kind == "reminder" && rule != "reopened" && held.is_some_and(|end| due < end) => {
                EITHER
            }
            Some(_) => DEFERRED,
            None => TO_SEND,
        };
        Ok(Expected {
            secret: index,
            cycle: secret.cycle,
            kind,
            rule: rule.to_owned(),
            due_from: due,
            due,
            told,
            states,
            opens,
        })
    }

    /// Whether a reminder or an escalation of that cycle may go out now.
    pub fn may_send(&self, index: usize, cycle: i32, now: Instant) -> Result<()> {
        let secret = &self.secrets[index];
        ensure!(!secret.retired, "it is retired");
        ensure!(
            secret.cycle == cycle,
            "its cycle has ended, it is in {}",
            secret.cycle
        );
        ensure!(
            secret.snoozed.is_none_or(|end| end <= now),
            "it is snoozed until {:?}",
            secret.snoozed
        );
        let alert = secret.alert.as_ref().context("it has no alert")?;
        ensure!(
            alert.state == State::Open,
            "its alert is {:?} until {:?}",
            alert.state,
            alert.until
        );
        Ok(())
    }
}

/// That an alert is open again is said by the reminder that goes to the same recipient at the same time; a policy that names
/// its recipient goes elsewhere.
fn one_says_it(expected: &mut [Expected], reopened: usize, names: bool) {
    let (reopened, reminders) = expected.split_at_mut(reopened);
    for row in reopened {
        if let Some(reminder) = reminders.iter().find(|reminder| reminder.told == row.told) {
            row.states = if names || reminder.states == EITHER {
                EITHER
            } else {
                SUPPRESSED
            };
        }
    }
}
