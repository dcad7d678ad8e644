//! Language models and what is built around them.

use super::UUID;
use crate::guard::shape::Class::{Alnum, Hex, Lower, Word};
use crate::guard::shape::Part::{Run, Text};
use crate::guard::shape::{ANY, Rule, rule};

pub const RULES: &[Rule] = &[
    rule("anthropic-key", "sk-ant-", &[Run(Word, 20, ANY)]),
    rule("openai-key", "sk-proj-", &[Run(Word, 20, ANY)]),
    rule("openai-key", "sk-svcacct-", &[Run(Word, 20, ANY)]),
    rule("openai-key", "sk-admin-", &[Run(Word, 20, ANY)]),
    rule("openai-key", "sk-None-", &[Run(Word, 20, ANY)]),
    rule("openai-session", "sess-", &[Run(Alnum, 40, 40)]),
    rule("openrouter-key", "sk-or-v1-", &[Run(Hex, 64, 64)]),
    rule("langfuse-key", "sk-lf-", UUID),
    rule("openai-key", "sk-", &[Run(Alnum, 32, 64)]),
    rule("huggingface-token", "hf_", &[Run(Alnum, 30, 40)]),
    rule("huggingface-token", "api_org_", &[Run(Alnum, 30, 40)]),
    rule("replicate-token", "r8_", &[Run(Alnum, 37, 40)]),
    rule("groq-key", "gsk_", &[Run(Alnum, 48, 60)]),
    rule("perplexity-key", "pplx-", &[Run(Alnum, 48, 60)]),
    rule("xai-key", "xai-", &[Run(Alnum, 70, 90)]),
    rule("nvidia-key", "nvapi-", &[Run(Word, 60, 80)]),
    rule("cerebras-key", "csk-", &[Run(Lower, 40, 60)]),
    rule("anyscale-token", "esecret_", &[Run(Alnum, 20, 60)]),
    rule("fireworks-key", "fw_", &[Run(Alnum, 22, 24)]),
    rule("together-key", "tgp_v1_", &[Run(Word, 43, 43)]),
    rule("pinecone-key", "pcsk_", &[Run(Word, 60, 80)]),
    rule(
        "langsmith-key",
        "lsv2_pt_",
        &[Run(Hex, 32, 32), Text(b"_"), Run(Hex, 10, 10)],
    ),
    rule(
        "langsmith-key",
        "lsv2_sk_",
        &[Run(Hex, 32, 32), Text(b"_"), Run(Hex, 10, 10)],
    ),
    rule("elevenlabs-key", "sk_", &[Run(Hex, 48, 48)]),
    rule("jina-key", "jina_", &[Run(Alnum, 50, 70)]),
    rule("tavily-key", "tvly-", &[Run(Word, 32, 60)]),
    rule("firecrawl-key", "fc-", &[Run(Hex, 32, 32)]),
    rule("e2b-key", "e2b_", &[Run(Hex, 40, 40)]),
    rule("voyage-key", "pa-", &[Run(Word, 43, 43)]),
    rule("wandb-key", "wandb_v1_", &[Run(Word, 60, ANY)]),
    rule("browserbase-key", "bb_live_", &[Run(Word, 24, 36)]),
    rule("logfire-token", "pylf_v1_us_", &[Run(Alnum, 43, 43)]),
    rule("logfire-token", "pylf_v1_eu_", &[Run(Alnum, 43, 43)]),
];
