//! Every setting by name, in one table: what `load` accepts, what "did you mean" offers, what `--help` may print.
//! Elsewhere: how values are found (`sources.rs`), what they must look like (`mod.rs`).

/// The prefix of every variable of ours.
pub const PREFIX: &str = "ROTATOR_";

/// One setting.
pub struct Name {
    /// The variable without its prefix, in upper case. In the TOML file the same in lower case.
    pub key: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// `false` for settings that the contract names and this version accepts but does not use yet.
    pub used: bool,
}

const fn name(key: &'static str, about: &'static str) -> Name {
    Name {
        key,
        about,
        used: true,
    }
}

const fn reserved(key: &'static str, about: &'static str) -> Name {
    Name {
        key,
        about,
        used: false,
    }
}

/// All settings, in the order a reader meets them. Each also exists as `…_FILE`: the path of a file with the value.
pub const NAMES: &[Name] = &[
    name(
        "DATABASE_URL",
        "postgres://user:password@host:5432/database?sslmode=verify-full",
    ),
    name(
        "PUBLIC_URL",
        "where people reach the sidecar; the base of every link (default http://<ROTATOR_LISTEN>)",
    ),
    name(
        "LISTEN",
        "address and port to serve on (default 127.0.0.1:8080)",
    ),
    name(
        "METRICS_LISTEN",
        "address and port of /metrics, /healthz and /readyz apart from the pages (default: with the pages)",
    ),
    name(
        "LOG_FORMAT",
        "text or json (default: text on a terminal, else json)",
    ),
    name("TENANT", "the tenant commands work on, by slug or id"),
    name(
        "SLACK_BOT_TOKEN",
        "xoxb-… token with chat:write, for Slack channels and people",
    ),
    name(
        "SLACK_SIGNING_SECRET",
        "the app's Signing Secret: puts buttons under messages in Slack, and checks who says one was pressed",
    ),
    name(
        "PAGERDUTY_WEBHOOK_SECRET",
        "secret of a PagerDuty webhook subscription, or several with commas between: what is acknowledged there counts here",
    ),
    name(
        "SMTP_URL",
        "smtp://user:password@host:587?tls=required or smtps://…; tls=required|opportunistic|none",
    ),
    name(
        "EMAIL_FROM",
        "sender of mail, like rotator <rotator@example.com>",
    ),
    name(
        "SENDGRID_API_KEY",
        "SG.… key with the permission Mail Send, for mail by SendGrid instead of ROTATOR_SMTP_URL",
    ),
    name(
        "WEBHOOK_SIGNING_SECRET",
        "whsec_ and base64 of 24 to 64 random bytes; signs webhooks (Standard Webhooks)",
    ),
    name(
        "CONSOLE_OUTBOX",
        "file that the console channel appends one JSON object a line to",
    ),
    name(
        "EGRESS_ALLOW",
        "networks deliveries may reach although private, like 10.1.0.0/16,fd00::/8",
    ),
    name(
        "AUDIT_KEY",
        "PRIVATE+KEY+… as `rotator audit new-key` prints it; signs sealed blocks of the audit log",
    ),
    name(
        "AUDIT_FILE",
        "file that each signed block is appended to, one line each",
    ),
    name(
        "AUDIT_S3_URL",
        "s3://bucket/prefix with Object Lock, where each signed block is stored",
    ),
    name(
        "AUDIT_S3_RETENTION_DAYS",
        "for how many days nobody can delete them there",
    ),
    reserved("OIDC_ISSUER", "who signs the tokens of the REST API"),
    reserved("OIDC_AUDIENCE", "the audience those tokens must name"),
    name("SLACK_URL", "stands for https://slack.com"),
    name("SENDGRID_URL", "stands for https://api.sendgrid.com"),
    name("PAGERDUTY_URL", "stands for https://events.pagerduty.com"),
    name("AWS_ENDPOINT_URL", "stands for the endpoints of AWS"),
];

/// Not a setting but where settings are: the path of the TOML file.
pub const CONFIG: &str = "CONFIG";

/// The setting of this name, if there is one (`_FILE` already taken off).
pub fn find(key: &str) -> Option<&'static Name> {
    NAMES.iter().find(|name| name.key == key)
}

/// The known name nearest to a mistyped one, if it is near enough to be meant.
pub fn nearest(key: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .map(|name| (distance(key, name.key), name.key))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 6)
        .min()
        .map(|(_, known)| known)
}

/// Edit distance; a swap of two neighbours counts as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let substitution = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + substitution);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_noise_finds_none() {
        assert_eq!(nearest("DATABSE_URL"), Some("DATABASE_URL"));
        assert_eq!(nearest("LISTNE"), Some("LISTEN"));
        assert_eq!(nearest("SLACK_TOKEN_BOT"), None);
        // What Kubernetes injects for a service called "rotator" is nobody's typo.
        for injected in ["PORT", "SERVICE_HOST", "SERVICE_PORT", "PORT_8080_TCP_ADDR"] {
            assert_eq!(nearest(injected), None, "{injected}");
        }
    }
}
