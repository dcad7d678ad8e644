//! What `--help` says below the options of `rotator notifications`, `escalation`, `window` and `identities`.

pub const NOTIFICATIONS: &str = "\
What is sent is decided by contacts and policies in SQL: rotator.set_contact, rotator.add_notification_policy. What
will be and was sent about one secret: `rotator secrets preview` and `explain`.

Examples:
  rotator notifications test --channel email --recipient dana@acme.com --wait
  rotator notifications undeliverable";

pub const TEST_NOTIFICATION: &str = "\
Queues the message that a reminder would be, marked as a test, for the running `rotator serve` to deliver. Prints
its id alone; with --wait what became of it, and the exit code is 1 if it was not delivered. Needs the role admin
in the tenant. A webhook or a PagerDuty key is best read from standard input, which keeps it out of `ps`.

Examples:
  rotator notifications test --channel slack --recipient '#payments' --wait
  rotator notifications test --channel email --recipient dana@acme.com --wait 60
  rotator notifications test --channel pagerduty --recipient - --wait < /run/secrets/pagerduty";

pub const UNDELIVERABLE: &str = "\
Everybody who could be told in its place was tried as well: reach the addressee by other means, mend what the error
says, and acknowledge. It is off the list when the secret is acknowledged, rotated or retired, or its addressee is
reached about it after all.

Examples:
  rotator notifications undeliverable
  rotator notifications undeliverable --format json";

pub const ESCALATION: &str = "\
A ladder says who is told when nobody acknowledges: after how long, whom, over which channel. Without one: 4 hours
after the last reminder the secondary owner, 8 hours after it the team lead, and a P1 that isn't rotated a day after
its expiry the manager and PagerDuty. More: docs/alerts.md. To set one needs the role admin.

Examples:
  rotator escalation list
  rotator escalation set payments steps.json --priority p1,p2
  rotator escalation use 'Stripe live key' payments";

pub const ESCALATION_LIST: &str = "\
Below each ladder stand its steps. JSON and CSV have them as they are given to `rotator escalation set`, but for
addresses, of which only a hint is ever shown.

Examples:
  rotator escalation list
  rotator escalation list --format json";

pub const ESCALATION_SET: &str = "\
A step is an object with
  after         like \"4 hours\" or \"1 day\", from the last reminder before the expiry
  from          \"expiry\", to count from that instead
  target        owner, secondary_owner, team_lead, manager or admins
  recipient     or an address, with its channel
  channel       slack, email, pagerduty, webhook or console; without it each of the target's
  repeat_every  like \"1 hour\", and repeats, 1 to 100: told again until somebody acknowledges
in the order of their times. A name that exists gets its next revision; alerts that are open keep the one that
they began with. A priority has one ladder, the one that was set for it last. If a step is wrong, it is named, and
nothing is stored.

Examples:
  rotator escalation set payments steps.json --priority p1,p2
  echo '[{\"after\": \"2 hours\", \"target\": \"team_lead\"}]' | rotator escalation set quick -";

pub const ESCALATION_USE: &str = "\
Alerts of that secret begin with this ladder from now on, whatever its priority; one that is open keeps its own.

Examples:
  rotator escalation use 'Stripe live key' payments
  rotator escalation use 'Stripe live key' --default";

pub const ESCALATION_REMOVE: &str = "\
Alerts to come begin with the ladder of their priority, or the built-in one.

Examples:
  rotator escalation remove payments";

pub const WINDOW: &str = "\
Reminders and escalations that come due outside these hours wait for the next opening, but never past the expiry.
P1 goes at any time. To set them needs the role admin.

Examples:
  rotator window set --days mon-fri --from 09:00 --to 17:00 --holiday 2026-12-25
  rotator window show";

pub const WINDOW_SHOW: &str = "\
Examples:
  rotator window show
  rotator window show --format json";

pub const WINDOW_SET: &str = "\
It replaces what was set, holidays too. A window lies within a day, by the clocks of the tenant's time zone, and
must open within a year. What waits is looked at again by the next tick.

Examples:
  rotator window set --days mon-fri --from 09:00 --to 17:00
  rotator window set --days mon-thu,sat --from 8:30 --to 24:00 --holiday 2026-12-25,2027-01-01";

pub const WINDOW_CLEAR: &str = "\
What waits for the next opening goes with the next tick.

Examples:
  rotator window clear";

pub const IDENTITIES: &str = "\
Whoever presses a button in Slack, or acknowledges in PagerDuty, has a name there. Here is which member of the
tenant that is: the button may do what the member may. Of a mail address only a hint is kept.

Examples:
  rotator identities link slack T024BE7LD/U012AB3CD --subject dana@acme.com
  rotator identities list";

pub const IDENTITIES_LIST: &str = "\
Examples:
  rotator identities list
  rotator identities list --format csv > identities.csv";

pub const IDENTITIES_LINK: &str = "\
A Slack user is the workspace and the user; rotator's answer to somebody whom it doesn't know names both. With
email the address that Slack has confirmed is enough. Yourself, or with the role admin anybody.

Examples:
  rotator identities link slack T024BE7LD/U012AB3CD
  rotator identities link email dana@acme.com --subject dana
  rotator identities link pagerduty PLH1HKV --subject dana";

pub const IDENTITIES_UNLINK: &str = "\
Exit code 1 when nobody is linked there. Your own, or with the role admin anybody's.

Examples:
  rotator identities unlink slack T024BE7LD/U012AB3CD";

/// For the test of the lines' length.
#[cfg(test)]
pub const ALL: [&str; 16] = [
    NOTIFICATIONS,
    TEST_NOTIFICATION,
    UNDELIVERABLE,
    ESCALATION,
    ESCALATION_LIST,
    ESCALATION_SET,
    ESCALATION_USE,
    ESCALATION_REMOVE,
    WINDOW,
    WINDOW_SHOW,
    WINDOW_SET,
    WINDOW_CLEAR,
    IDENTITIES,
    IDENTITIES_LIST,
    IDENTITIES_LINK,
    IDENTITIES_UNLINK,
];
