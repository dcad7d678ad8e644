//! Settings from pairs and files, without touching the environment of this process.

use super::sources::Sources;
use super::*;
use std::path::Path;

fn settings(pairs: &[(&str, &str)], toml: &Path) -> Result<Settings, ConfigError> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Settings::from_sources(&Sources::assemble(pairs, Vec::new(), toml)?)
}

fn nowhere() -> &'static Path {
    Path::new("/nonexistent/rotator.toml")
}

fn message(result: Result<Settings, ConfigError>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(error) => format!("{error} | {}", error.hint()),
    }
}

#[test]
fn defaults_need_nothing_and_links_hang_below_the_public_url() {
    let plain = settings(&[], nowhere()).unwrap();
    assert_eq!(plain.link("t"), "http://127.0.0.1:8080/a/t");
    let public = settings(
        &[("ROTATOR_PUBLIC_URL", "https://x.test/rotator/")],
        nowhere(),
    )
    .unwrap();
    assert_eq!(public.link("t"), "https://x.test/rotator/a/t");
    assert!(
        plain
            .database_url()
            .err()
            .unwrap()
            .to_string()
            .contains("ROTATOR_DATABASE_URL")
    );
}

#[test]
fn environment_wins_over_toml_and_files_are_read() {
    let folder = std::env::temp_dir().join(format!("rotator-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let token = folder.join("token");
    std::fs::write(&token, "xoxb-from-file\n").unwrap();
    let toml = folder.join("rotator.toml");
    std::fs::write(
        &toml,
        format!("listen = \"127.0.0.1:1\"\negress_allow = [\"10.0.0.0/8\"]\nslack_bot_token_file = {token:?}\n"),
    )
    .unwrap();
    let loaded = settings(&[("ROTATOR_LISTEN", "127.0.0.1:2")], &toml).unwrap();
    assert_eq!(loaded.listen.port(), 2);
    assert_eq!(loaded.egress_allow.len(), 1);
    assert_eq!(loaded.slack_bot_token.unwrap().expose(), "xoxb-from-file");

    std::fs::write(&toml, "lisen = \"127.0.0.1:1\"\n").unwrap();
    let text = message(settings(&[], &toml));
    assert!(
        text.contains("unknown setting lisen in") && text.contains("did you mean listen?"),
        "{text}"
    );
    std::fs::write(&toml, "smtp_url = smtp://user:hunter2@host\n").unwrap();
    let text = message(settings(&[], &toml));
    assert!(
        text.contains("not valid TOML near line 1") && !text.contains("hunter2"),
        "{text}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn mistakes_are_named_with_a_hint_and_secrets_are_not_quoted() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("ROTATOR_LISTEN", "8080")],
            "ROTATOR_LISTEN: \"8080\" is not an address and port | write address",
        ),
        (
            &[("ROTATOR_PUBLIC_URL", "ftp://x")],
            "ROTATOR_PUBLIC_URL: it must begin with https://",
        ),
        (
            &[("ROTATOR_PUBLIC_URL", "https://u:p@x")],
            "must not hold a user or password",
        ),
        (
            &[("ROTATOR_EGRESS_ALLOW", "10.0.0.0/8, nonsense")],
            "\"nonsense\" is not a network",
        ),
        (
            &[("ROTATOR_SLACK_BOT_TOKN", "x")],
            "did you mean ROTATOR_SLACK_BOT_TOKEN?",
        ),
        (
            &[("ROTATOR_SMTP_URL", "a"), ("ROTATOR_SMTP_URL_FILE", "b")],
            "keep one of the two",
        ),
        (
            &[("ROTATOR_SMTP_URL_FILE", "/nonexistent")],
            "can't read /nonexistent",
        ),
        (
            &[("ROTATOR_CONFIG", "/nonexistent.toml")],
            "ROTATOR_CONFIG names it",
        ),
        (
            &[("ROTATOR_SLACK_BOT_TOKEN", "xoxb\n1")],
            "ROTATOR_SLACK_BOT_TOKEN: it holds a control character",
        ),
    ];
    for (pairs, expected) in cases {
        let text = message(settings(pairs, nowhere()));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_kubernetes_injects_is_ignored_and_reserved_names_are_reported() {
    let loaded = settings(
        &[
            ("ROTATOR_SERVICE_HOST", "10.0.0.1"),
            ("ROTATOR_OIDC_ISSUER", "https://x"),
        ],
        nowhere(),
    )
    .unwrap();
    assert_eq!(loaded.ignored, ["ROTATOR_SERVICE_HOST"]);
    assert_eq!(loaded.unused, ["OIDC_ISSUER"]);
    assert!(loaded.set.is_empty());
}

#[test]
fn names_of_what_is_set_are_known_for_the_log_and_formats_are_two() {
    let loaded = settings(
        &[
            ("ROTATOR_SMTP_URL", "smtp://user:hunter2@mail.test"),
            ("ROTATOR_LOG_FORMAT", "json"),
            ("ROTATOR_METRICS_LISTEN", "127.0.0.1:9090"),
        ],
        nowhere(),
    )
    .unwrap();
    assert_eq!(loaded.set, ["METRICS_LISTEN", "LOG_FORMAT", "SMTP_URL"]);
    assert_eq!(loaded.log_format, Some(Format::Json));
    let text = message(settings(&[("ROTATOR_LOG_FORMAT", "xml")], nowhere()));
    assert!(
        text.contains("\"xml\" is neither text nor json | write text or json"),
        "{text}"
    );
}
