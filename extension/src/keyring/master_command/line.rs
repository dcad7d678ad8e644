//! Taking the setting apart, and looking at the program it names.
//!
//! Words are separated as a shell separates them: by blanks, with single quotes, double quotes and backslashes. Nothing
//! is expanded: `$`, `*`, `~`, `|` and the like are characters.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Failed;

/// The words of a command line.
pub fn words(line: &str) -> Result<Vec<String>, Failed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match character {
            blank if blank.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or(Failed::OpenQuote)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or(Failed::OpenQuote)? {
                        '"' => break,
                        '\\' => match rest.next().ok_or(Failed::OpenQuote)? {
                            special @ ('"' | '\\' | '$' | '`') => word.push(special),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(rest.next().ok_or(Failed::OpenQuote)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Refuses a program that somebody else than root or the server's user could have written.
pub fn check_program(program: &str, server_user: u32) -> Result<(), Failed> {
    if !Path::new(program).is_absolute() {
        return Err(Failed::NotAbsolute);
    }
    let metadata = std::fs::metadata(program)
        .map_err(|error| Failed::NotRunnable(error.kind().to_string()))?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        Err(Failed::NotAFile)
    } else if metadata.uid() != server_user && metadata.uid() != 0 {
        Err(Failed::WrongOwner(metadata.uid()))
    } else if mode & 0o022 != 0 {
        Err(Failed::TooOpen(mode))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell_without_expansion() {
        let cases: [(&str, &[&str]); 10] = [
            ("", &[]),
            (" \t\n ", &[]),
            ("/bin/a", &["/bin/a"]),
            ("  /bin/a  b\tc\n", &["/bin/a", "b", "c"]),
            (
                "/bin/a 'b c' \"d e\" f\\ g",
                &["/bin/a", "b c", "d e", "f g"],
            ),
            ("/bin/a '' \"\"", &["/bin/a", "", ""]),
            ("a'b'\"c\"d", &["abcd"]),
            (
                r#"'a\b"c' "a'b\"c\\d\e\$" \'"#,
                &[r#"a\b"c"#, r#"a'b"c\d\e$"#, "'"],
            ),
            (
                "/bin/a $HOME * ~ | > x; & `id` $(id)",
                &[
                    "/bin/a", "$HOME", "*", "~", "|", ">", "x;", "&", "`id`", "$(id)",
                ],
            ),
            ("/bin/ä 'ö ü'", &["/bin/ä", "ö ü"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).expect("words"), expected, "{line}");
        }
        for line in ["/bin/a 'b", "/bin/a \"b", "/bin/a b\\", "\"\\"] {
            assert_eq!(words(line), Err(Failed::OpenQuote), "{line}");
        }
    }

    #[test]
    fn a_program_that_others_could_have_written_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("rotator-program-{}", std::process::id()));
        std::fs::write(&path, "#!/bin/sh\n").expect("writes");
        let uid = std::fs::metadata(&path).expect("stats").uid();
        let name = path.to_str().expect("utf-8");
        let with_mode = |mode: u32, server: u32| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
            check_program(name, server)
        };
        assert_eq!(with_mode(0o755, uid), Ok(()));
        for mode in [0o775, 0o757, 0o722] {
            assert_eq!(with_mode(mode, uid), Err(Failed::TooOpen(mode)));
        }
        if uid != 0 {
            assert_eq!(with_mode(0o755, uid + 1), Err(Failed::WrongOwner(uid)));
        }
        std::fs::remove_file(&path).expect("removes");
        assert_eq!(check_program("/", uid), Err(Failed::NotAFile));
        assert_eq!(check_program("bin/a", uid), Err(Failed::NotAbsolute));
    }
}
