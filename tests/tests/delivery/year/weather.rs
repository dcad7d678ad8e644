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

pub struct Weather(Vec<Outage>);

struct Outage {
    channel: &'static str,
    from: Instant,
    to: Instant,
    reason: &'static str,
}

impl Weather {
    pub fn draw(chance: &mut Chance, start: Instant) -> Self {
        let mut outages = Vec::new();
        for channel in CHANNELS {
            for _ in 0..8 {
                let from = start + SignedDuration::from_hours(chance.below(365 * 24) as i64);
                let hours = 1 + chance.below(60) as i64;
                let reason = *chance.one_of(&["transient", "timeout", "rate_limited", "permanent"]);
                outages.push(Outage {
                    channel,
                    from,
                    to: from + SignedDuration::from_hours(hours),
                    reason,
                });
            }
        }
        Self(outages)
    }

    /// How this try goes wrong, if it does.
    pub fn fault(&self, chance: &mut Chance, channel: &str, now: Instant) -> Option<Fault> {
        let outage = self
            .0
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
