//! The sentences about one secret, by kind. Every text that comes from outside goes through `one_line` here.

use super::facts::{Acknowledged, Ended, Facts, How, Secret};
use super::{Kind, Message, MessageError, one_line, shorten};

/// Longest name that goes into a subject line; the full name follows below it.
pub const NAME_IN_SUBJECT: usize = 80;
/// Of people, tenants and the like; longer ones are no names.
pub const PERSON_LIMIT: usize = 80;
/// The database takes 256.
const NAME_LIMIT: usize = 300;
const KIND_LIMIT: usize = 60;
const PURPOSE_LIMIT: usize = 300;
const REOPENED: &str = "reopened";

/// One message about one secret.
pub fn render(kind: Kind, facts: &Facts, link: Option<String>) -> Result<Message, MessageError> {
    let name = name_of(&facts.secret)?;
    let days = facts.days_until_expiry;
    let overdue = facts.overdue.unwrap_or(days < 0);
    let short = shorten(&name, NAME_IN_SUBJECT);
    let subject = match kind {
        Kind::Test => format!("[Test] {short} {}", countdown(days, overdue)),
        Kind::Acknowledge => format!("{short} is acknowledged{}", by(facts.acknowledged.as_ref())),
        Kind::Resolve => format!("{short} {}", ended(facts.ended.as_ref())),
        Kind::Escalation if facts.acknowledged.is_none() => {
            format!(
                "{short} {}, and nobody has taken it on",
                countdown(days, overdue)
            )
        }
        Kind::Reminder if is_reopened(facts) => {
            format!(
                "{short} {} and is still not rotated",
                countdown(days, overdue)
            )
        }
        _ => format!("{short} {}", countdown(days, overdue)),
    };
    let secret_id = facts.secret.id.as_deref().map(one_line);
    let thread = match &secret_id {
        Some(id) => format!("{id}.{}", facts.cycle.unwrap_or(0)),
        None => format!("{}.{}", kind.name(), one_line(&facts.notification_id)),
    };
    Ok(Message {
        kind,
        subject,
        what: what(&name, &facts.secret),
        when: when(kind, facts, overdue),
        todo: todo(kind, facts, overdue),
        who: who(facts),
        why: why(kind, facts, overdue),
        link,
        priority: facts.secret.priority.as_deref().map(one_line),
        urgent: overdue || days <= 0,
        overdue,
        secret_id,
        cycle: facts.cycle,
        items: Vec::new(),
        rest: None,
        thread,
    })
}

pub fn name_of(secret: &Secret) -> Result<String, MessageError> {
    secret
        .name
        .as_deref()
        .map(|name| shorten(&one_line(name), NAME_LIMIT))
        .ok_or(MessageError::Undecipherable)
}

/// Somebody, as he is called.
pub fn person(name: &str) -> String {
    shorten(&one_line(name), PERSON_LIMIT)
}

/// Days as people count them. What ended earlier today is not "expires today".
pub fn countdown(days: i64, overdue: bool) -> String {
    match days {
        2.. => format!("expires in {days} days"),
        1 => "expires tomorrow".to_owned(),
        0 if overdue => "expired today".to_owned(),
        0 => "expires today".to_owned(),
        -1 => "expired yesterday".to_owned(),
        _ => format!("expired {} days ago", days.unsigned_abs()),
    }
}

/// `stripe-prod (stripe, production)`
pub fn title(name: &str, secret: &Secret) -> String {
    let kind: Vec<String> = [&secret.provider_type, &secret.environment]
        .into_iter()
        .flatten()
        .map(|text| shorten(&one_line(text), KIND_LIMIT))
        .collect();
    if kind.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({})", kind.join(", "))
    }
}

fn what(name: &str, secret: &Secret) -> String {
    let mut text = title(name, secret);
    for (mark, detail) in [(": ", &secret.purpose), (" · ", &secret.provider_ref)] {
        if let Some(detail) = detail.as_deref().filter(|detail| !detail.trim().is_empty()) {
            text.push_str(mark);
            text.push_str(&shorten(&one_line(detail), PURPOSE_LIMIT));
        }
    }
    text
}

fn when(kind: Kind, facts: &Facts, overdue: bool) -> String {
    let verb = match (kind, overdue) {
        (Kind::Resolve, _) if how(facts) == Some(How::Retired) => "Would have expired",
        (Kind::Resolve, _) => "Expires next",
        (_, true) => "Expired",
        (_, false) => "Expires",
    };
    format!("{verb} {}", one_line(&facts.expiry_local))
}

