-- What every text that comes in must be, before it is encrypted, stored or logged: no secret value (api/guard.sql), bounded,
-- and without characters a reader can't see. Detectors: extension/src/guard. Covered by tests/tests/behaviour/bad_input.rs.

create or replace function rotator_internal.has_unseen(value text) returns boolean
language sql immutable strict parallel safe
begin atomic
    select value ~ '[\u0001-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]';
end;

comment on function rotator_internal.has_unseen(text) is
    'Whether there is a control or invisible character in it, or one that changes the direction of what follows.';

create or replace function rotator_internal.check_line(field text, value text, max_length integer default 256) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Every kind of space, whatever the locale calls one.
    blank boolean := value ~ '^[[:space:]\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]*$';
begin
    perform rotator_internal.refuse_secret(field, value);
    if value is null then
        return null;
    elsif length(value) > max_length or blank then
        perform rotator_internal.refuse(
            '22023',
            format('%s must be 1 to %s characters', field, max_length),
            case when blank then 'Give it a value, or leave it out where it is optional.' else 'Shorten it; details belong in the purpose.' end);
    elsif rotator_internal.has_unseen(value) then
        perform rotator_internal.refuse(
            '22023',
            format('%s contains a control or invisible character', field),
            'Use visible characters on one line; such characters often come along when text is pasted.');
    end if;
    return btrim(value);
end
$$;

comment on function rotator_internal.check_line(text, text, integer) is
    'The value, trimmed, if it is one visible line that holds no secret; else RT001 or 22023.';

create or replace function rotator_internal.check_text(field text, value text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform rotator_internal.refuse_secret(field, value);
    if length(value) > 10000 then
        perform rotator_internal.refuse(
            '22023', format('%s is longer than 10,000 characters', field), 'Keep the document elsewhere and link to it.');
    end if;
    return nullif(btrim(value), '');
end
$$;

comment on function rotator_internal.check_text(text, text) is
    'Free text of up to 10,000 characters that holds no secret, null when blank; else RT001 or 22023.';
