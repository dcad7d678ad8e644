-- Signatures of blocks: the sidecar fetches what is unsigned, signs outside, and records the note. The key is never here,
-- so nobody who owns this database can sign; that a note names the block's hash is all that can be checked in SQL.
-- Table: schema/audit_block.sql. The sidecar's side: sidecar/src/audit. Covered by tests/tests/security/audit_sign.rs.

create or replace function rotator_internal.audit_note_body(tenant uuid, number bigint, hash bytea) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return format('rotator/audit/%s', tenant) || chr(10) || number || chr(10) || encode(hash, 'base64') || chr(10);
end
$$;

comment on function rotator_internal.audit_note_body(uuid, bigint, bytea) is
    'What is signed about a block: three lines with tenant, number and hash. The same text as in the crate rotator_audit.';

create or replace function rotator_internal.unsigned_blocks(max_blocks integer)
returns table (tenant_id uuid, number bigint, sealed_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    -- From tenant to tenant by index, and in each from its last signature on: as cheap when millions are signed. The tenants
    -- take turns: one whose blocks nobody signs, because its log was rewritten, holds up no other.
    return query
    with recursive chain as (
        (
            select b.tenant_id
            from rotator_internal.audit_block as b
            order by b.tenant_id
            limit 1
        )
        union all
        select (
            select b.tenant_id
            from rotator_internal.audit_block as b
            where b.tenant_id > c.tenant_id
            order by b.tenant_id
            limit 1)
        from chain as c
        where c.tenant_id is not null
    )
    select c.tenant_id, u.number, u.sealed_at
    from chain as c
    cross join lateral (
        select b.number, b.sealed_at, row_number() over (order by b.number) as turn
        from rotator_internal.audit_block as b
        where b.tenant_id = c.tenant_id
          and b.number > coalesce((
            select s.number
            from rotator_internal.audit_signature as s
            where s.tenant_id = c.tenant_id
            order by s.number desc
            limit 1), 0)
        order by b.number
        limit max_blocks
    ) as u
    order by u.turn, u.sealed_at, c.tenant_id
    limit max_blocks;
end
$$;

comment on function rotator_internal.unsigned_blocks(integer) is 'Blocks without a signature, the oldest first, each tenant''s in order.';

create or replace function rotator.unsigned_audit_blocks(max_blocks integer default 100)
returns table (tenant_id uuid, block_id bigint, header jsonb, event_ids bigint[], leaves bytea)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    if max_blocks is null or max_blocks not between 1 and 1000 then
        perform rotator_internal.refuse('22023', 'max_blocks must be between 1 and 1000', 'Leave it out for 100.');
    end if;
    return query
    select
        b.tenant_id,
        b.number,
        jsonb_build_object(
            'tenant_id', b.tenant_id, 'number', b.number, 'events', b.events, 'first_id', b.first_id, 'last_id', b.last_id,
            'root', encode(b.root, 'hex'), 'previous', encode(b.previous, 'hex'),
            'sealed_at', (extract(epoch from b.sealed_at) * 1000000)::bigint,
            'below', b.below::text, 'next', b.next::text, 'hash', encode(b.hash, 'hex')),
        l.event_ids,
        l.leaves
    from rotator_internal.unsigned_blocks(max_blocks) with ordinality as u (tenant_id, number, sealed_at, place)
    join rotator_internal.audit_block as b on b.tenant_id = u.tenant_id and b.number = u.number
    cross join lateral (
        select array_agg(x.event_id order by x.event_id) as event_ids, string_agg(x.hash, ''::bytea order by x.event_id) as leaves
        from rotator_internal.audit_leaf as x
        where x.tenant_id = b.tenant_id and x.event_id between b.first_id and b.last_id and x.block_number = b.number
    ) as l
    order by u.place;
end
$$;

comment on function rotator.unsigned_audit_blocks(integer) is
    'Blocks of the audit log that have no signature, the oldest first, each tenant''s in order. header has the fields that are '
    'hashed: hashes in hexadecimal, sealed_at in microseconds since 1970 UTC, transaction ids as texts; leaves are 32 bytes an '
    'event, in order of event_ids. For the sidecar.';

create or replace function rotator.record_audit_signature(
    tenant_id uuid, block_id bigint, note text, key_name text, copies text[] default '{}') returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    block rotator_internal.audit_block;
    signed text;
    known text;
begin
    select b.* into block
    from rotator_internal.audit_block as b
    where b.tenant_id = record_audit_signature.tenant_id and b.number = block_id;
    if not found then
        perform rotator_internal.refuse('PT404', 'no such block', 'rotator.unsigned_audit_blocks() lists those to sign.');
    end if;
    signed := rotator_internal.audit_note_body(block.tenant_id, block.number, block.hash) || chr(10);
    -- Then a dash, which has no place in this file, and the name.
    if note is null or key_name is null or length(note) > 10000 or not starts_with(note, signed)
        or strpos(substr(note, length(signed) + 1), ' ' || key_name || ' ') not between 2 and 4
    then
        perform rotator_internal.refuse(
            '22023', 'the note is not one about this block by this key',
            'Sign the three lines tenant, number and hash of the block as it is, as a C2SP signed note.');
    end if;
    if length(key_name) > 255 or coalesce(cardinality(copies), 0) > 20
        or exists (select from unnest(copies) as c (place) where c.place is null or length(c.place) > 1000) then
        perform rotator_internal.refuse(
            '22023', 'the key''s name or the list of copies is too long', 'At most 255 characters; 20 copies of 1,000 each.');
    end if;

    -- In order: so a signature that is missing before another was removed.
    if block.number > 1 and not exists (
        select
        from rotator_internal.audit_signature as s
        where s.tenant_id = block.tenant_id and s.number = block.number - 1) then
        perform rotator_internal.refuse(
            'PT409', format('block %s of this tenant has no signature yet', block.number - 1),
            'Sign a tenant''s blocks in the order in which rotator.unsigned_audit_blocks() gives them.');
    end if;
    insert into rotator_internal.audit_signature (tenant_id, number, first_id, note, key_name, copies)
    values (block.tenant_id, block.number, block.first_id, record_audit_signature.note, record_audit_signature.key_name,
        coalesce(record_audit_signature.copies, '{}'))
    on conflict on constraint audit_signature_pkey do nothing;
    select s.note into known
    from rotator_internal.audit_signature as s
    where s.tenant_id = block.tenant_id and s.number = block.number;
    return known = record_audit_signature.note;
end
$$;

comment on function rotator.record_audit_signature(uuid, bigint, text, text, text[]) is
    'Records the signed note about a block and where it was copied to. A repeat is true and changes nothing; false when another '
    'note was first. Errors: 22023 the note is not about this block, PT404 no such block, PT409 the block before it is '
    'unsigned. For the sidecar.';

create or replace view rotator.audit_blocks
with (security_invoker = true)
as
select
    b.tenant_id,
    b.number as block_id,
    b.events,
    b.first_id,
    b.last_id,
    encode(b.root, 'hex') as root,
    encode(b.previous, 'hex') as previous,
    b.sealed_at,
    b.below::text as below,
    b.next::text as next,
    encode(b.hash, 'hex') as hash,
    s.note,
    s.key_name,
    s.signed_at,
    s.copies
from rotator_internal.audit_block as b
left join rotator_internal.audit_signature as s on s.tenant_id = b.tenant_id and s.number = b.number;

comment on view rotator.audit_blocks is
    'Blocks of sealed audit events and their signatures. Tenant auditors and admins see their tenant''s, rotator_auditor all.';
comment on column rotator.audit_blocks.root is 'Merkle root over the leaves of its events, hexadecimal.';
comment on column rotator.audit_blocks.previous is 'Hash of the tenant''s block before, hexadecimal; zeros for the first.';
comment on column rotator.audit_blocks.below is
    'Every transaction with a lower id had ended when it was sealed; 0: gathered after an upgrade or a restore.';
comment on column rotator.audit_blocks.next is 'Transactions with this id or a higher one began after it was sealed.';
comment on column rotator.audit_blocks.hash is 'What the next block and the note name, hexadecimal.';
comment on column rotator.audit_blocks.note is 'The C2SP signed note; null while unsigned.';
comment on column rotator.audit_blocks.copies is 'Where the sidecar had written the block to when it recorded the signature.';

create or replace view rotator.audit_leaves
with (security_invoker = true)
as
select
    l.tenant_id,
    l.block_number as block_id,
    l.event_id,
    encode(l.hash, 'hex') as hash
from rotator_internal.audit_leaf as l;

comment on view rotator.audit_leaves is
    'The hash of each sealed audit event and its block: an export carries them, so that what is missing can be named. Tenant '
    'auditors and admins see their tenant''s, rotator_auditor all.';
comment on column rotator.audit_leaves.hash is 'SHA-256 over all columns of the event, hexadecimal.';
