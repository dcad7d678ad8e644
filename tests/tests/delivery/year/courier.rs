//! A worker by SQL: claims, sends as the weather allows, reports. Nothing is claimed that may not go out, and nothing goes out
//! twice but what a lost worker may have sent.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use super::life::Year;
use super::people::CHANNELS;
use super::weather::Fault;
use super::zone::Instant;

struct Claim {
    id: Uuid,
    claim: Uuid,
    recipient: String,
    token: String,
}

impl Year {
    pub async fn deliver(&mut self, begun: Instant) -> Result<()> {
        for _ in 0..100 {
            let mut claims = self.claim().await?;
            if claims.is_empty() {
                break;
            }
            self.made_instead(begun).await?;
            self.withdrawn().await?;
            claims.sort_by_key(|claim| {
                let row = self.ledger.rows.get(&claim.id);
                row.map(|row| {
                    (
                        row.secret,
                        row.rule.clone(),
                        row.addressee.clone(),
                        row.channel.clone(),
                    )
                })
            });
            let mut results = Vec::new();
            for claim in &claims {
                self.may_go(claim)
                    .with_context(|| format!("{:?}", self.ledger.rows.get(&claim.id)))?;
                results.extend(self.send(claim));
            }
            let sql = "select id, accepted from rotator.complete_notifications($1)";
            for row in self
                .hands
                .worker
                .query(sql, &[&Value::from(results)])
                .await?
            {
                ensure!(
                    row.try_get::<_, bool>(1)?,
                    "the claim of {} was good",
                    row.try_get::<_, Uuid>(0)?
                );
            }
            // Of one that failed for good comes another.
            self.made_instead(begun).await?;
            self.withdrawn().await?;
            for claim in claims {
                self.hear(&claim);
            }
        }
        Ok(())
    }

    /// What died is told the same person by their next contact, in this order, and only then somebody else.
    async fn made_instead(&mut self, since: Instant) -> Result<()> {
        const ORDER: [&str; 5] = ["email", "slack", "pagerduty", "webhook", "console"];
        for id in self.ledger.made(&self.hands, &self.model, since).await? {
            let row = &self.ledger.rows[&id];
            let (Some(index), Some(dead)) = (row.secret, row.fallback_of) else {
                continue;
            };
            self.done.fallbacks += 1;
            let dead = self.ledger.rows.get(&dead).context("what died")?;
            let tenant = &self.model.tenants[self.model.secrets[index].tenant];
            let tried: Vec<&str> = self
                .ledger
                .about(index)
                .filter(|kin| {
                    (kin.cycle, &kin.rule, kin.due) == (row.cycle, &row.rule, row.due)
                        && kin.id != id
                        && kin.addressee == dead.addressee
                })
                .map(|kin| kin.channel.as_str())
                .collect();
            for channel in ORDER {
                if row.addressee == dead.addressee && row.channel == channel {
                    break;
                }
                let reached = tenant.reached(&dead.addressee, channel_named(channel));
                ensure!(
                    reached.is_empty() || tried.contains(&channel),
                    "not by {channel}, which comes first: {row:?}\n in place of {dead:?}{}",
                    self.ledger.story(index)
                );
            }
        }
        Ok(())
    }

    async fn claim(&mut self) -> Result<Vec<Claim>> {
        let sql = "select id, claim_id, recipient, coalesce(link_token, '') from rotator.claim_notifications('courier', 500)";
        let mut claims = Vec::new();
        for row in self.hands.worker.query(sql, &[]).await? {
            claims.push(Claim {
                id: row.try_get(0)?,
                claim: row.try_get(1)?,
                recipient: row.try_get(2)?,
                token: row.try_get(3)?,
            });
        }
        Ok(claims)
    }

