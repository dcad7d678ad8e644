//! The stage of the property test: tenants whose every text carries their mark, sessions of each kind, views that read
//! the tables as a superuser with the tenant written out, and a fingerprint of each tenant's rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::{Chance, Cluster, Options, TestDb};
use serde_json::Value;
use tokio_postgres::Client;

use super::session::Session;
use crate::fixture::{text, texts};

pub const TENANTS: usize = 20;
pub const ROLES: [&str; 4] = ["admin", "editor", "viewer", "auditor"];
const ZONES: [&str; 4] = [
    "UTC",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Auckland",
];

pub struct View {
    pub name: String,
    /// Name and type.
    pub columns: Vec<(String, String)>,
}

pub struct World {
    pub db: TestDb,
    pub views: Vec<View>,
    /// The functions of schema rotator: name, argument types, how it is called.
    pub functions: Vec<(String, Vec<String>)>,
    pub tenants: Vec<String>,
    /// What stands in a column, of any tenant: predicates compare with these.
    pub values: HashMap<(String, String), Vec<String>>,
    /// Ids of rows, and the tenant they belong to.
    pub owners: Vec<(String, usize)>,
    /// What the login roles of the test are called as members.
    pub subjects: Vec<String>,
    /// A superuser's, who reads the truth views.
    pub truth: Session,
    fingerprint: String,
}

/// The mark that each text of this tenant carries.
pub fn mark(tenant: usize) -> String {
    format!("zq{tenant:02}")
}

/// The views again, but by a tenant and a role that the superuser names: nothing of identity or row security is asked.
const TRUTH: &str = "
create schema truth;
create function truth.tenant() returns uuid language sql stable as $$ select nullif(current_setting('truth.tenant', true), '')::uuid $$;
create function truth.zone() returns text language sql stable as $$ select time_zone from rotator_internal.tenant where tenant_id = truth.tenant() $$;
do $views$
declare
    v record;
    body text;
begin
    for v in
        select c.oid, c.relname from pg_class c
        where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v' and c.relname <> 'encrypted_columns'
    loop
        body := rtrim(pg_get_viewdef(v.oid), '; ');
        if body like '%rotator.current_tenant()%' then
            body := replace(replace(body, 'rotator.current_tenant()', 'truth.tenant()'), 'rotator.current_time_zone()', 'truth.zone()');
            body := replace(body, 'rotator.current_member_role()', 'current_setting(''truth.role'', true)');
        else
            body := format('select * from (%s) as v where v.tenant_id = truth.tenant()', body);
        end if;
        if v.relname like 'audit%' then
            body := format('select * from (%s) as v where current_setting(''truth.role'', true) in (''auditor'', ''admin'')', body);
        end if;
        execute format('create view truth.%I as %s', v.relname, body);
    end loop;
end
$views$;";

impl World {
    pub async fn new(chance: &mut Chance) -> Result<(Self, Vec<Session>)> {
        let cluster = Cluster::start(Options {
            // Planning methods are switched off at random, which JIT takes for queries that cost much.
            settings: vec![
                "rotator.trusted_authenticators = 'gate'".to_owned(),
                "jit = off".to_owned(),
            ],
            ..Options::default()
        })
        .await?;
        let db = TestDb::in_cluster(Arc::new(cluster)).await?;
        db.admin
            .batch_execute("create role authenticated nologin; grant rotator_user to authenticated; create role gate login noinherit; grant authenticated to gate")
            .await?;
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            let slug = mark(number);
            tenants.push(
                db.tenant_in(&slug, ZONES[chance.below(4)])
                    .await?
                    .to_string(),
            );
            populate(&db.admin, &slug).await?;
        }
        db.admin
            .batch_execute("select rotator.tick(); select rotator.reencrypt_step(); analyze")
            .await?;
        db.admin.batch_execute(TRUTH).await?;
        let fingerprint = text(
            &db.admin,
            "select string_agg(format('select %s as tenant, %L || count(*) || '':'' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) as part from rotator_internal.%I as t group by 1',
                 case when a.attname is null then '''-''' else 't.tenant_id::text' end, c.relname || ':', c.relname), ' union all ')
             from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
             where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r'",
        )
        .await?;
        let sessions = Session::of_every_kind(&db).await?;
        let mut world = Self {
            views: views(&db.admin).await?,
            functions: functions(&db.admin).await?,
            tenants,
            values: HashMap::new(),
            owners: Vec::new(),
            subjects: sessions
                .iter()
                .map(|session| session.subject.clone())
                .collect(),
            truth: Session::superuser(&db).await?,
            fingerprint: format!(
                "select tenant || '|' || string_agg(part, ' ' order by part) from ({fingerprint}) as f group by tenant"
            ),
            db,
        };
        world.collect().await?;
        Ok((world, sessions))
    }

    /// Tells the truth views whose rows they show.
    pub async fn tell_truth(&self, tenant: Option<usize>, role: Option<&str>) -> Result<()> {
        let tenant = tenant.map_or("", |number| &self.tenants[number]);
        Ok(self
            .truth
            .client
            .batch_execute(&format!(
                "set truth.tenant = '{tenant}'; set truth.role = '{}'",
                role.unwrap_or_default()
            ))
            .await?)
    }

    /// Of every tenant by number (and of tables without tenants, under none): changes when any row of it does.
    pub async fn fingerprints(&self) -> Result<BTreeMap<Option<usize>, String>> {
        texts(&self.db.admin, &self.fingerprint)
            .await?
            .iter()
            .map(|line| {
                let (tenant, print) = line.split_once('|').context("a fingerprint")?;
                let number = self.tenants.iter().position(|id| id == tenant);
                Ok((number, print.to_owned()))
            })
            .collect()
    }

    async fn collect(&mut self) -> Result<()> {
        for number in 0..TENANTS {
            self.tell_truth(Some(number), Some("admin")).await?;
            for view in &self.views {
                let rows = texts(
                    &self.truth.client,
                    &format!("select to_jsonb(v) from truth.{} as v limit 10", view.name),
                )
                .await?;
                for row in rows {
                    let row: Value = serde_json::from_str(&row)?;
                    if let Some(id) = row["id"].as_str() {
                        self.owners.push((id.to_owned(), number));
                    }
                    for (column, _) in &view.columns {
                        let value = match &row[column] {
                            Value::Null => continue,
                            Value::String(text) => text.clone(),
                            other => other.to_string(),
                        };
                        let key = (view.name.clone(), column.clone());
                        self.values.entry(key).or_default().push(value);
                    }
                }
            }
        }
        ensure!(self.owners.len() > TENANTS * 20, "few rows were made");
        Ok(())
    }
}

