//! What people legitimately write, to be accepted: names, references, paths, identifiers, addresses and notes. Put together
//! from words by templates; the held-back set has words and templates of its own.

use super::chance::{BASE62, BASE64, Chance, DIGITS, HEX, LOWER, UPPER};
use super::refused::Case;

/// What a set is put together from.
pub struct Vocabulary {
    services: &'static str,
    places: &'static str,
    things: &'static str,
    people: &'static str,
    names: &'static [&'static str],
    notes: &'static [&'static str],
}

/// The set that the rules were made with.
pub const TUNED: Vocabulary = Vocabulary {
    services: "stripe github postgres mysql redis kafka sendgrid slack okta datadog twilio billing payments checkout search \
inventory jenkins gitlab vault grafana sentry shopify salesforce snowflake airflow elasticsearch rabbitmq mongodb cloudflare auth0",
    places: "prod staging dev qa eu-west-1 us-east-1 eu-central-1 berlin frankfurt sandbox canary blue green legacy",
    things: "key token secret password credential certificate api-key webhook-secret signing-key service-account db-password \
oauth-client deploy-key access-key license smtp-password ssh-key root-ca client-cert",
    people: "alice bob priya chen jonas maria platform sre payments-team finance security-operations",
    names: &[
        "{s}-{p}-{t}-2026",
        "{s}_{p}_{t}",
        "{S} {t} ({p})",
        "{s}/{p}/{t}",
        "{C}{P}{T}",
        "{S}ProdApiKeyV2",
        "Key of the {s} {t} for {p}, 2026-Q1",
        "TLS *.{s}.acme.com (Let's Encrypt R11)",
        "{P}_{S}_{T}",
        "rotate-quarterly-2026-Q1-{s}",
        "svc-{s}-{p}-readonly-v{d}",
        "sk_live key for {s}",
        "Schlüssel für {s} – Übergabe {p}",
        "{s}.{p}.{t}.v{d}",
        "{s}-{p}-{n}",
    ],
    notes: &[
        "rotated by {who} on 2026-0{d}-1{d}, ticket OPS-{n}; old one revoked",
        "password: changeme-owner-{who} is the convention here, see the wiki",
        "token=rotate-quarterly-2026-Q1, see https://wiki.acme.com/{s}/rotation?page={d}",
        "commit {sha1} changed the {s} {t}",
        "certificate serial 0{hex30}, fingerprint {sha2}",
        "SHA256:{b64} is the fingerprint of the new {s} host key",
        "Ask {who}@acme.com; the {t} lives in {p} under account 123456789012",
        "the {s} {t} is used by {s}-worker, {s}-web and the nightly export in {p}",
        "client_id={id32} (the secret is in Vault)",
        "breaks checkout when it expires: call {who}, then failover to {p}",
        "request id {uuid}, incident INC-{n}",
        "Renewed; next expiry 2027-01-{d}1T00:00:00Z. Runbook: https://runbooks.acme.com/{s}#rotate-{t}",
        "postgres://app@db.{p}.acme.com:5432/{s} without a password, by IAM",
        "connect with postgres://app:${PASSWORD}@db/{s}, or Server=db;Uid=app;Pwd=<password>;",
        "see https://docs.google.com/document/d/{id44}/edit and https://github.com/acme/{s}/pull/{n}",
        "the 2FA device of {who} is in the safe; machine {s} login is by SSO",
        "image registry.acme.com/{s}@sha256:{sha2}",
        "arn:aws:iam::123456789012:role/{s}-{p} assumes it; account id 123456789012",
    ],
};

