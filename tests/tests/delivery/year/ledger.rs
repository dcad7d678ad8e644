//! What the product made: the rows of its outbox, read as they come and held against what the model expected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};
use jiff::SignedDuration;
use tokio_postgres::Row as Raw;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::hands::{Hands, instant};
use super::model::{DEFERRED, Expected, Model, State};
use super::zone::Instant;

pub const COLUMNS: &str = "id, tenant_id, secret_id, cycle, kind, rule, due_at, channel::text, recipient_id, addressee, state,
    queued_at, available_at, merged_into, fallback_of";

#[derive(Clone, Debug)]
pub struct Row {
    pub id: Uuid,
    pub tenant: Uuid,
    pub secret: Option<usize>,
    pub cycle: Option<i32>,
    pub kind: String,
    pub rule: String,
    pub due: Instant,
    pub channel: String,
    pub recipient: Uuid,
    pub addressee: String,
    pub state: String,
    pub queued: Instant,
    pub available: Instant,
    pub merged_into: Option<Uuid>,
    pub fallback_of: Option<Uuid>,
}

#[derive(Default)]
pub struct Ledger {
    pub rows: HashMap<Uuid, Row>,
    /// Those that aren't at their end yet.
    pub open: BTreeSet<Uuid>,
    /// About each secret; what each digest speaks for; what took over for what.
    about: HashMap<usize, Vec<Uuid>>,
    items: HashMap<Uuid, BTreeSet<Uuid>>,
    instead: HashMap<Uuid, Vec<Uuid>>,
    /// What was suppressed because something more urgent said it.
    pub spoken_for: BTreeSet<Uuid>,
    /// Secrets by id.
    pub index: HashMap<Uuid, usize>,
    /// How often each was sent, and how often nobody said so.
    pub sends: HashMap<Uuid, u32>,
    pub unsaid: HashMap<Uuid, u32>,
}

impl Row {
    pub fn is_open(&self) -> bool {
        matches!(
            self.state.as_str(),
            "queued" | "leased" | "retry" | "deferred"
        ) || (self.state == "merged" && self.merged_into.is_none())
    }

    /// A reminder or an escalation: about an alert, and silent while it is acknowledged.
    pub fn is_news(&self) -> bool {
        self.kind == "reminder" || self.kind == "escalation"
    }
}

impl Ledger {
    fn row(&self, raw: &Raw) -> Result<Row> {
        let secret: Option<Uuid> = raw.try_get(2)?;
        Ok(Row {
            id: raw.try_get(0)?,
            tenant: raw.try_get(1)?,
            secret: secret.and_then(|id| self.index.get(&id).copied()),
            cycle: raw.try_get(3)?,
            kind: raw.try_get(4)?,
            rule: raw.try_get(5)?,
            due: instant(raw.try_get(6)?)?,
            channel: raw.try_get(7)?,
            recipient: raw.try_get(8)?,
            addressee: raw.try_get(9)?,
            state: raw.try_get(10)?,
            queued: instant(raw.try_get(11)?)?,
            available: instant(raw.try_get(12)?)?,
            merged_into: raw.try_get(13)?,
            fallback_of: raw.try_get(14)?,
        })
    }

    /// Rows made since; their ids begin with the time.
    pub async fn made(
        &mut self,
        hands: &Hands,
        model: &Model,
        since: Instant,
    ) -> Result<Vec<Uuid>> {
        let tenants: Vec<Uuid> = model.tenants.iter().map(|tenant| tenant.id).collect();
        let lowest = Uuid::from_u128((since.as_millisecond() as u128) << 80);
        let mut made = Vec::new();
        let admin = &hands.db.admin;
        let since: [&(dyn ToSql + Sync); 2] = [&tenants, &lowest];
        for raw in admin.query(&hands.rows_since, &since).await? {
            let row = self.row(&raw)?;
            if !self.rows.contains_key(&row.id) {
                made.push(row.id);
                self.keep(row);
            }
        }
        Ok(made)
    }

    /// All about a secret, in the order in which it was made.
    pub fn about(&self, secret: usize) -> impl Iterator<Item = &Row> {
        let ids = self.about.get(&secret).into_iter().flatten();
        ids.map(|id| &self.rows[id])
    }