fn todo(kind: Kind, facts: &Facts, overdue: bool) -> String {
    let then = if facts.has_interval {
        "then confirm it with the link."
    } else {
        "then confirm it with the link and give the new expiry date."
    };
    if let (Some(snoozed), Kind::Reminder | Kind::Escalation) = (&facts.snoozed, kind) {
        let until = one_line(&snoozed.until);
        return format!(
            "Snoozed until {until}{}. Rotate it, {then}",
            named(snoozed.by.as_deref())
        );
    }
    match kind {
        Kind::Test => {
            let asked = facts
                .requested_by
                .as_deref()
                .map(|by| format!(" that {} asked for", person(by)))
                .unwrap_or_default();
            format!(
                "This is a test{asked}: nothing needs rotating. Open the link once to see that it works."
            )
        }
        Kind::Resolve => "Nothing is left to do.".to_owned(),
        Kind::Escalation if facts.acknowledged.is_none() => {
            let when = if overdue { "now" } else { "before then" };
            format!(
                "Nobody has taken it on. Rotate it {when}, {then} Not yours to rotate? Make sure that somebody does."
            )
        }
        _ => match (&facts.acknowledged, overdue) {
            (Some(acknowledged), _) => format!(
                "Acknowledged{}, not rotated yet. Rotate it, {then}",
                by(Some(acknowledged))
            ),
            (None, true) => format!("Rotate it now, {then}"),
            (None, false) => {
                format!("Rotate it before then, {then} Not yet? Acknowledge it there.")
            }
        },
    }
}

pub fn by(acknowledged: Option<&Acknowledged>) -> String {
    named(acknowledged.and_then(|acknowledged| acknowledged.by.as_deref()))
}

pub fn named(who: Option<&str>) -> String {
    who.map(|by| format!(" by {}", person(by)))
        .unwrap_or_default()
}

fn how(facts: &Facts) -> Option<How> {
    facts.ended.as_ref().map(|ended| ended.how)
}

pub fn ended(ended: Option<&Ended>) -> String {
    match ended.map(|ended| ended.how) {
        Some(How::Retired) => "is retired".to_owned(),
        Some(How::Moved) => "is not due any more".to_owned(),
        Some(How::Rotated) | None => {
            let by = named(ended.and_then(|ended| ended.by.as_deref()));
            format!("was rotated{by}")
        }
    }
}

fn who(facts: &Facts) -> String {
    let mut parts = Vec::new();
    if let Some(owner) = &facts.secret.owner_id {
        parts.push(format!("Owner {}", person(owner)));
    }
    parts.extend(facts.secret.priority.as_deref().map(person));
    if let Some(interval) = &facts.interval_text {
        parts.push(format!("every {}", person(interval)));
    }
    parts.push(person(&facts.tenant.name));
    parts.join(" · ")
}

fn is_reopened(facts: &Facts) -> bool {
    facts.rule.as_deref() == Some(REOPENED) && facts.acknowledged.is_none()
}

/// Why it is sent now, and why to them, where that isn't plain.
fn why(kind: Kind, facts: &Facts, overdue: bool) -> Option<String> {
    let mut sentences = match kind {
        Kind::Reminder => reminder_reasons(facts, overdue),
        Kind::Escalation => ladder_reason(facts).into_iter().collect(),
        _ => return None,
    };
    if facts.is_fallback {
        sentences.push(
            "It comes this way because another message about it could not be delivered.".to_owned(),
        );
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn reminder_reasons(facts: &Facts, overdue: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if is_reopened(facts) {
        let who = facts.acknowledged_last.as_deref().map(person);
        reasons.push(format!(
            "{} had acknowledged it until now.",
            who.as_deref().unwrap_or("Somebody")
        ));
    } else if let Some(lead) = facts.lead_time_days {
        let distance = match lead.unsigned_abs() {
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        reasons.push(match lead {
            0 if overdue => "This is the reminder for the day it expired.".to_owned(),
            1.. if overdue => {
                format!("This is the reminder for {distance} before it expired; it comes late.")
            }
            0 => "This is the reminder for the day it expires.".to_owned(),
            1.. => format!("This is the reminder for {distance} before it expires."),
            _ => format!("This is the reminder for {distance} after it expires."),
        });
    }
    let owner = facts.secret.owner_id.as_deref();
    if let (Some(told), Some(owner), false) = (facts.addressee.as_deref(), owner, facts.is_fallback)
        && told != owner
    {
        let (told, owner) = (person(told), person(owner));
        reasons.push(format!("{told} is told because {owner} has no contact."));
    }
    reasons
}

/// Of `escalation:payments:2`.
fn ladder_reason(facts: &Facts) -> Option<String> {
    let (ladder, step) = facts
        .rule
        .as_deref()?
        .strip_prefix("escalation:")?
        .rsplit_once(':')?;
    let (ladder, step) = (person(ladder), person(step));
    let told = facts.addressee.as_deref().map(person);
    let told = told.map_or_else(String::new, |told| format!("{told} is told: "));
    Some(match ladder.as_str() {
        "built-in" => format!("{told}step {step} of the built-in ladder."),
        ladder => format!("{told}step {step} of the ladder {ladder}."),
    })
}
