-- The doctor's part on the audit log: is it sealed, is it signed where signing is in use, and do the triggers that keep it
-- append only stand as they were made? Called by rotator.doctor(). Covered by tests/tests/security/audit_doctor.rs.

create or replace function rotator_internal.audit_checks() returns table (check_name text, ok boolean, detail text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    waiting interval;
    is_signing boolean;
    weakened text;
begin
    waiting := clock_timestamp() - (
        select e.occurred_at
        from rotator_internal.audit_event as e
        where e.transaction_id >= coalesce((select s.below from rotator_internal.audit_seal_state as s), '0')
          and e.transaction_id < rotator_internal.next_transaction_id()
          and not exists (
            select
            from rotator_internal.audit_leaf as l
            where l.tenant_id = e.tenant_id and l.event_id = e.id)
        order by e.transaction_id
        limit 1);
    check_name := 'audit sealing';
    ok := coalesce(waiting <= interval '10 minutes', true);
    detail := case
        when waiting is null then 'every event is sealed'
        else format('the oldest event that is not sealed is %s s old', greatest(extract(epoch from waiting), 0)::bigint)
    end;
    fix := 'Each tick seals what is older than every open transaction. Does it run? Then one is open for long: select pid, '
        'xact_start, query from pg_stat_activity where backend_xid is not null order by xact_start; and pg_prepared_xacts.';
    return next;

    is_signing := exists (select from rotator_internal.audit_signature);
    waiting := case when is_signing then (
        select clock_timestamp() - u.sealed_at from rotator_internal.unsigned_blocks(1) as u) end;
    check_name := 'audit signatures';
    ok := coalesce(waiting <= interval '15 minutes', true);
    detail := case
        when not is_signing then 'blocks are not signed: no sidecar with a signing key has signed one yet'
        when waiting is null then 'every block is signed'
        else format('the oldest unsigned block is %s s old', greatest(extract(epoch from waiting), 0)::bigint)
    end;
    fix := 'Does the rotator serve that has the signing key run, and can it write its copies? See its log.';
    return next;

    select string_agg(w.what, ', ' order by w.what) into weakened
    from (
        select format('%s has no enabled trigger append_only', t.name) as what
        from unnest(array['audit_event', 'audit_block', 'audit_leaf', 'audit_signature']) as t (name)
        where not exists (
            select
            from pg_trigger as g
            where g.tgrelid = format('rotator_internal.%I', t.name)::regclass
              and g.tgname = 'append_only' and g.tgenabled = 'A'
              and g.tgfoid = 'rotator_internal.refuse_audit_change()'::regprocedure
              -- before, for each statement: update, delete, truncate
              and g.tgtype = 58 and g.tgqual is null)
        union all
        -- Logical replication fires triggers for each row alone.
        select format('%s has no enabled trigger append_only_rows', t.name)
        from unnest(array['audit_event', 'audit_block', 'audit_leaf', 'audit_signature']) as t (name)
        where not exists (
            select
            from pg_trigger as g
            where g.tgrelid = format('rotator_internal.%I', t.name)::regclass
              and g.tgname = 'append_only_rows' and g.tgenabled = 'A'
              and g.tgfoid = 'rotator_internal.refuse_audit_change()'::regprocedure
              -- before, for each row: update, delete
              and g.tgtype = 27 and g.tgqual is null)
        union all
        -- Re-encryption writes here, so what it may write is looked at.
        select format('audit_value has no enabled trigger %s', t.name)
        from (values
            ('never_removed', 'refuse_audit_change', 42), -- before, for each statement: delete, truncate
            ('never_removed_rows', 'refuse_audit_change', 11), -- before, for each row: delete
            ('only_resealed', 'refuse_value_change', 19) -- before, for each row: update
        ) as t (name, function, type)
        where not exists (
            select
            from pg_trigger as g
            where g.tgrelid = 'rotator_internal.audit_value'::regclass
              and g.tgname = t.name and g.tgenabled = 'A' and g.tgtype = t.type and g.tgqual is null
              and g.tgfoid = format('rotator_internal.%I()', t.function)::regprocedure)
        union all
        select format('trigger %I on %s', g.tgname, c.relname)
        from pg_trigger as g
        join pg_class as c on c.oid = g.tgrelid
        where c.relnamespace = 'rotator_internal'::regnamespace and starts_with(c.relname, 'audit_') and not g.tgisinternal
          and g.tgname <> all (
            case
                when c.relname = 'audit_value' then array['never_removed', 'never_removed_rows', 'only_resealed']
                else array['append_only', 'append_only_rows']
            end)
        union all
        select format('rule %I on %s', r.rulename, c.relname)
        from pg_rewrite as r
        join pg_class as c on c.oid = r.ev_class
        where c.relnamespace = 'rotator_internal'::regnamespace and starts_with(c.relname, 'audit_') and c.relkind = 'r'
    ) as w;
    check_name := 'audit append only';
    ok := weakened is null;
    detail := coalesce(weakened, 'triggers refuse to change or remove what was written');
    fix := 'Somebody with superuser rights changed these. Find out who and why, verify the log (select * from rotator.verify_audit()), '
        'drop what is not rotator''s, and: alter table rotator_internal.<table> enable always trigger append_only;';
    return next;
end
$$;

comment on function rotator_internal.audit_checks() is 'The checks of rotator.doctor() on the audit log.';
