//! What operators change while alerts are under way: contacts, hours, ladders, who is responsible; and the questions that
//! members ask meanwhile.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use uuid::Uuid;

use super::draw::{Draw, LADDERS};
use super::life::Year;
use super::people::CHANNELS;

impl Year {
    fn draw(&mut self) -> Draw<'_> {
        Draw {
            chance: &mut self.chance,
            start: self.now,
            people: self.people,
        }
    }

    pub async fn contact(&mut self, tenant: usize) -> Result<()> {
        let owner = self.draw().somebody();
        let channel = *self.chance.one_of(&CHANNELS);
        let mut draw = Draw {
            chance: &mut self.chance,
            start: self.now,
            people: self.people,
        };
        let operator = &self.hands.operators[tenant];
        draw.contact(&mut self.model.tenants[tenant], operator, &owner, channel)
            .await?;
        self.moved.insert((tenant, owner, channel));
        // Whom a ladder reaches tells when its next step is due.
        self.model.plan_tenant(tenant)
    }

    pub async fn window(&mut self, tenant: usize) -> Result<()> {
        let year = self.now.to_zoned(jiff::tz::TimeZone::UTC).year();
        let window = match self.chance.below(4) {
            0 => None,
            _ => Some(self.draw().window(year)?),
        };
        let hours = window.as_ref().map(super::zone::Window::json);
        self.hands.operators[tenant]
            .execute("select rotator.set_delivery_window($1)", &[&hours])
            .await?;
        self.model.tenants[tenant].window = window;
        self.model.plan_tenant(tenant)
    }

    /// Alerts that are open keep the one that they began with.
    pub async fn ladder(&mut self, tenant: usize) -> Result<()> {
        if tenant.is_multiple_of(2) {
            return Ok(());
        }
        let (name, priorities) = *self.chance.one_of(&LADDERS);
        let mut draw = Draw {
            chance: &mut self.chance,
            start: self.now,
            people: self.people,
        };
        let operator = &self.hands.operators[tenant];
        draw.ladder(&mut self.model.tenants[tenant], operator, name, priorities)
            .await
    }

    pub async fn hand_over(&mut self, tenant: usize) -> Result<()> {
        let (from, to) = (self.draw().somebody(), self.draw().somebody());
        if from == to {
            return Ok(());
        }
        let before = self.hands.now().await?;
        let sql = "select rotator.reassign_secrets($1, $2)";
        let count: i32 = scalar(&self.hands.editors[tenant], sql, &[&from, &to]).await?;
        for (index, secret) in self.model.secrets.iter_mut().enumerate() {
            if secret.tenant != tenant || secret.retired {
                continue;
            }
            let owners = &mut secret.owners;
            for role in [
                Some(&mut owners.owner),
                owners.secondary.as_mut(),
                owners.lead.as_mut(),
            ] {
                if let Some(role) = role.filter(|role| **role == from) {
                    role.clone_from(&to);
                    self.handed_over.insert(index);
                }
            }
        }
        ensure!(
            count as usize == self.handed_over.len(),
            "{count} went over, not {}",
            self.handed_over.len()
        );
        self.done.handed_over += self.handed_over.len();
        self.ledger.made(&self.hands, &self.model, before).await?;
        self.withdrawn().await?;
        self.handed_over.clear();
        self.model.plan_tenant(tenant)
    }

    /// Of somebody who is reached otherwise, too: whom a ladder reaches stays as it is.
    pub fn gone(&mut self, tenant: usize) -> Result<()> {
        let mut reached: HashMap<&str, usize> = HashMap::new();
        let contacts = &self.model.tenants[tenant].contacts;
        for ((owner, _), contact) in contacts {
            if !contact.gone && !self.bouncing.contains(&contact.address) {
                *reached.entry(owner).or_default() += 1;
            }
        }
        let addresses: Vec<String> = contacts
            .iter()
            .filter(|((owner, channel), contact)| {
                matches!(*channel, "email" | "slack" | "webhook")
                    && reached.get(owner.as_str()).is_some_and(|ways| *ways > 1)
                    && !contact.gone
                    && !self.bouncing.contains(&contact.address)
            })
            .map(|(_, contact)| contact.address.clone())
            .collect();
        if tenant.is_multiple_of(2) && !addresses.is_empty() {
            let address = self.chance.one_of(&addresses).clone();
            self.bouncing.insert(address);
        }
        Ok(())
    }

    /// A member asks why they were told, or weren't: each message about a secret is in the answer, as what became of it, and
    /// what wasn't sent has a reason in words.
    pub async fn answers(&mut self) -> Result<()> {
        let index = self.chance.below(self.model.secrets.len());
        let secret = &self.model.secrets[index];
        let session = &self.hands.editors[secret.tenant];
        let sql = "select channel, rule, outcome, detail is not null from rotator.explain_notifications($1)";
        let mut answers: HashMap<(String, String, String), usize> = HashMap::new();
        for row in session.query(sql, &[&secret.id]).await? {
            let (outcome, has_reason): (String, bool) = (row.try_get(2)?, row.try_get(3)?);
            ensure!(
                has_reason || outcome == "sent",
                "{outcome} without a reason"
            );
            let channel: Option<String> = row.try_get(0)?;
            let key = (channel.unwrap_or_default(), row.try_get(1)?, outcome);
            *answers.entry(key).or_default() += 1;
        }
        let sql = "select id, channel::text, rule, state from rotator_internal.notification where tenant_id = $1 and secret_id = $2";
        let tenant = self.model.tenants[secret.tenant].id;
        for row in self
            .hands
            .db
            .admin
            .query(sql, &[&tenant, &secret.id])
            .await?
        {
            let key: (String, String, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let said = answers.get_mut(&key).filter(|count| **count > 0);
            ensure!(
                said.map(|count| *count -= 1).is_some(),
                "{} {key:?} is not explained: {}",
                row.try_get::<_, Uuid>(0)?,
                self.model.describe(index)
            );
            self.done.explained += 1;
        }
        Ok(())
    }
}
