//! Random changes: through the view in every form that PostgreSQL has, of what nobody may change, and by every function
//! with arguments that belong to any tenant or to none.

use super::reads::Draw;
use super::world::{TENANTS, View, mark};

pub enum Change {
    /// A statement that changes rows of the view and returns their ids; the select says which these must be.
    Touch { sql: String, rows: String },
    /// Any other statement.
    Any(String),
    /// Lines copied into the view.
    CopyIn(String),
}

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";

impl<'a> Draw<'a> {
    fn secrets(&self) -> &'a View {
        let found = self.world.views.iter().find(|view| view.name == "secrets");
        found.expect("the view is there, or the stage had not been set")
    }

    fn text(&mut self) -> String {
        let tenant = mark(self.chance.below(TENANTS));
        let made = self.chance.below(1_000_000);
        match self.chance.below(12) {
            0 => "null".to_owned(),
            1 => "''".to_owned(),
            2 => format!("'{tenant}'"),
            3 => format!("'{tenant}-secret-{}'", 1 + made % 12),
            4 => format!("'{tenant}-owner-{}'", made % 3),
            5 => format!("'{tenant}-user-editor'"),
            6 => format!("'{}'", self.world.tenants[made % TENANTS]),
            7 => format!(
                "'{}'",
                self.chance.one_of(&[
                    "admin", "viewer", "console", "email", "stripe", "manual", "overdue"
                ])
            ),
            8 => format!(
                "'{}'",
                self.world.subjects[made % self.world.subjects.len()]
            ),
            9 => format!("'{tenant}/{}'", 1 + made % 3),
            10 => format!("'shared-{}'", 1 + made % 12),
            _ => format!("'made {made}'"),
        }
    }

    fn id(&mut self) -> String {
        match self.chance.below(8) {
            0 => "null".to_owned(),
            1 => format!("'{UNKNOWN}'"),
            _ => format!("'{}'", self.chance.one_of(&self.world.owners).0),
        }
    }

    /// An argument of this type.
    fn argument(&mut self, kind: &str) -> String {
        let number = self.chance.below(60);
        let value = match kind {
            "uuid" => self.id(),
            "text" => self.text(),
            "boolean" => (*self.chance.one_of(&["true", "false", "null"])).to_owned(),
            "integer" | "bigint" => format!("{}", number as i64 - 2),
            "interval" => format!("'{number} days'"),
            "timestamp with time zone" => format!("now() + interval '{} days'", number as i64 - 20),
            "jsonb" => {
                let name = self.text();
                let other = self.text();
                format!(
                    "jsonb_build_array(jsonb_build_object('name', {name}::text, 'external_id', 'shared-{}', 'rotation_interval', '9 days', 'owner_id', {other}::text))",
                    number % 14
                )
            }
            "bytea" => "convert_to('x', 'UTF8')".to_owned(),
            "uuid[]" => format!("array[{}]::uuid[]", self.id()),
            "regclass" => "'pg_class'".to_owned(),
            _ => "null".to_owned(),
        };
        format!("{value}::{kind}")
    }

    pub fn call(&mut self) -> String {
        // Half of them are about one row, which may be anybody's.
        if self.chance.once_in(2) {
            let id = self.id();
            return match self.chance.below(8) {
                0 => format!("select rotator.mark_rotated({id}, note => 'by chance')"),
                1 => format!("select rotator.acknowledge({id}, until => now() + interval '1 day')"),
                2 => format!("select rotator.retire_secret({id}, 'by chance')"),
                3 => format!(
                    "select rotator.add_notification_policy({}, secret_id => {id})",
                    self.chance.below(300)
                ),
                4 => format!("select rotator.remove_notification_policy({id})"),
                5 => format!("select count(*) from rotator.search_secrets(after => {id})"),
                6 => format!(
                    "select rotator.rollback_key_rotation({0}), rotator.retry_key_rotation({0})",
                    self.chance.below(60)
                ),
                _ => format!(
                    "select rotator.set_contact({}, 'console', {})",
                    self.text(),
                    self.text()
                ),
            };
        }
        let (name, types) = self.chance.one_of(&self.world.functions);
        let arguments: Vec<String> = types.iter().map(|kind| self.argument(kind)).collect();
        format!("select * from rotator.{name}({})", arguments.join(", "))
    }

    pub fn change(&mut self) -> Change {
        let secrets = self.secrets();
        let made = self.chance.below(1_000_000);
        let ids: Vec<String> = (0..4).map(|_| self.id()).collect();
        // Narrow enough that secrets last for the whole test.
        let some = match self.chance.below(3) {
            0 => format!(
                "({}) and a.name like '%{}'",
                self.predicate(secrets, "a", 2),
                made % 10
            ),
            1 => format!("a.id in ({})", ids.join(", ")),
            _ => format!(
                "a.name = '{}-secret-{}'",
                mark(made % TENANTS),
                1 + made % 12
            ),
        };
        let rows = format!("select a.id::text from ¤secrets¤ as a where {some}");
        let touch = |sql: String| Change::Touch {
            sql,
            rows: rows.clone(),
        };
        let name = format!("{}-made-{made}", mark(made % TENANTS));
        match self.chance.below(18) {
            0 | 1 => Change::Any(format!(
                "insert into rotator.secrets (name, interval_days, owner_id) values ('{name}', 30, {}) returning id, name, owner_id",
                self.text()
            )),
            2 => Change::Any(format!(
                "insert into rotator.secrets (name, rotation_interval) select 'copy {made} of ' || a.name, a.rotation_interval from rotator.secrets as a where {some} limit 2"
            )),
            3..=5 => touch(format!("update rotator.secrets as a set environment = 'e{}' where {some} returning a.id::text", made % 7)),
            6 => touch(format!("with u as (update rotator.secrets as a set priority = 'P{}' where {some} returning a.id::text) select id from u", 1 + made % 4)),
            7 => Change::Any(format!("update rotator.secrets as a set owner_id = l.secret_name from rotator.alerts as l where l.secret_id = a.id and {some}")),
            8 => touch(format!("delete from rotator.secrets as a where {some} returning a.id::text")),
            9 => Change::Any(format!("delete from rotator.secrets as a using rotator.alerts as l where l.secret_id = a.id and a.id = {}", ids[0])),
            10 => Change::Any(format!(
                "merge into rotator.secrets as a using (values ({}::uuid)) as n (id) on a.id = n.id when matched then update set environment = 'merged' when not matched then insert (name, interval_days) values ('{name}', 9)",
                ids[0]
            )),
            11 => Change::Any(format!("insert into rotator.secrets (name, external_id, interval_days) values ('{name}', 'shared-{}', 5) on conflict do nothing", made % 12)),
            12 => Change::CopyIn(format!("{name}\t7\n{name} too\t9\n")),
            13 => {
                let view = self.chance.one_of(&self.world.views);
                Change::Any(match self.chance.below(4) {
                    0 => format!("insert into rotator.{} select * from rotator.{0}", view.name),
                    1 => format!("truncate rotator.{}", view.name),
                    2 => format!("lock table rotator.{} in access exclusive mode", view.name),
                    _ => format!("select * from rotator.{} for update", view.name),
                })
            }
            14 => Change::Any(
                (*self.chance.one_of(&[
                    "update rotator_internal.secret set owner_id = 'x'",
                    "delete from rotator_internal.audit_event",
                    "insert into rotator_internal.member (tenant_id, subject, role) select tenant_id, 'x', 'admin' from rotator_internal.tenant",
                    "select rotator_internal.bind_tenant(tenant_id, false) from rotator_internal.tenant",
                    "select nextval('rotator_internal.audit_event_id')",
                    "copy rotator_internal.secret to stdout",
                    "select lastval()",
                ]))
                .to_owned(),
            ),
            // Whom a trusted authenticator claims to act for, it acts for.
            15 if !self.trusted => Change::Any(format!(
                "select set_config('rotator.session', '{}', true), set_config('request.jwt.claims', '{{\"sub\":\"x\",\"tenant_id\":\"{}\",\"rotator_role\":\"admin\"}}', true), (select count(*) from rotator.secrets)",
                self.world.tenants[made % TENANTS],
                mark(made % TENANTS)
            )),
            _ => Change::Any(format!("do $$ begin perform rotator.retire_secret({}); exception when others then perform rotator.acknowledge({}); end $$", ids[0], ids[1])),
        }
    }
}
