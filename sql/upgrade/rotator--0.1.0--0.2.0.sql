-- From 0.1.0 to 0.2.0: what must be out of the way before the files of sql/manifest are run again, and nothing else.
-- sql/upgrade/README.md has the recipes. Frozen once 0.2.0 is released.
-- Covered by tests/tests/behaviour/upgrade.rs.

drop function if exists rotator_internal.check_fields(rotator_internal.secret_fields, text);
drop function if exists rotator_internal.queue_due(rotator_internal.calendar[], tid[], timestamptz);
