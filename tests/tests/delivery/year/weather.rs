//! What fails: vendors that are away for hours or days, tokens that are revoked for a while, workers that say nothing more.

use jiff::SignedDuration;
use rotator_tests::Chance;

use super::people::CHANNELS;
use super::zone::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A reason of `fail_notification`.
    Failed(&'static str),
    /// It was sent, and the worker was lost before it said so.
    SentUnsaid,
    /// The worker was lost before it sent anything.
    Lost,
}

pub struct Weather {
    vendors: Vec<Outage>,
    database: Vec<(Instant, Instant)>,
}

struct Outage {
    channel: &'static str,
    from: Instant,
    to: Instant,
    reason: &'static str,
}

impl Weather {
    pub fn draw(chance: &mut Chance, start: Instant) -> Self {
        let mut vendors = Vec::new();
        for channel in CHANNELS {
            for _ in 0..8 {
                let from = start + SignedDuration::from_hours(chance.below(365 * 24) as i64);
                let hours = 1 + chance.below(60) as i64;
                let reason = *chance.one_of(&["transient", "timeout", "rate_limited", "permanent"]);
                vendors.push(Outage {
                    channel,
                    from,
                    to: from + SignedDuration::from_hours(hours),
                    reason,
                });
            }
        }
        let database = (0..4).map(|_| {
            let from = start + SignedDuration::from_mins(chance.below(365 * 1440) as i64);
            (
                from,
                from + SignedDuration::from_mins(1 + chance.below(1200) as i64),
            )
        });
        Self {
            vendors,
            database: database.collect(),
        }
    }

    /// When it is up again, if it is down then.
    pub fn database_is_down_until(&self, now: Instant) -> Option<Instant> {
        let outage = self
            .database
            .iter()
            .find(|(from, to)| *from <= now && now < *to);
        outage.map(|(_, to)| *to)
    }

    /// How this try goes wrong, if it does.
    pub fn fault(&self, chance: &mut Chance, channel: &str, now: Instant) -> Option<Fault> {
        let outage = self
            .vendors
            .iter()
            .find(|outage| outage.channel == channel && outage.from <= now && now < outage.to);
        match (outage, chance.below(200)) {
            (Some(outage), _) => Some(Fault::Failed(outage.reason)),
            (None, 0) => Some(Fault::SentUnsaid),
            (None, 1) => Some(Fault::Lost),
            (None, 2..5) => Some(Fault::Failed("transient")),
            _ => None,
        }
    }
}