async fn views(admin: &Client) -> Result<Vec<View>> {
    // The duration of a run under way is another each time it is read.
    let rows = texts(
        admin,
        "select c.relname || '|' || string_agg(a.attname || ':' || format_type(a.atttypid, null), ',' order by a.attnum)
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attname <> 'duration'
         where c.relnamespace = 'truth'::regnamespace group by c.relname order by c.relname",
    )
    .await?;
    rows.iter()
        .map(|row| {
            let (name, columns) = row.split_once('|').context("a view")?;
            let columns = columns
                .split(',')
                .filter_map(|column| column.split_once(':'));
            Ok(View {
                name: name.to_owned(),
                columns: columns
                    .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
                    .collect(),
            })
        })
        .collect()
}

async fn functions(admin: &Client) -> Result<Vec<(String, Vec<String>)>> {
    let rows = texts(
        admin,
        "select p.proname || '|' || coalesce((select string_agg(format_type(t, null), ',' order by n) from unnest(p.proargtypes) with ordinality as a (t, n)), '')
         from pg_proc p where p.pronamespace = 'rotator'::regnamespace and p.prokind = 'f' order by 1",
    )
    .await?;
    rows.iter()
        .map(|row| {
            let (name, types) = row.split_once('|').context("a function")?;
            let types = types.split(',').filter(|kind| !kind.is_empty());
            Ok((name.to_owned(), types.map(str::to_owned).collect()))
        })
        .collect()
}

/// Rows in every view, some of them what another tenant has too: names, external ids, owners.
async fn populate(admin: &Client, mark: &str) -> Result<()> {
    admin
        .batch_execute(&format!(
            "select rotator.use_tenant('{mark}', true);
             select count(*) from rotator.import_secrets((select jsonb_agg(jsonb_build_object(
                 'name', '{mark}-secret-' || n, 'owner_id', '{mark}-owner-' || n % 3, 'provider_type', (array['stripe', 'vault', '{mark}'])[1 + n % 3],
                 'purpose', '{mark} purpose ' || n, 'provider_ref', '{mark}/path/' || n, 'external_id', 'shared-' || n,
                 'environment', (array['prod', 'dev'])[1 + n % 2], 'priority', 'P' || 1 + n % 4, 'labels', jsonb_build_object('team', '{mark}'),
                 'rotation_interval', n || ' months')) from generate_series(1, 12) as n));
             select rotator.register_secret('shared-name', rotation_interval => '90 days');
             select rotator.register_secret('{mark}-due-' || n, expiry_date => now() + n * interval '3 days', secondary_owner_id => '{mark}-owner-1',
                 team_lead_id => '{mark}-lead', rotation_interval => '30 days') from generate_series(0, 4) as n;
             select rotator.set_contact(owner, 'console', '{mark}-desk') from (values ('{mark}-owner-1'), ('db:postgres'), ('manager')) as o (owner);
             select rotator.set_contact('{mark}-owner-2', 'email', '{mark}@{mark}.example');
             select rotator.add_notification_policy(5, 'console', '{mark}-desk'),
                 rotator.add_notification_policy(4, secret_id => (select id from rotator.secrets where name = '{mark}-due-4'));
             select rotator.mark_rotated(id, note => '{mark} note') from rotator.secrets where name like '%-secret-1_';
             select rotator.retire_secret(id) from rotator.secrets where name = '{mark}-secret-9';
             select rotator.set_key_schedule('60 days', '{mark}');
             select rotator.add_member('{mark}-user-' || role, role, '{mark}') from unnest('{{admin,editor,viewer,auditor}}'::text[]) as r (role);
             select rotator.tick();
             select rotator.acknowledge(id) from rotator.secrets where name = '{mark}-due-1';
             select rotator.rotate_key('{mark}', '{mark} drill')"
        ))
        .await
        .with_context(|| format!("populating {mark}"))?;
    Ok(admin.batch_execute("discard all").await?)
}
