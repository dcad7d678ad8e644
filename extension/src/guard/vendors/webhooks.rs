//! Addresses that are a secret themselves: whoever knows one may post, or trigger what is behind it.

use super::UUID;
use crate::guard::shape::Class::{Alnum, AnyHex, Base64, Digit, Hex, Lower, Upper, Word};
use crate::guard::shape::Part::{Run, Text};
use crate::guard::shape::{ANY, Rule, Start, rule, rule_at};

/// `{group}@{tenant}/IncomingWebhook/{key}`: Teams, in its two addresses.
const TEAMS: &[crate::guard::shape::Part] = &[
    Run(Word, 36, 36),
    Text(b"@"),
    Run(Word, 36, 36),
    Text(b"/IncomingWebhook/"),
    Run(AnyHex, 32, 32),
];

pub const RULES: &[Rule] = &[
    rule(
        "slack-webhook",
        "hooks.slack.com/services/",
        &[
            Run(Upper, 8, 16),
            Text(b"/"),
            Run(Upper, 8, 16),
            Text(b"/"),
            Run(Alnum, 20, 32),
        ],
    ),
    rule(
        "slack-webhook",
        "hooks.slack.com/workflows/",
        &[Run(Upper, 8, 16), Text(b"/"), Run(Upper, 8, 16), Text(b"/")],
    ),
    rule(
        "slack-webhook",
        "hooks.slack.com/triggers/",
        &[Run(Upper, 8, 16), Text(b"/"), Run(Digit, 8, 20), Text(b"/")],
    ),
    rule(
        "discord-webhook",
        "discord.com/api/webhooks/",
        &[Run(Digit, 15, 22), Text(b"/"), Run(Word, 60, 80)],
    ),
    rule(
        "discord-webhook",
        "discord.com/api/v10/webhooks/",
        &[Run(Digit, 15, 22), Text(b"/"), Run(Word, 60, 80)],
    ),
    rule(
        "discord-webhook",
        "discordapp.com/api/webhooks/",
        &[Run(Digit, 15, 22), Text(b"/"), Run(Word, 60, 80)],
    ),
    rule_at(
        Start::Anywhere,
        "teams-webhook",
        ".webhook.office.com/webhookb2/",
        TEAMS,
    ),
    rule("teams-webhook", "outlook.office.com/webhook/", TEAMS),
    rule(
        "google-chat-webhook",
        "chat.googleapis.com/v1/spaces/",
        &[Run(Word, 5, 32), Text(b"/messages?key="), Run(Word, 20, 80)],
    ),
    rule(
        "zapier-webhook",
        "hooks.zapier.com/hooks/catch/",
        &[Run(Digit, 4, 12), Text(b"/"), Run(Alnum, 5, 16)],
    ),
    rule(
        "ifttt-webhook",
        "maker.ifttt.com/trigger/",
        &[Run(Word, 1, 100), Text(b"/with/key/"), Run(Word, 20, 80)],
    ),
    rule(
        "ifttt-webhook",
        "maker.ifttt.com/trigger/",
        &[
            Run(Word, 1, 100),
            Text(b"/json/with/key/"),
            Run(Word, 20, 80),
        ],
    ),
    rule("make-webhook", "hook.eu1.make.com/", &[Run(Lower, 28, 40)]),
    rule("make-webhook", "hook.eu2.make.com/", &[Run(Lower, 28, 40)]),
    rule("make-webhook", "hook.us1.make.com/", &[Run(Lower, 28, 40)]),
    rule("make-webhook", "hook.us2.make.com/", &[Run(Lower, 28, 40)]),
    rule(
        "telegram-bot-token",
        "api.telegram.org/bot",
        &[Run(Digit, 8, 11), Text(b":"), Run(Word, 30, 40)],
    ),
    rule_at(
        Start::Anywhere,
        "mattermost-webhook",
        "/hooks/",
        &[Run(Lower, 26, 26)],
    ),
    rule_at(
        Start::Anywhere,
        "rocketchat-webhook",
        "/hooks/",
        &[Run(Alnum, 17, 24), Text(b"/"), Run(Alnum, 40, 80)],
    ),
    rule(
        "dingtalk-webhook",
        "oapi.dingtalk.com/robot/send?access_token=",
        &[Run(Hex, 64, 64)],
    ),
    rule(
        "wecom-webhook",
        "qyapi.weixin.qq.com/cgi-bin/webhook/send?key=",
        UUID,
    ),
    rule(
        "lark-webhook",
        "open.feishu.cn/open-apis/bot/v2/hook/",
        UUID,
    ),
    rule(
        "lark-webhook",
        "open.larksuite.com/open-apis/bot/v2/hook/",
        UUID,
    ),
    rule("healthchecks-ping-url", "hc-ping.com/", UUID),
    rule(
        "pagerduty-integration-url",
        "events.pagerduty.com/integration/",
        &[Run(Alnum, 32, 32)],
    ),
    rule(
        "victorops-url",
        "alert.victorops.com/integrations/generic/",
        &[Run(Digit, 6, 12), Text(b"/alert/"), Run(Word, 36, 36)],
    ),
    rule_at(
        Start::Anywhere,
        "tines-webhook",
        ".tines.com/webhook/",
        &[Run(Lower, 32, 32), Text(b"/"), Run(Lower, 32, 32)],
    ),
    rule_at(
        Start::Anywhere,
        "sumologic-collector-url",
        "/receiver/v1/http/",
        &[Run(Base64, 60, ANY)],
    ),
    rule("loggly-url", "logs-01.loggly.com/inputs/", UUID),
];
