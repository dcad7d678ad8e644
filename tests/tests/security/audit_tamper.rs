//! What a superuser does to the log behind its triggers, at random places: `verify_audit` sees each of it and names the
//! first bad row. Each try is rolled back. What comes later in new rows is in `audit_forged`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Chance, TestDb, scaled};

use crate::fixture::{text, texts};
use crate::sealed::{Verdict, events, expect_clean, seal_all, verify};

/// Where a class of tampering is seen first.
#[derive(Clone, Copy, Debug)]
enum Names {
    /// The event that was tampered with.
    Event,
    /// The lower one of the two.
    Lower,
    /// The first event of its block: what was there before isn't known any more.
    Block,
    /// The first event of the block after.
    NextBlock,
}

/// What is done to event `$id` of tenant `$tenant`, which is in block `$block`; `$other` is an event of another block,
/// `$beta` another tenant, `$free` an id near `$id` that no event has.
const ALWAYS_SEEN: &[(&str, Names, &str)] = &[
    (
        "moved to another tenant",
        Names::Event,
        "update $event set tenant_id = '$beta' where id = $id",
    ),
    (
        "another id",
        Names::Event,
        "update $event set id = $free + 1000000 where id = $id",
    ),
    (
        "a microsecond later",
        Names::Event,
        "update $event set occurred_at = occurred_at + interval '1 microsecond' where id = $id",
    ),
    (
        "another transaction",
        Names::Event,
        "update $event set transaction_id = '3' where id = $id",
    ),
    (
        "another actor",
        Names::Event,
        "update $event set actor = actor || ' ' where id = $id",
    ),
    (
        "another source",
        Names::Event,
        "update $event set source = 'email' where id = $id",
    ),
    (
        "another action",
        Names::Event,
        "update $event set action = 'secret.viewed' where id = $id",
    ),
    (
        "another entity",
        Names::Event,
        "update $event set entity = '' where id = $id",
    ),
    (
        "no entity id",
        Names::Event,
        "update $event set entity_id = null where id = $id",
    ),
    (
        "an empty entity id",
        Names::Event,
        "update $event set entity_id = '' where id = $id",
    ),
    (
        "other changes",
        Names::Event,
        "update $event set changes = changes || '{\"place\": 1.50}' where id = $id",
    ),
    (
        "no changes",
        Names::Event,
        "update $event set changes = '{}' where id = $id",
    ),
    (
        "a request id",
        Names::Event,
        "update $event set request_id = '' where id = $id",
    ),
    (
        "characters moved from one column to the next",
        Names::Event,
        "update $event set actor = left(actor, 3), source = 'sql', action = right(actor, -3) || action where id = $id",
    ),
    ("removed", Names::Event, "delete from $event where id = $id"),
    (
        "the last one removed",
        Names::Event,
        "delete from $event where id = $id and true",
    ),
    (
        "all of its block removed",
        Names::Block,
        "delete from $event e using $leaf l where l.tenant_id = e.tenant_id and l.event_id = e.id and l.tenant_id = '$tenant' and l.block_number = $block",
    ),
    (
        "two exchanged",
        Names::Lower,
        "update $event set id = case id when $id then -1 else -2 end where id in ($id, $other); update $event set id = case id when -1 then $other else $id end where id < 0",
    ),
    (
        "a leaf changed",
        Names::Event,
        "update $leaf set hash = sha256(hash) where event_id = $id",
    ),
    (
        "a leaf removed",
        Names::Event,
        "delete from $leaf where event_id = $id",
    ),
    (
        "two leaves exchanged",
        Names::Lower,
        "update $leaf l set hash = o.hash from $leaf o where l.event_id in ($id, $other) and o.event_id in ($id, $other) and l.event_id <> o.event_id",
    ),
    (
        "changed, with a new leaf",
        Names::Block,
        "update $event set actor = 'nobody' where id = $id; $releaf",
    ),
    (
        "changed, with new leaf and root",
        Names::Block,
        "update $event set actor = 'nobody' where id = $id; $releaf; $reroot",
    ),
    (
        "the block dated back",
        Names::Block,
        "update $blocks set sealed_at = sealed_at - interval '1 day' where tenant_id = '$tenant' and number = $block",
    ),
    (
        "the block dated back, with a new hash",
        Names::NextBlock,
        "update $blocks set sealed_at = sealed_at - interval '1 second' where tenant_id = '$tenant' and number = $block; $rehash",
    ),
    (
        "the block removed",
        Names::Block,
        "delete from $blocks where tenant_id = '$tenant' and number = $block",
    ),
    (
        "the chain of another tenant",
        Names::Block,
        "update $blocks b set previous = o.previous, hash = o.hash from $blocks o where b.tenant_id = '$tenant' and b.number = $block and o.tenant_id = '$beta' and o.number = 1",
    ),
];

