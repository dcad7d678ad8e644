//! How AWS is spoken to: by TLS, verified, through the proxy of `HTTPS_PROXY` if there is one; in the clear only with
//! this machine itself and with the addresses where AWS hands out credentials to instances and containers. No redirects,
//! limits on time and on what is read of an answer. Answers are wiped: they may hold a master key.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use reqsign_core::HttpSend;
use reqwest::Client;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::error::KmsError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// They are on this machine, or one hop away.
const NEAR_TIMEOUT: Duration = Duration::from_secs(1);
/// What KMS answers has a few hundred bytes, what STS answers a few thousand.
const LARGEST: usize = 64 * 1024;
/// Instance metadata, containers of ECS, pods of EKS, each also by IPv6.
const NEAR: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
];

/// The clients, and who stands for AWS if somebody does.
#[derive(Clone, Debug)]
pub struct Web {
    far: Client,
    near: Client,
    stand_in: Option<Url>,
}

impl Web {
    /// # Errors
    /// TLS can't be set up; the stand-in would get master keys in the clear.
    pub fn new(stand_in: Option<&Url>) -> Result<Self, KmsError> {
        if stand_in.is_some_and(|url| !may_be_spoken_to(url)) {
            return Err(KmsError::InsecureEndpoint);
        }
        // Fails only where it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .user_agent(concat!("rotator/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .tcp_nodelay(true)
        };
        let tls = |error: reqwest::Error| KmsError::Tls(error.without_url().to_string());
        Ok(Self {
            far: builder()
                .https_only(true)
                .connect_timeout(CONNECT_TIMEOUT)
                .build()
                .map_err(tls)?,
            near: builder()
                .no_proxy()
                .connect_timeout(NEAR_TIMEOUT)
                .build()
                .map_err(tls)?,
            stand_in: stand_in.cloned(),
        })
    }

    /// Sends a request, to where it says, and reads the answer.
    ///
    /// # Errors
    /// What happened instead of a complete answer, as the end of a sentence that begins with who was asked.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, String> {
        let request = reqwest::Request::try_from(request)
            .map_err(|_| "can't be asked at an address like that".to_owned())?;
        if !may_be_spoken_to(request.url()) {
            return Err("would be asked in the clear, which is for this machine only".to_owned());
        }
        let client = match request.url().scheme() {
            "https" => &self.far,
            _ => &self.near,
        };
        let mut response = client.execute(request).await.map_err(|error| why(&error))?;
        let status = response.status().as_u16();
        // Allocated once, so that growing leaves no copy behind.
        let mut body = Zeroizing::new(Vec::with_capacity(LARGEST));
        while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
            if chunk.len() > LARGEST - body.len() {
                return Err("answers with more than 64 KiB".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    /// The stand-in instead of AWS, for requests that name AWS's own host.
    fn redirected(&self, uri: &Uri) -> Option<Uri> {
        let stand_in = self.stand_in.as_ref()?;
        if uri.scheme_str() != Some("https") {
            return None;
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let base = stand_in.as_str().trim_end_matches('/');
        format!("{base}{path}").parse().ok()
    }
}

/// What came back, whatever it was.
pub struct Answer {
    pub status: u16,
    pub body: Zeroizing<Vec<u8>>,
}

/// For the sources of credentials.
impl HttpSend for Web {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        if let Some(uri) = self.redirected(&parts.uri) {
            parts.uri = uri;
        }
        let answer = self
            .send(Request::from_parts(parts, body))
            .await
            .map_err(|why| reqsign_core::Error::unexpected(why).set_retryable(true))?;
        let mut response = Response::new(Bytes::from_owner(answer.body));
        *response.status_mut() = http::StatusCode::from_u16(answer.status)
            .map_err(|error| reqsign_core::Error::unexpected(error.to_string()))?;
        Ok(response)
    }
}

/// Whether what is said to this address stays between us: TLS, or no network in between that others are on.
pub fn may_be_spoken_to(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Domain(name))) => name == "localhost",
        ("http", Some(Host::Ipv4(address))) => {
            address.is_loopback() || NEAR.contains(&address.to_string().as_str())
        }
        ("http", Some(Host::Ipv6(address))) => {
            address.is_loopback() || NEAR.contains(&address.to_string().as_str())
        }
        _ => false,
    }
}

/// In our own words: the library's quote the URL.
fn why(error: &reqwest::Error) -> String {
    let text = |error: &dyn std::error::Error| error.to_string().to_lowercase();
    let mut deepest: &dyn std::error::Error = error;
    while let Some(inner) = deepest.source() {
        deepest = inner;
    }
    if error.is_timeout() {
        "does not answer in time".to_owned()
    } else if error.is_connect() {
        let deepest = text(deepest);
        let why = [
            ("certificate", "can't be trusted: its TLS certificate"),
            ("unknownissuer", "can't be trusted: its TLS certificate"),
            ("lookup", "can't be found: its name has no address"),
            ("refused", "can't be reached: connection refused"),
            ("unreachable", "can't be reached: no route"),
        ];
        let known = why.iter().find(|(part, _)| deepest.contains(part));
        known.map_or("can't be reached", |(_, why)| why).to_owned()
    } else {
        "broke the connection off before its answer was complete".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_clear_only_with_this_machine_and_where_credentials_come_from() {
        for (url, expected) in [
            ("https://kms.eu-central-1.amazonaws.com", true),
            ("http://127.0.0.1:5000/", true),
            ("http://[::1]:5000/", true),
            ("http://localhost/", true),
            ("http://169.254.169.254/latest/api/token", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://169.254.169.253/", false),
            ("http://10.0.0.1/", false),
            ("http://kms.eu-central-1.amazonaws.com/", false),
            ("http://localhost.evil.example/", false),
            ("ftp://127.0.0.1/", false),
        ] {
            assert_eq!(may_be_spoken_to(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_stand_in_stands_for_aws_and_for_nobody_near() {
        let stand_in: Url = "http://127.0.0.1:5000".parse().unwrap();
        let web = Web::new(Some(&stand_in)).unwrap();
        let to = |uri: &str| {
            web.redirected(&uri.parse().unwrap())
                .map(|uri| uri.to_string())
        };
        assert_eq!(
            to("https://sts.eu-central-1.amazonaws.com/?a=b").as_deref(),
            Some("http://127.0.0.1:5000/?a=b")
        );
        assert_eq!(to("http://169.254.169.254/latest"), None);
        let far: Url = "http://kms.example".parse().unwrap();
        assert!(matches!(
            Web::new(Some(&far)),
            Err(KmsError::InsecureEndpoint)
        ));
    }
}
