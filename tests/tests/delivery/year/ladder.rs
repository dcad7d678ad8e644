//! The model's ladders: when each step is due, who is told by it, and what an acknowledgement does to the time it waits.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Span};

use super::model::{Alert, Expected, Model, State};
use super::people::{After, Rung, Told, Whom};
use super::zone::Instant;

impl Model {
    /// When each step is due for the first time, as far as that is known. One that reaches nobody is passed over to the next
    /// at once: that one has the time of the first of those that reach nobody before it. Steps of one time are one.
    fn first_times(&self, index: usize, alert: &Alert) -> Result<Vec<Option<Instant>>> {
        let secret = &self.secrets[index];
        let tenant = &self.tenants[secret.tenant];
        let rungs = &alert.ladder.rungs;
        let mut times = vec![None; rungs.len()];
        for from_expiry in [false, true] {
            let anchor = match alert.reminded {
                Some(_) if from_expiry => secret.expiry + alert.held,
                Some(reminded) => reminded,
                None => continue,
            };
            let of_anchor: Vec<usize> = (0..rungs.len())
                .filter(|rung| rungs[*rung].from_expiry == from_expiry)
                .collect();
            // In order, also where one counts the hours of a window and the next whole days.
            let mut own_times: Vec<(usize, Instant)> = Vec::new();
            for rung in of_anchor {
                let asked = self.after(index, anchor, &rungs[rung])?;
                let before = own_times.last().map_or(anchor, |(_, time)| *time);
                own_times.push((rung, asked.max(before)));
            }
            let mut passed_over = None;
            for group in own_times.chunk_by(|one, two| one.1 == two.1) {
                let time = passed_over.unwrap_or(group[0].1);
                let reaches = group
                    .iter()
                    .any(|(rung, _)| !tenant.escalated(&rungs[*rung], &secret.owners).is_empty());
                passed_over = (!reaches).then_some(time);
                for (rung, _) in group {
                    times[*rung] = Some(time);
                }
            }
        }
        Ok(times)
    }

    fn after(&self, index: usize, anchor: Instant, rung: &Rung) -> Result<Instant> {
        let secret = &self.secrets[index];
        let tenant = &self.tenants[secret.tenant];
        Ok(match (&rung.after, &tenant.window) {
            (After::Hours(0), _) => anchor,
            // Less than a day from a reminder is counted in working hours, but not where it burns.
            (After::Hours(hours), Some(window))
                if *hours < 24 && !rung.from_expiry && secret.priority != 1 =>
            {
                // But never past the expiry, or past what it would be without them.
                let wait = SignedDuration::from_hours(*hours);
                let latest = (anchor + wait).max(secret.expiry);
                window.worked(&tenant.zone, anchor, wait)?.min(latest)
            }
            (After::Hours(hours), _) => anchor + SignedDuration::from_hours(*hours),
            (After::Days(days), _) => tenant.zone.add(anchor, Span::new().days(*days))?,
        })
    }

    /// When each step is due for the next time: not before that is known, nor after its last repeat.
    pub fn next_times(&self, index: usize, alert: &Alert) -> Result<Vec<Option<Instant>>> {
        let mut times = self.first_times(index, alert)?;
        for ((time, rung), taken) in times.iter_mut().zip(&alert.ladder.rungs).zip(&alert.taken) {
            *time = match *time {
                Some(first) if *taken <= rung.repeats => {
                    Some(first + rung.every * i32::try_from(*taken)?)
                }
                _ => None,
            };
        }
        Ok(times)
    }

