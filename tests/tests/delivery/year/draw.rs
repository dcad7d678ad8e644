//! A world by chance: tenants in several time zones, people with and without contacts, secrets of every length, priority and
//! shape; made in the model and in the product alike.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use jiff::civil::{Date, Weekday};
use jiff::{SignedDuration, Span};
use rotator_tests::{Chance, TestDb, scalar};
use serde_json::json;
use tokio_postgres::Client;

use super::hands::{Hands, system};
use super::model::{Model, Secret};
use super::people::{
    After, CHANNELS, Contact, Ladder, MANAGER, Owners, Policy, Rung, Tenant, Whom,
};
use super::zone::{Instant, Interval, Window, Zone};

const TENANTS: [(&str, &str); 4] = [
    ("acme", "UTC"),
    ("bolt", "Europe/Berlin"),
    ("crux", "America/New_York"),
    ("dyne", "Australia/Lord_Howe"),
];
pub const LADDERS: [(&str, &[u8]); 2] = [("payments", &[1, 2]), ("others", &[3])];
const INTERVALS: [Interval; 9] = [
    Interval::Days(7),
    Interval::Days(10),
    Interval::Days(30),
    Interval::Days(45),
    Interval::Days(90),
    Interval::Months(1),
    Interval::Months(2),
    Interval::Months(3),
    Interval::Months(6),
];

pub struct Draw<'a> {
    pub chance: &'a mut Chance,
    pub start: Instant,
    /// How many people a tenant has.
    pub people: usize,
}

