//! Text of others on one line of ours, and no longer than it may be: nothing in it breaks the line, turns it around,
//! speaks to a terminal, or hangs on to what stands before it.

/// Combining marks on one character that are kept; more only climb over other lines.
const MARKS: usize = 4;

/// Control characters, line and paragraph separators, marks that change the direction of text, and what can't be seen
/// become blanks. (Joiners and variation selectors stay: emoji and several scripts need them.) Combining marks without a
/// character of their own are left out: they would change one of ours.
pub fn one_line(text: &str) -> String {
    // Most text has nothing of all that.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.trim().to_owned();
    }
    let mut line = String::with_capacity(text.len());
    let mut marks = MARKS;
    for c in text.chars() {
        if is_mark(c) {
            marks += 1;
            if marks > MARKS {
                continue;
            }
            line.push(c);
        } else if is_unseen(c) {
            marks = MARKS;
            line.push(' ');
        } else {
            // What a mark on a blank would look like is nobody's business either.
            marks = if c.is_whitespace() || is_joiner(c) {
                MARKS
            } else {
                0
            };
            line.push(c);
        }
    }
    line.trim().to_owned()
}

/// At most `limit` characters, the last of them an ellipsis if something was cut; never between a character and what
/// belongs to it.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let Some((mut end, _)) = text.char_indices().nth(limit.saturating_sub(1)) else {
        return text.to_owned();
    };
    if text[end..].chars().nth(1).is_none() {
        return text.to_owned();
    }
    // A mark, a joiner or a skin tone at the cut belongs to what stands before it.
    while let (Some(next), Some(last)) =
        (text[end..].chars().next(), text[..end].chars().next_back())
        && (belongs_before(next) || is_joiner(last))
    {
        end -= last.len_utf8();
    }
    format!("{}…", text[..end].trim_end())
}

/// What a reader can't see, or what moves the rest of the line: as the database refuses it in names (`sql/api/text.sql`),
/// but for joiners.
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Combining marks that any script may carry (Unicode's blocks of them); those of one script are part of its words.
const fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

const fn belongs_before(c: char) -> bool {
    is_mark(c) || is_joiner(c) || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_lines_or_turns_text_around_becomes_a_blank() {
        assert_eq!(one_line(" a\r\nb\u{2028}c\u{202e}d\0 "), "a  b c d");
        assert_eq!(
            one_line("a\u{1b}[31mred\u{9b}2J\u{7f}\u{85}b"),
            "a [31mred 2J  b"
        );
        assert_eq!(
            one_line("a\u{ad}b\u{200b}c\u{2066}d\u{2069}e\u{feff}f\u{e0041}g"),
            "a b c d e f g"
        );
        for kept in [
            "Schlüssel 🔑 für Kölle",
            "👩\u{200d}🔧 ☎\u{fe0f}",
            "می\u{200c}خواهم",
            "データ",
        ] {
            assert_eq!(one_line(kept), kept);
        }
    }

    #[test]
    fn marks_stand_on_a_character_of_their_own_and_do_not_pile_up() {
        assert_eq!(one_line("\u{338}x"), "x");
        assert_eq!(one_line("\n\u{338}x \u{301}y"), "x y");
        assert_eq!(one_line("e\u{301}"), "e\u{301}");
        let pile = format!("z{}!", "\u{36f}".repeat(100));
        assert_eq!(one_line(&pile).chars().count(), 2 + MARKS);
        assert_eq!(one_line(&"\u{301}".repeat(50)), "");
    }

    #[test]
    fn what_is_cut_says_so_and_counts_characters() {
        assert_eq!(shorten("ääää", 4), "ääää");
        assert_eq!(shorten("ääääa", 4), "äää…");
        assert_eq!(shorten("ab cdef", 4), "ab…");
        assert_eq!(
            (shorten("", 4).as_str(), shorten("a", 1).as_str()),
            ("", "a")
        );
        assert_eq!(shorten("abc", 1), "…");
    }

    #[test]
    fn nothing_is_cut_in_its_middle() {
        assert_eq!(shorten("abe\u{301}def", 4), "ab…");
        assert_eq!(shorten("ab👩\u{200d}🔧cdef", 5), "ab…");
        assert_eq!(shorten("ab👍\u{1f3fd}cdef", 4), "ab…");
        assert_eq!(shorten(&"\u{301}".repeat(9), 4), "…");
    }
}
