//! The log in the database, as of one moment, item by item: for export and verification alike. Everything is read in one
//! read-only transaction, some thousand events at a time, so that its length doesn't matter.
//!
//! Who may read what the database decides. A rotator_auditor sees all tenants; everybody else the one he works in.

use rotator_audit::{Event, Hash, Header, hex};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::audit::Block;
use crate::audit::export::{Item, Start, Stored};
use crate::cli::Place;
use crate::cli::session::{Refusal, Session, Snapshot, field, misunderstood, only};
use crate::db::Micros;
use crate::failure::{Exit, Failure};

/// Blocks that are asked for at once.
const BLOCKS: usize = 500;
/// Events that are asked for at once, but for a block that has more.
const EVENTS: u64 = 20_000;

const EVENT: &str = "l.id, l.tenant_id, l.occurred_at, l.transaction_id, l.actor, l.source, l.action, l.entity, l.entity_id, \
                     l.changes::text, l.request_id, l.block_id";

type Take<'a> = dyn FnMut(Item<'_>) -> Result<(), Failure> + 'a;

/// Whose log.
pub struct Scope {
    /// Named, by slug or id.
    named: Option<String>,
    /// Tenants that are known already; asked of the log itself where there are none.
    tenants: Vec<Uuid>,
    all: bool,
}

impl Scope {
    /// Connects: to all tenants as a rotator_auditor, else to one.
    ///
    /// # Errors
    /// As [`Session::open_in_tenant`].
    pub async fn open(place: &Place) -> Result<(Session, Self), Failure> {
        let mut session = Session::open(place).await?;
        let sql = "select pg_catalog.pg_has_role(session_user, 'rotator_auditor', 'member')";
        let auditor: bool = only(&session.plain(sql, &[]).await?, 0)?;
        if auditor {
            let named = place.tenant().map(str::to_owned);
            let all = named.is_none();
            return Ok((
                session.of_all_tenants(),
                Self {
                    named,
                    tenants: Vec::new(),
                    all,
                },
            ));
        }
        let mut session = Session::open_in_tenant(place).await?;
        let own = session.call("select rotator.current_tenant()", &[]).await?;
        let tenants = vec![only(&own, 0)?];
        Ok((
            session,
            Self {
                named: None,
                tenants,
                all: false,
            },
        ))
    }

    /// Says in the log that it is exported.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn record(&mut self, session: &mut Session) -> Result<(), Failure> {
        let sql = "select tenant from rotator.record_audit_export($1) as tenant";
        let rows = session.call(sql, &[self.named.as_deref()]).await?;
        if !self.all {
            self.tenants = rows
                .iter()
                .map(|row| field(row, 0))
                .collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

/// Gives all there is to `take`.
///
/// # Errors
/// What the database refuses, and what `take` gave.
pub async fn walk(
    session: &mut Session,
    scope: &Scope,
    take: &mut Take<'_>,
) -> Result<(), Failure> {
    let snapshot = session.snapshot().await?;
    let sql = "select pg_catalog.transaction_timestamp(), rotator.audit_seal_position()";
    let rows = snapshot.call(sql, &[]).await?;
    let (Micros(as_of), position): (Micros, Option<String>) = (only(&rows, 0)?, only(&rows, 1)?);
    let position = position.map(|text| number(&text)).transpose()?;
    take(Item::Start(Start {
        as_of,
        position,
        all_tenants: scope.all,
    }))?;
    for tenant in tenants(&snapshot, scope).await? {
        take(Item::Tenant(tenant.into_bytes()))?;
        let log = Log {
            snapshot: &snapshot,
            tenant,
            text: tenant.to_string(),
        };
        log.sealed(take).await?;
        log.unsealed(take).await?;
    }
    take(Item::End)
}

async fn tenants(snapshot: &Snapshot<'_>, scope: &Scope) -> Result<Vec<Uuid>, Failure> {
    if let (Some(named), true) = (&scope.named, scope.tenants.is_empty()) {
        return Uuid::try_parse(named).map(|id| vec![id]).map_err(|_| {
            Failure::new(Exit::Usage, format!("\"{named}\" is no id of a tenant"))
                .hint("A rotator_auditor names a tenant by its id here, or leaves --tenant out.")
        });
    }
    if !scope.all {
        return Ok(scope.tenants.clone());
    }
    // From one tenant to the next by the index: reading all events for that would take long.
    let sql = "with recursive t(id) as (
                   (select l.tenant_id from rotator.audit_log as l order by l.tenant_id limit 1)
                   union all
                   select (
                       select l.tenant_id from rotator.audit_log as l where l.tenant_id > t.id
                       order by l.tenant_id limit 1)
                   from t where t.id is not null)
               select t.id from t where t.id is not null
               union
               select b.tenant_id from rotator.audit_blocks as b
               order by 1";
    let rows = snapshot.call(sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| field(row, 0))
        .collect::<Result<_, _>>()?)
}

/// One tenant's.
struct Log<'a> {
    snapshot: &'a Snapshot<'a>,
    tenant: Uuid,
    text: String,
}

