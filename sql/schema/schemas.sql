-- The two schemas. `rotator` holds functions and views and is the one to expose through PostgREST; `rotator_internal`
-- holds tables and helpers, and no member role has USAGE on it: views and grants reach through it, names don't.
-- Created without "if not exists": a schema that somebody else made must stop the installation, not be adopted.
-- Covered by tests/tests/behaviour/install.rs.

create schema rotator;
create schema rotator_internal;

comment on schema rotator is
    'rotator: the registry, calendar and alarm clock for credentials. Start with rotator.secrets and rotator.doctor().';
comment on schema rotator_internal is
    'Tables and helpers of rotator; use the functions and views of schema rotator instead.';
