//! Databases, warehouses, search and what moves data.

use crate::guard::shape::Class::{Alnum, Base64, Hex, Word};
use crate::guard::shape::Part::{Run, Text};
use crate::guard::shape::{ANY, Rule, rule};

pub const RULES: &[Rule] = &[
    rule("supabase-key", "sbp_", &[Run(Hex, 40, 40)]),
    rule("supabase-key", "sbp_v0_", &[Run(Hex, 40, 40)]),
    rule("supabase-key", "sb_secret_", &[Run(Word, 20, ANY)]),
    rule("planetscale-token", "pscale_tkn_", &[Run(Base64, 32, 64)]),
    rule("planetscale-password", "pscale_pw_", &[Run(Base64, 32, 64)]),
    rule("planetscale-token", "pscale_oauth_", &[Run(Base64, 32, 64)]),
    rule("neon-key", "napi_", &[Run(Alnum, 40, 80)]),
    rule("neon-password", "npg_", &[Run(Alnum, 12, 24)]),
    rule("aiven-password", "AVNS_", &[Run(Word, 16, 24)]),
    rule("mongodb-atlas-secret", "mdb_sa_sk_", &[Run(Word, 40, 40)]),
    rule(
        "cockroachdb-key",
        "CCDB1_",
        &[Run(Alnum, 16, 24), Text(b"_"), Run(Alnum, 30, 48)],
    ),
    rule("clickhouse-key", "4b1d", &[Run(Alnum, 38, 38)]),
    rule("xata-key", "xau_", &[Run(Word, 30, 60)]),
    rule("elastic-cloud-key", "essu_", &[Run(Base64, 40, ANY)]),
    rule("confluent-secret", "cflt", &[Run(Base64, 60, 60)]),
    rule("databricks-token", "dapi", &[Run(Hex, 32, 32)]),
    rule("databricks-token", "dose", &[Run(Hex, 32, 32)]),
    rule("databricks-token", "dkea", &[Run(Hex, 32, 32)]),
    rule("dbt-token", "dbtc_", &[Run(Word, 30, 80)]),
    rule("dbt-token", "dbtu_", &[Run(Word, 30, 80)]),
    rule("prefect-key", "pnu_", &[Run(Alnum, 36, 36)]),
    rule("prefect-key", "pnb_", &[Run(Alnum, 36, 36)]),
    rule("segment-token", "sgp_", &[Run(Alnum, 64, 64)]),
    rule("n8n-key", "n8n_api_", &[Run(Hex, 80, 80)]),
    rule("posthog-key", "phx_", &[Run(Word, 40, 64)]),
    rule("posthog-key", "phs_", &[Run(Word, 40, 64)]),
    rule("fullstory-key", "na1.", &[Run(Base64, 100, 100)]),
    rule("datadog-client-token", "pub", &[Run(Hex, 32, 32)]),
];
