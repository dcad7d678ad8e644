//! What `--help` says below the options: examples that can be copied, and what a reader can't guess.
//!
//! Those of `keys`, `kms` and `audit` are in `help/`. Exit codes are defined in `failure.rs`; the list here is checked
//! against them by a test below.

mod audit;
mod keys;
mod kms;

pub use audit::{AUDIT, AUDIT_EXPORT, AUDIT_NEW_KEY, AUDIT_VERIFY};
pub use keys::*;
pub use kms::{KMS, KMS_UNWRAP, KMS_WRAP};

pub const ROTATOR: &str = "\
Examples:
  export ROTATOR_DATABASE_URL=postgres://app@localhost/app ROTATOR_TENANT=acme
  rotator secrets add 'Stripe live key' --provider stripe --interval '90 days' --owner dana
  rotator secrets list --expires-within-days 14
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

pub const SECRETS: &str = "\
Names, references and purposes are stored encrypted. What looks like a secret value is refused (RT001).

Examples:
  rotator secrets list --status overdue
  rotator secrets import calendar.csv --dry-run
  rotator secrets rotated 'Stripe live key' --evidence-url https://tickets.acme.com/OPS-17";

pub const LIST: &str = "\
A table has the first 100; JSON and CSV carry every row and column. Retired secrets are listed only with
--status retired. `rotator secrets import` reads JSON and CSV back: an unchanged file changes nothing. CSV cells
that a spreadsheet would run as a formula begin with an apostrophe, which an import takes off again.

Examples:
  rotator secrets list --expires-within-days 30
  rotator secrets list --owner dana --status overdue
  rotator secrets list --query stripe --format json
  rotator secrets list --format csv > secrets.csv";

pub const ADD: &str = "\
Prints the id alone, so that a script can keep it. Dates without a time zone are in the tenant's.

Examples:
  rotator secrets add 'Stripe live key' --provider stripe --interval '90 days' --owner dana --priority p1
  rotator secrets add 'api.acme.com' --provider x509 --expires 2027-03-01 --purpose 'public API' --label team=edge
  id=$(rotator secrets add 'Reporting DB' --interval '6 months' --environment production)";

pub const IMPORT: &str = "\
Each row stands alone: a bad one is reported with its line and name, all others go in, and the exit code is 7.
A row changes the secret that has its id (in an export), else its external_id; others are registered anew. A row
without either that repeats what a secret of that name holds is unchanged. So an import can be repeated.

CSV: a header row with any of
  name, provider_type, expiry_date, rotation_interval, interval_days, owner_id, purpose, provider_ref,
  environment, priority, secondary_owner_id, team_lead_id, labels, external_id, id
Common other headings are understood: provider, expires, expiry, not_after, interval, owner, ref, env, tags, …
What an export says beyond that (status, cycle, …) is left out. Separated by comma, semicolon or tab. An empty
cell leaves the field as it is. labels are JSON or team=pay;tier=1. An apostrophe before a formula is taken off.
Dates are 2026-12-31 or 2026-12-31T08:00:00Z; without a time zone they are in the tenant's.
UTF-8, or UTF-16 with its mark; anything else needs --encoding.

JSON: an array of objects with the same keys (camelCase too), or objects one after the other, one a line say.

Certificates: the subject's common name becomes the name, the end of validity the expiry date, the SHA-256
fingerprint the external_id. Text around certificates is skipped; private keys in the file are not read.

--dry-run says what would become of each row. --format csv or json prints that row by row, --report FILE keeps it.

Examples:
  rotator secrets import calendar.csv --dry-run
  rotator secrets import calendar.csv --owner dana --environment production --report outcome.csv
  rotator secrets import --certs /etc/ssl/certs/ca-certificates.crt --owner platform
  rotator secrets list --format json | rotator secrets import - --tenant other";

pub const ROTATED: &str = "\
Ends the alert, cancels reminders that wait, and plans the next cycle. Prints the next expiry alone.
Secrets without an interval need --next-expiry. Dates without a time zone are in the tenant's.

Examples:
  rotator secrets rotated 'Stripe live key'
  rotator secrets rotated 0192f7a1-7b1c-7c3e-9a43-2f1f6c0d9e11 --at 2026-11-20T09:30:00Z
  rotator secrets rotated api.acme.com --next-expiry 2028-03-01 --note 'renewed at the CA'";

pub const ACK: &str = "\
Says that somebody is on it: escalation waits for a while, reminders go on. It is not a rotation; mark that with
`rotator secrets rotated`. Only a secret with an open alert can be acknowledged. Dates without a time zone are in
the tenant's.

Examples:
  rotator secrets ack 'Stripe live key'
  rotator secrets ack 'Reporting DB' --note 'waiting for the change window' --until 2026-12-01";

pub const NOTIFICATIONS: &str = "\
What is sent is decided by contacts and policies in SQL: rotator.set_contact, rotator.add_notification_policy.

Examples:
  rotator notifications test --channel email --recipient dana@acme.com --wait";

pub const TEST_NOTIFICATION: &str = "\
Queues the message that a reminder would be, marked as a test, for the running `rotator serve` to deliver. Prints
its id alone; with --wait what became of it, and the exit code is 1 if it was not delivered. Needs the role admin
in the tenant. A webhook or a PagerDuty key is best read from standard input, which keeps it out of `ps`.

Examples:
  rotator notifications test --channel slack --recipient '#payments' --wait
  rotator notifications test --channel email --recipient dana@acme.com --wait 60
  rotator notifications test --channel pagerduty --recipient - --wait < /run/secrets/pagerduty";

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
        let texts = [
            ROTATOR,
            SERVE,
            SECRETS,
            LIST,
            ADD,
            IMPORT,
            ROTATED,
            ACK,
            NOTIFICATIONS,
            TEST_NOTIFICATION,
            DOCTOR,
            HEALTHCHECK,
        ];
        for line in texts
            .iter()
            .chain(&ALL)
            .chain(&kms::ALL)
            .chain(&audit::ALL)
            .flat_map(|text| text.lines())
        {
            assert!(line.chars().count() <= 116, "{line}");
        }
    }
}