/// What only a signature shows: all hashes are worked out anew.
const SEEN_BY_SIGNATURE: &[(&str, Names, &str)] = &[
    (
        "the suffix rewritten",
        Names::Block,
        "update $event set actor = 'nobody' where id = $id; $releaf; $reroot; $rechain",
    ),
    (
        "removed, the suffix rewritten",
        Names::Block,
        "delete from $event where id = $id; delete from $leaf where event_id = $id; $reroot; $rechain",
    ),
    (
        "the block replaced",
        Names::Block,
        "update $blocks set sealed_at = sealed_at - interval '1 second' where tenant_id = '$tenant' and number = $block; $rechain",
    ),
    (
        "all from the block on cut off",
        Names::Block,
        "delete from $event e using $leaf l where l.tenant_id = e.tenant_id and l.event_id = e.id and l.tenant_id = '$tenant' and l.block_number >= $block; delete from $leaf where tenant_id = '$tenant' and block_number >= $block; delete from $blocks where tenant_id = '$tenant' and number >= $block",
    ),
    (
        "another note",
        Names::Block,
        "update $signature set note = replace(note, chr(10) || $block || chr(10), chr(10) || $block || '1' || chr(10)) where tenant_id = '$tenant' and number = $block",
    ),
];

const RELEAF: &str = "update $leaf l set hash = rotator_internal.audit_event_hash(e.tenant_id, e.id, e.occurred_at, e.transaction_id,
        e.actor, e.source, e.action, e.entity, e.entity_id, e.changes::text, e.request_id)
    from $event e where e.id = $id and l.tenant_id = e.tenant_id and l.event_id = e.id";
const REROOT: &str = "update $blocks b set root = x.root, events = x.events, first_id = x.first_id, last_id = x.last_id
    from (select rotator_internal.audit_root(string_agg(hash, ''::bytea order by event_id)) as root, count(*) as events,
            min(event_id) as first_id, max(event_id) as last_id
        from $leaf where tenant_id = '$tenant' and block_number = $block) as x
    where b.tenant_id = '$tenant' and b.number = $block";
const REHASH: &str = "update $blocks set hash = rotator_internal.audit_block_hash(tenant_id, number, events, root, previous, sealed_at, below, next)
    where tenant_id = '$tenant' and number = $block";
const RECHAIN: &str = "do $do$ declare b record; before bytea; begin
    for b in select * from $blocks where tenant_id = '$tenant' and number >= $block order by number loop
        before := coalesce(before, b.previous);
        update $blocks x set previous = before, hash = rotator_internal.audit_block_hash(
            x.tenant_id, x.number, x.events, x.root, before, x.sealed_at, x.below, x.next)
        where x.tenant_id = b.tenant_id and x.number = b.number returning x.hash into before;
    end loop; end $do$";
const UNGUARDED: &str =
    "begin; alter table $event disable trigger user; alter table $leaf disable trigger user;
    alter table $blocks disable trigger user; alter table $signature disable trigger user";
/// As the sidecar would, but for the signature itself, which SQL can't tell from another.
const SIGN: &str = "do $do$ declare b record; begin
    for b in select * from rotator.audit_blocks where note is null order by tenant_id, block_id loop
        perform rotator.record_audit_signature(b.tenant_id, b.block_id,
            rotator_internal.audit_note_body(b.tenant_id, b.block_id, decode(b.hash, 'hex')) || chr(10) || '— key AAAA' || chr(10), 'key');
    end loop; end $do$";

/// A log of two tenants in several blocks each, with gaps between ids.
struct Log {
    db: TestDb,
    tenant: String,
    beta: String,
    /// Sealed events of acme and their blocks, in order of ids.
    events: Vec<(i64, i64)>,
}

impl Log {
    async fn new() -> Result<Log> {
        let db = TestDb::new().await?;
        let tenant = db.tenant("acme").await?.to_string();
        let beta = db.tenant("beta").await?.to_string();
        seal_all(&db).await?;
        for round in 0..6 {
            let written = format!(
                "select nextval('rotator_internal.audit_event_id'); {}; {}",
                events(&format!("r{round}"), 9),
                events("beta", 3).replace("'acme'", "'beta'")
            );
            for _ in 0..2 {
                db.admin.batch_execute(&written).await?;
            }
            seal_all(&db).await?;
        }
        let sealed = "select e.event_id || ' ' || e.block_id from rotator.audit_leaves e join rotator.audit_log l on l.id = e.event_id
            where e.tenant_id = '$tenant' and l.actor = 'tester' order by e.event_id";
        let events = texts(&db.admin, &sealed.replace("$tenant", &tenant)).await?;
        let events = events
            .iter()
            .map(|line| {
                let (id, block) = line.split_once(' ').context("two numbers")?;
                Ok((id.parse()?, block.parse()?))
            })
            .collect::<Result<Vec<(i64, i64)>>>()?;
        ensure!(events.len() == 108, "{}", events.len());
        Ok(Log {
            db,
            tenant,
            beta,
            events,
        })
    }

