-- The native functions, compiled from extension/src: what SQL can't do safely or fast. They decide nothing. They belong
-- to the superuser who installs (a C function of anybody else would hand out his rights) and are granted one by one in
-- api/grants.sql. What raises isn't parallel safe: on its way from a worker to its leader an error forgets that its
-- statement, which may hold plaintext, is not to be logged. Covered by tests/tests/behaviour/install.rs, which compares this file with the library's symbols.

create or replace function rotator_internal.library_version() returns text
  language c stable strict parallel safe
  as 'MODULE_PATHNAME', 'library_version_wrapper';

create or replace function rotator_internal.library_preloaded() returns boolean
  language c stable strict parallel safe
  as 'MODULE_PATHNAME', 'library_preloaded_wrapper';

create or replace function rotator_internal.uuid_v7() returns uuid
  language c volatile strict parallel safe
  as 'MODULE_PATHNAME', 'uuid_v7_wrapper';

create or replace function rotator_internal.mint_token() returns text
  language c volatile strict parallel safe
  as 'MODULE_PATHNAME', 'mint_token_wrapper';

-- not strict: a null hint means none
create or replace function rotator_internal.refuse(code text, message text, hint text) returns void
  language c volatile parallel unsafe
  as 'MODULE_PATHNAME', 'refuse_wrapper';

-- not strict: a null value is fine, a null field name must not switch the guard off
create or replace function rotator_internal.guard(field text, value text) returns void
  language c stable parallel unsafe
  as 'MODULE_PATHNAME', 'guard_wrapper';

create or replace function rotator_internal.secret_rule(value text) returns text
  language c stable strict parallel safe
  as 'MODULE_PATHNAME', 'secret_rule_wrapper';

create or replace function rotator_internal.random_tokens(value text) returns text
  language c stable strict parallel safe
  as 'MODULE_PATHNAME', 'random_tokens_wrapper';

create or replace function rotator_internal.seal_field(tenant uuid, label text, row_id uuid, plaintext text) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'seal_field_wrapper';

-- The costs of what decrypts make the planner filter by tenant first, and sort and limit before it decrypts a select list.
create or replace function rotator_internal.open_field(tenant uuid, label text, row_id uuid, ciphertext bytea) returns text
  language c stable strict parallel safe cost 20
  as 'MODULE_PATHNAME', 'open_field_wrapper';

create or replace function rotator_internal.try_open_field(tenant uuid, label text, row_id uuid, ciphertext bytea) returns text
  language c stable strict parallel safe cost 20
  as 'MODULE_PATHNAME', 'try_open_field_wrapper';

create or replace function rotator_internal.reseal_field(tenant uuid, label text, row_id uuid, ciphertext bytea) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'reseal_field_wrapper';

create or replace function rotator_internal.renew_field(tenant uuid, label text, row_id uuid, ciphertext bytea) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'renew_field_wrapper';

create or replace function rotator.encrypt(plaintext text, label text, row_key text) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'encrypt_wrapper';

-- Just above the 100 of a function in SQL: a host may compare its tenant column with rotator.current_tenant() itself, and
-- a million rows should not yet make PostgreSQL compile the query (JIT).
create or replace function rotator.decrypt(ciphertext bytea, label text, row_key text) returns text
  language c stable strict parallel restricted cost 110
  as 'MODULE_PATHNAME', 'decrypt_wrapper';

create or replace function rotator_internal.reseal_value(tenant uuid, label text, row_key text, ciphertext bytea) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'reseal_value_wrapper';

create or replace function rotator_internal.renew_value(tenant uuid, label text, row_key text, ciphertext bytea) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'renew_value_wrapper';

create or replace function rotator_internal.renew_uuid_value(tenant uuid, label text, row_key uuid, ciphertext bytea) returns bytea
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'renew_uuid_value_wrapper';

create or replace function rotator_internal.lock_for_writing(relation regclass) returns void
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'lock_for_writing_wrapper';

create or replace function rotator_internal.write_restricted(
    relation regclass, column_name name, parts oid[], places tid[], ciphertexts bytea[], is_partitioned boolean) returns bigint
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'write_restricted_wrapper';

create or replace function rotator_internal.value_opens(tenant uuid, label text, row_key text, ciphertext bytea) returns boolean
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'value_opens_wrapper';

create or replace function rotator_internal.ciphertext_key(ciphertext bytea) returns bigint
  language c immutable strict parallel safe
  as 'MODULE_PATHNAME', 'ciphertext_key_wrapper';

create or replace function rotator_internal.is_under_other_key(ciphertext bytea, key_id bigint) returns boolean
  language c immutable strict parallel safe
  as 'MODULE_PATHNAME', 'is_under_other_key_wrapper';

create or replace function rotator_internal.forget_active_keys() returns trigger
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'forget_active_keys_wrapper';

create or replace function rotator_internal.blind_index(tenant uuid, label text, value text) returns bytea
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'blind_index_wrapper';

create or replace function rotator_internal.value_hash(tenant uuid, label text, value text) returns bytea
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'value_hash_wrapper';

