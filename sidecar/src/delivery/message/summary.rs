//! The sentences about many secrets at once: what an import brought that is late already, in one message instead of a
//! storm. The most urgent ones are listed with a link each.

use super::facts::{Counts, Entry, Summary};
use super::words::{countdown, name_of, title};
use super::{Item, Kind, Message, MessageError, Pages, one_line, shorten};

/// More than these are not listed, whatever the database sends: a message is no report.
const ITEM_LIMIT: usize = 20;
/// Longest text about one secret in the list.
const TITLE_LIMIT: usize = 120;

/// One message about all of them.
pub fn render(summary: &Summary, pages: &Pages) -> Result<Message, MessageError> {
    let counts = &summary.counts;
    if !summary.items.is_empty()
        && summary
            .items
            .iter()
            .all(|entry| entry.secret.name.is_none())
    {
        return Err(MessageError::Undecipherable);
    }
    let items: Vec<Item> = summary
        .items
        .iter()
        .take(ITEM_LIMIT)
        .map(|entry| item(entry, pages))
        .collect();
    let hidden = counts.total.saturating_sub(items.len() as u64);
    let (when, todo) = match items.first() {
        Some(first) => (
            format!("Most urgent: {} {}.", first.what, first.when),
            "Rotate each, then confirm it with its link. Not yet? Acknowledge it there.",
        ),
        None if counts.total == 0 => (
            "Since the import all of them were taken care of.".to_owned(),
            "Nothing is left to do.",
        ),
        None => return Err(MessageError::Shape),
    };
    Ok(Message {
        kind: Kind::Summary,
        subject: subject(counts),
        what: "They were imported when they were already late or nearly so.".to_owned(),
        when,
        todo: todo.to_owned(),
        who: who(summary),
        link: None,
        priority: None,
        urgent: counts.overdue > 0,
        overdue: counts.overdue > 0,
        secret_id: None,
        cycle: None,
        items,
        rest: rest(counts, hidden),
        thread: format!("summary.{}", one_line(&summary.notification_id)),
    })
}

fn subject(counts: &Counts) -> String {
    let subject = match counts.total {
        0 => "No imported credential needs attention any more".to_owned(),
        1 => "1 imported credential needs attention".to_owned(),
        total => format!("{total} imported credentials need attention"),
    };
    let parts = parts(counts);
    if parts.is_empty() {
        subject
    } else {
        format!("{subject}: {parts}")
    }
}

fn parts(counts: &Counts) -> String {
    let parts: Vec<String> = [
        (counts.overdue, "overdue"),
        (counts.expiring_soon, "expiring soon"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, state)| format!("{count} {state}"))
    .collect();
    parts.join(", ")
}

fn item(entry: &Entry, pages: &Pages) -> Item {
    // One that can't be read must not hold up the others; its page says more.
    let name =
        name_of(&entry.secret).unwrap_or_else(|_| "(its name can't be decrypted)".to_owned());
    let overdue = entry.overdue.unwrap_or(entry.days_until_expiry < 0);
    // The date is enough in a list; its page has the hour and the time zone.
    let local = one_line(&entry.expiry_local);
    let day = local.split(',').next().unwrap_or_default();
    let day = day.split_once(' ').map_or(day, |(_weekday, date)| date);
    Item {
        what: shorten(&title(&name, &entry.secret), TITLE_LIMIT),
        when: format!("{}, {day}", countdown(entry.days_until_expiry, overdue)),
        overdue,
        link: entry.link_token.as_deref().map(|token| pages.of(token)),
    }
}

fn rest(counts: &Counts, hidden: u64) -> Option<String> {
    let states: Vec<&str> = [
        (counts.overdue, "overdue"),
        (counts.expiring_soon, "expiring_soon"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(_, state)| state)
    .collect();
    let commands: Vec<String> = states
        .iter()
        .map(|state| format!("rotator secrets list --status {state}"))
        .collect();
    (hidden > 0).then(|| {
        format!(
            "{hidden} more {} not listed here. See all with: {}",
            if hidden == 1 { "is" } else { "are" },
            commands.join(" and ")
        )
    })
}

fn who(summary: &Summary) -> String {
    let tenant = one_line(&summary.tenant.name);
    let owner = |entry: &Entry| entry.secret.owner_id.as_deref().map(one_line);
    let first = summary.items.first().and_then(owner);
    match first {
        Some(first)
            if summary
                .items
                .iter()
                .all(|entry| owner(entry).as_ref() == Some(&first)) =>
        {
            format!("Owner {first} · {tenant}")
        }
        _ => tenant,
    }
}
