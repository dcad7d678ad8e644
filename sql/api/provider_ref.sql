-- Where a provider keeps the credential: the forms that references have, by provider. What is certainly no reference is
-- refused, and with it most values that somebody pasted instead of one. Providers that aren't listed take any line.
-- Called by rotator_internal.check_fields; the guard has seen the text before. Covered by tests/tests/security/guard_fields.rs.

create or replace function rotator_internal.provider_family(provider_type text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when provider_type ~ '^(aws|amazon)([_.-].*)?$'
            or provider_type in ('secretsmanager', 'secrets_manager', 'ssm', 'parameter_store', 'iam') then 'aws'
        when provider_type ~ '^(gcp|gcloud|google_cloud)([_.-].*)?$'
            or provider_type in ('google_secret_manager', 'google_sm') then 'gcp'
        when provider_type ~ '^azure([_.-].*)?$' or provider_type in ('akv', 'key_vault', 'keyvault') then 'azure'
        when provider_type ~ '^(vault|openbao|bao)([_.-].*)?$' or provider_type in ('hashicorp_vault', 'hashicorp', 'hcp_vault') then 'vault'
        when provider_type ~ '^(kubernetes|k8s|kube|openshift)([_.-].*)?$' then 'kubernetes'
        when provider_type in ('1password', 'onepassword', 'op') then '1password'
    end;
end
$$;

comment on function rotator_internal.provider_family(text) is
    'Whose grammar references of this provider_type follow; null for one that has none.';

create or replace function rotator_internal.is_provider_ref(family text, reference text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- No backslash: how a string constant reads one is the caller's to set (standard_conforming_strings).
    return case family
        -- An ARN, perhaps with the key of its JSON; a name of Secrets Manager, SSM or IAM; a page of the console.
        when 'aws' then
            reference ~ '^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12}|aws)?:[^[:space:]]+$'
            or reference ~ '^[A-Za-z0-9/_+=.@,#-]([A-Za-z0-9/_+=.@,:#-]*)$' and reference !~ '^(arn:|[a-z]+://)'
            or reference ~ '^https://([a-z0-9-]+[.])*(aws[.]amazon|amazonaws)[.](com|cn|com[.]cn)/[^[:space:]]*$'
        -- A resource name, with or without its service; a bare name; a service account.
        when 'gcp' then
            reference ~ '^(//[a-z]+[.]googleapis[.]com/)?(projects|organizations|folders)/[a-z0-9:._-]+(/[^[:space:]/]+)*$'
            or reference ~ '^[A-Za-z0-9][A-Za-z0-9._@-]*(/[A-Za-z0-9._@-]+)*$' and reference !~ '^(projects|organizations|folders)(/|$)'
            or reference ~ '^https://console[.]cloud[.]google[.]com/[^[:space:]]*$'
        -- An identifier of a vault's object, a resource id, an application's or key's UUID, vault/name or a name.
        when 'azure' then
            reference ~* '^https://[a-z0-9-]+[.](vault|managedhsm)[.](azure[.]net|azure[.]cn|usgovcloudapi[.]net|microsoftazure[.]de)(:443)?(/(secrets|keys|certificates|storage)(/[a-z0-9-]+){0,2})?/?$'
            or reference ~* '^/?subscriptions/[0-9a-f-]{36}(/[^/]+)*/?$'
            or reference ~* '^https://portal[.]azure[.]com/[^[:space:]]*$'
            or reference ~ '^[A-Za-z0-9][A-Za-z0-9 ._/@-]*$'
        -- mount/path, perhaps with a field behind # or :, perhaps as a URL of the API or the pages.
        when 'vault' then
            reference ~ '^(vault:)?/?[A-Za-z0-9_.@+ -]+(/[A-Za-z0-9_.@+{} -]+)*/?([#:][A-Za-z0-9_.-]+)?([?]version=[0-9]+)?$'
            or reference ~ '^https?://[^[:space:]/@]+/(v1|ui)/[^[:space:]@]+$'
        -- namespace/name, perhaps with a kind or cluster before and a key behind.
        when 'kubernetes' then
            reference ~ '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?((/|:|#)[A-Za-z0-9_.]([A-Za-z0-9._-]*)){0,4}$'
        when '1password' then
            reference ~ '^op://[^/]+/[^/]+(/[^/]+){0,2}([?]attribute=[a-z_-]+)?$'
            or reference ~ '^https://[a-z0-9.-]*1password[.](com|ca|eu)/(open|vaults|app)[^[:space:]]*$'
            or reference ~ '^[^/:@]{1,128}(/[^/:@]{1,128}){0,3}$'
        else true
    end;
end
$$;

comment on function rotator_internal.is_provider_ref(text, text) is 'Whether a reference has one of the forms that its family uses.';

create or replace function rotator_internal.check_provider_ref(provider_type text, reference text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    family text := case when reference is not null then rotator_internal.provider_family(provider_type) end;
begin
    if family is not null and not rotator_internal.is_provider_ref(family, reference) then
        perform rotator_internal.refuse(
            '22023',
            format('provider_ref is no reference of provider %s', provider_type),
            case family
                when 'aws' then 'Like arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf, prod/db, or /prod/db/password.'
                when 'gcp' then 'Like projects/my-project/secrets/db-password/versions/7, or db-password.'
                when 'azure' then 'Like https://my-vault.vault.azure.net/secrets/db-password, or my-vault/db-password.'
                when 'vault' then 'Like secret/data/prod/db, or secret/prod/db#password.'
                when 'kubernetes' then 'Like namespace/name, or namespace/name/key.'
                else 'Like op://vault/item/field.'
            end);
    end if;
end
$$;

comment on function rotator_internal.check_provider_ref(text, text) is
    'Raises 22023, with the forms there are, for a reference that its provider can''t have.';
