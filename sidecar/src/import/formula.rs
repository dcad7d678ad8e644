//! Text that a spreadsheet would run as a formula is given an apostrophe when it is written to CSV, and loses it again
//! when CSV is read.
//!
//! Text that already looks so (apostrophes before a formula) gets one more, so that reading gives back exactly what was
//! written. See OWASP, "CSV Injection"; the full-width forms are formulas in East Asian versions.

/// Whether `text`, behind apostrophes and white space, begins like a formula.
fn is_formula(text: &str) -> bool {
    let first = text
        .trim_start_matches('\'')
        .chars()
        .find(|c| !c.is_whitespace() || matches!(c, '\t' | '\r' | '\n'));
    matches!(
        first,
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠')
    )
}

/// The text as it goes into a cell.
pub fn disarm(text: String) -> String {
    if is_formula(&text) {
        format!("'{text}")
    } else {
        text
    }
}

/// The text that a cell stands for.
pub fn restore(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_formula(text) => text,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_disarmed() {
        for text in [
            "=1+1", "+1", "-1", "@x", "  =1", "\t=1", "\rx", "＝1", "\u{a0}=1", "'=1", "''-",
        ] {
            assert_eq!(disarm(text.into()), format!("'{text}"));
        }
        for text in ["", "a=1", "a-b", "'a", " a", "'", "''"] {
            assert_eq!(disarm(text.into()), text);
        }
    }

    #[test]
    fn and_come_back_as_they_were() {
        for text in [
            "=1+1", "'=1", "''=1", "'", "", "'a", "-", "\t", "' =1", "a", "'\u{a0}@", "\n",
        ] {
            assert_eq!(restore(&disarm(text.into())), text, "{text:?}");
        }
    }
}
