//! The sentences about a key rotation that failed, doesn't move, or can't start: what a tenant's admins are told. There is
//! no link: what has to be done is done by command or in SQL, and the database says how (`sql/api/key_alert.sql`).

use super::facts::{KeyRotation, Rotation, RotationState};
use super::words::person;
use super::{Kind, Message, one_line, shorten};

/// Longest error and longest advice: what names columns and rows must not push aside what to do about them.
const TEXT_LIMIT: usize = 600;

/// One message about one rotation.
pub fn render(facts: &KeyRotation) -> Message {
    let tenant = person(&facts.tenant.name);
    let advice = facts.fix.as_deref().map_or("", str::trim);
    let todo = if advice.is_empty() {
        "See how it stands: rotator keys status --rotations".to_owned()
    } else {
        shorten(&one_line(advice), TEXT_LIMIT)
    };
    Message {
        kind: Kind::KeyRotation,
        subject: format!("Key rotation of {tenant} {}", became(facts)),
        what: what(facts),
        when: when(facts),
        todo,
        who: who(facts, tenant),
        why: None,
        link: None,
        priority: None,
        urgent: facts.state == RotationState::Failed,
        overdue: facts.state == RotationState::Overdue,
        secret_id: None,
        cycle: None,
        items: Vec::new(),
        rest: None,
        thread: thread(facts),
    }
}

fn became(facts: &KeyRotation) -> String {
    let Some(rotation) = facts.rotation.as_ref() else {
        return match facts.state {
            RotationState::Failed => "failed".to_owned(),
            RotationState::Stalled => "is stalled".to_owned(),
            RotationState::Overdue => "is overdue: it can't start".to_owned(),
        };
    };
    let total = grouped(rotation.total);
    match facts.state {
        RotationState::Failed if rotation.failed > 0 => format!(
            "failed: {} of {total} {} could not be re-encrypted",
            grouped(rotation.failed),
            rows(rotation.total)
        ),
        RotationState::Failed if rotation.total > 0 => {
            format!("failed: {}", progress(rotation))
        }
        RotationState::Failed => "failed".to_owned(),
        RotationState::Stalled => format!("is stalled: {}", progress(rotation)),
        RotationState::Overdue => "is overdue".to_owned(),
    }
}

/// `9,997 of 10,000 rows done`
fn progress(rotation: &Rotation) -> String {
    format!(
        "{} of {} {} done",
        grouped(rotation.done),
        grouped(rotation.total),
        rows(rotation.total)
    )
}

fn what(facts: &KeyRotation) -> String {
    let error = facts.error.as_deref().map(one_line).unwrap_or_default();
    let error = shorten(&error, TEXT_LIMIT);
    let rotation = facts.rotation.as_ref().map(|rotation| {
        format!(
            "Key version {} to {}",
            rotation.from_version, rotation.to_version
        )
    });
    match (rotation, error.is_empty()) {
        (Some(rotation), false) => format!("{rotation}: {error}"),
        (Some(rotation), true) => rotation,
        (None, false) => error,
        (None, true) => "It is said nowhere why.".to_owned(),
    }
}

fn when(facts: &KeyRotation) -> String {
    let since = facts.since_local.as_deref().map(one_line);
    let begun = facts
        .rotation
        .as_ref()
        .map(|rotation| one_line(&rotation.started_local));
    let verb = match facts.state {
        RotationState::Failed => "Failed",
        RotationState::Stalled => "No progress since",
        RotationState::Overdue => "Tried again",
    };
    match (since, begun) {
        (Some(since), Some(begun)) => format!("{verb} {since}, started {}", beside(&begun, &since)),
        (Some(since), None) => format!("{verb} {since}"),
        (None, Some(begun)) => format!("Started {begun}"),
        (None, None) => "It has not started.".to_owned(),
    }
}

/// Of a local time what another one doesn't say already: neither its zone nor the day they share.
fn beside<'a>(text: &'a str, other: &str) -> &'a str {
    let text = text.split(" (").next().unwrap_or(text);
    match (text.split_once(", "), other.split_once(", ")) {
        (Some((day, hour)), Some((other_day, _))) if day == other_day => hour,
        _ => text,
    }
}

fn who(facts: &KeyRotation, tenant: String) -> String {
    match &facts.rotation {
        Some(rotation) => format!(
            "{tenant} · rotation {} · {}",
            rotation.id,
            progress(rotation)
        ),
        None => tenant,
    }
}

/// One a rotation. Numbers of rotations repeat in other databases, tenants' ids don't.
fn thread(facts: &KeyRotation) -> String {
    let tenant = one_line(&facts.tenant_id);
    match &facts.rotation {
        Some(rotation) => format!("key_rotation.{tenant}.{}", rotation.id),
        None => format!("key_rotation.{tenant}.{}", facts.state.name()),
    }
}