    /// Whether what was handed out may go out now.
    fn may_go(&self, claim: &Claim) -> Result<()> {
        let row = self
            .ledger
            .rows
            .get(&claim.id)
            .context("a row that nobody made")?;
        let mut news: Vec<_> = if row.rule == "digest" {
            self.ledger.items(row.id).collect()
        } else {
            vec![row]
        };
        news.retain(|row| {
            row.is_news() && !matches!(row.state.as_str(), "suppressed" | "cancelled")
        });
        ensure!(
            row.rule != "digest" || !news.is_empty(),
            "a digest of nothing"
        );
        for row in news {
            let index = row.secret.context("about a secret")?;
            self.model
                .may_send(index, row.cycle.unwrap_or_default(), self.now)
                .with_context(|| {
                    format!(
                        "{row:?}\n{}{}",
                        self.model.describe(index),
                        self.ledger.story(index)
                    )
                })?;
            let tenant = self.model.secrets[index].tenant;
            let key = self.model.tenants[tenant].contacts.get_key_value(&(
                row.addressee.clone(),
                channel_named(&row.channel).context("a channel")?,
            ));
            if let Some(((owner, channel), contact)) = key {
                let explicit = self.model.policies(&self.model.secrets[index]);
                ensure!(
                    contact.address == claim.recipient
                        || self.model.is_named(index, &claim.recipient)
                        || self.moved.contains(&(tenant, owner.clone(), *channel))
                        || explicit
                            .iter()
                            .any(|p| p.recipient.as_ref() == Some(&claim.recipient)),
                    "sent to {:?}, not to {:?}",
                    claim.recipient,
                    contact.address
                );
            }
        }
        let sends = self.ledger.sends.get(&row.id).copied().unwrap_or_default();
        let unsaid = self.ledger.unsaid.get(&row.id).copied().unwrap_or_default();
        ensure!(
            sends <= unsaid,
            "sent {sends} times, and {unsaid} times nobody said so"
        );
        Ok(())
    }

    /// What the worker reports of it, if it lives to.
    fn send(&mut self, claim: &Claim) -> Option<Value> {
        let channel = self.ledger.rows[&claim.id].channel.clone();
        let fault = match self.bounces(claim) {
            true => Some(Fault::Failed("recipient_gone")),
            false => self.weather.fault(&mut self.chance, &channel, self.now),
        };
        if matches!(fault, None | Some(Fault::SentUnsaid)) {
            *self.ledger.sends.entry(claim.id).or_default() += 1;
        }
        let mut result = json!({"id": claim.id.to_string(), "claim_id": claim.claim.to_string(), "ok": fault.is_none()});
        match fault {
            None => {
                self.done.sent += 1;
                result["provider_message_id"] = json!(format!("sent-{}", claim.id));
            }
            Some(Fault::Failed(reason)) => {
                self.done.failed += 1;
                result["reason"] = json!(reason);
                result["error"] = json!("the vendor is away");
            }
            Some(fault) => {
                self.done.lost += 1;
                if fault == Fault::SentUnsaid {
                    *self.ledger.unsaid.entry(claim.id).or_default() += 1;
                }
                return None;
            }
        }
        Some(result)
    }

    /// Whether nobody is there any more; then the contact is gone, and stays so until somebody sets it anew.
    fn bounces(&mut self, claim: &Claim) -> bool {
        let bounces = self.bouncing.contains(&claim.recipient);
        if bounces {
            for tenant in &mut self.model.tenants {
                for contact in tenant.contacts.values_mut() {
                    if contact.address == claim.recipient {
                        contact.gone = true;
                        self.done.gone += 1;
                    }
                }
            }
        }
        bounces
    }

    /// Somebody reads it.
    fn hear(&mut self, claim: &Claim) {
        let row = &self.ledger.rows[&claim.id];
        self.done.dead += usize::from(row.state == "dead");
        if row.state != "sent" {
            return;
        }
        let items = self.ledger.items(row.id);
        let mut about: Vec<(usize, i32, bool)> = [row]
            .into_iter()
            .chain(items)
            .filter(|row| row.is_news() && matches!(row.state.as_str(), "sent" | "merged"))
            .filter_map(|row| {
                let urgent = row.kind == "escalation" || row.rule == "lead:1";
                Some((row.secret?, row.cycle?, urgent))
            })
            .collect();
        // The order of a map is nobody's seed.
        about.sort();
        for (index, cycle, urgent) in about {
            self.react(index, cycle, urgent, &claim.token);
        }
    }

    /// Until nothing is on its way any more: leases end, waits end.
    pub async fn settle(&mut self) -> Result<()> {
        for _ in 0..60 {
            let rows = self.ledger.open.iter().map(|id| &self.ledger.rows[id]);
            if rows.filter(|row| row.state != "deferred").count() == 0 {
                return Ok(());
            }
            self.hands
                .set_clock(self.now + SignedDuration::from_mins(61))?;
            self.now = self.hands.now().await?;
            self.deliver(self.now - SignedDuration::from_secs(1))
                .await?;
        }
        let left: Vec<_> = self
            .ledger
            .open
            .iter()
            .map(|id| &self.ledger.rows[id])
            .collect();
        anyhow::bail!("still on their way: {left:#?}")
    }
}

fn channel_named(name: &str) -> Option<&'static str> {
    CHANNELS.into_iter().find(|channel| *channel == name)
}
