//! What `--help` says below the options of `rotator secrets …`.

pub const SECRETS: &str = "\
Names, references and purposes are stored encrypted. What looks like a secret value is refused (RT001).

Examples:
  rotator secrets list --status overdue
  rotator secrets import calendar.csv --dry-run
  rotator secrets rotated 'Stripe live key' --evidence-url https://tickets.acme.com/OPS-17
  rotator secrets explain 'Stripe live key'";

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
Says that somebody is on it: nothing is sent about it for a while, by default 1, 2, 7 or 14 days from P1 to P4 and
not past the expiry. If it isn't rotated by then, the alert opens again. It is not a rotation; mark that with
`rotator secrets rotated`. Only a secret with an open alert can be acknowledged. Dates without a time zone are in
the tenant's.

Examples:
  rotator secrets ack 'Stripe live key'
  rotator secrets ack 'Reporting DB' --note 'waiting for the change window' --until 2026-12-01";

pub const SNOOZE: &str = "\
Nothing is sent until then; what came due meanwhile comes when it ends, the most urgent reminder of it. Nobody has
taken the rotation on by that: `rotator secrets ack` says so. Not past the expiry, but for an admin. A later call
replaces it; rotating, retiring and another expiry date end it. Dates without a time zone are in the tenant's.

Examples:
  rotator secrets snooze 'Stripe live key' --until 2026-12-01 --reason 'the vendor is down'
  rotator secrets snooze api.acme.com --until 2026-12-01T08:00:00Z --reason 'new CA from December on'";

pub const PREVIEW: &str = "\
Reminders, steps of the ladder, and the end of an acknowledgement, with the delivery window and snoozes taken into
account. Times are the tenant's. What only then comes together in one message is listed one by one.

Examples:
  rotator secrets preview 'Stripe live key'
  rotator secrets preview 'Stripe live key' --until 2026-12-31 --format json";

pub const EXPLAIN: &str = "\
Each notification with what became of it, each attempt that failed, and the rule that asked for it: lead:14 is the
reminder 14 days before, escalation:payments:2 the second step of that ladder. Below each line stands why. Times
are the tenant's.

Examples:
  rotator secrets explain 'Stripe live key'
  rotator secrets explain 'Stripe live key' --format csv > told.csv";

pub const REASSIGN: &str = "\
All secrets in use for which FROM is owner, secondary owner or team lead are TO's. What is queued for the one goes
to the other; what was sent stays sent. Prints how many there were. Needs the role editor.

Examples:
  rotator secrets reassign dana@acme.com erin@acme.com
  rotator secrets list --owner dana@acme.com";

pub const COVERAGE: &str = "\
One line a secret and lack:
  owner       the owner is no member of the tenant any more: rotator secrets reassign
  contact     the owner has no contact, or it is gone; a stand-in is told: rotator.set_contact
  policy      no reminder applies: rotator.add_notification_policy
  escalation  no step of its ladder reaches anybody: give it a secondary owner or a team lead

Examples:
  rotator secrets coverage
  rotator secrets coverage --format json";

/// For the test of the lines' length.
#[cfg(test)]
pub const ALL: [&str; 11] = [
    SECRETS, LIST, ADD, IMPORT, ROTATED, ACK, SNOOZE, PREVIEW, EXPLAIN, REASSIGN, COVERAGE,
];
