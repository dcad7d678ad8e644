//! Text of others on one line of ours, and no longer than it may be.

/// Control characters, line and paragraph separators, marks that change the direction of text, and what can't be seen
/// become blanks. (Joiners stay: emoji and several scripts need them.)
pub fn one_line(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars()
        .map(|c| if unseen(c) { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// At most `limit` characters, the last of them an ellipsis if something was cut.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_lines_or_turns_text_around_becomes_a_blank() {
        assert_eq!(one_line(" a\r\nb\u{2028}c\u{202e}d\0 "), "a  b c d");
        assert_eq!(one_line("Schlüssel 🔑 für Kölle"), "Schlüssel 🔑 für Kölle");
    }

    #[test]
    fn what_is_cut_says_so_and_counts_characters() {
        assert_eq!(shorten("ääää", 4), "ääää");
        assert_eq!(shorten("ääääa", 4), "äää…");
        assert_eq!(shorten("ab cdef", 4), "ab…");
    }
}
