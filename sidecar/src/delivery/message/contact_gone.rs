//! The sentences about a contact whose vendor says that nobody is there any more: what a tenant's admins are told. There is
//! no link: somebody has to find out the new address, and sets it in SQL. Who is told, and when: `sql/api/contact_gone.sql`.

use super::facts::ContactGone;
use super::words::{NAME_IN_SUBJECT, person};
use super::{Kind, Message, one_line, shorten};

/// Owners that are named; of more only how many.
const NAMED: usize = 5;

/// One message about one address.
pub fn render(facts: &ContactGone) -> Message {
    let tenant = person(&facts.tenant.name);
    let channel = shorten(&one_line(&facts.contact.channel), 20);
    let hint = facts
        .contact
        .hint
        .as_deref()
        .map(person)
        .unwrap_or_default();
    let owner = facts.contact.owners.first().map_or("", String::as_str);
    let owner = shorten(&one_line(owner), NAME_IN_SUBJECT);
    let others = facts.contact.owners.len().saturating_sub(1);
    let whose = match others {
        0 => owner.clone(),
        others => format!("{owner} and {others} more"),
    };
    let secrets = match facts.secrets {
        1 => "1 secret".to_owned(),
        count => format!("{count} secrets"),
    };
    let what = match hint.is_empty() {
        true => format!("{channel} of {}", names(&facts.contact.owners)),
        false => format!("{channel} {hint} of {}", names(&facts.contact.owners)),
    };
    Message {
        kind: Kind::ContactGone,
        subject: format!("The {channel} contact of {whose} is gone"),
        what: format!("{what}: its vendor says that nobody is there any more"),
        when: facts
            .since_local
            .as_deref()
            .map_or_else(String::new, |since| format!("Since {}", one_line(since))),
        todo: format!(
            "Reminders about {secrets} pass it over. Set another, or the same once it works: select rotator.set_contact('{}', '{channel}', …)",
            owner.replace('\'', "''")
        ),
        who: tenant,
        why: None,
        link: None,
        priority: None,
        urgent: false,
        overdue: false,
        secret_id: None,
        cycle: None,
        items: Vec::new(),
        rest: None,
        thread: format!(
            "contact_gone.{}.{}",
            one_line(&facts.tenant_id),
            one_line(&facts.contact.id)
        ),
    }
}

fn names(owners: &[String]) -> String {
    let named: Vec<String> = owners
        .iter()
        .take(NAMED)
        .map(|owner| shorten(&one_line(owner), NAME_IN_SUBJECT))
        .collect();
    let named = named.join(", ");
    match owners.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::delivery::message::tests::{contact_gone_facts, render};

    #[test]
    fn it_says_whose_which_since_when_and_what_to_do() {
        let message = render(&contact_gone_facts());
        assert_eq!(message.subject, "The email contact of dana is gone");
        assert_eq!(
            message.what,
            "email …@acme.example of dana: its vendor says that nobody is there any more"
        );
        assert_eq!(message.when, "Since Sun 22 Nov 2026, 20:31 (Europe/Berlin)");
        assert_eq!(
            message.todo,
            "Reminders about 3 secrets pass it over. Set another, or the same once it works: select rotator.set_contact('dana', 'email', …)"
        );
        assert_eq!((message.who.as_str(), message.link), ("Acme", None));
        assert_eq!(message.thread, "contact_gone.0193.0194");
    }

    #[test]
    fn many_owners_and_hostile_ones_stay_one_short_line() {
        let mut facts = contact_gone_facts();
        facts["contact"]["owners"] = json!(
            (0..50)
                .map(|n| format!("o'wner\r\n\u{202e}{n}{}", "x".repeat(300)))
                .collect::<Vec<_>>()
        );
        facts["contact"]["hint"] = json!(null);
        facts["secrets"] = json!(1);
        let message = render(&facts);
        assert!(
            message.subject.ends_with("and 49 more is gone"),
            "{}",
            message.subject
        );
        assert!(message.what.contains(" and 45 more: "), "{}", message.what);
        assert!(
            message.todo.contains("set_contact('o''wner"),
            "{}",
            message.todo
        );
        for text in [&message.subject, &message.what, &message.todo] {
            assert!(
                text.chars().count() < 800 && !text.contains(['\r', '\n', '\u{202e}']),
                "{text}"
            );
        }
    }
}
