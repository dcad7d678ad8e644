//! What `--help` of `rotator keys …` says below the options.

pub const KEYS: &str = "\
Data keys encrypt a tenant's fields; master keys wrap data keys and live in a file of the database server.
Exchanging a data key takes no downtime: rotate, then re-encrypt, and much later retire and destroy.

Examples:
  rotator keys new-master
  rotator keys status
  rotator keys rotate --tenant acme --wait
  rotator keys retire 1 --tenant acme";

pub const NEW_MASTER: &str = "\
Prints one line, id:base64, and nothing else. The first line of the file that rotator.master_key_file names wraps
new data keys; all lines unwrap. Keep a copy where the database's backups are not: without its master key
nothing can be decrypted.

Examples:
  (umask 077; rotator keys new-master > master.key)
  rotator keys new-master | sudo -u postgres tee -a /etc/rotator/master.key > /dev/null";

pub const KEYS_STATUS: &str = "\
A rotator_admin sees the keys of all tenants, or of the one that --tenant names; a member sees the tenant's.
ROWS are under that version now, USES is how often it may have encrypted: a key is done at 2^32. The table is
followed by the rotation of each tenant that runs or ran last. JSON and CSV list keys alone; --rotations lists
rotations alone, all of them.

Examples:
  rotator keys status
  rotator keys status --tenant acme --format json
  watch rotator keys status --no-rows
  rotator keys status --rotations --format csv > rotations.csv";

pub const KEYS_ROTATE: &str = "\
New writes use the new version at once; what was written before still decrypts, and is re-encrypted by pg_cron,
by `rotator serve`, or here and now with --wait. Prints the id of the rotation alone; with --all how many there
were. Needs the role admin in the tenant, or rotator_admin, and --all the latter.

Examples:
  rotator keys rotate --tenant acme
  rotator keys rotate --tenant acme --reason 'offboarding of an administrator' --wait
  rotator keys rotate --all --reason 'yearly exchange'";

pub const KEYS_REENCRYPT: &str = "\
pg_cron and `rotator serve` do this by themselves; this does it now, and faster. Each batch is a transaction, and
between batches it rests: --pace 100 doesn't. Ctrl-C stops after the batch under way, and whoever goes on goes on
there. Rows that others have locked, and transactions that began before the rotation, are waited for, for up to
--wait-for seconds; what takes longer is completed later. Exit code 1 when a rotation failed or still waits.

All rotations are worked through, or with --tenant until that tenant's is done. Needs rotator_admin; admins of a
tenant may --retry a rotation of theirs, and watch.

Examples:
  rotator keys reencrypt
  rotator keys reencrypt --tenant acme --batch 5000 --pace 100
  rotator keys reencrypt --retry 12";

pub const KEYS_SCHEDULE: &str = "\
Without options it shows when the key is exchanged by itself, and how often. A new tenant has 90 days. Needs the
role admin in the tenant, or rotator_admin.

Examples:
  rotator keys schedule --tenant acme
  rotator keys schedule --tenant acme --every '30 days'
  rotator keys schedule --tenant acme --off";

pub const KEYS_ROLLBACK: &str = "\
The version before becomes the active one again, and what was written under the newer one is re-encrypted to it.
Possible until the version before is retired.

Examples:
  rotator keys rollback 12
  rotator keys rollback 12 --tenant acme && rotator keys reencrypt --tenant acme";

pub const KEYS_RETIRE: &str = "\
Refused while any row is under that version, or a transaction may still write under it. Rollback to a retired
version is not possible.

Examples:
  rotator keys retire 1 --tenant acme";

pub const KEYS_DESTROY: &str = "\
What is under a destroyed version is unreadable for ever, in every backup too that is restored without the old
key's row. So it is refused while any row is under it, and has to be confirmed by the tenant's slug and the version:
typed on a terminal, or given by --confirm.

Examples:
  rotator keys destroy 1 --tenant acme
  rotator keys destroy 1 --tenant acme --confirm acme/1";

pub const KEYS_REWRAP: &str = "\
After a change of master key: put the new line first into the master key file, the old one below, rewrap, and only
then take the old one out. One transaction; prints how many keys there were. Needs rotator_admin.

Examples:
  rotator keys rewrap
  rotator keys rewrap --format json";

#[cfg(test)]
pub(super) const ALL: [&str; 10] = [
    KEYS,
    NEW_MASTER,
    KEYS_STATUS,
    KEYS_ROTATE,
    KEYS_REENCRYPT,
    KEYS_SCHEDULE,
    KEYS_ROLLBACK,
    KEYS_RETIRE,
    KEYS_DESTROY,
    KEYS_REWRAP,
];
