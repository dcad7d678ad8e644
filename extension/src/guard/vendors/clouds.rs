//! Clouds and hosting: where servers, functions and sites run.

use super::UUID;
use crate::guard::shape::Class::{Alnum, AnyHex, Base32, Base64, Hex, Lower, Upper, Word};
use crate::guard::shape::Part::{Run, Text};
use crate::guard::shape::{ANY, Rule, Start, rule, rule_at};

pub const RULES: &[Rule] = &[
    // Amazon
    rule("aws-access-key", "AKIA", &[Run(Base32, 16, 16)]),
    rule("aws-access-key", "AKIA", &[Run(Upper, 16, 16)]),
    rule("aws-access-key", "ASIA", &[Run(Base32, 16, 16)]),
    rule("aws-access-key", "ASIA", &[Run(Upper, 16, 16)]),
    rule("aws-access-key", "ABIA", &[Run(Upper, 16, 16)]),
    rule("aws-access-key", "ACCA", &[Run(Upper, 16, 16)]),
    rule("aws-access-key", "A3T", &[Run(Upper, 17, 17)]),
    rule("aws-bedrock-key", "ABSK", &[Run(Base64, 100, ANY)]),
    rule(
        "aws-bedrock-key",
        "bedrock-api-key-",
        &[Run(Base64, 40, ANY)],
    ),
    rule(
        "aws-session-token",
        "IQoJb3JpZ2lu",
        &[Run(Base64, 100, ANY)],
    ),
    rule(
        "aws-session-token",
        "FwoGZXIvYXdz",
        &[Run(Base64, 100, ANY)],
    ),
    rule("amazon-mws-token", "amzn.mws.", UUID),
    rule(
        "amazon-oauth-secret",
        "amzn1.oa2-cs.v1.",
        &[Run(Hex, 64, 64)],
    ),
    // Google
    rule("gcp-api-key", "AIza", &[Run(Word, 35, 35)]),
    rule("gemini-key", "AQ.Ab", &[Run(Word, 40, ANY)]),
    rule("google-oauth-token", "ya29.", &[Run(Word, 20, ANY)]),
    rule("google-oauth-secret", "GOCSPX-", &[Run(Word, 28, 28)]),
    rule("google-refresh-token", "1//0", &[Run(Word, 40, ANY)]),
    rule("gcp-hmac-key", "GOOG1E", &[Run(Upper, 55, 55)]),
    // Microsoft
    rule_at(
        Start::AfterDigit,
        "azure-client-secret",
        "Q~",
        &[Run(Base64, 31, 34)],
    ),
    rule_at(
        Start::Anywhere,
        "azure-storage-key",
        "AccountKey=",
        &[Run(Base64, 86, 88)],
    ),
    rule_at(
        Start::Anywhere,
        "azure-shared-access-key",
        "SharedAccessKey=",
        &[Run(Base64, 43, 44)],
    ),
    rule_at(
        Start::Anywhere,
        "azure-function-key",
        "AzFu",
        &[Run(Word, 6, 6), Text(b"==")],
    ),
    rule_at(
        Start::Anywhere,
        "azure-cosmos-key",
        "ACDb",
        &[Run(Alnum, 6, 6), Text(b"==")],
    ),
    rule_at(
        Start::Anywhere,
        "azure-service-key",
        "JQQJ99",
        &[Run(Alnum, 20, 40)],
    ),
    rule_at(
        Start::Anywhere,
        "azure-app-configuration-key",
        ".azconfig.io;Id=",
        &[
            Run(Base64, 1, 64),
            Text(b":"),
            Run(Base64, 10, 40),
            Text(b";Secret="),
        ],
    ),
    // Others
    rule("alibaba-access-key", "LTAI", &[Run(Alnum, 12, 26)]),
    rule("alibaba-sts-token", "STS.", &[Run(Alnum, 20, 40)]),
    rule("tencent-secret-id", "AKID", &[Run(Alnum, 32, 36)]),
    rule("volcengine-key", "AKLT", &[Run(Alnum, 40, 70)]),
    rule(
        "baidu-cloud-key",
        "bce-v3/ALTAK-",
        &[Run(Alnum, 21, 21), Text(b"/"), Run(Hex, 40, 40)],
    ),
    rule("yandex-key", "AQVN", &[Run(Word, 35, 38)]),
    rule("yandex-token", "y0_", &[Run(Word, 55, 70)]),
    rule("digitalocean-token", "dop_v1_", &[Run(Hex, 64, 64)]),
    rule("digitalocean-token", "doo_v1_", &[Run(Hex, 64, 64)]),
    rule("digitalocean-token", "dor_v1_", &[Run(Hex, 64, 64)]),
    rule("heroku-key", "HRKU-", &[Run(Word, 36, ANY)]),
    rule("fly-token", "fo1_", &[Run(Word, 40, ANY)]),
    rule("fly-token", "fm1a_", &[Run(Base64, 100, ANY)]),
    rule("fly-token", "fm1r_", &[Run(Base64, 100, ANY)]),
    rule("fly-token", "fm2_", &[Run(Base64, 100, ANY)]),
    rule(
        "cloudflare-origin-key",
        "v1.0-",
        &[Run(Hex, 24, 24), Text(b"-"), Run(Hex, 146, 146)],
    ),
    rule("openshift-token", "sha256~", &[Run(Word, 43, 43)]),
    rule("scalingo-token", "tk-us-", &[Run(Word, 48, 48)]),
    rule("scaleway-access-key", "SCW", &[Run(Upper, 17, 17)]),
    rule("exoscale-key", "EXO", &[Run(Hex, 24, 24)]),
    rule("upcloud-token", "ucat_", &[Run(Upper, 26, 26)]),
    rule("render-key", "rnd_", &[Run(Alnum, 28, 40)]),
    rule("netlify-token", "nfp_", &[Run(Alnum, 36, 40)]),
    rule("netlify-token", "nfc_", &[Run(Alnum, 36, 40)]),
    rule("netlify-token", "nfo_", &[Run(Alnum, 36, 40)]),
    rule("vercel-token", "vcp_", &[Run(Alnum, 24, 80)]),
    rule("vercel-token", "vci_", &[Run(Alnum, 24, 80)]),
    rule("vercel-token", "vca_", &[Run(Alnum, 24, 80)]),
    rule("vercel-token", "vck_", &[Run(Alnum, 24, 80)]),
    rule("vercel-blob-token", "vercel_blob_rw_", &[Run(Word, 24, 80)]),
    rule(
        "zuplo-key",
        "zpka_",
        &[Run(Lower, 32, 32), Text(b"_"), Run(AnyHex, 8, 8)],
    ),
];