const fn rows(count: u64) -> &'static str {
    if count == 1 { "row" } else { "rows" }
}

/// `10,000`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::delivery::message::tests::{key_rotation_facts, render};

    #[test]
    fn a_failure_says_how_many_rows_which_when_and_what_to_do() {
        let message = render(&key_rotation_facts("failed"));
        assert_eq!(
            message.subject,
            "Key rotation of Acme failed: 3 of 10,000 rows could not be re-encrypted"
        );
        assert_eq!(
            message.what,
            "Key version 3 to 4: public.customers.token, row 17: the ciphertext is not authentic; 2 more rows"
        );
        assert_eq!(
            message.when,
            "Failed Sun 22 Nov 2026, 20:31 (Europe/Berlin), started 20:10"
        );
        assert_eq!(
            message.todo,
            "Mend these rows, then select rotator.retry_key_rotation(7)"
        );
        assert_eq!(message.who, "Acme · rotation 7 · 9,997 of 10,000 rows done");
        assert_eq!(message.thread, "key_rotation.0193.7");
        assert!(message.urgent && !message.overdue && message.link.is_none());
    }

    #[test]
    fn a_stall_says_how_far_it_got_and_since_when() {
        let message = render(&key_rotation_facts("stalled"));
        assert_eq!(
            message.subject,
            "Key rotation of Acme is stalled: 9,997 of 10,000 rows done"
        );
        assert!(message.when.starts_with("No progress since Sun 22 Nov"));
        assert_eq!(message.thread, "key_rotation.0193.7", "one a rotation");
        let mut long = key_rotation_facts("stalled");
        long["since_local"] = json!("Tue 1 Dec 2026, 09:00 (Europe/Berlin)");
        assert_eq!(
            render(&long).when,
            "No progress since Tue 1 Dec 2026, 09:00 (Europe/Berlin), started Sun 22 Nov 2026, 20:10"
        );
        assert!(!message.urgent);
    }

    #[test]
    fn one_that_can_not_start_has_no_number() {
        let mut facts = key_rotation_facts("overdue");
        facts["rotation"] = json!(null);
        let message = render(&facts);
        assert_eq!(
            message.subject,
            "Key rotation of Acme is overdue: it can't start"
        );
        assert!(message.what.starts_with("public.customers.token"));
        assert_eq!(
            message.when,
            "Tried again Sun 22 Nov 2026, 20:31 (Europe/Berlin)"
        );
        assert_eq!(
            (message.who.as_str(), message.thread.as_str()),
            ("Acme", "key_rotation.0193.overdue")
        );
        assert!(message.overdue && !message.urgent);
    }

    #[test]
    fn numbers_read_like_a_sentence() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(grouped(12_345_678), "12,345,678");
        let mut facts = key_rotation_facts("failed");
        for (total, done, failed, subject) in [
            (1, 0, 1, "failed: 1 of 1 row could not be re-encrypted"),
            (5, 4, 0, "failed: 4 of 5 rows done"),
            (0, 0, 0, "failed"),
        ] {
            facts["rotation"]["total"] = json!(total);
            facts["rotation"]["done"] = json!(done);
            facts["rotation"]["failed"] = json!(failed);
            let subject = format!("Key rotation of Acme {subject}");
            assert_eq!(render(&facts).subject, subject);
        }
    }

    #[test]
    fn what_the_database_left_out_is_not_made_up() {
        let mut facts = key_rotation_facts("stalled");
        for field in ["error", "fix", "since_local"] {
            facts[field] = json!(null);
        }
        let message = render(&facts);
        assert_eq!(message.what, "Key version 3 to 4");
        assert_eq!(
            message.when,
            "Started Sun 22 Nov 2026, 20:10 (Europe/Berlin)"
        );
        assert!(message.todo.ends_with("rotator keys status --rotations"));
    }

    #[test]
    fn names_of_columns_and_rows_stay_on_their_line_and_leave_room_for_advice() {
        let mut facts = key_rotation_facts("failed");
        facts["error"] = json!("row \r\nBcc: eve@evil.example\u{202e}".repeat(200));
        facts["tenant"]["name"] = json!("A\n".repeat(200));
        let message = render(&facts);
        for text in [&message.subject, &message.what, &message.who] {
            assert!(!text.contains(['\r', '\n', '\u{202e}']), "{text}");
        }
        assert!(message.subject.chars().count() < 160);
        assert!(message.what.chars().count() <= TEXT_LIMIT + 40);
    }
}
