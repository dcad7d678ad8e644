-- Who owns what, and who may do what: the whole allow-list in one place. First everything that default privileges may
-- have given away is taken back (Supabase grants to anon and authenticated), then this list is granted, nothing else.
-- Three kinds of functions: those for members run as rotator_owner, whom row security binds to the current tenant;
-- those of the engine, which work across tenants, run as rotator_engine; C functions stay with the installing superuser.
-- Covered by tests/tests/security/grants.rs, which compares the catalog with this file.

do $ownership$
declare
    thing record;
    -- Functions that touch the host's tables: see api/encrypted_column.sql.
    host constant text[] := array['walk_host_column', 'host_rows_using_key', 'count_unreadable', 'check_host_column'];
    -- Functions that must see more than one tenant, or decide which tenant it is.
    engine constant text[] := array[
        'identity', 'current_tenant', 'current_actor', 'current_member_role', 'current_time_zone', 'use_tenant',
        'create_tenant', 'add_member', 'remove_member',
        'rotate_key', 'rotate_all_keys', 'rollback_key_rotation', 'retry_key_rotation', 'retire_key', 'destroy_key',
        'set_key_schedule', 'offboard_tenant', 'rows_using_key', 'reencrypt_step', 'change_encrypted_column',
        'tick', 'claim_notifications', 'complete_notification', 'complete_notifications', 'fail_notification',
        'release_notifications', 'postpone_notifications', 'redeem_link', 'record_link_refusal', 'press_button', 'record_press_refusal', 'acknowledge_incident', 'record_audit_export', 'audit_seal_position', 'engine_status', 'doctor', 'rewrap_keys', 'reload_master_key', 'keys_to_rewrap',
        'reserve_uses',
        'scan_texts', 'verify_audit', 'unsigned_audit_blocks', 'record_audit_signature', 'record_schedule'];
begin
    for thing in
        select c.oid::pg_catalog.regclass as name
        from pg_catalog.pg_class as c
        where c.relnamespace operator(pg_catalog.=) any (
                array['rotator'::pg_catalog.regnamespace, 'rotator_internal'::pg_catalog.regnamespace]::oid[])
          and c.relkind operator(pg_catalog.=) any (array['r', 'v', 'S']::"char"[])
    loop
        execute pg_catalog.format('alter table %s owner to rotator_owner', thing.name);
    end loop;

    for thing in
        select
            p.oid::pg_catalog.regprocedure as name,
            case
                when p.proname operator(pg_catalog.=) any (engine) then 'rotator_engine'
                when p.proname operator(pg_catalog.=) any (host) then 'rotator_host'
                when p.proname operator(pg_catalog.=) 'write_host_column' then 'rotator_host_writer'
                else 'rotator_owner'
            end as owner
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_language as l on l.oid operator(pg_catalog.=) p.prolang
        where p.pronamespace operator(pg_catalog.=) any (
                array['rotator'::pg_catalog.regnamespace, 'rotator_internal'::pg_catalog.regnamespace]::oid[])
          and l.lanname operator(pg_catalog.<>) 'c'
    loop
        execute pg_catalog.format('alter routine %s owner to %I', thing.name, thing.owner);
    end loop;

    -- From everybody but its owner: once granted, that would be the rights by which our functions work.
    for thing in
        select o.kind, o.name, coalesce(pg_catalog.quote_ident(r.rolname), 'public') as grantee
        from (
            select
                case when c.relkind operator(pg_catalog.=) 'S' then 'sequence' else 'table' end as kind,
                c.oid::pg_catalog.regclass::text as name, c.relowner as owner, c.relacl as acl
            from pg_catalog.pg_class as c
            where c.relnamespace operator(pg_catalog.=) any (
                    array['rotator'::pg_catalog.regnamespace, 'rotator_internal'::pg_catalog.regnamespace]::oid[])
            union all
            select 'table', c.oid::pg_catalog.regclass::text, c.relowner, a.attacl
            from pg_catalog.pg_class as c
            join pg_catalog.pg_attribute as a on a.attrelid operator(pg_catalog.=) c.oid
            where c.relnamespace operator(pg_catalog.=) any (
                    array['rotator'::pg_catalog.regnamespace, 'rotator_internal'::pg_catalog.regnamespace]::oid[])
            union all
            select
                'routine', p.oid::pg_catalog.regprocedure::text, p.proowner,
                coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            from pg_catalog.pg_proc as p
            where p.pronamespace operator(pg_catalog.=) any (
                    array['rotator'::pg_catalog.regnamespace, 'rotator_internal'::pg_catalog.regnamespace]::oid[])
            union all
            select 'schema', pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl
            from pg_catalog.pg_namespace as n
            where n.nspname operator(pg_catalog.=) any (array['rotator', 'rotator_internal']::name[])
        ) as o
        cross join lateral pg_catalog.aclexplode(o.acl) as a
        left join pg_catalog.pg_roles as r on r.oid operator(pg_catalog.=) a.grantee
        where a.grantee operator(pg_catalog.<>) o.owner
        group by o.kind, o.name, r.rolname
    loop
        execute pg_catalog.format('revoke all on %s %s from %s', thing.kind, thing.name, thing.grantee);
    end loop;
