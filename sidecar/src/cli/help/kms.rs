//! What `--help` says below the options of `rotator kms …`.

pub const KMS: &str = "\
The database server then holds no master key on its disk: a file has it wrapped, and only who may use the KMS key
opens it. Set-up, policies, outages: docs/kms.md.

Examples:
  rotator kms wrap --new --key-id alias/rotator --region eu-central-1 > master.wrapped
  rotator kms unwrap --in master.wrapped | wc -l";

pub const KMS_WRAP: &str = "\
Prints lines id:kms:arn:base64, one for each master key, in their order: the first wraps, all unwrap. They are no
secret: only KMS opens them, for the id they were wrapped with. Keep copies. --new makes a key that is nowhere in
the clear; whoever deletes the KMS key then deletes what rotator has encrypted.

Credentials come from where AWS's tools look: environment, AWS_PROFILE, web identity, container, EC2 instance.
Needs kms:Encrypt. Throttling and outages are waited out, within --timeout.

Examples:
  rotator kms wrap --new --key-id arn:aws:kms:eu-central-1:111122223333:key/… > master.wrapped
  sudo cat /etc/rotator/master.key | rotator kms wrap --key-id alias/rotator --region eu-central-1";

pub const KMS_UNWRAP: &str = "\
Prints lines id:base64 in the file's order, all or none of them. Needs kms:Decrypt; the region is in each line. In
postgresql.conf:

  rotator.master_key_command = '/usr/local/bin/rotator kms unwrap --in /etc/rotator/master.wrapped'

Exit codes: 1 refused by KMS, 4 no credentials, 6 KMS can't be reached or turns requests away.

Examples:
  rotator kms unwrap --in /etc/rotator/master.wrapped | wc -l
  (umask 077; rotator kms unwrap --in master.wrapped > master.key)";

/// For the test of the lines' length.
#[cfg(test)]
pub const ALL: [&str; 3] = [KMS, KMS_WRAP, KMS_UNWRAP];
