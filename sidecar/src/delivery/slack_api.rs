//! Calling Slack: the methods of its Web API that are used, by bot token, and what it gives to answer a press with
//! (`response_url`). What answers mean: `slack_answer.rs`; who calls: `slack.rs` (the channel), `slack_desk.rs` (callbacks).

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use serde::Serialize;
use url::{Host, Url};

use super::egress::Egress;
use super::outcome::Outcome;
use super::slack_blocks::Body;
use super::web::{self, Answer};
use crate::config::{ConfigError, Secret, Settings};

const API: &str = "https://slack.com";
/// Most bodies are smaller.
const BODY_ROOM: usize = 2048;
const HOOKS_HOST: &str = "hooks.slack.com";

/// A way to Slack's hosts, or to what stands for them.
pub struct SlackApi {
    client: Client,
    egress: Egress,
    token: Option<Secret>,
    /// What the methods are below.
    base: Url,
    /// Stands for Slack's hosts.
    stand_in: Option<Url>,
}

/// A message, and where it goes.
#[derive(Serialize)]
pub struct Post<'a> {
    pub channel: &'a str,
    /// Of the message that this one takes the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<&'a str>,
    /// Of the message that this one replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_ts: Option<&'a str>,
    /// The channel sees the reply, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_broadcast: Option<bool>,
    #[serde(flatten)]
    pub body: &'a Body,
}

impl<'a> Post<'a> {
    pub const fn to(channel: &'a str, body: &'a Body) -> Self {
        Self {
            channel,
            ts: None,
            thread_ts: None,
            reply_broadcast: None,
            body,
        }
    }
}

impl SlackApi {
    /// Takes token and stand-in URL from the settings.
    ///
    /// # Errors
    /// A token that can't be a header, or no usable TLS roots on this machine.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let egress = Egress::new(settings.egress_allow.clone());
        let client = web::vendor_client(settings.slack_url.as_ref(), &egress)?;
        let token = settings
            .slack_bot_token
            .as_ref()
            .map(|token| Secret::new(token.expose().to_owned()));
        if token
            .as_ref()
            .is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let hint = "copy the Bot User OAuth Token from the app's page \"OAuth & Permissions\"";
            return Err(ConfigError::invalid(
                "ROTATOR_SLACK_BOT_TOKEN",
                "it holds a blank or a special character",
                hint,
            ));
        }
        let stand_in = settings.slack_url.clone();
        let mut base = match &stand_in {
            Some(url) => url.clone(),
            None => Url::parse(API).map_err(|error| {
                ConfigError::invalid("ROTATOR_SLACK_URL", &error.to_string(), "leave it out")
            })?,
        };
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            client,
            egress,
            token,
            base,
            stand_in,
        })
    }

    /// Calls a method of the API with a JSON body; none without a token.
    ///
    /// # Errors
    /// As [`web::send`].
    pub async fn call(
        &self,
        method: &str,
        body: &impl Serialize,
    ) -> Option<Result<Answer, Outcome>> {
        let request = self.client.post(self.method(method));
        let token = self.token.as_ref()?;
        Some(send(request.bearer_auth(token.expose()), body).await)
    }

    /// The same for the methods that only read, which take no JSON.
    ///
    /// # Errors
    /// As [`web::send`].
    pub async fn ask(
        &self,
        method: &str,
        query: &[(&str, &str)],
    ) -> Option<Result<Answer, Outcome>> {
        let mut url = self.method(method);
        url.query_pairs_mut().extend_pairs(query);
        let token = self.token.as_ref()?;
        Some(web::send(self.client.get(url).bearer_auth(token.expose())).await)
    }

    /// Posts to a URL of Slack's hooks: an incoming webhook, or a `response_url`. The token has no business there.
    ///
    /// # Errors
    /// As [`web::send`]; final for a host that is not permitted.
    pub async fn post_to_hook(&self, url: Url, body: &impl Serialize) -> Result<Answer, Outcome> {
        let url = match &self.stand_in {
            Some(_) => self.below_base(url.path()),
            None if self.egress.permits_host(url.host().as_ref()) => url,
            None => return Err(Outcome::permanent("the webhook's host is not permitted")),
        };
        send(self.client.post(url), body).await
    }

    fn method(&self, name: &str) -> Url {
        self.below_base(&format!("/api/{name}"))
    }

    /// Parsing a whole URL for each message would cost as much as writing the message.
    fn below_base(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }
}

async fn send(request: RequestBuilder, body: &impl Serialize) -> Result<Answer, Outcome> {
    let mut bytes = Vec::with_capacity(BODY_ROOM);
    if serde_json::to_writer(&mut bytes, body).is_err() {
        return Err(Outcome::permanent("the message can't be written as JSON"));
    }
    let request = request.header(CONTENT_TYPE, "application/json");
    web::send(request.body(bytes)).await
}

/// A URL of Slack's hooks below that path, and nothing that only looks like one.
pub fn hook(text: &str, below: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let ours = url.scheme() == "https"
        && url.host() == Some(Host::Domain(HOOKS_HOST))
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path().starts_with(below)
        && url.path().len() > below.len();
    ours.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_slacks_own() {
        assert!(hook("https://hooks.slack.com/actions/T1/2/abc", "/actions/").is_some());
        for url in [
            "https://hooks.slack.com/services/T/B/x",
            "https://hooks.slack.com/actions/",
            "http://hooks.slack.com/actions/T1",
            "https://hooks.slack.com:8443/actions/T1",
            "https://hooks.slack.com@evil.test/actions/T1",
            "https://u:p@hooks.slack.com/actions/T1",
            "https://hooks.slack.com.evil.test/actions/T1",
            "https://169.254.169.254/actions/T1",
            "https://hooks.slack.com/actions/../services/T/B/x",
            "hooks.slack.com/actions/T1",
            "",
        ] {
            assert!(hook(url, "/actions/").is_none(), "{url}");
        }
    }
}
