//! What `--help` says below the options: examples that can be copied, and what a reader can't guess.
//!
//! Those of groups of commands are in `help/`. Exit codes are defined in `failure.rs`; the list here is checked against
//! them by a test below.

mod alerts;
mod audit;
mod keys;
mod kms;
mod secrets;

pub use alerts::{
    ESCALATION, ESCALATION_LIST, ESCALATION_REMOVE, ESCALATION_SET, ESCALATION_USE, IDENTITIES,
    IDENTITIES_LINK, IDENTITIES_LIST, IDENTITIES_UNLINK, NOTIFICATIONS, TEST_NOTIFICATION,
    UNDELIVERABLE, WINDOW, WINDOW_CLEAR, WINDOW_SET, WINDOW_SHOW,
};

pub use audit::{AUDIT, AUDIT_EXPORT, AUDIT_NEW_KEY, AUDIT_VERIFY};
pub use keys::*;
pub use kms::{KMS, KMS_UNWRAP, KMS_WRAP};
pub use secrets::{
    ACK, ADD, COVERAGE, EXPLAIN, IMPORT, LIST, PREVIEW, REASSIGN, ROTATED, SECRETS, SNOOZE,
};

pub const ROTATOR: &str = "\
Examples:
  export ROTATOR_DATABASE_URL=postgres://app@localhost/app ROTATOR_TENANT=acme
  rotator secrets add 'Stripe live key' --provider stripe --interval '90 days' --owner dana
  rotator secrets list --expires-within-days 14
  rotator secrets explain 'Stripe live key'
  rotator secrets rotated 'Stripe live key'
  rotator doctor

Settings come from the environment, .env, and rotator.toml (or the file ROTATOR_CONFIG names). A setting
may also be given as a file: ROTATOR_DATABASE_URL_FILE=/run/secrets/url.

Exit codes:
  0  done
  1  refused or failed; a check of doctor failed
  2  the command line can't be understood
  3  the extension is missing, or its version doesn't fit this program
  4  a setting is missing or wrong, or the database refuses the login
  5  the address to serve on can't be used
  6  the database, or AWS KMS, can't be reached
  7  an import left out some rows; all others went in
  130  stopped by a signal before it was done, serve by a second one";

pub const SERVE: &str = "\
Waits for the database if it isn't there yet. Stops on SIGTERM or SIGINT after finishing what is under way;
a second signal stops at once. Several may serve one database.

It is told by settings, not options. Needed: ROTATOR_DATABASE_URL (a login role with rotator_sidecar) and
ROTATOR_PUBLIC_URL (where people reach it; links begin with it). Serves links, /healthz, /readyz and /metrics on
ROTATOR_LISTEN, 127.0.0.1:8080 unless set; ROTATOR_METRICS_LISTEN takes the metrics elsewhere. Logs go to standard
error, ROTATOR_LOG_FORMAT is text or json. Each channel has its own settings (PagerDuty needs
none); one that lacks them says so in the log, and its reminders wait.

Examples:
  rotator serve
  ROTATOR_SLACK_BOT_TOKEN_FILE=/run/secrets/slack ROTATOR_PUBLIC_URL=https://rotator.acme.com rotator serve";

pub const DOCTOR: &str = "\
Connects as the login role of ROTATOR_DATABASE_URL, which should be a member of rotator_admin. Exit code 1 when
a check fails.

--scan takes longer: it has the database look through every stored text, those of all tenants, for what would
be refused today. It names tenant, record, field and rule, never a value.

Examples:
  rotator doctor
  rotator doctor --scan
  rotator doctor --format json";

pub const HEALTHCHECK: &str = "\
Asks /readyz where ROTATOR_METRICS_LISTEN or ROTATOR_LISTEN says that `rotator serve` listens, on loopback if that
is every address. Exit code 1 when it isn't ready, and why on standard error. For a container's health check.

Examples:
  rotator healthcheck
  ROTATOR_LISTEN=127.0.0.1:9000 rotator healthcheck";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let exits = [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::Extension,
            Exit::Config,
            Exit::Listen,
            Exit::Unreachable,
            Exit::Partial,
            Exit::Aborted,
        ];
        for exit in exits {
            assert!(
                ROTATOR.contains(&format!("\n  {}  ", exit as u8)),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn lines_fit_a_terminal() {
        let texts = [ROTATOR, SERVE, DOCTOR, HEALTHCHECK];
        for line in texts
            .iter()
            .chain(&ALL)
            .chain(&kms::ALL)
            .chain(&audit::ALL)
            .chain(&secrets::ALL)
            .chain(&alerts::ALL)
            .flat_map(|text| text.lines())
        {
            assert!(line.chars().count() <= 116, "{line}");
        }
    }
}
