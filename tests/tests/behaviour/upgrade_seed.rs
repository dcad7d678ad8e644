//! An installation that has been in use when its upgrade comes: two tenants, people, secrets in every state, links in
//! inboxes, a notification under way. All of it through the public functions of the first release, so that it can be made
//! in any version; a release that adds a table adds its rows here, which [`Rows::of`] insists on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::{scalar, until};
use serde_json::Value;
use tokio_postgres::Client;

use crate::seed::{Claim, claim};

const TENANTS: [&str; 2] = ["acme", "beta"];

/// Hours that begin in two or three days, and a reminder of beta's that waits for them; where there are such things.
const WAITS_FOR_HOURS: &str = "
    do $hours$
    begin
        if to_regprocedure('rotator.set_delivery_window(jsonb)') is not null then
            perform rotator.use_tenant('beta');
            perform rotator.set_delivery_window(jsonb_build_object(
                'days', array[to_char(now() at time zone 'Europe/Berlin' + interval '3 days', 'dy')],
                'from', '00:00', 'to', '24:00'));
            update rotator.secrets set expiry_date = now() + interval '5 days' where name = 'beta-later';
            perform rotator.tick();
        end if;
    end
    $hours$";

/// What people and workers still hold when the upgrade is over.
pub struct InUse {
    /// Leased by a worker of the old version, which will report.
    under_way: Claim,
    /// Delivered: its link waits in an inbox.
    delivered: Claim,
    /// What each tenant reads: names, purposes, references, hints of contacts.
    shown: Vec<Value>,
}

impl InUse {
    /// `session` is a superuser's.
    pub async fn begin(session: &Client) -> Result<Self> {
        for tenant in TENANTS {
            session
                .batch_execute(&populate(tenant))
                .await
                .with_context(|| format!("populating {tenant}"))?;
        }
        // One at a time: what is due together for one recipient is one message.
        session
            .batch_execute("select rotator.tick(max_rows => 1) from generate_series(1, 40)")
            .await?;
        let mut claims = claim(session, 100, "1 hour").await?;
        ensure!(claims.len() >= 6, "{} claims", claims.len());
        // Of beta, in whose tenant each of them is left as it is here.
        claims.retain(|claim| claim.message["tenant"]["slug"] == "beta");
        let [delivered, acknowledged, failed, under_way] = ["due", "taken", "failed", "leased"]
            .map(|name| {
                let name = format!("beta-{name}");
                claims
                    .iter()
                    .find(|claim| claim.message["secret"]["name"] == name.as_str())
                    .cloned()
            });
        let delivered = delivered.context("a claim to deliver")?;
        let acknowledged = acknowledged.context("a claim to acknowledge")?;
        let failed = failed.context("a claim to fail")?;
        for claim in [&delivered, &acknowledged] {
            complete(session, claim).await?;
        }
        session
            .execute(
                "select rotator.redeem_link($1, 'acknowledge')",
                &[&acknowledged.link_token],
            )
            .await?;
        session
            .execute(
                "select rotator.fail_notification($1, $2, 'it did not work', 'transient', interval '1 hour')",
                &[&failed.id, &failed.claim_id],
            )
            .await?;
        for tenant in TENANTS {
            session
                .batch_execute(&format!(
                    "select rotator.rotate_key('{tenant}', 'long before the upgrade'), rotator.rotate_key('{tenant}', 'before it');
                     select rotator.use_tenant('{tenant}');
                     select rotator.register_secret('{tenant}-later', rotation_interval => '1 year', purpose => 'under the third key')"
                ))
                .await?;
        }
        session.batch_execute(WAITS_FOR_HOURS).await?;
        Ok(Self {
            under_way: under_way.context("a claim to hold")?,
            delivered,
            shown: shown(session).await?,
        })
    }

    /// Everything shown before is shown now.
    pub async fn expect_readable(&self, session: &Client) -> Result<()> {
        let now = shown(session).await?;
        ensure!(now == self.shown, "{now:#?}\nbefore: {:#?}", self.shown);
        Ok(())
    }

    /// It goes on: the worker's report counts, the link in the inbox acts, new secrets are registered, told and claimed.
    pub async fn expect_alive(&self, session: &Client) -> Result<()> {
        complete(session, &self.under_way).await?;
        let page: Value = scalar(
            session,
            "select rotator.redeem_link($1, 'show')",
            &[&self.delivered.link_token],
        )
        .await?;
        ensure!(
            page.to_string().contains("beta-due"),
            "the link shows {page}"
        );
        session
            .execute(
                "select rotator.redeem_link($1, 'rotated')",
                &[&self.delivered.link_token],
            )
            .await
            .context("the link of a message from before the upgrade")?;
        let state = "select state from rotator_internal.alert where secret_id = $1::text::uuid and cycle = 1";
        let rotated = self.delivered.message["secret"]["id"].as_str();
        let alert: String = scalar(session, state, &[&rotated]).await?;
        ensure!(
            alert == "resolved",
            "rotating by the link leaves its alert {alert}"
        );

        let events = "select count(*) from rotator_internal.audit_event";
        let before: i64 = scalar(session, events, &[]).await?;
        session
            .batch_execute(
                "select rotator.use_tenant('acme');
                 select rotator.register_secret('after the upgrade', expiry_date => now() + interval '5 days')",
            )
            .await?;
        ensure!(
            scalar::<i64>(session, events, &[]).await? == before + 1,
            "registering is audited"
        );
        // The tick passes over what another session of a test still holds.
        until(
            Duration::from_secs(10),
            "the new secret to be told",
            async || {
                session.batch_execute("select rotator.tick()").await?;
                let claims = claim(session, 100, "1 minute").await?;
                Ok(claims
                    .iter()
                    .any(|claim| claim.message["secret"]["name"] == "after the upgrade"))
            },
        )
        .await
    }
}