create or replace function rotator_internal.make_key(tenant uuid, key_id bigint, purpose text,
    out wrapped_key bytea, out master_key_id text, out check_value bytea) returns record
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'make_key_wrapper';

create or replace function rotator_internal.rewrap_key(
    tenant uuid, key_id bigint, purpose text, old_wrapped_key bytea, old_master_key_id text, check_value bytea,
    out wrapped_key bytea, out master_key_id text) returns record
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'rewrap_key_wrapper';

create or replace function rotator_internal.load_master_keys() returns text
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'load_master_keys_wrapper';

create or replace function rotator_internal.master_key_ids() returns text
  language c volatile strict parallel restricted
  as 'MODULE_PATHNAME', 'master_key_ids_wrapper';

create or replace function rotator_internal.master_key_source() returns text
  language c volatile strict parallel restricted
  as 'MODULE_PATHNAME', 'master_key_source_wrapper';

create or replace function rotator_internal.master_key_status() returns text
  language c volatile strict parallel safe
  as 'MODULE_PATHNAME', 'master_key_status_wrapper';

create or replace function rotator_internal.wrapping_master_key_id() returns text
  language c volatile strict parallel safe
  as 'MODULE_PATHNAME', 'wrapping_master_key_id_wrapper';

create or replace function rotator_internal.bind_tenant(tenant uuid, is_local boolean) returns void
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'bind_tenant_wrapper';

create or replace function rotator_internal.bound_tenant() returns uuid
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'bound_tenant_wrapper';

-- all null when who is asking must be worked out (anew)
create or replace function rotator_internal.recall_identity(out tenant uuid, out actor text, out role text) returns record
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'recall_identity_wrapper';

create or replace function rotator_internal.recall_tenant() returns uuid
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'recall_tenant_wrapper';

create or replace function rotator_internal.remember_identity(tenant uuid, actor text, role text) returns void
  language c volatile strict parallel restricted
  as 'MODULE_PATHNAME', 'remember_identity_wrapper';

create or replace function rotator_internal.forget_identity() returns trigger
  language c volatile strict parallel unsafe
  as 'MODULE_PATHNAME', 'forget_identity_wrapper';

create or replace function rotator_internal.in_claims_mode() returns boolean
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'in_claims_mode_wrapper';

-- null, or {tenant, subject, role} with null elements for absent ones
create or replace function rotator_internal.claims() returns text[]
  language c stable strict parallel restricted
  as 'MODULE_PATHNAME', 'claims_wrapper';

-- not strict: an event may have no entity_id and no request id; null when it has no tenant, id, …
create or replace function rotator_internal.audit_event_hash(
    tenant uuid, id bigint, occurred_at timestamptz, transaction_id xid8, actor text, source text, action text,
    entity text, entity_id text, changes text, request_id text) returns bytea
  language c immutable parallel safe
  as 'MODULE_PATHNAME', 'audit_event_hash_wrapper';

create or replace function rotator_internal.audit_root(leaves bytea) returns bytea
  language c immutable strict parallel safe
  as 'MODULE_PATHNAME', 'audit_root_wrapper';

create or replace function rotator_internal.audit_block_hash(
    tenant uuid, number bigint, events bigint, root bytea, previous bytea, sealed_at timestamptz, below xid8, next xid8)
  returns bytea
  language c immutable strict parallel safe
  as 'MODULE_PATHNAME', 'audit_block_hash_wrapper';

create or replace function rotator_internal.next_transaction_id() returns xid8
  language c volatile strict parallel safe
  as 'MODULE_PATHNAME', 'next_transaction_id_wrapper';

comment on function rotator_internal.library_version() is 'Version of the loaded library; the extension''s own is in pg_extension.';
comment on function rotator_internal.library_preloaded() is 'Whether the library came by shared_preload_libraries.';
comment on function rotator_internal.uuid_v7() is
    'A UUID of version 7 by the database''s clock; ids of one session rise.';
comment on function rotator_internal.mint_token() is '256 random bits as 43 characters of base64url, for a link.';
comment on function rotator_internal.refuse(text, text, text) is
    'Raises an error with this SQLSTATE, message and hint, and keeps the statement out of the server''s log.';
comment on function rotator_internal.guard(text, text) is
    'Raises RT001 when the value is certain to be a secret; the error names the field and the rule, never the value.';
comment on function rotator_internal.secret_rule(text) is 'The rule by which the value is certain to be a secret; null when it is not.';
comment on function rotator_internal.random_tokens(text) is
    'The parts of the value that look drawn by chance, with blanks between; null when there are none.';
comment on function rotator_internal.seal_field(uuid, text, uuid, text) is
    'Encrypts a field of this row under the tenant''s active data key.';
comment on function rotator_internal.open_field(uuid, text, uuid, bytea) is
    'Decrypts a field of this row; RT011 when it isn''t authentic, RT012 when its key is gone.';
comment on function rotator_internal.try_open_field(uuid, text, uuid, bytea) is
    'As open_field, but null for a ciphertext that can''t be opened, so that one doesn''t hold up many.';
comment on function rotator_internal.reseal_field(uuid, text, uuid, bytea) is
    'The same plaintext under the active data key; a ciphertext that is under it already as it is; null for one that can''t be opened.';