    /// What a digest speaks for.
    pub fn items(&self, digest: Uuid) -> impl Iterator<Item = &Row> {
        let ids = self.items.get(&digest).into_iter().flatten();
        ids.map(|id| &self.rows[id])
    }

    /// What took over for it.
    pub fn instead(&self, dead: Uuid) -> impl Iterator<Item = &Row> {
        let ids = self.instead.get(&dead).into_iter().flatten();
        ids.map(|id| &self.rows[id])
    }

    fn keep(&mut self, row: Row) {
        let was = self.rows.get(&row.id);
        if was.is_none() {
            if let Some(secret) = row.secret {
                self.about.entry(secret).or_default().push(row.id);
            }
            if let Some(dead) = row.fallback_of {
                self.instead.entry(dead).or_default().push(row.id);
            }
        }
        if let Some(digest) = was.and_then(|was| was.merged_into)
            && row.merged_into != Some(digest)
            && let Some(items) = self.items.get_mut(&digest)
        {
            items.remove(&row.id);
        }
        if let Some(digest) = row.merged_into {
            self.items.entry(digest).or_default().insert(row.id);
        }
        if row.is_open() || row.state == "merged" {
            self.open.insert(row.id);
        } else {
            self.open.remove(&row.id);
        }
        self.rows.insert(row.id, row);
    }

    /// Whether it is still to be said: by itself, or in a digest that is.
    fn is_to_be_said(&self, row: &Row) -> bool {
        let digest = row.merged_into.and_then(|digest| self.rows.get(&digest));
        row.is_open() || (row.state == "merged" && digest.is_none_or(Row::is_open))
    }

    /// Looks again at those that weren't at their end; gives those that changed, as they were before.
    pub async fn refresh(&mut self, hands: &Hands) -> Result<Vec<Row>> {
        let open: Vec<Uuid> = self.open.iter().copied().collect();
        let mut before = Vec::new();
        for raw in hands.db.admin.query(&hands.rows_of, &[&open]).await? {
            let row = self.row(&raw)?;
            let was = self.rows.get(&row.id).context("a row that was open")?;
            if was.state != row.state || was.merged_into != row.merged_into {
                before.push(was.clone());
            }
            self.keep(row);
        }
        let open = std::mem::take(&mut self.open);
        let said = |id: &Uuid| self.is_to_be_said(&self.rows[id]);
        self.open = open.into_iter().filter(said).collect();
        Ok(before)
    }

    fn had_gone(&self, asked: &Expected) -> bool {
        asked.kind == "reminder"
            && self.about(asked.secret).any(|row| {
                (row.cycle, &row.rule, row.due) == (Some(asked.cycle), &asked.rule, asked.due)
                    && (row.addressee.as_str(), row.channel.as_str())
                        == (asked.told.0.as_str(), asked.told.1)
                    && row.state != "cancelled"
            })
    }

    /// All that was made about a secret, in its order.
    pub fn story(&self, secret: usize) -> String {
        let mut rows: Vec<&Row> = self.about(secret).collect();
        rows.sort_by_key(|row| row.id);
        rows.into_iter().fold(String::new(), |story, row| {
            format!(
                "{story}\n  {} {:?} {} due {}: {} to {} by {}, until {}",
                row.queued,
                row.cycle,
                row.rule,
                row.due,
                row.state,
                row.addressee,
                row.channel,
                row.available
            )
        })
    }