/// The set that is only measured with.
pub const HELD_BACK: Vocabulary = Vocabulary {
    services: "zendesk hubspot confluent clickhouse cassandra nats envoy istio argocd tekton spinnaker sonarqube nexus artifactory \
launchdarkly segment amplitude mixpanel braintree adyen klarna paypal docusign workday netsuite servicenow zoom intercom marketo \
fastly akamai digitalocean heroku hetzner ovhcloud scaleway kong",
    places: "production preprod integration uat perf dr-site ap-southeast-2 sa-east-1 ca-central-1 me-south-1 northeurope \
westus2 europe-west4 munich tokyo sydney rack12 zone-b",
    things: "bearer-token refresh-token app-password hmac-key jwt-signing-key tls-bundle kubeconfig pat vpn-psk ldap-bind snmp-community \
license-file encryption-key pgp-key mtls-cert saml-metadata provisioning-token broker-login",
    people: "oliver fatima yusuf ingrid tomasz svetlana network-operations data-platform identity-team release-engineering legal",
    names: &[
        "{s}:{p}:{t}",
        "[{p}] {S} {t}",
        "{t} of {s} ({who})",
        "{P}{S}{T}{d}{d}",
        "{s}-{t}-{p}-20261122",
        "{S} – clé de signature ({p})",
        "{s}__{p}__{t}__rev{d}",
        "wildcard cert star.{s}.example.org 2026-2027",
        "{p}/{s}/{t}/current",
        "Kennwort Datenbankbenutzer {s} ({p})",
        "{s}AdminServiceAccountFor{P}",
        "github_pat_ of {who}, {s}",
        "N{d}-{S}-{n}-{p}",
        "{who}'s {s} {t} #{n}",
    ],
    notes: &[
        "Done on 2{d}.11.2026 by {who}. Previous version disabled, grace period ends in 7 days.",
        "PR https://gitlab.example.org/infra/{s}/-/merge_requests/{n} at {sha1}",
        "kid {hex16}; thumbprint {SHA1}; valid until 2028-02-0{d}",
        "secret: {p}/{s}/{t}, mount kv, version {d}",
        "the token for {s} is issued by {who}; api key rotation takes two hours in {p}",
        "pod {s}-api-{hex9}-{low5} still had the old one at 10:4{d}",
        "ssh -i ~/.ssh/{s}_ed25519 deploy@bastion.{p}.example.org, known host SHA256:{b64}",
        "CN=*.{s}.example.org, O=Example GmbH, serial number {hex30}",
        "account 9876{n}, subscription {uuid}, resource group rg-{s}-{p}",
        "password is in 1Password: op://{p}/{s}/{t}; PIN by phone",
        "jdbc:postgresql://db.{p}.example.org:5432/{s}?user=app&sslmode=verify-full",
        "version id {uuid}; etag {hex32}",
        "Key Vault https://kv-{s}.vault.azure.net/secrets/{t}/{hex32}",
        "evidence: https://jira.example.org/browse/SEC-{n}?focusedCommentId={n}{n}",
        "abandon the old flow: about {d} of our users still have it, ask {who} before winter or early spring",
        "Zertifikatserneuerung für {s} abgeschlossen, Überwachung in {p} grün",
    ],
};

/// So many of each class.
pub fn generate(chance: &mut Chance, from: &Vocabulary, each: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for _ in 0..each {
        let name = *chance.of(&from.names.iter().collect::<Vec<_>>());
        cases.push(("name", fill(chance, from, name)));
        let note = *chance.of(&from.notes.iter().collect::<Vec<_>>());
        cases.push(("note", fill(chance, from, note)));
        cases.push(("cloud resource", resource(chance, from)));
        cases.push(("path or host", path(chance, from)));
        cases.push(("identifier", identifier(chance)));
    }
    cases
}

fn fill(chance: &mut Chance, from: &Vocabulary, template: &str) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((mark, behind)) = after.split_once('}') else {
            break;
        };
        text.push_str(&value(chance, from, mark));
        rest = behind;
    }
    text.push_str(rest);
    text
}

fn value(chance: &mut Chance, from: &Vocabulary, mark: &str) -> String {
    match mark {
        "s" => chance.word(from.services).to_owned(),
        "S" => camel(chance.word(from.services)),
        "C" => format!(
            "{}{}",
            camel(chance.word(from.services)),
            camel(chance.word(from.services))
        ),
        "p" => chance.word(from.places).to_owned(),
        "P" => camel(chance.word(from.places)),
        "t" => chance.word(from.things).to_owned(),
        "T" => camel(chance.word(from.things)),
        "who" => chance.word(from.people).to_owned(),
        "d" => chance.text("123456789", 1),
        "n" => chance.text("123456789", 5),
        "sha1" => chance.text(HEX, 40),
        "SHA1" => chance.text(HEX, 40).to_uppercase(),
        "sha2" => chance.text(HEX, 64),
        "hex9" => chance.text(HEX, 9),
        "hex16" => chance.text(HEX, 16),
        "hex30" => chance.text(HEX, 30),
        "hex32" => chance.text(HEX, 32),
        "low5" => chance.text("bcdfghjklmnpqrstvwxz2456789", 5),
        "b64" => chance.text(BASE64, 43),
        "uuid" => chance.uuid(),
        "id32" => chance.text(BASE62, 32),
        "id44" => format!("1{}", chance.text(BASE62, 43)),
        other => format!("{{{other}}}"),
    }
}

/// `api-key` as `ApiKey`.
fn camel(word: &str) -> String {
    word.split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
                .unwrap_or_default()
        })
        .collect()
}

