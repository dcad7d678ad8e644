//! Hand-written cases: vendors' keys as their documentation shows them, and what only resembles a secret. The examples are
//! made up; none was ever a key. Each is put together at run time, so that no scanner mistakes this file for a leak.

use crate::guard::{find, random, vendors};

/// `length` bytes cycling through `alphabet`.
fn run(alphabet: &str, length: usize) -> String {
    alphabet.chars().cycle().take(length).collect()
}

fn hex(length: usize) -> String {
    run("0123456789abcdef", length)
}

fn upper(length: usize) -> String {
    run("Q7MZ2KX9", length)
}

fn alnum(length: usize) -> String {
    run("aB3dE6gH9jK2", length)
}

fn examples() -> Vec<(&'static str, String)> {
    let token = |prefix: &str, body: String| format!("{prefix}{body}");
    vec![
        ("aws-access-key", token("AKIA", upper(16))),
        ("aws-access-key", token("ASIA", upper(16))),
        ("aws-access-key", token("AKIA", run("QWERTZUIOPASDFGH", 16))),
        ("gcp-api-key", token("AIza", alnum(35))),
        ("google-oauth-token", token("ya29.", alnum(60))),
        ("google-oauth-secret", token("GOCSPX-", alnum(28))),
        ("azure-client-secret", format!("abc8Q~{}", alnum(34))),
        (
            "azure-storage-key",
            format!("DefaultEndpointsProtocol=https;AccountKey={}==", alnum(86)),
        ),
        ("digitalocean-token", token("dop_v1_", hex(64))),
        ("databricks-token", token("dapi", hex(32))),
        (
            "terraform-token",
            format!("{}.atlasv1.{}", alnum(14), alnum(67)),
        ),
        ("supabase-key", token("sbp_", hex(40))),
        ("github-token", token("ghp_", alnum(36))),
        ("github-token", token("gho_", alnum(36))),
        ("github-token", token("ghu_", alnum(36))),
        ("github-token", token("ghs_", alnum(36))),
        ("github-token", token("ghr_", alnum(76))),
        (
            "github-token",
            format!("github_pat_{}_{}", alnum(22), alnum(59)),
        ),
        ("gitlab-token", token("glpat-", alnum(20))),
        ("npm-token", token("npm_", alnum(36))),
        ("pypi-token", token("pypi-AgEIcHlwaS5vcmc", alnum(70))),
        ("docker-token", token("dckr_pat_", alnum(27))),
        ("postman-key", format!("PMAK-{}-{}", hex(24), hex(34))),
        (
            "slack-token",
            format!("xoxb-{}-{}-{}", "1234567890", "1234567890123", alnum(24)),
        ),
        (
            "slack-token",
            format!("xapp-1-A{}-{}-{}", upper(10), "1234567890123", hex(64)),
        ),
        (
            "slack-webhook",
            format!(
                "https://hooks.slack.com/services/T{}/B{}/{}",
                upper(9),
                upper(10),
                alnum(24)
            ),
        ),
        ("telegram-bot-token", format!("1234567890:AA{}", alnum(33))),
        ("sendgrid-key", format!("SG.{}.{}", alnum(22), alnum(43))),
        ("mailgun-key", token("key-", hex(32))),
        ("mailchimp-key", format!("{}-us12", hex(32))),
        ("linear-key", token("lin_api_", alnum(40))),
        ("stripe-key", token("sk_live_", alnum(24))),
        ("stripe-key", token("sk_test_", alnum(99))),
        ("stripe-key", token("rk_live_", alnum(24))),
        ("stripe-webhook-secret", token("whsec_", alnum(32))),
        ("square-token", token("sq0csp-", alnum(43))),
        ("square-token", token("EAAA", alnum(60))),
        ("shopify-token", token("shpat_", hex(32))),
        (
            "anthropic-key",
            format!("sk-ant-api03-{}-{}AA", alnum(60), alnum(32)),
        ),
        ("openai-key", token("sk-proj-", alnum(48))),
        ("openai-key", token("sk-", alnum(48))),
        ("huggingface-token", token("hf_", run("aBcDeF", 34))),
        ("newrelic-key", token("NRAK-", upper(27))),
        ("vault-token", token("hvs.", alnum(90))),
        ("age-key", token("AGE-SECRET-KEY-1", upper(58))),
        (
            "json-web-token",
            web_token(r#"{"alg":"HS256","typ":"JWT"}"#),
        ),
        (
            "json-web-token",
            web_token(r#"{"typ":"JWT","kid":"1","alg":"RS256"}"#),
        ),
        ("private-key", pem("PRIVATE KEY")),
        ("private-key", pem("RSA PRIVATE KEY")),
        ("private-key", pem("EC PRIVATE KEY")),
        ("private-key", pem("DSA PRIVATE KEY")),
        ("private-key", pem("ENCRYPTED PRIVATE KEY")),
        ("private-key", pem("OPENSSH PRIVATE KEY")),
        ("private-key", pem("PGP PRIVATE KEY BLOCK")),
        (
            "private-key",
            format!("---- BEGIN SSH2 ENCRYPTED {}", "PRIVATE KEY ----"),
        ),
        (
            "private-key",
            format!("PuTTY-User-Key-File-3: {}", "ssh-ed25519"),
        ),
        ("private-key", base64(&pem("RSA PRIVATE KEY"))),
        ("private-key", format!("b3BlbnNzaC1rZXktdjEA{}", alnum(60))),
    ]
}

fn pem(kind: &str) -> String {
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----",
        alnum(64)
    )
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn web_token(header: &str) -> String {
    let part = |text: &str| {
        base64(text)
            .replace('+', "-")
            .replace('/', "_")
            .replace('=', "")
    };
    format!("{}.{}.{}", part(header), part(r#"{"sub":"1"}"#), alnum(43))
}

#[test]
fn secrets_are_found_bare_and_wrapped() {
    for (rule, secret) in examples() {
        for text in [
            secret.clone(),
            format!("key={secret}"),
            format!("{{\"token\":\"{secret}\"}}"),
            format!("please use {secret}, it expires soon"),
            format!("'{secret}'"),
            format!("(see {secret})"),
            format!("Stripe live:\n{secret}\n"),
            format!("é{secret}"),
            format!("TOKEN_{secret}."),
        ] {
            assert_eq!(find(&text), Some(rule), "{text}");
        }
    }
}

#[test]
fn names_paths_and_prose_pass() {
    for text in [
        "",
        "stripe-prod-key-2026",
        "sk_live key for billing",
        "sk_live_ is Stripe's prefix",
        "sk_live_keyforthebillingdepartment",
        "ghp_ tokens of the build bot",
        "github_pat_ rotation for team platform",
        "AKIA access key of the backup user",
        "AKIA",
        "AKIAIOSFODNN",
        "key-rotation-of-the-production-database",
        "key-value store password",
        "xoxb- bot token of #alerts",
        "xoxb-bot-token-for-alerts-channel",
        "whsec_ of the checkout webhook",
        "SG.production.eu-west-1",
        "hf_ token for the summariser",
        "pypi-upload-token-for-the-internal-packages-of-platform-team",
        "npm_config_registry credentials",
        "sk-learn models registry",
        "re_captcha_site_key",
        "pat.smith@acme.com",
        "api_org_chart service account",
        "hooks.slack.com/services webhook of #incidents",
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-AbCdEf",
        "arn:aws:iam::123456789012:user/backup",
        "projects/my-project/secrets/stripe/versions/7",
        "https://vault.acme.com/v1/secret/data/prod/stripe#key",
        "op://Production/Stripe/live key",
        "kv/prod/postgres/billing",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "rotate the private key before BEGIN of the quarter",
        "eyJ is how tokens start",
        "eyJhbGciOi.not.a-token",
        "TLS wildcard *.acme.com (Let's Encrypt R11)",
        "Zertifikat für Größe-Übersicht",
        "ISRG Root X1",
        "v1.0-beta of the signing service",
        "EAAA renewal",
        "doctor-live-2026-credentials-for-the-eu-region-cluster-number-12",
    ] {
        assert_eq!(find(text), None, "{text}");
    }
}

#[test]
fn a_web_token_needs_its_algorithm() {
    assert_eq!(find(&web_token(r#"{"typ":"note","version":12}"#)), None);
    assert_eq!(find(&web_token(r#"["alg"]"#)), None);
}

#[test]
fn the_vendors_kinds_are_many() {
    let kinds: std::collections::BTreeSet<&str> = vendors::all().map(|rule| rule.name).collect();
    println!("{} rules of {} kinds", vendors::all().count(), kinds.len());
    assert!(kinds.len() >= 120, "{kinds:?}");
    for kind in kinds {
        let is_plain = kind
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(
            is_plain,
            "{kind} is shown to people, and kept in their notes"
        );
    }
}

/// Put together from two halves, as the rest.
fn halves(first: &str, second: &str) -> String {
    format!("{first}{second}")
}

#[test]
fn what_only_looks_random_is_found_by_its_token() {
    for token in [
        halves("Zk3vR8qLw2Xn", "7Tb9Yc4Hd6Jf"),
        halves("q7X-Lp2_Vn9Rt", "4Wb8Kz3Gm6Hc"),
        halves("wJalrXUtnFEMI/K7MDENG", "/bPxRfiCYqRz3hT9wKe"),
        halves("f3kq9x7v2m8zt1", "w6pj4r0hcn5yb8d"),
        halves("Xb9$".trim_end_matches('$'), "Qm3Lz7Tw2Rk8Vp5Nc1Hj"),
    ] {
        for text in [
            token.clone(),
            format!("the new one is {token}, use it"),
            format!("value={token}"),
            format!("{{\"note\": \"{token}\"}}"),
            format!("prod-{token}"),
        ] {
            assert_eq!(find(&text), None, "{text}");
            let found = random::tokens(&text);
            assert!(
                found.iter().any(|part| part.contains(&token)),
                "{text}: {found:?}"
            );
        }
    }
}

#[test]
fn a_named_password_needs_no_length() {
    for (text, password) in [
        ("password: Xk9$mQ2wLp", "Xk9$mQ2wLp"),
        ("db_password=7hGq!3Zt9Vb", "7hGq!3Zt9Vb"),
        ("the password is qW7#rT9zK2", "qW7#rT9zK2"),
        (
            "api key: 0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdef",
        ),
        ("token=k3j9x8q2v7m4z1w6", "k3j9x8q2v7m4z1w6"),
    ] {
        assert_eq!(random::tokens(text), [password], "{text}");
    }
    for text in [
        "password: changeme-owner-platform",
        "password: see vault, path prod/db",
        "password is stored in 1Password",
        "password=${DB_PASSWORD}",
        "token=rotate-quarterly-2026-Q1",
        "secret: prod/db-AbCdEf",
        "api key: stripe-prod-key-2026",
        "token: see OPS-12345",
        "passwords are rotated by Maria2026",
        "the password policy is 16 characters, mixed",
    ] {
        assert_eq!(random::tokens(text), [""; 0], "{text}");
        assert_eq!(find(text), None, "{text}");
    }
}

#[test]
fn what_people_refer_to_does_not_look_random() {
    for text in [
        "stripe-prod-key-2026",
        "projects/acme-prod/locations/europe-west4/keyRings/main/cryptoKeys/signing",
        "my-service-prod-7d9f8b6c5d-x2x4z",
        "k8s-payments-web-1a2b3c4d5e-123456789.elb.eu-west-1.amazonaws.com",
        "https://docs.google.com/spreadsheets/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx7oW3m9Zq2r8Vb4Kt6Ny1Lc5Hd0Pf3Sg7Tj9Xw2Qe deploy@ci",
        "sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC",
        "Donaudampfschifffahrtsgesellschaftskapitaenspatent2026",
        "PrzechowywanieKluczyProdukcyjnych",
        "MyAppDBv2ProdEUWest1ReadOnlyUser",
        "ISO8859-1 EBCDIC AS400 XML2PDF IPv6-only HTTP2",
        "AKIA access key of backup-user-2026-Q4-eu",
        "Zertifikat für *.größe-übersicht.example, gültig bis 2027-01-31",
        "00:1A:2B:3C:4D:5E switch-port-12 rack-07-unit-33",
        "acme/payments@v2.31.0-rc.4+build.20261122",
        "2026-11-22T23:25:00.123456Z to 2027-02-20T23:25:00Z",
        "1111222233334444 is the masked card of the test account",
    ] {
        assert_eq!(find(text), None, "{text}");
        assert_eq!(random::tokens(text), [""; 0], "{text}");
    }
}
