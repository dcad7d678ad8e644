//! The model's tenants: who is reached where, and by which policies and ladders.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use uuid::Uuid;

use super::zone::{Window, Zone};

pub const CHANNELS: [&str; 5] = ["console", "email", "pagerduty", "slack", "webhook"];
pub const MANAGER: &str = "manager";

pub struct Tenant {
    pub id: Uuid,
    pub slug: String,
    pub zone: Zone,
    pub window: Option<Window>,
    /// Whether a vendor has said of the address that nobody is there.
    pub contacts: BTreeMap<(String, &'static str), Contact>,
    /// Subjects of its admins.
    pub admins: Vec<String>,
    pub policies: Vec<Policy>,
    /// By priority, from P1.
    pub ladders: [Option<Ladder>; 4],
}

pub struct Contact {
    pub address: String,
    pub gone: bool,
}

/// A reminder so many days before: to the owner, over one channel or each.
#[derive(Clone, Debug)]
pub struct Policy {
    pub lead: i32,
    pub channel: Option<&'static str>,
    /// Not the owner but this address.
    pub recipient: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    pub name: String,
    pub rungs: Vec<Rung>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    Hours(i64),
    /// Of the tenant's wall.
    Days(i32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rung {
    pub after: After,
    pub from_expiry: bool,
    pub whom: Whom,
    pub channel: Option<&'static str>,
    /// How often after the first time, and how long in between.
    pub repeats: u32,
    pub every: SignedDuration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Whom {
    Owner,
    SecondaryOwner,
    TeamLead,
    Manager,
    Admins,
    /// The first of owner, team lead, manager and admins who has a pager.
    Pager,
    /// Nobody by name, but an address on a channel; whoever reads it acts as the owner.
    Address(&'static str, String),
}

impl Whom {
    /// As a step of `set_escalation_policy` names them.
    pub fn target(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::SecondaryOwner => "secondary_owner",
            Self::TeamLead => "team_lead",
            Self::Manager => "manager",
            Self::Admins | Self::Pager | Self::Address(..) => "admins",
        }
    }
}

/// The owners of a secret.
#[derive(Clone, Debug)]
pub struct Owners {
    pub owner: String,
    pub secondary: Option<String>,
    pub lead: Option<String>,
}

/// Somebody on a channel.
pub type Told = (String, &'static str);

impl Tenant {
    /// Where this person is reached, over that channel or any.
    pub fn reached(&self, person: &str, channel: Option<&'static str>) -> Vec<Told> {
        CHANNELS
            .into_iter()
            .filter(|name| channel.is_none_or(|wanted| wanted == *name))
            .filter(|name| {
                self.contacts
                    .get(&(person.to_owned(), *name))
                    .is_some_and(|contact| !contact.gone)
            })
            .map(|name| (person.to_owned(), name))
            .collect()
    }

    /// Who is told when the policies reach nobody: the first of these who has a contact, else the operator's console.
    pub fn instead(&self, owners: &Owners) -> Vec<Told> {
        let in_turn = [
            Some(owners.owner.as_str()),
            owners.secondary.as_deref(),
            owners.lead.as_deref(),
            Some(MANAGER),
        ]
        .into_iter()
        .flatten()
        .map(|person| self.reached(person, None));
        let admins = self.of_admins(None);
        in_turn
            .chain([admins])
            .find(|reached| !reached.is_empty())
            .unwrap_or_else(|| vec![(owners.owner.clone(), "console")])
    }

    pub fn of_admins(&self, channel: Option<&'static str>) -> Vec<Told> {
        self.admins
            .iter()
            .flat_map(|admin| self.reached(admin, channel))
            .collect()
    }

    /// Who is told by a reminder of that many days.
    pub fn reminded(&self, policies: &[Policy], lead: i32, owners: &Owners) -> Vec<Told> {
        let mut told = Vec::new();
        for policy in policies.iter().filter(|policy| policy.lead == lead) {
            match (&policy.recipient, policy.channel) {
                (Some(_), Some(channel)) => told.push((owners.owner.clone(), channel)),
                _ => told.extend(self.reached(&owners.owner, policy.channel)),
            }
        }
        told.sort();
        if told.is_empty() {
            told = self.instead(owners);
        }
        told
    }

    /// Who is told by a step of a ladder; nobody, and it is passed over.
    pub fn escalated(&self, rung: &Rung, owners: &Owners) -> Vec<Told> {
        let person = |who: Option<&String>| {
            who.map(|who| self.reached(who, rung.channel))
                .unwrap_or_default()
        };
        match &rung.whom {
            Whom::Owner => person(Some(&owners.owner)),
            Whom::SecondaryOwner => person(owners.secondary.as_ref()),
            Whom::TeamLead => person(owners.lead.as_ref()),
            Whom::Manager => person(Some(&MANAGER.to_owned())),
            Whom::Admins => self.of_admins(rung.channel),
            Whom::Address(channel, _) => vec![(owners.owner.clone(), channel)],
            Whom::Pager => [
                self.reached(&owners.owner, rung.channel),
                owners
                    .lead
                    .as_ref()
                    .map(|lead| self.reached(lead, rung.channel))
                    .unwrap_or_default(),
                self.reached(MANAGER, rung.channel),
                self.of_admins(rung.channel),
            ]
            .into_iter()
            .find(|reached| !reached.is_empty())
            .unwrap_or_default(),
        }
    }

    /// Where this person is reached.
    pub fn address_of(&self, person: &str, channel: &'static str) -> String {
        self.contacts
            .get(&(person.to_owned(), channel))
            .map(|contact| contact.address.clone())
            .unwrap_or_default()
    }

    /// The ladder of that priority.
    pub fn ladder(&self, priority: u8) -> Ladder {
        self.ladders[usize::from(priority - 1)]
            .clone()
            .unwrap_or_else(|| built_in(priority))
    }
}

/// What escalates without any set-up.
pub fn built_in(priority: u8) -> Ladder {
    let rung = |hours, from_expiry, whom, channel| Rung {
        after: After::Hours(hours),
        from_expiry,
        whom,
        channel,
        repeats: 0,
        every: SignedDuration::ZERO,
    };
    let mut rungs = vec![
        rung(4, false, Whom::SecondaryOwner, None),
        rung(8, false, Whom::TeamLead, None),
    ];
    if priority == 1 {
        rungs.push(rung(24, true, Whom::Manager, None));
        rungs.push(rung(24, true, Whom::Pager, Some("pagerduty")));
    }
    Ladder {
        name: "built-in".to_owned(),
        rungs,
    }
}