impl Log<'_> {
    /// Its blocks, each with its events.
    async fn sealed(&self, take: &mut Take<'_>) -> Result<(), Failure> {
        let sql = format!(
            "select b.block_id, b.events, b.root, b.previous, b.sealed_at, b.below, b.next, b.hash, b.first_id, b.last_id, b.note
             from rotator.audit_blocks as b
             where b.tenant_id = $1::uuid and b.block_id > $2::bigint
             order by b.block_id
             limit {BLOCKS}"
        );
        let mut last = i64::MIN;
        loop {
            let rows = self.call(&sql, &[&last.to_string()]).await?;
            let blocks = rows
                .iter()
                .map(|row| self.block(row))
                .collect::<Result<Vec<_>, _>>()?;
            let mut blocks = blocks.into_iter().peekable();
            while blocks.peek().is_some() {
                let (mut some, mut events) = (Vec::new(), 0);
                while let Some(block) = blocks.next_if(|block| {
                    some.is_empty() || block.block.header.events.saturating_add(events) <= EVENTS
                }) {
                    events = block.block.header.events.saturating_add(events);
                    some.push(block);
                }
                last = some.last().map_or(last, block_id);
                self.part(some, take).await?;
            }
            if rows.len() < BLOCKS {
                return Ok(());
            }
        }
    }

    /// Some blocks with their events.
    async fn part(&self, mut blocks: Vec<Stored>, take: &mut Take<'_>) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (blocks.first().map(block_id), blocks.last().map(block_id))
        else {
            return Ok(());
        };
        let range = [&*first.to_string(), &*last.to_string()];
        let sql = "select l.block_id, l.event_id, l.hash
                   from rotator.audit_leaves as l
                   where l.tenant_id = $1::uuid and l.block_id between $2::bigint and $3::bigint
                   order by l.block_id, l.event_id";
        let leaves = self.call(sql, &range).await?;
        let sql = format!(
            "select {EVENT}
             from rotator.audit_log as l
             where l.tenant_id = $1::uuid and l.block_id between $2::bigint and $3::bigint
             order by l.block_id, l.id"
        );
        let events = self.call(&sql, &range).await?;
        let (mut leaves, mut events) = (leaves.iter().peekable(), events.iter().peekable());
        for mut stored in blocks.drain(..) {
            let number = block_id(&stored);
            while let Some(row) =
                leaves.next_if(|row| row.try_get::<_, i64>(0).is_ok_and(|of| of <= number))
            {
                let hash: &str = field(row, 2)?;
                stored.block.ids.push(field(row, 1)?);
                stored.block.leaves.push(hash_of(hash)?);
            }
            take(Item::Block(Box::new(stored)))?;
            while let Some(row) =
                events.next_if(|row| row.try_get::<_, i64>(11).is_ok_and(|of| of <= number))
            {
                event(row, take)?;
            }
        }
        events.try_for_each(|row| event(row, take))
    }

    /// Its events that are in no block, or in one that isn't there.
    async fn unsealed(&self, take: &mut Take<'_>) -> Result<(), Failure> {
        let sql = format!(
            "select {EVENT}
             from rotator.audit_log as l
             left join rotator.audit_blocks as b on b.tenant_id = l.tenant_id and b.block_id = l.block_id
             where l.tenant_id = $1::uuid and l.id > $2::bigint and b.block_id is null
             order by l.id
             limit {EVENTS}"
        );
        let mut last = i64::MIN;
        loop {
            let rows = self.call(&sql, &[&last.to_string()]).await?;
            rows.iter().try_for_each(|row| event(row, take))?;
            match rows.last() {
                Some(row) if rows.len() as u64 == EVENTS => last = field(row, 0)?,
                _ => return Ok(()),
            }
        }
    }

    async fn call(&self, sql: &str, others: &[&str]) -> Result<Vec<Row>, Refusal> {
        let mut parameters = vec![Some(self.text.as_str())];
        parameters.extend(others.iter().map(|text| Some(*text)));
        self.snapshot.call(sql, &parameters).await
    }

    fn block(&self, row: &Row) -> Result<Stored, Refusal> {
        let (id, events): (i64, i64) = (field(row, 0)?, field(row, 1)?);
        let (root, previous, hash): (&str, &str, &str) =
            (field(row, 2)?, field(row, 3)?, field(row, 7)?);
        let (below, next): (&str, &str) = (field(row, 5)?, field(row, 6)?);
        let Micros(sealed_at) = field(row, 4)?;
        let header = Header {
            tenant: self.tenant.into_bytes(),
            // As they stand there, whatever was done to them.
            number: id.cast_unsigned(),
            events: events.cast_unsigned(),
            root: hash_of(root)?,
            previous: hash_of(previous)?,
            sealed_at,
            below: number(below)?,
            next: number(next)?,
        };
        Ok(Stored {
            block: Block {
                header,
                ids: Vec::new(),
                leaves: Vec::new(),
            },
            hash: hash_of(hash)?,
            first_id: field(row, 8)?,
            last_id: field(row, 9)?,
            note: field(row, 10)?,
        })
    }
}

fn block_id(stored: &Stored) -> i64 {
    stored.block.header.number.cast_signed()
}

fn event(row: &Row, take: &mut Take<'_>) -> Result<(), Failure> {
    let (tenant, Micros(occurred_at)): (Uuid, Micros) = (field(row, 1)?, field(row, 2)?);
    let transaction: &str = field(row, 3)?;
    let block: Option<i64> = field(row, 11)?;
    let event = Event {
        tenant: tenant.into_bytes(),
        id: field(row, 0)?,
        occurred_at,
        transaction_id: number(transaction)?,
        actor: field(row, 4)?,
        source: field(row, 5)?,
        action: field(row, 6)?,
        entity: field(row, 7)?,
        entity_id: field(row, 8)?,
        changes: field(row, 9)?,
        request_id: field(row, 10)?,
    };
    take(Item::Event(event, block.map(i64::cast_unsigned)))
}

fn hash_of(text: &str) -> Result<Hash, Refusal> {
    hex::decode(text).ok_or_else(|| misunderstood("a hash that is none"))
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse()
        .map_err(|_| misunderstood("a transaction id that is none"))
}
