//! The sentences about many secrets at once: what an import brought that is late already, in one message instead of a
//! storm, and what came due together for one recipient. The most urgent ones are listed with a link each.

use super::facts::{Counts, Entry, Gathering, Summary, Turns};
use super::words::{NAME_IN_SUBJECT, by, countdown, ended, name_of, named, person, title};
use super::{Item, Kind, Message, MessageError, Pages, Turn, one_line, shorten};

/// More than these are not listed, whatever the database sends: a message is no report.
const ITEM_LIMIT: usize = 20;
/// Longest text about one secret in the list; what became of it comes before the cut.
const TITLE_LIMIT: usize = 120;
const WHEN_LIMIT: usize = 160;
/// Longest name of an owner in the list.
const OWNER_LIMIT: usize = 60;
const UNREADABLE: &str = "(its name can't be decrypted)";

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
        .map(|entry| item(entry, only_owner(&summary.items).is_none(), pages))
        .collect();
    let hidden = counts.total.saturating_sub(items.len() as u64);
    let (when, todo) = match items.first() {
        Some(first) => (
            format!("Most urgent: {} {}.", first.what, first.when),
            "Rotate each, then confirm it with its link. Not yet? Acknowledge it there.",
        ),
        None if counts.total == 0 => (
            match summary.rule {
                Gathering::Backlog => "Since the import all of them were taken care of.",
                Gathering::Digest => "All of them were taken care of meanwhile.",
            }
            .to_owned(),
            "Nothing is left to do.",
        ),
        None => return Err(MessageError::Shape),
    };
    Ok(Message {
        kind: Kind::Summary,
        subject: match summary.rule {
            Gathering::Backlog => subject(counts),
            Gathering::Digest => digest_subject(summary),
        },
        what: what(summary),
        when,
        todo: todo.to_owned(),
        who: who(summary),
        why: None,
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

/// What became of what one listed.
pub fn turns(turns: &Turns, pages: &Pages) -> Vec<Item> {
    let owners_differ = only_owner(&turns.items).is_none();
    turns
        .items
        .iter()
        .map(|entry| item(entry, owners_differ, pages))
        .collect()
}

fn what(summary: &Summary) -> String {
    let escalations = summary
        .items
        .iter()
        .filter(|entry| is_escalation(entry))
        .count();
    match summary.rule {
        Gathering::Backlog => "They were imported when they were already late or nearly so.",
        Gathering::Digest if escalations == 0 => "They came due together; the most urgent is first.",
        Gathering::Digest if escalations == summary.items.len() => {
            "Nobody has taken them on; the most urgent is first."
        }
        Gathering::Digest => {
            "They came due together, and some of them nobody has taken on; the most urgent is first."
        }
    }
    .to_owned()
}

fn is_escalation(entry: &Entry) -> bool {
    entry.kind.as_deref() == Some("escalation")
}

/// `stripe-prod expires tomorrow, and 2 more credentials need attention: 1 overdue`
fn digest_subject(summary: &Summary) -> String {
    let Some(first) = summary.items.first() else {
        return "No credential needs attention any more".to_owned();
    };
    let overdue = first.overdue.unwrap_or(first.days_until_expiry < 0);
    let name = name_of(&first.secret).unwrap_or_else(|_| UNREADABLE.to_owned());
    let lead = format!(
        "{} {}",
        shorten(&name, NAME_IN_SUBJECT),
        countdown(first.days_until_expiry, overdue)
    );
    match summary.counts.total.saturating_sub(1) {
        0 => lead,
        1 => format!("{lead}, and 1 more credential to rotate"),
        more => format!("{lead}, and {more} more credentials to rotate"),
    }
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

fn item(entry: &Entry, owners_differ: bool, pages: &Pages) -> Item {
    // One that can't be read must not hold up the others; its page says more.
    let name = name_of(&entry.secret).unwrap_or_else(|_| UNREADABLE.to_owned());
    let overdue = entry.overdue.unwrap_or(entry.days_until_expiry < 0);
    // The date is enough in a list; its page has the hour and the time zone.
    let local = one_line(&entry.expiry_local);
    let day = local.split(',').next().unwrap_or_default();
    let day = day.split_once(' ').map_or(day, |(_weekday, date)| date);
    let countdown = countdown(entry.days_until_expiry, overdue);
    let (turn, mut when) = match (&entry.ended, &entry.acknowledged, &entry.snoozed) {
        (Some(how), ..) => (
            Turn::Ended,
            format!("{} · {countdown}, {day}", ended(Some(how))),
        ),
        (None, Some(taken), _) => (
            Turn::Acknowledged,
            format!("acknowledged{} · {countdown}, {day}", by(Some(taken))),
        ),
        (None, None, Some(snoozed)) => {
            let until = one_line(&snoozed.until);
            let by = named(snoozed.by.as_deref());
            (
                Turn::Snoozed,
                format!("snoozed until {until}{by} · {countdown}, {day}"),
            )
        }
        (None, None, None) => (Turn::Open, format!("{countdown}, {day}")),
    };
    if let Some(owner) = entry.secret.owner_id.as_deref().filter(|_| owners_differ) {
        when.push_str(&format!(
            " · owner {}",
            shorten(&one_line(owner), OWNER_LIMIT)
        ));
    }
    if is_escalation(entry) && turn == Turn::Open {
        when.push_str(" · nobody has taken it on");
    }
    Item {
        id: entry.notification_id.as_deref().map(one_line),
        what: shorten(&title(&name, &entry.secret), TITLE_LIMIT),
        when: shorten(&when, WHEN_LIMIT),
        overdue: overdue && turn != Turn::Ended,
        turn,
        link: entry.link_token.as_deref().map(|token| pages.of(token)),
        name,
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
    let tenant = person(&summary.tenant.name);
    match only_owner(&summary.items) {
        Some(owner) => format!("Owner {owner} · {tenant}"),
        None => tenant,
    }
}

/// Whose they all are, if they are one person's.
fn only_owner(items: &[Entry]) -> Option<String> {
    let owner = |entry: &Entry| entry.secret.owner_id.as_deref().map(person);
    let first = items.first().and_then(owner)?;
    items
        .iter()
        .all(|entry| owner(entry).as_ref() == Some(&first))
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{digest_facts, render, summary_facts, try_render};
    use super::*;

    #[test]
    fn a_summary_lists_the_most_urgent_and_says_how_to_see_the_rest() {
        let message = render(&summary_facts(37, 12));
        assert_eq!(
            message.subject,
            "37 imported credentials need attention: 12 overdue, 25 expiring soon"
        );
        assert_eq!(message.items.len(), 20);
        let first = &message.items[0];
        assert_eq!(first.what, "key-0 (stripe, production)");
        assert_eq!(first.when, "expired 400 days ago, 17 Oct 2025");
        assert_eq!(first.link.as_deref(), Some("https://x.test/a/token-0"));
        assert!(first.overdue && !message.items[12].overdue);
        assert_eq!(message.items[12].when, "expires tomorrow, 17 Oct 2025");
        assert_eq!(
            message.rest.as_deref(),
            Some(
                "17 more are not listed here. See all with: rotator secrets list --status overdue and rotator secrets list --status expiring_soon"
            )
        );
        assert_eq!(message.who, "Owner alice · Acme");
        assert_eq!(
            (message.link, message.thread.as_str()),
            (None, "summary.0190")
        );
    }

    #[test]
    fn small_summaries_read_like_sentences() {
        let one = render(&summary_facts(1, 1));
        assert_eq!(
            (one.subject.as_str(), one.rest),
            ("1 imported credential needs attention: 1 overdue", None)
        );
        let soon = render(&summary_facts(21, 0));
        assert_eq!(
            soon.subject,
            "21 imported credentials need attention: 21 expiring soon"
        );
        assert!(!soon.overdue && soon.rest.unwrap().starts_with("1 more is not listed"));
        let none = render(&summary_facts(0, 0));
        assert_eq!(
            none.subject,
            "No imported credential needs attention any more"
        );
        assert_eq!(none.todo, "Nothing is left to do.");
    }

    #[test]
    fn what_came_due_together_begins_with_the_most_urgent() {
        let three = render(&digest_facts(3, 1, 0));
        assert_eq!(
            three.subject,
            "key-0 expired 400 days ago, and 2 more credentials to rotate"
        );
        assert_eq!(
            three.what,
            "They came due together; the most urgent is first."
        );
        assert_eq!(three.items[1].when, "expires tomorrow, 17 Oct 2025");
        assert_eq!(
            (three.who.as_str(), three.rest),
            ("Owner alice · Acme", None)
        );
        assert!(three.urgent);
        let two = render(&digest_facts(2, 0, 0));
        assert_eq!(
            two.subject,
            "key-0 expires tomorrow, and 1 more credential to rotate"
        );
        let one = render(&digest_facts(1, 0, 0));
        assert_eq!(one.subject, "key-0 expires tomorrow");
        let none = render(&digest_facts(0, 0, 0));
        assert_eq!(none.subject, "No credential needs attention any more");
        assert_eq!(none.when, "All of them were taken care of meanwhile.");
    }

    #[test]
    fn a_list_says_whose_each_is_and_what_nobody_has_taken_on() {
        let mut facts = digest_facts(3, 0, 1);
        facts["items"][2]["secret"]["owner_id"] = json!("bob");
        let message = render(&facts);
        let whens: Vec<&str> = message
            .items
            .iter()
            .map(|item| item.when.as_str())
            .collect();
        assert_eq!(
            whens,
            [
                "expires tomorrow, 17 Oct 2025 · owner alice · nobody has taken it on",
                "expires in 2 days, 17 Oct 2025 · owner alice",
                "expires in 3 days, 17 Oct 2025 · owner bob",
            ]
        );
        assert!(message.what.contains("some of them nobody has taken on"));
        assert_eq!(
            render(&digest_facts(2, 0, 2)).what,
            "Nobody has taken them on; the most urgent is first."
        );
    }

    #[test]
    fn one_unreadable_name_does_not_hold_up_a_summary_but_all_of_them_do() {
        let mut facts = summary_facts(2, 2);
        facts["items"][0]["secret"]["name"] = json!(null);
        let message = render(&facts);
        assert!(message.items[0].what.contains("can't be decrypted"));
        assert_eq!(message.items[1].what, "key-1 (stripe, production)");
        facts["items"][1]["secret"]["name"] = json!(null);
        assert_eq!(try_render(&facts), Err(MessageError::Undecipherable));
    }

    #[test]
    fn owners_that_differ_are_not_summed_up_as_one() {
        let mut facts = summary_facts(2, 2);
        facts["items"][1]["secret"]["owner_id"] = json!("bob");
        assert_eq!(render(&facts).who, "Acme");
    }
}