    pub fn escalate(
        &mut self,
        index: usize,
        now: Instant,
        expected: &mut Vec<Expected>,
    ) -> Result<()> {
        let secret = &self.secrets[index];
        let Some(alert) = secret
            .alert
            .as_ref()
            .filter(|alert| alert.state == State::Open)
        else {
            return Ok(());
        };
        let mut alert = alert.clone();
        let tenant = &self.tenants[secret.tenant];
        // Each recipient is told once, by the highest step: which, who, and from when to when it was due.
        let mut told: BTreeMap<(&str, String), (usize, Told, Instant, Instant)> = BTreeMap::new();
        for rung in 0..alert.ladder.rungs.len() {
            let due = |alert: &Alert| -> Result<Option<Instant>> {
                Ok(self.next_times(index, alert)?[rung].filter(|due| *due <= now))
            };
            let Some(first) = due(&alert)? else {
                continue;
            };
            let mut last = first;
            alert.taken[rung] += 1;
            // Repeats that were missed count as one.
            while let Some(again) = due(&alert)? {
                last = again;
                alert.taken[rung] += 1;
            }
            let step = &alert.ladder.rungs[rung];
            for (person, channel) in tenant.escalated(step, &secret.owners) {
                let address = match &step.whom {
                    Whom::Address(_, address) => address.clone(),
                    _ => tenant.address_of(&person, channel),
                };
                told.insert((channel, address), (rung, (person, channel), first, last));
            }
        }
        let name = alert.ladder.name.clone();
        self.secrets[index].alert = Some(alert);
        for (rung, person, from, due) in told.into_values() {
            let rule = format!("escalation:{name}:{}", rung + 1);
            let mut row = self.row(index, now, "escalation", &rule, due, person)?;
            row.due_from = from;
            expected.push(row);
        }
        Ok(())
    }

    /// Whether these are steps of the same ladder that count from the same, the second no earlier than the first.
    pub fn is_no_earlier(&self, index: usize, rule: &str, other: &str) -> Result<bool> {
        let Some(alert) = &self.secrets[index].alert else {
            return Ok(false);
        };
        let rungs = &alert.ladder.rungs;
        let (one, two) = (rung_of(rule)?, rung_of(other)?);
        Ok(two >= one && rungs.len() > two && rungs[one].from_expiry == rungs[two].from_expiry)
    }

    /// Whether a step is told more than once.
    pub fn repeats(&self, index: usize, rule: &str) -> Result<bool> {
        let alert = self.secrets[index].alert.as_ref();
        let rung = rung_of(rule)?;
        Ok(alert.is_some_and(|alert| {
            alert
                .ladder
                .rungs
                .get(rung)
                .is_some_and(|rung| rung.repeats > 0)
        }))
    }

    /// Whether the ladder names this address itself.
    pub fn is_named(&self, index: usize, address: &str) -> bool {
        let alert = self.secrets[index].alert.as_ref();
        alert.is_some_and(|alert| {
            let named =
                |rung: &Rung| matches!(&rung.whom, Whom::Address(_, named) if named == address);
            alert.ladder.rungs.iter().any(named)
        })
    }

    /// Repeats that were due by then and not sent aren't made up for: the next one comes.
    pub fn skip_repeats(&mut self, index: usize, now: Instant) -> Result<()> {
        loop {
            let Some(alert) = &self.secrets[index].alert else {
                return Ok(());
            };
            let times = self.next_times(index, alert)?;
            let due = |rung: &usize| {
                alert.taken[*rung] > 0 && times[*rung].is_some_and(|time| time <= now)
            };
            let Some(rung) = (0..times.len()).find(due) else {
                return Ok(());
            };
            if let Some(alert) = &mut self.secrets[index].alert {
                alert.taken[rung] += 1;
            }
        }
    }

    /// A step that was taken and not said, nor any after it: they are due again when the alert is open again.
    pub fn untake(&mut self, index: usize, rule: &str) -> Result<()> {
        let from = rung_of(rule)?;
        if let Some(alert) = &mut self.secrets[index].alert {
            let rungs = &alert.ladder.rungs;
            for rung in from..rungs.len() {
                if rungs[rung].from_expiry == rungs[from].from_expiry {
                    alert.taken[rung] = 0;
                }
            }
        }
        self.plan(index)
    }
}

/// From 0, of a rule like `escalation:NAME:1`.
fn rung_of(rule: &str) -> Result<usize> {
    let number: usize = rule
        .rsplit(':')
        .next()
        .context("a step's number")?
        .parse()?;
    number.checked_sub(1).context("steps count from 1")
}

impl Alert {
    /// An acknowledgement ended by itself: the time it held was no time of waiting.
    pub fn reopen(&mut self, expiry: Instant, now: Instant) {
        let taken = self.taken_at.take().unwrap_or(now);
        if let Some(reminded) = &mut self.reminded {
            *reminded += now.duration_since(taken.max(*reminded));
        }
        let expired = expiry + self.held;
        self.held += now
            .duration_since(taken.max(expired))
            .max(SignedDuration::ZERO);
        self.state = State::Open;
        self.held_until = self.until.take();
    }
}