fn resource(chance: &mut Chance, from: &Vocabulary) -> String {
    let (s, p, t) = (
        chance.word(from.services),
        chance.word(from.places),
        chance.word(from.things),
    );
    match chance.below(16) {
        0 => format!(
            "arn:aws:secretsmanager:eu-west-1:{}:secret:{p}/{s}/{t}-{}",
            chance.text(DIGITS, 12),
            chance.text(BASE62, 6)
        ),
        1 => format!("arn:aws:iam::{}:user/{s}-{p}", chance.text(DIGITS, 12)),
        2 => format!(
            "arn:aws:kms:us-east-1:{}:key/{}",
            chance.text(DIGITS, 12),
            chance.uuid()
        ),
        3 => format!(
            "arn:aws:ssm:eu-west-1:{}:parameter/{p}/{s}/{t}",
            chance.text(DIGITS, 12)
        ),
        4 => format!(
            "projects/acme-{s}-{}/secrets/{t}/versions/{}",
            chance.text(DIGITS, 6),
            chance.below(20)
        ),
        5 => format!(
            "projects/acme/serviceAccounts/{s}@acme-{p}.iam.gserviceaccount.com/keys/{}",
            chance.text(HEX, 40)
        ),
        6 => format!(
            "https://{s}-{}.vault.azure.net/secrets/{t}/{}",
            chance.text(LOWER, 4),
            chance.text(HEX, 32)
        ),
        7 => format!(
            "/subscriptions/{}/resourceGroups/rg-{s}-{p}/providers/Microsoft.KeyVault/vaults/kv{s}",
            chance.uuid()
        ),
        8 => format!(
            "arn:aws:acm:eu-central-1:{}:certificate/{}",
            chance.text(DIGITS, 12),
            chance.uuid()
        ),
        9 => format!(
            "AIDA{}",
            chance.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17)
        ),
        10 => format!(
            "ocid1.vaultsecret.oc1.eu-frankfurt-1.amaaaaaa{}",
            chance.text("abcdefghijklmnopqrstuvwxyz234567", 52)
        ),
        11 => format!(
            "{}-{}.apps.googleusercontent.com",
            chance.text(DIGITS, 12),
            chance.text("0123456789abcdefghijklmnopqrstuvwxyz", 32)
        ),
        12 => format!("we_1{}", chance.text(BASE62, 23)),
        13 => format!(
            "hosted zone Z{}",
            chance.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", 20)
        ),
        14 => format!(
            "arn:aws:rds:us-east-1:{}:db:{s}-{p}-{}",
            chance.text(DIGITS, 12),
            chance.below(9)
        ),
        _ => format!(
            "i-{} in vpc-{} ({s})",
            chance.text(HEX, 17),
            chance.text(HEX, 17)
        ),
    }
}

fn path(chance: &mut Chance, from: &Vocabulary) -> String {
    let (s, p, t) = (
        chance.word(from.services),
        chance.word(from.places),
        chance.word(from.things),
    );
    match chance.below(14) {
        0 => format!("secret/data/{p}/{s}#{t}"),
        1 => format!("kv/{s}/{p}/{t}"),
        2 => format!("op://{p}/{s}/{t}"),
        3 => format!("{s}-{p}/{t}/tls.key"),
        4 => format!("https://vault.acme.com:8200/v1/secret/data/{p}/{s}"),
        5 => format!("/etc/{s}/{p}/{t}.pem"),
        6 => format!("C:\\ProgramData\\{s}\\{p}\\{t}.config"),
        7 => format!(
            "{s}-{p}.c{}.eu-west-1.rds.amazonaws.com:5432",
            chance.text("abcdefghijklmnopqrstuvwxyz0123456789", 11)
        ),
        8 => format!(
            "https://{s}.acme.com/{p}/settings/{t}?tab=rotation&page={}",
            chance.below(99)
        ),
        9 => format!(
            "ip-10-{}-{}-7.eu-west-1.compute.internal",
            chance.below(255),
            chance.below(255)
        ),
        10 => format!(
            "d{}.cloudfront.net",
            chance.text("abcdefghijklmnopqrstuvwxyz0123456789", 13)
        ),
        11 => format!("git@github.com:acme/{s}-{p}.git"),
        12 => format!(
            "https://acme.slack.com/archives/C{}/p{}",
            chance.text(UPPER, 8),
            chance.text(DIGITS, 16)
        ),
        _ => format!(
            "s3://acme-{s}-{p}-{}/backups/{t}/2026/11/22.tar.gz",
            chance.text(DIGITS, 12)
        ),
    }
}

fn identifier(chance: &mut Chance) -> String {
    match chance.below(14) {
        0 => chance.uuid(),
        1 => chance.uuid().to_uppercase(),
        2 => chance.text(HEX, 40),
        3 => format!(
            "v{}.{}.{}-{}-g{}",
            chance.below(9),
            chance.below(40),
            chance.below(9),
            chance.below(200),
            chance.text(HEX, 8)
        ),
        4 => chance.text(HEX, 64),
        5 => chance
            .bytes(20)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":"),
        6 => format!("01{}", chance.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24)),
        7 => chance.text(DIGITS, 24),
        8 => format!("auth0|{}", chance.text(HEX, 24)),
        9 => format!(
            "2026-11-{}T{}:00:00.000Z",
            chance.text("12", 2),
            chance.text("01", 2)
        ),
        10 => format!("SHA256:{}", chance.text(BASE64, 43)),
        11 => format!("serial: {}", chance.text(HEX, 36).to_uppercase()),
        12 => format!("commit {}", chance.text(HEX, 40)),
        _ => format!("{}@acme.com", chance.text(LOWER, 9)),
    }
}