    fn first_of(&self, block: i64) -> Option<i64> {
        self.events
            .iter()
            .find(|(_, of)| *of == block)
            .map(|(id, _)| *id)
    }

    /// Tampers with an event at random, looks, and takes it back.
    async fn tampered(&self, class: &(&str, Names, &str), chance: &mut Chance) -> Result<()> {
        let (name, names, sql) = *class;
        let last = self.events.len() - 1;
        let place = match name {
            "the last one removed" => last,
            _ => chance.below(self.events.len()),
        };
        let (id, mut block) = self.events[place];
        let last_block = self.events[last].1;
        // Behind the last block there is none that would miss it.
        if matches!(names, Names::NextBlock) {
            block = block.min(last_block - 1);
        }
        let other = loop {
            let (other, of) = *chance.one_of(&self.events);
            if of != self.events[place].1 {
                break other;
            }
        };
        let free = (id..)
            .find(|free| self.events.iter().all(|(taken, _)| taken != free))
            .context("there are gaps")?;
        let fill = |sql: &str| {
            sql.replace("$releaf", RELEAF)
                .replace("$reroot", REROOT)
                .replace("$rehash", REHASH)
                .replace("$rechain", RECHAIN)
                .replace("$event", "rotator_internal.audit_event")
                .replace("$leaf", "rotator_internal.audit_leaf")
                .replace("$blocks", "rotator_internal.audit_block")
                .replace("$signature", "rotator_internal.audit_signature")
                .replace("$tenant", &self.tenant)
                .replace("$beta", &self.beta)
                .replace("$block", &block.to_string())
                .replace("$other", &other.to_string())
                .replace("$free", &free.to_string())
                .replace("$id", &id.to_string())
        };
        let expected = match names {
            Names::Event => Some(id),
            Names::Lower => Some(id.min(other)),
            Names::Block => self.first_of(block),
            Names::NextBlock => self.first_of(block + 1),
        };
        let session = self.db.superuser().await?;
        session.batch_execute(&fill(UNGUARDED)).await?;
        session
            .batch_execute(&fill(sql))
            .await
            .with_context(|| format!("{name}: {}", fill(sql)))?;
        for tenant in [None, Some("acme")] {
            let verdict = verify(&session, tenant).await?;
            ensure!(
                !verdict.ok
                    && verdict.first_bad_id == expected
                    && verdict.detail.contains("acme") == tenant.is_none(),
                "{name}: event {id} of block {block}, expected {expected:?}: {verdict:?}"
            );
        }
        let untouched: Verdict = verify(&session, Some("beta")).await?;
        ensure!(
            untouched.ok != (name == "moved to another tenant"),
            "{name}: {untouched:?}"
        );
        session.batch_execute("rollback").await?;
        Ok(())
    }
}

#[tokio::test]
async fn every_kind_of_tampering_is_seen_and_the_first_bad_row_named() -> Result<()> {
    let log = Log::new().await?;
    let mut chance = Chance::for_test("audit_tamper");
    let clean = expect_clean(&log.db.admin, 0).await?;
    for class in ALWAYS_SEEN {
        for _ in 0..scaled(100) {
            log.tampered(class, &mut chance).await?;
        }
    }
    ensure!(
        expect_clean(&log.db.admin, 0).await? == clean,
        "all of it was taken back"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_rewritten_up_to_the_top_is_seen_by_its_signatures() -> Result<()> {
    let log = Log::new().await?;
    let mut chance = Chance::for_test("audit_tamper_signed");
    log.db.admin.batch_execute(SIGN).await?;
    expect_clean(&log.db.admin, 0).await?;
    for class in SEEN_BY_SIGNATURE {
        for _ in 0..scaled(100) {
            log.tampered(class, &mut chance).await?;
        }
    }
    // One that is missing before another; the newest may just not be there yet.
    let session = log.db.superuser().await?;
    let last = log.events[log.events.len() - 1].1;
    for block in 2..=last {
        session
            .batch_execute(
                &UNGUARDED
                    .replace("$event", "rotator_internal.audit_event")
                    .replace("$leaf", "rotator_internal.audit_leaf")
                    .replace("$blocks", "rotator_internal.audit_block")
                    .replace("$signature", "rotator_internal.audit_signature"),
            )
            .await?;
        session.batch_execute(&format!("delete from rotator_internal.audit_signature where tenant_id = '{}' and number = {block}", log.tenant)).await?;
        let verdict = verify(&session, Some("acme")).await?;
        let expected = if block < last {
            log.first_of(block)
        } else {
            None
        };
        ensure!(
            verdict.first_bad_id == expected,
            "block {block}: {verdict:?}"
        );
        session.batch_execute("rollback").await?;
    }
    ensure!(
        text(
            &log.db.admin,
            "select bool_and(note is not null) from rotator.audit_blocks"
        )
        .await?
            == "t"
    );
    Ok(())
}