impl Draw<'_> {
    pub async fn world(&mut self, db: TestDb, count: usize) -> Result<(Hands, Model)> {
        let mut ids = Vec::new();
        for (slug, zone) in TENANTS {
            ids.push(db.tenant_in(slug, zone).await?);
        }
        let hands = Hands::new(db, TENANTS.map(|(slug, _)| slug.to_owned()).to_vec()).await?;
        let mut model = Model {
            tenants: Vec::new(),
            secrets: Vec::new(),
        };
        for (number, (slug, zone)) in TENANTS.into_iter().enumerate() {
            let operator = &hands.operators[number];
            let mut tenant = Tenant {
                id: ids[number],
                slug: slug.to_owned(),
                zone: Zone::named(zone)?,
                window: None,
                contacts: BTreeMap::new(),
                admins: vec!["ada".to_owned(), "abe".to_owned()],
                policies: [14, 7, 1].map(every_channel).to_vec(),
                ladders: Default::default(),
            };
            for admin in &tenant.admins {
                let add = "select rotator.add_member($1, 'admin', $2)";
                operator.execute(add, &[admin, &slug]).await?;
            }
            self.contacts(&mut tenant, operator).await?;
            // Half of the tenants have ladders of their own.
            if number % 2 == 1 {
                for (name, priorities) in LADDERS {
                    self.ladder(&mut tenant, operator, name, priorities).await?;
                }
            }
            model.tenants.push(tenant);
        }
        for number in 0..count {
            let secret = self.secret(&hands, &model, number).await?;
            model.secrets.push(secret);
            model.plan(number)?;
        }
        Ok((hands, model))
    }

    /// Most people have a way or two to be reached, some none; one tenant has no manager.
    async fn contacts(&mut self, tenant: &mut Tenant, operator: &Client) -> Result<()> {
        let people = self.people;
        let mut persons: Vec<String> = (0..people).map(person).collect();
        persons.extend(["ada".to_owned()]);
        if tenant.slug != "acme" {
            persons.push(MANAGER.to_owned());
        }
        for (number, owner) in persons.into_iter().enumerate() {
            if number < people && self.chance.once_in(5) {
                continue;
            }
            let mut channels = BTreeSet::from([*self.chance.one_of(&CHANNELS)]);
            if self.chance.once_in(2) {
                channels.insert(*self.chance.one_of(&CHANNELS));
            }
            if owner == "ada" {
                channels.insert("email");
            }
            for channel in channels {
                self.contact(tenant, operator, &owner, channel).await?;
            }
        }
        Ok(())
    }

    /// A contact, or a new address of it.
    pub async fn contact(
        &mut self,
        tenant: &mut Tenant,
        operator: &Client,
        owner: &str,
        channel: &'static str,
    ) -> Result<()> {
        let address = self.address(&tenant.slug, owner, channel);
        let set = "select rotator.set_contact($1, $2, $3)";
        operator.execute(set, &[&owner, &channel, &address]).await?;
        let contact = Contact {
            address,
            gone: false,
        };
        tenant.contacts.insert((owner.to_owned(), channel), contact);
        Ok(())
    }

    fn address(&mut self, slug: &str, owner: &str, channel: &str) -> String {
        let number = self.chance.below(100_000_000);
        match channel {
            "email" => format!("{owner}.{number}@{slug}.example"),
            "slack" => format!("C{number:010}"),
            "pagerduty" => format!("{number:032x}"),
            "webhook" => format!("https://hooks.{slug}.example/{number}"),
            _ => format!("{owner} at {slug} {number}"),
        }
    }

    /// A ladder of that name for these priorities: a few steps from the last reminder, a few from the expiry.
    pub async fn ladder(
        &mut self,
        tenant: &mut Tenant,
        operator: &Client,
        name: &str,
        priorities: &[u8],
    ) -> Result<()> {
        let targets = [
            Whom::Owner,
            Whom::SecondaryOwner,
            Whom::TeamLead,
            Whom::Manager,
            Whom::Admins,
        ];
        let (mut rungs, mut steps) = (Vec::new(), Vec::new());
        for from_expiry in [false, true] {
            let mut hours = 0;
            for _ in 0..1 + self.chance.below(3) {
                hours += self.chance.below(20) as i64;
                let (after, text) = if hours < 30 {
                    (After::Hours(hours), format!("{hours} hours"))
                } else {
                    let days = (hours / 24) as i32 + 1;
                    (After::Days(days), format!("{days} days"))
                };
                let repeats = if self.chance.once_in(3) {
                    1 + self.chance.below(2) as u32
                } else {
                    0
                };
                let whom = match self.chance.below(6) {
                    0 => Whom::Address("slack", self.address(&tenant.slug, "duty", "slack")),
                    _ => self.chance.one_of(&targets).clone(),
                };
                let rung = Rung {
                    after,
                    from_expiry,
                    whom: whom.clone(),
                    channel: match self.chance.below(4) {
                        _ if matches!(whom, Whom::Address(..)) => None,
                        0 => Some(*self.chance.one_of(&CHANNELS)),
                        _ => None,
                    },
                    repeats,
                    every: SignedDuration::from_hours(36),
                };
                let mut step = match &rung.whom {
                    Whom::Address(channel, address) => {
                        json!({"after": text, "recipient": address, "channel": channel})
                    }
                    whom => json!({"after": text, "target": whom.target()}),
                };
                if from_expiry {
                    step["from"] = json!("expiry");
                }
                if let Some(channel) = rung.channel {
                    step["channel"] = json!(channel);
                }
                if repeats > 0 {
                    step["repeat_every"] = json!("36 hours");
                    step["repeats"] = json!(repeats);
                }
                steps.push(step);
                rungs.push(rung);
            }
        }
        let named: Vec<String> = priorities
            .iter()
            .map(|priority| format!("P{priority}"))
            .collect();
        let set = "select rotator.set_escalation_policy($1, $2, $3)";
        operator
            .execute(set, &[&name, &serde_json::Value::from(steps), &named])
            .await?;
        for priority in priorities {
            tenant.ladders[usize::from(priority - 1)] = Some(Ladder {
                name: name.to_owned(),
                rungs: rungs.clone(),
            });
        }
        Ok(())
    }

    /// Some person of the tenant who may own something.
    pub fn somebody(&mut self) -> String {
        person(self.chance.below(self.people))
    }

    async fn secret(&mut self, hands: &Hands, model: &Model, number: usize) -> Result<Secret> {
        let tenant = number % model.tenants.len();
        let interval = (!self.chance.once_in(20)).then(|| *self.chance.one_of(&INTERVALS));
        // Some expire soon, some have: those are announced by the next tick.
        let days = match self.chance.below(10) {
            0 => self.chance.below(14) as i64,
            _ => 1 + self.chance.below(120) as i64,
        };
        let minute = self.chance.below(24 * 60) as i64;
        let expiry = self.start + SignedDuration::from_mins(days * 24 * 60 + minute);
        let people = self.people;
        let some = |chance: &mut Chance, nobody: usize| {
            (!chance.once_in(nobody)).then(|| person(chance.below(people)))
        };
        let owners = Owners {
            owner: person(self.chance.below(people)),
            secondary: some(self.chance, 3),
            lead: some(self.chance, 3),
        };
        let priority = 1 + self.chance.below(4) as u8;
        let register = "select rotator.register_secret($1, expiry_date => $2, rotation_interval => $3::text::interval,
            owner_id => $4, priority => $5, secondary_owner_id => $6, team_lead_id => $7)";
        let id = scalar(
            &hands.editors[tenant],
            register,
            &[
                &format!("credential {number}"),
                &system(expiry),
                &interval.map(Interval::text),
                &owners.owner,
                &format!("P{priority}"),
                &owners.secondary,
                &owners.lead,
            ],
        )
        .await?;
        let mut secret = Secret {
            id,
            tenant,
            priority,
            owners,
            interval,
            expiry,
            cycle: 1,
            retired: false,
            policies: None,
            snoozed: None,
            alert: None,
            handled: BTreeSet::new(),
            wake: None,
            instants: Vec::new(),
        };
        if self.chance.once_in(8) {
            secret.policies = Some(self.policies(hands, &secret).await?);
        }
        Ok(secret)
    }

    /// Policies of its own: a few lead times, on the day and after it too.
    async fn policies(&mut self, hands: &Hands, secret: &Secret) -> Result<Vec<Policy>> {
        let mut policies = Vec::new();
        for lead in [60, 21, 3, 0, -2] {
            if lead != 3 && self.chance.once_in(2) {
                continue;
            }
            let mut policy = every_channel(lead);
            match self.chance.below(4) {
                0 => policy.channel = Some(*self.chance.one_of(&CHANNELS)),
                1 => {
                    policy.channel = Some("slack");
                    policy.recipient = Some(self.address("team", "desk", "slack"));
                }
                _ => {}
            }
            let add = "select rotator.add_notification_policy($1, $2, $3, $4)";
            hands.operators[secret.tenant]
                .execute(
                    add,
                    &[&lead, &policy.channel, &policy.recipient, &secret.id],
                )
                .await?;
            policies.push(policy);
        }
        ensure!(!policies.is_empty(), "three days at least");
        Ok(policies)
    }

    /// Hours that are never the ones at which clocks change.
    pub fn window(&mut self, year: i16) -> Result<Window> {
        let week = [
            Weekday::Monday,
            Weekday::Tuesday,
            Weekday::Wednesday,
            Weekday::Thursday,
            Weekday::Friday,
            Weekday::Saturday,
            Weekday::Sunday,
        ];
        let from = 60 * (6 + self.chance.below(5) as i64) + 15 * self.chance.below(4) as i64;
        let to = from + 60 * (2 + self.chance.below(9) as i64);
        let mut holidays = BTreeSet::new();
        for _ in 0..self.chance.below(20) {
            let day = self.chance.below(365) as i32;
            holidays.insert(Date::new(year, 1, 1)?.checked_add(Span::new().days(day))?);
        }
        Ok(Window {
            days: week[..3 + self.chance.below(5)].to_vec(),
            from,
            to,
            holidays,
        })
    }
}

fn every_channel(lead: i32) -> Policy {
    Policy {
        lead,
        channel: None,
        recipient: None,
    }
}

fn person(number: usize) -> String {
    format!("person-{number}")
}