end
$ownership$;

-- The owners themselves.
grant usage on schema rotator, rotator_internal to rotator_owner, rotator_engine;
grant execute on all routines in schema rotator, rotator_internal to rotator_owner, rotator_engine;
grant select, insert, update, delete on all tables in schema rotator_internal to rotator_engine;
grant usage on all sequences in schema rotator_internal to rotator_engine;
grant select on all tables in schema rotator to rotator_engine;
revoke update, delete, truncate
    on rotator_internal.audit_event, rotator_internal.audit_block, rotator_internal.audit_leaf, rotator_internal.audit_signature
    from rotator_owner, rotator_engine;
-- Its ciphertexts re-encryption rewrites, and nothing else.
revoke update, delete, truncate on rotator_internal.audit_value from rotator_owner, rotator_engine;
grant update (changed) on rotator_internal.audit_value to rotator_engine;
revoke insert on rotator_internal.audit_block, rotator_internal.audit_leaf, rotator_internal.audit_signature from rotator_owner;
revoke all on rotator_internal.audit_seal_state from rotator_owner;

-- Anybody may ask who he is, and choose among the tenants his login role belongs to.
grant usage on schema rotator to public;
grant execute on function
    rotator.current_tenant(), rotator.current_actor(), rotator.current_member_role(), rotator.current_time_zone(),
    rotator.use_tenant(text, boolean)
to public;

-- Members of a tenant. Views are security_invoker, so reading them takes the columns below them as well.
grant select, insert, update, delete on rotator.secrets to rotator_user;
grant select on
    rotator.alerts, rotator.audit_blocks, rotator.audit_leaves, rotator.audit_log, rotator.audit_values, rotator.contacts, rotator.delivery_windows, rotator.encryption_keys, rotator.identities, rotator.notification_policies,
    rotator.coverage, rotator.escalation_policies, rotator.notifications, rotator.overview, rotator.undeliverable, rotator.key_rotations, rotator.key_schedules
to rotator_user;
grant select on
    rotator_internal.alert, rotator_internal.audit_block, rotator_internal.audit_event, rotator_internal.audit_leaf,
    rotator_internal.audit_signature, rotator_internal.audit_value, rotator_internal.escalation_choice,
    rotator_internal.escalation_policy, rotator_internal.escalation_step, rotator_internal.contact, rotator_internal.delivery_window, rotator_internal.identity_link, rotator_internal.notification,
    rotator_internal.notification_policy, rotator_internal.recipient, rotator_internal.rotation, rotator_internal.secret
to rotator_user;
grant select (tenant_id, time_zone) on rotator_internal.tenant to rotator_user;
grant select (tenant_id, subject, role) on rotator_internal.member to rotator_user;
grant select (tenant_id, id, purpose, version, status, created_at, activated_at, retired_at, destroyed_at)
    on rotator_internal.encryption_key to rotator_user;
grant select on
    rotator_internal.key_rotation, rotator_internal.reencryption, rotator_internal.key_schedule, rotator_internal.key_use
to rotator_user;
grant execute on function
    rotator_internal.open_field(uuid, text, uuid, bytea), rotator_internal.recipient_hint(text, text),
    rotator_internal.rows_using_key(uuid, bigint),
    rotator_internal.policies_of(uuid, uuid), rotator_internal.ladder_of(uuid, uuid, text),
    rotator_internal.ladder_steps(uuid, uuid, text),
    rotator_internal.ladder_told(uuid, rotator_internal.secret, text, text, uuid),
    rotator_internal.kin(rotator_internal.notification),
    rotator_internal.is_undeliverable(rotator_internal.notification), rotator_internal.event_row(bigint)
to rotator_user;
grant execute on function
    rotator.allow_value(text, text, text),
    rotator.register_secret(
        text, text, timestamptz, interval, text, text, text, text, text, text, text, jsonb, text),
    rotator.retire_secret(uuid, text),
    rotator.search_secrets(text, text, text, integer, text, integer, uuid),
    rotator.import_secrets(jsonb, boolean),
    rotator.mark_rotated(uuid, timestamptz, timestamptz, text, text),
    rotator.acknowledge(uuid, text, timestamptz),
    rotator.snooze(uuid, timestamptz, text),
    rotator.reassign_secrets(text, text),
    rotator.set_contact(text, text, text),
    rotator.add_notification_policy(integer, text, text, uuid),
    rotator.remove_notification_policy(uuid),
    rotator.set_escalation_policy(text, jsonb, text[]),
    rotator.use_escalation_policy(uuid, text),
    rotator.remove_escalation_policy(text),
    rotator.set_delivery_window(jsonb),
    rotator.preview_schedule(uuid, timestamptz),
    rotator.explain_notifications(uuid),
    rotator.test_notification(text, text),
    rotator.add_member(text, text, text),
    rotator.remove_member(text, text),
    rotator.link_identity(text, text, text),
    rotator.unlink_identity(text, text),
    rotator.rotate_key(text, text),
    rotator.rollback_key_rotation(bigint),
    rotator.retry_key_rotation(bigint),
    rotator.retire_key(integer, text),
    rotator.destroy_key(integer, text, text),
    rotator.set_key_schedule(interval, text),
    rotator.record_audit_export(text),
    rotator.audit_seal_position(),
    rotator.verify_audit(text)