    /// What a tick made against what it had to make.
    pub fn compare(
        &self,
        model: &Model,
        now: Instant,
        expected: &[Expected],
        made: &[Uuid],
    ) -> Result<()> {
        // Of two with one key the states may differ, so each is taken once.
        let mut found: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
        for row in made.iter().map(|id| &self.rows[id]) {
            if row.is_news() && row.fallback_of.is_none() {
                let secret = row.secret.context("a reminder is about a secret")?;
                let key = (
                    secret,
                    row.rule.clone(),
                    row.addressee.clone(),
                    row.channel.clone(),
                );
                found.entry(key).or_default().push(row);
            }
        }
        let mut wrong = String::new();
        for asked in expected {
            let (addressee, channel) = &asked.told;
            let key = (
                asked.secret,
                asked.rule.clone(),
                addressee.clone(),
                (*channel).to_owned(),
            );
            let row = found.get_mut(&key).and_then(Vec::pop);
            // Said again after a snooze that withdrew it, but not to whom it had gone.
            if row.is_none() && self.had_gone(asked) {
                continue;
            }
            // One that is due when it had been before is due now.
            let was_due = |row: &Row| {
                row.state == "suppressed" && row.kind == "escalation" && row.rule == asked.rule
            };
            let until = match self.about(asked.secret).any(was_due) {
                true => now,
                false => asked.due,
            };
            if let Some(problem) = differs(asked, until, row) {
                writeln!(wrong, "- {problem}\n  expected {asked:?}\n  found {row:?}")?;
                writeln!(
                    wrong,
                    "  {}{}",
                    model.describe(asked.secret),
                    self.story(asked.secret)
                )?;
            }
        }
        for row in found.into_values().flatten() {
            let secret = row.secret.unwrap_or_default();
            // Looked at, and nothing was said: what a lost worker held when somebody took it on.
            let alert = model.secrets[secret].alert.as_ref();
            if row.state == "suppressed"
                && alert.is_some_and(|alert| alert.state == State::Acknowledged)
            {
                continue;
            }
            // A step that had reached nobody, and whose repeats reach somebody now.
            let of_rule = |other: &&Row| other.cycle == row.cycle && other.rule == row.rule;
            let before = self.about(secret).filter(of_rule);
            if row.kind == "escalation"
                && before.into_iter().all(|other| made.contains(&other.id))
                && model.repeats(secret, &row.rule)?
            {
                continue;
            }
            writeln!(wrong, "- nobody asked for {row:?}")?;
            writeln!(wrong, "  {}{}", model.describe(secret), self.story(secret))?;
        }
        if !wrong.is_empty() {
            bail!("the tick at {now}:\n{wrong}");
        }
        Ok(())
    }

    /// Several messages to one recipient in one tick are one, of up to twenty; one alone goes by itself.
    pub fn digests(&self, fresh: &[Uuid]) -> Result<()> {
        let mut groups: BTreeMap<(Uuid, Uuid), Vec<&Row>> = BTreeMap::new();
        let mut items: BTreeMap<Uuid, usize> = BTreeMap::new();
        for row in fresh.iter().map(|id| &self.rows[id]) {
            let goes = row.is_news() && matches!(row.state.as_str(), "queued" | "merged");
            if goes && matches!(row.channel.as_str(), "pagerduty" | "webhook") {
                ensure!(row.state == "queued", "an incident of its own: {row:?}");
            } else if goes {
                groups
                    .entry((row.tenant, row.recipient))
                    .or_default()
                    .push(row);
                if let Some(digest) = row.merged_into {
                    *items.entry(digest).or_default() += 1;
                    let digest = self.rows.get(&digest).context("a digest that was made")?;
                    ensure!(
                        digest.rule == "digest" && digest.recipient == row.recipient,
                        "{row:?} in {digest:?}"
                    );
                }
            }
        }
        for rows in groups.values() {
            let alone = rows.iter().filter(|row| row.state == "queued").count();
            ensure!(
                alone == usize::from(rows.len() % 20 == 1),
                "{alone} of {} messages to one recipient went alone: {rows:#?}",
                rows.len()
            );
        }
        for (digest, count) in items {
            ensure!((2..=20).contains(&count), "{count} items in {digest}");
        }
        Ok(())
    }
}

fn differs(asked: &Expected, until: Instant, row: Option<&Row>) -> Option<String> {
    const EXACT: SignedDuration = SignedDuration::from_millis(1);
    const LEARNT: SignedDuration = SignedDuration::from_secs(5);
    let Some(row) = row else {
        return Some("missing".to_owned());
    };
    // An escalation's follows from when a tick looked at the clock, which may have been the sidecar's.
    let may = if asked.kind == "escalation" {
        LEARNT
    } else {
        EXACT
    };
    if row.due < asked.due_from - may || row.due > until + may {
        return Some(format!("due {}", row.due));
    }
    if row.kind != asked.kind || row.cycle != Some(asked.cycle) {
        return Some(format!("{} of cycle {:?}", row.kind, row.cycle));
    }
    if !asked.states.contains(&row.state.as_str()) {
        return Some(format!(
            "{} instead of one of {:?}",
            row.state, asked.states
        ));
    }
    match asked.opens {
        Some(opens) if asked.states == DEFERRED && row.available != opens => {
            Some(format!("deferred to {} instead of {opens}", row.available))
        }
        _ => None,
    }
}
