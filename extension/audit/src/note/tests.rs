//! Notes and verifier keys: the example of the specification, there and back, and what is refused.

use super::*;

/// The verifier key of Go's `golang.org/x/mod/sumdb/note`, whose format signed-note is.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn key() -> VerifierKey {
    VerifierKey::new("rotator.example", [5; 32]).expect("a name")
}

fn note() -> String {
    compose(&body(&[7; 16], 12, &[9; 32]), &key(), &[3; 64])
}

#[test]
fn reads_the_key_of_the_reference_implementation() {
    let key = VerifierKey::parse(PETER).expect("a verifier key");
    assert_eq!(key.name(), "PeterNeumann");
    assert_eq!(key.id(), [0xc7, 0x4f, 0x20, 0xa3]);
    assert_eq!(key.to_string(), PETER);
}

#[test]
fn keys_that_are_not_whole_are_refused() {
    for (text, error) in [
        ("", NoteError::Key),
        ("PeterNeumann", NoteError::Key),
        ("PeterNeumann+c74f20a3", NoteError::Key),
        ("PeterNeumann+c74f20a3+ARpc", NoteError::Key),
        (
            "PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            NoteError::Key,
        ),
        (
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            NoteError::KeyHash,
        ),
        (
            "OtherNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            NoteError::KeyHash,
        ),
        (
            "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            NoteError::Algorithm,
        ),
        (
            "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            NoteError::KeyName,
        ),
    ] {
        assert_eq!(VerifierKey::parse(text), Err(error), "{text}");
    }
    for name in ["", "two words", "a+b", "a\nb", "a\u{a0}b"] {
        assert_eq!(
            VerifierKey::new(name, [0; 32]),
            Err(NoteError::KeyName),
            "{name:?}"
        );
    }
}

#[test]
fn the_text_is_what_the_specification_says() {
    let id = STANDARD.encode([&key().id()[..], &[3; 64]].concat());
    assert_eq!(
        note(),
        format!(
            "rotator/audit/07070707-0707-0707-0707-070707070707\n12\n\
             CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n\n\u{2014} rotator.example {id}\n"
        )
    );
}

#[test]
fn a_note_is_taken_apart_as_it_was_put_together() {
    let text = note();
    let note = Note::parse(&text).expect("a note");
    assert_eq!(
        (note.tenant, note.number, note.hash),
        ([7; 16], 12, [9; 32])
    );
    assert_eq!(note.body, body(&[7; 16], 12, &[9; 32]));
    let signatures: Vec<_> = note.signatures_by(&key()).collect();
    assert_eq!(signatures.len(), 1);
    assert_eq!(signatures[0].signature, [3; 64]);
    let other = VerifierKey::new("rotator.example", [6; 32]).expect("a name");
    assert_eq!(note.signatures_by(&other).count(), 0);
}

#[test]
fn any_other_form_is_refused() {
    let good = note();
    let bad = [
        String::new(),
        good.replace("\n\n", "\n"),
        good.replace("\n\n", "\nmore\n\n"),
        good.replace("12\n", "012\n"),
        good.replace("12\n", "+12\n"),
        good.replace("12\n", "-1\n"),
        good.replace("rotator/audit", "rotator/other"),
        good.replace("07070707-", "07070707"),
        good.replace("CQk=", "CQ=="),
        good.replace('\n', "\r\n"),
        good.replace('\u{2014}', "-"),
        good.trim_end().to_owned(),
        format!("{good}\n"),
        format!("{good}trailing"),
        format!(" {good}"),
    ];
    for text in bad {
        assert!(Note::parse(&text).is_err(), "{text:?}");
    }
}
