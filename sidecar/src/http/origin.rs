//! Refuses forms that another site submits. A link's token is all the authority there is, and no cookie travels along,
//! so this is a second fence: it keeps a page that somehow learned a link from using it in a visitor's name.

use axum::http::HeaderMap;
use axum::http::header::{HOST, HeaderName, ORIGIN};
use url::{Host, Url};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a POST may come from one of our own pages (or from no browser at all).
///
/// Our pages send no referrer, and therefore browsers send `Origin: null` with their forms: then Sec-Fetch-Site
/// decides. Browsers leave that header out on plain http, where `null` has to do.
pub fn is_ours(headers: &HeaderMap, public_url: &Url) -> bool {
    let site = match single(headers, &SEC_FETCH_SITE) {
        Ok(site) => site,
        Err(()) => return false,
    };
    if !matches!(site, None | Some("same-origin" | "none")) {
        return false;
    }
    match single(headers, &ORIGIN) {
        Err(()) => false,
        Ok(None) => true,
        Ok(Some("null")) => site.is_some() || is_plain_http(public_url),
        Ok(Some(origin)) => {
            let Ok(origin) = Url::parse(origin) else {
                return false;
            };
            origin.origin() == public_url.origin()
                || Some(origin.origin()) == origin_of_host(headers, &origin)
        }
    }
}

/// The header's one value; twice is an error, and so is what isn't text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// The origin under which the browser reached us, with the scheme it says it used.
fn origin_of_host(headers: &HeaderMap, origin: &Url) -> Option<url::Origin> {
    let host = single(headers, &HOST).ok()??;
    let url = Url::parse(&format!("{}://{host}", origin.scheme())).ok()?;
    Some(url.origin())
}

fn is_plain_http(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(public: &str, pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        is_ours(&headers, &Url::parse(public).unwrap())
    }

    const PUBLIC: &str = "https://rotator.example.com/base";

    #[test]
    fn our_own_forms_and_no_browser_at_all_pass() {
        assert!(ours(PUBLIC, &[]));
        assert!(ours(
            PUBLIC,
            &[
                ("origin", "https://rotator.example.com"),
                ("sec-fetch-site", "same-origin")
            ]
        ));
        assert!(ours(
            PUBLIC,
            &[("origin", "null"), ("sec-fetch-site", "same-origin")]
        ));
        assert!(ours(
            PUBLIC,
            &[
                ("origin", "http://127.0.0.1:8080"),
                ("host", "127.0.0.1:8080")
            ]
        ));
        assert!(ours("http://rotator.internal:8080", &[("origin", "null")]));
    }

    #[test]
    fn other_sites_do_not() {
        for pairs in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.test")],
            &[
                ("origin", "https://evil.test"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[
                ("origin", "https://rotator.example.com"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("origin", "https://x.rotator.example.com")],
            &[("origin", "http://rotator.example.com")],
            &[("origin", "https://rotator.example.com:8443")],
            &[("origin", "null")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            &[
                ("origin", "https://evil.test"),
                ("host", "rotator.example.com"),
            ],
            &[
                ("origin", "https://rotator.example.com"),
                ("origin", "https://evil.test"),
            ],
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("origin", "")],
        ] {
            assert!(!ours(PUBLIC, pairs), "{pairs:?}");
        }
        assert!(!ours("http://127.0.0.1:8080", &[("origin", "null")]));
    }
}
