-- The beginning of every upgrade script: the library of the new version must be loaded first, because the functions
-- below are declared for it. A server that preloads rotator has the old one until it restarts, other sessions until
-- they reconnect. PostgreSQL notes the new version before it runs the script. Nothing of this is in an installation.
-- Covered by tests/tests/behaviour/upgrade_rules.rs.

do $preflight$
declare
    loaded constant text := rotator_internal.library_version();
    wanted constant text := (
        select e.extversion
        from pg_catalog.pg_extension as e
        where e.extname operator(pg_catalog.=) 'rotator');
begin
    if loaded operator(pg_catalog.<>) wanted then
        raise exception using
            errcode = '55000',
            message = pg_catalog.format('rotator''s library is version %s here, the upgrade is to version %s', loaded, wanted),
            hint = 'Install the files of that version, then restart PostgreSQL (or reconnect, if rotator is not in '
                'shared_preload_libraries) and update again. Nothing has changed.';
    end if;
end
$preflight$;
