//! A worker by SQL: claims, sends as the weather allows, reports. Nothing is claimed that may not go out, and nothing goes out
//! twice but what a lost worker may have sent.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

use super::life::Year;
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
            self.ledger.made(&self.hands, &self.model, begun).await?;
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
            self.ledger.made(&self.hands, &self.model, begun).await?;
            self.withdrawn().await?;
            for claim in claims {
                self.hear(&claim);
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
        let of_digest = self
            .ledger
            .rows
            .values()
            .filter(|item| item.merged_into == Some(row.id));
        let mut news: Vec<_> = if row.rule == "digest" {
            of_digest.collect()
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
                match row.channel.as_str() {
                    "slack" => "slack",
                    "email" => "email",
                    "pagerduty" => "pagerduty",
                    _ => "console",
                },
            ));
            if let Some(((owner, channel), contact)) = key {
                let explicit = self.model.policies(&self.model.secrets[index]);
                ensure!(
                    contact.address == claim.recipient
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
        let channel = &self.ledger.rows[&claim.id].channel;
        let fault = self.weather.fault(&mut self.chance, channel, self.now);
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

    /// Somebody reads it.
    fn hear(&mut self, claim: &Claim) {
        let row = &self.ledger.rows[&claim.id];
        self.done.dead += usize::from(row.state == "dead");
        if row.state != "sent" {
            return;
        }
        let id = row.id;
        let mut about: Vec<(usize, i32, bool)> = self
            .ledger
            .rows
            .values()
            .filter(|row| row.is_news() && (row.id == id || row.merged_into == Some(id)))
            .filter_map(|row| {
                Some((
                    row.secret?,
                    row.cycle?,
                    row.kind == "escalation" || row.rule == "lead:1",
                ))
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
