//! Text that came from outside and is about to be shown: made printable, cut, or withheld.
//!
//! A failed row is reported by its name, but a name may be the very secret value that made it fail. What looks like one
//! is not shown. The rule here is only about what the terminal repeats; what may be stored is decided in the database.

/// Longest run of letters and digits that a name may hold and still be shown.
const LONGEST_PLAIN_RUN: usize = 20;

/// One line without control or invisible characters: white space becomes one space, anything else U+FFFD.
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(|c| {
            if is_unprintable(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        }));
    }
    line
}

/// Control characters, and those that take no room, reorder the line or hide what follows.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// At most `limit` characters, the last of them `…` when something was cut.
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// The name as it may be shown in a report, or nothing when it could be a secret value.
pub fn presentable(name: &str) -> Option<String> {
    let name = printable(name);
    (!name.is_empty() && !is_suspicious(&name)).then(|| cut(&name, 80))
}

/// Long unbroken runs that mix digits and letters, keys in PEM, and tokens by their first letters.
fn is_suspicious(text: &str) -> bool {
    const OPENINGS: [&str; 12] = [
        "-----begin",
        "eyj",
        "akia",
        "asia",
        "ghp_",
        "gho_",
        "github_pat_",
        "glpat-",
        "xox",
        "sk_",
        "sk-",
        "rk_",
    ];
    let lower = text.to_ascii_lowercase();
    if lower.contains("private key") || lower.contains("hooks.slack.com/services/") {
        return true;
    }
    lower
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ':' | ',' | ';'))
        .any(|word| {
            let opening = OPENINGS.iter().any(|opening| word.starts_with(opening));
            (opening && word.len() >= 16)
                || word
                    .split(|c: char| !c.is_alphanumeric())
                    .any(is_long_mixed_run)
        })
}

fn is_long_mixed_run(run: &str) -> bool {
    run.chars().count() > LONGEST_PLAIN_RUN
        && run.chars().any(|c| c.is_ascii_digit())
        && run.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_is_one_clean_line() {
        assert_eq!(printable(" a\tb\r\n c "), "a b c");
        assert_eq!(
            printable("pay\u{200b}roll\u{202e}\u{1b}[31m"),
            "pay\u{fffd}roll\u{fffd}\u{fffd}[31m"
        );
        assert_eq!(
            printable("Staat der Nederlanden – Größe"),
            "Staat der Nederlanden – Größe"
        );
    }

    #[test]
    fn cut_counts_characters() {
        assert_eq!(cut("größe", 5), "größe");
        assert_eq!(cut("größer", 5), "größ…");
        assert_eq!(cut("ab cd", 4), "ab…");
    }

    #[test]
    fn ordinary_names_are_presentable() {
        for name in [
            "stripe-prod-payments-webhook-2026",
            "AAA Certificate Services (d7a7a0fb)",
            "0192f7a1-7b1c-7c3e-9a43-2f1f6c0d9e11",
            "sk_live key for billing",
            "Internationalisierungsschlüssel",
        ] {
            assert_eq!(presentable(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_may_be_a_value_is_withheld() {
        for name in [
            "ghp_abcdefghijklmnopqrst",
            "key=wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
            "-----BEGIN RSA PRIVATE KEY-----",
            "token eyJhbGciOiJIUzI1NiJ9.e30.x",
            "",
            " \u{0}",
        ] {
            assert!(
                presentable(name).is_none_or(|shown| shown == "\u{fffd}"),
                "{name:?}"
            );
        }
    }
}