fn populate(tenant: &str) -> String {
    format!(
        "select rotator.create_tenant('{tenant}', '{tenant} Ltd', 'Europe/Berlin');
         select rotator.use_tenant('{tenant}');
         select rotator.add_member('u1', 'editor', '{tenant}'), rotator.add_member('u2', 'viewer', '{tenant}');
         select rotator.remove_member('u2', '{tenant}');
         select rotator.set_contact('db:postgres', 'console', '{tenant}-desk');
         select rotator.register_secret('{tenant}-' || name, expiry_date => now() + interval '5 days',
             rotation_interval => '90 days', purpose => '{tenant} purpose', provider_ref => '{tenant}/path', external_id => name)
         from unnest(array['due', 'taken', 'failed', 'leased']) as name;
         select rotator.mark_rotated(rotator.register_secret('{tenant}-rotated', rotation_interval => '90 days'));
         select rotator.retire_secret(rotator.register_secret('{tenant}-retired', rotation_interval => '1 month'));
         select rotator.import_secrets('[{{\"name\": \"{tenant}-imported\", \"expiry_date\": \"2030-06-01\", \"external_id\": \"i-1\"}}]');
         select rotator.add_notification_policy(3, 'email', '{tenant}@example.com');
         do $newer$
         begin -- what came after the first release, where it is there
             if to_regprocedure('rotator.link_identity(text, text, text)') is not null then
                 perform rotator.link_identity('u1', 'slack', 'T024BE7LD/U012AB3CD');
             end if;
             if to_regprocedure('rotator.set_escalation_policy(text, jsonb, text[])') is not null then
                 perform rotator.set_escalation_policy('night', '[{{\"after\": \"1 hour\", \"recipient\": \"n@example.com\", \"channel\": \"email\"}}]');
                 perform rotator.use_escalation_policy(id, 'night') from rotator.secrets order by id limit 1;
             end if;
         end
         $newer$"
    )
}

async fn complete(session: &Client, claim: &Claim) -> Result<()> {
    let sql = "select rotator.complete_notification($1, $2, 'vendor-1')";
    ensure!(
        scalar::<bool>(session, sql, &[&claim.id, &claim.claim_id]).await?,
        "the claim of {} is no longer its worker's",
        claim.message["secret"]["name"]
    );
    Ok(())
}

async fn shown(session: &Client) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for tenant in TENANTS {
        session
            .execute("select rotator.use_tenant($1)", &[&tenant])
            .await?;
        let sql = "select jsonb_build_object(
            'secrets', (select jsonb_agg(jsonb_build_array(s.id, s.name, s.purpose, s.provider_ref, s.expiry_date, s.status)
                order by s.id) from rotator.secrets as s),
            'contacts', (select jsonb_agg(jsonb_build_array(c.owner_id, c.recipient_hint)) from rotator.contacts as c),
            'alerts', (select jsonb_agg(jsonb_build_array(a.id, a.secret_name, a.state) order by a.id) from rotator.alerts as a))";
        let view: Value = scalar(session, sql, &[]).await?;
        let secrets = view["secrets"].as_array().map_or(0, Vec::len);
        ensure!(
            secrets == 8 && view.to_string().contains(&format!("{tenant} purpose")),
            "{tenant} sees {view:#}"
        );
        all.push(view);
    }
    Ok(all)
}

/// The content of every table: its columns, and its rows in them.
pub struct Rows(BTreeMap<String, (String, Value)>);

impl Rows {
    pub async fn of(session: &Client) -> Result<Self> {
        let tables = session
            .query(
                "select c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
                 from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                 where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r' group by c.oid",
                &[],
            )
            .await?;
        let mut all = BTreeMap::new();
        for row in tables {
            let (table, columns): (String, String) = (row.get(0), row.get(1));
            let rows = rows_of(session, &table, &columns).await?;
            ensure!(
                rows.as_array().is_some_and(|rows| !rows.is_empty()),
                "{table} has no rows: an upgrade must be tried with some in it, see upgrade_seed.rs"
            );
            all.insert(table, (columns, rows));
        }
        Ok(Self(all))
    }

    /// Not what the engine notes of one database, which a dump leaves out.
    pub fn in_a_dump(mut self) -> Self {
        self.0.remove("rotator_internal.heartbeat");
        self.0.remove("rotator_internal.audit_seal_state");
        self
    }

    /// The same rows, in the columns there were; further columns may have come.
    pub async fn expect_kept(&self, session: &Client) -> Result<()> {
        let mut changed = Vec::new();
        for (table, (columns, before)) in &self.0 {
            let after = rows_of(session, table, columns).await?;
            let only_in = |one: &Value, other: &Value| -> Vec<String> {
                let other = other.as_array().cloned().unwrap_or_default();
                let rows = one.as_array().into_iter().flatten();
                rows.filter(|row| !other.contains(row))
                    .map(Value::to_string)
                    .collect()
            };
            let (gone, new) = (only_in(before, &after), only_in(&after, before));
            if &after != before {
                changed.push(format!("{table}: gone {gone:#?}, new {new:#?}"));
            }
        }
        ensure!(changed.is_empty(), "{}", changed.join("\n"));
        Ok(())
    }
}

async fn rows_of(session: &Client, table: &str, columns: &str) -> Result<Value> {
    let sql = format!(
        "select coalesce(jsonb_agg(to_jsonb(t) order by to_jsonb(t)), '[]') from (select {columns} from {table}) as t"
    );
    scalar(session, &sql, &[]).await
}
