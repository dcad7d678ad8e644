//! What `--help` says below the options of `rotator audit …`.

pub const AUDIT: &str = "\
Events are sealed into blocks that hang together by hashes; `rotator serve` signs the blocks with a key that the
database doesn't have, and writes copies where nobody can take them back. Set-up and promises: docs/audit.md.

Examples:
  rotator audit new-key --out /etc/rotator/audit.key > audit.pub
  rotator audit export > audit.jsonl
  rotator audit verify audit.jsonl --key audit.pub --copy blocks.jsonl";

pub const AUDIT_NEW_KEY: &str = "\
Prints two lines: PRIVATE+KEY+… is for ROTATOR_AUDIT_KEY or a file that ROTATOR_AUDIT_KEY_FILE names, where only the
sidecar reads it; the other is public, and whoever verifies needs it. Keep it where the database's operators can't
change it. Keys of the past stay needed for what they have signed.

Examples:
  rotator audit new-key --out /etc/rotator/audit.key > audit.pub
  rotator audit new-key --name acme/audit/2026";

pub const AUDIT_EXPORT: &str = "\
One moment of the log: a line about the export, then for each tenant its blocks with their signatures and events, a
line at the end. The export is an event of its own (audit.exported) in each tenant it is about. A rotator_auditor
exports all tenants, or the one that --tenant names; an auditor or admin of a tenant exports that one.

Examples:
  rotator audit export --out audit-2026-11.jsonl
  rotator audit export --tenant acme | zstd > acme.jsonl.zst";

pub const AUDIT_VERIFY: &str = "\
Without --key it finds what was changed by somebody who did not redo the hashes; with it, by anybody who doesn't
have the private key; with --copy also what was cut off at the end, and which row differs. Offline it needs
nothing but these files. Take the copies after the export. Exit code 0: all is what was sealed, with counts; 1:
it isn't, and which row is the first that is bad.

Examples:
  rotator audit verify audit.jsonl --key audit.pub --copy blocks.jsonl
  aws s3 sync s3://acme-audit/rotator objects && rotator audit verify audit.jsonl --key audit.pub --copy objects
  rotator audit verify --key audit.pub --format json";

/// For the test of the lines' length.
#[cfg(test)]
pub const ALL: [&str; 4] = [AUDIT, AUDIT_NEW_KEY, AUDIT_EXPORT, AUDIT_VERIFY];
