//! What is in a database, to be compared before a dump and after a restore: every row of every table that a dump must
//! take along, every sequence, and every encrypted value as its reader sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::until;
use tokio_postgres::Client;

use crate::fixture::{text, texts};

/// Every table and sequence of ours but what the engine notes of this one database, and the host's.
const RELATIONS: &str = "
    select c.oid::regclass::text || case c.relkind when 'S' then ' (sequence)' else '' end
    from pg_class as c
    where c.relkind in ('r', 'p', 'S', 'f') and c.relnamespace in (
        select n.oid from pg_namespace as n where n.nspname in ('rotator_internal', 'rotator', 'app'))
      and c.relname not in ('heartbeat', 'audit_seal_state')
    order by 1";

#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// Of each table a hash a row, sorted; of a sequence where it stands.
    relations: BTreeMap<String, Vec<String>>,
    /// What the members of each tenant read.
    plaintexts: Vec<String>,
}

impl Content {
    pub async fn of(admin: &Client) -> Result<Self> {
        Ok(Self {
            relations: rows(admin).await?,
            plaintexts: plaintexts(admin).await?,
        })
    }

    /// Refuses to compare where there is nothing to see.
    pub fn expect_rows_everywhere(&self) -> Result<()> {
        let empty: Vec<&String> = self
            .relations
            .iter()
            .filter(|(_, rows)| rows.is_empty())
            .map(|(name, _)| name)
            .collect();
        ensure!(empty.is_empty(), "no row to compare in {empty:?}");
        Ok(())
    }

    pub fn expect_same(&self, after: &Self) -> Result<()> {
        let names: BTreeSet<&String> = self
            .relations
            .keys()
            .chain(after.relations.keys())
            .collect();
        let mut different = Vec::new();
        for name in names {
            let (there, here) = (self.relations.get(name), after.relations.get(name));
            if there != here {
                let count = |rows: Option<&Vec<String>>| rows.map_or(0, Vec::len);
                different.push(format!(
                    "{name}: {} rows, {} after",
                    count(there),
                    count(here)
                ));
            }
        }
        ensure!(different.is_empty(), "rows differ: {different:#?}");
        let unreadable: Vec<_> = self
            .plaintexts
            .iter()
            .zip(&after.plaintexts)
            .filter(|(there, here)| there != here)
            .take(3)
            .collect();
        ensure!(
            unreadable.is_empty() && self.plaintexts.len() == after.plaintexts.len(),
            "{} values, {} after: {unreadable:?}",
            self.plaintexts.len(),
            after.plaintexts.len()
        );
        Ok(())
    }
}

pub async fn rows(admin: &Client) -> Result<BTreeMap<String, Vec<String>>> {
    let mut relations = BTreeMap::new();
    for name in texts(admin, RELATIONS).await? {
        let found = match name.strip_suffix(" (sequence)") {
            Some(sequence) => {
                vec![
                    text(
                        admin,
                        &format!("select last_value || ' ' || is_called from {sequence}"),
                    )
                    .await?,
                ]
            }
            None => {
                texts(
                    admin,
                    &format!("select md5(t::text) from {name} as t order by 1"),
                )
                .await?
            }
        };
        relations.insert(name, found);
    }
    Ok(relations)
}

/// Names, references and purposes through the view, addresses, what the audit log knows of them, and the host's own column, tenant by tenant.
async fn plaintexts(admin: &Client) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for slug in texts(
        admin,
        "select slug from rotator_internal.tenant where status = 'active' order by 1",
    )
    .await?
    {
        all.extend(
            texts(
                admin,
                &format!(
                    "begin;
                     select rotator.use_tenant('{slug}', true);
                     select concat_ws('|', s.id, s.name, s.provider_ref, s.purpose) from rotator.secrets as s order by s.id;
                     select rotator_internal.open_field(r.tenant_id, 'recipient.address', r.id, r.address)
                     from rotator_internal.recipient as r where r.tenant_id = rotator.current_tenant() order by r.id;
                     select concat_ws('|', v.event_id, v.field, v.old_value, v.new_value) from rotator.audit_values as v
                     order by v.event_id, v.field;
                     select rotator.decrypt(v.sealed, 'vault.sealed', v.id::text) from app.vault as v
                     where v.tenant = '{slug}' order by v.id;
                     commit"
                ),
            )
            .await?,
        );
    }
    Ok(all)
}

/// What `rotator.verify_audit()` says of all tenants.
#[derive(Debug)]
pub struct Verified {
    pub ok: bool,
    pub checked: i64,
    pub unsealed: i64,
    pub detail: String,
}

pub async fn audit(admin: &Client) -> Result<Verified> {
    let row = admin
        .query_one(
            "select ok, checked, unsealed, detail from rotator.verify_audit()",
            &[],
        )
        .await?;
    Ok(Verified {
        ok: row.get(0),
        checked: row.get(1),
        unsealed: row.get(2),
        detail: row.get(3),
    })
}

pub async fn expect_audit_verified(admin: &Client) -> Result<()> {
    let found = audit(admin).await?;
    ensure!(found.ok && found.checked > 0, "{}: {found:?}", found.detail);
    Ok(())
}

/// Sealing goes on to the last event, and finds nothing wrong.
pub async fn expect_audit_sealed(admin: &Client) -> Result<()> {
    let mut last = None;
    let outcome = until(
        Duration::from_secs(10),
        "all events to be sealed",
        async || {
            admin.batch_execute("select rotator.tick()").await?;
            let found = audit(admin).await?;
            ensure!(found.ok, "{found:?}");
            let sealed = found.unsealed == 0;
            last = Some(found);
            Ok(sealed)
        },
    )
    .await;
    outcome.map_err(|error| error.context(format!("{last:?}")))
}