comment on function rotator.encrypt(text, text, text) is
    'Encrypts a value of the application''s own under the current tenant''s active data key. It is bound to the label, a '
    'constant that names the column, and to the row key, the text of the row''s key: only with both does it decrypt. '
    'Errors: RT002 without a tenant, 22023 for a label or row key that is empty or too long, RT010, RT013.';
comment on function rotator.decrypt(bytea, text, text) is
    'The plaintext of what rotator.encrypt() gave for the same tenant, label and row key. Errors: RT002 without a tenant, '
    'RT010, RT011 when it was changed or belongs elsewhere, RT012 when its key is gone.';
comment on function rotator_internal.reseal_value(uuid, text, text, bytea) is 'As reseal_field, for a value of rotator.encrypt().';
comment on function rotator_internal.renew_field(uuid, text, uuid, bytea) is
    'As reseal_field, but RT011 for one that can''t be opened.';
comment on function rotator_internal.renew_value(uuid, text, text, bytea) is
    'As reseal_value, but RT011 for one that can''t be opened.';
comment on function rotator_internal.renew_uuid_value(uuid, text, uuid, bytea) is
    'renew_value for a row key that is a uuid, without writing it as a text first.';
comment on function rotator_internal.lock_for_writing(regclass) is
    'Takes the lock that an UPDATE of the table takes, to the end of the transaction.';
comment on function rotator_internal.write_restricted(regclass, name, oid[], tid[], bytea[], boolean) is
    'Calls write_host_column as a security-restricted operation: nothing that a trigger over there starts outlives it.';
comment on function rotator_internal.value_opens(uuid, text, text, bytea) is
    'Whether this is a value of rotator.encrypt() for this tenant, label and row key.';
comment on function rotator_internal.ciphertext_key(bytea) is
    'Id of the data key that a ciphertext names, not checked; null for what is no ciphertext. Reads its first bytes only.';
comment on function rotator_internal.is_under_other_key(bytea, bigint) is
    'Whether it names another data key than this one, or is no ciphertext at all; what re-encryption has to look at.';
comment on function rotator_internal.forget_active_keys() is
    'A trigger: keys changed, so which one is active is asked anew in this transaction too.';
comment on function rotator_internal.blind_index(uuid, text, text) is
    'A keyed hash of the normalised value: equal values are found without being decrypted.';
comment on function rotator_internal.value_hash(uuid, text, text) is
    'A keyed hash of the value as it is, letter by letter: commits to it, and tells nothing else of it.';
comment on function rotator_internal.make_key(uuid, bigint, text) is 'A fresh key, wrapped by the first master key.';
comment on function rotator_internal.rewrap_key(uuid, bigint, text, bytea, text, bytea) is
    'The same key under the first of the master keys that load_master_keys() found; RT010 when none of them opens it.';
comment on function rotator_internal.load_master_keys() is
    'Reads the master keys now; the id of the one that wraps. RT010 when they can''t be read.';
comment on function rotator_internal.master_key_ids() is
    'Ids of the master keys held, the one that wraps first, with blanks between; null when none are.';
comment on function rotator_internal.master_key_source() is 'file or command: where the master keys held came from; null when none are.';
comment on function rotator_internal.master_key_status() is
    'Null when the master keys load and open what was made before, else what is wrong; never a byte of them.';
comment on function rotator_internal.wrapping_master_key_id() is 'The master key that wraps new data keys; RT010 when there is none.';
comment on function rotator_internal.bind_tenant(uuid, boolean) is 'Binds this session, or its transaction, to a tenant.';
comment on function rotator_internal.bound_tenant() is 'The tenant this session is bound to, if nobody tampered with the binding.';
comment on function rotator_internal.recall_identity() is
    'What rotator_internal.identity() found last, while nothing that decides it can have changed; else nulls.';
comment on function rotator_internal.recall_tenant() is 'The tenant of recall_identity().';
comment on function rotator_internal.remember_identity(uuid, text, text) is 'Keeps what was found, for recall_identity().';
comment on function rotator_internal.forget_identity() is 'A trigger: members or tenants changed, so who is asking is worked out anew.';
comment on function rotator_internal.in_claims_mode() is 'Whether the session user is listed in rotator.trusted_authenticators.';
comment on function rotator_internal.claims() is 'Tenant, subject and role of the request''s claims; null when absent or malformed.';
comment on function rotator_internal.audit_event_hash(
    uuid, bigint, timestamptz, xid8, text, text, text, text, text, text, text) is
    'The leaf of an audit event: a hash of all of its columns, whatever the session''s settings. changes is the text of its jsonb.';
comment on function rotator_internal.audit_root(bytea) is 'The Merkle root (RFC 6962) over leaves of 32 bytes each, one after the other.';
comment on function rotator_internal.audit_block_hash(uuid, bigint, bigint, bytea, bytea, timestamptz, xid8, xid8) is
    'The hash of a block of the audit log, which its successor and its signature name.';
comment on function rotator_internal.next_transaction_id() is
    'The id that the next transaction gets: above those of all that have begun. A snapshot doesn''t tell: its upper end is above those that have ended.';