to rotator_user;

grant execute on function rotator.encrypt(text, text, text), rotator.decrypt(bytea, text, text) to rotator_user;

-- Re-encryption of the host's columns: its tables are read as rotator_host, and written as rotator_host_writer, which may
-- not even use our schemas.
grant usage on schema rotator_internal to rotator_host;
grant execute on function
    rotator_internal.reseal_value(uuid, text, text, bytea),
    rotator_internal.renew_value(uuid, text, text, bytea),
    rotator_internal.renew_uuid_value(uuid, text, uuid, bytea),
    rotator_internal.lock_for_writing(regclass),
    rotator_internal.value_opens(uuid, text, text, bytea),
    rotator_internal.ciphertext_key(bytea),
    rotator_internal.is_under_other_key(bytea, bigint),
    rotator_internal.walk_statement(text, text, text, text, text[], text[], boolean, boolean, boolean),
    rotator_internal.sweep(text, text, text, text, text[], text[], boolean, uuid, bigint, text, integer, integer),
    rotator_internal.runs_no_code(regclass),
    rotator_internal.host_table(rotator_internal.encrypted_column),
    rotator_internal.host_tenant_condition(rotator_internal.encrypted_column, regclass, text),
    rotator_internal.type_of_column(regclass, name),
    rotator_internal.refuse(text, text, text),
    rotator_internal.write_restricted(regclass, name, oid[], tid[], bytea[], boolean),
    rotator_internal.write_host_column(regclass, name, oid[], tid[], bytea[], boolean)
to rotator_host;

-- Operators: everything a member may, in the tenant they use, and what is above tenants.
grant rotator_user to rotator_admin;
grant execute on function
    rotator.create_tenant(text, text, text),
    rotator.offboard_tenant(text, text),
    rotator.rotate_all_keys(text),
    rotator.reencrypt_step(integer),
    rotator.register_encrypted_column(regclass, name, text, name, name),
    rotator.unregister_encrypted_column(text, name),
    rotator.tick(timestamptz, integer),
    rotator.enable_schedule(text),
    rotator.disable_schedule(),
    rotator.record_schedule(text),
    rotator.engine_status(),
    rotator.doctor(),
    rotator.scan_texts(jsonb, integer),
    rotator.rewrap_keys(),
    rotator.reload_master_key()
to rotator_admin;
grant execute on procedure rotator.run_tick() to rotator_admin;
grant select, insert, delete on rotator.encrypted_columns to rotator_admin;
grant select on rotator_internal.encrypted_column to rotator_admin;

-- Auditors: the log of all tenants, nothing else.
grant select on rotator.audit_blocks, rotator.audit_leaves, rotator.audit_log to rotator_auditor;
grant select on
    rotator_internal.audit_block, rotator_internal.audit_event, rotator_internal.audit_leaf, rotator_internal.audit_signature
to rotator_auditor;
grant execute on function
    rotator.record_audit_export(text), rotator.audit_seal_position(), rotator.verify_audit(text)
to rotator_auditor;

-- The sidecar: the queue and the links, nothing else.
grant execute on function
    rotator.tick(timestamptz, integer),
    rotator.reencrypt_step(integer),
    rotator.claim_notifications(text, integer, interval),
    rotator.complete_notification(uuid, uuid, text),
    rotator.complete_notifications(jsonb),
    rotator.fail_notification(uuid, uuid, text, text, interval),
    rotator.release_notifications(uuid[], uuid[]),
    rotator.postpone_notifications(jsonb),
    rotator.redeem_link(text, text, text, text, timestamptz, timestamptz),
    rotator.record_link_refusal(text, text, text, text),
    rotator.press_button(text, text, text, text, text, timestamptz, timestamptz, text),
    rotator.record_press_refusal(text, text, text, text, text, text),
    rotator.acknowledge_incident(text, text, timestamptz),
    rotator.unsigned_audit_blocks(integer),
    rotator.record_audit_signature(uuid, bigint, text, text, text[]),
    rotator.engine_status()
to rotator_sidecar;
