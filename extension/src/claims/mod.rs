//! Who a request speaks for, from the claims its authenticator has verified (`request.jwt.claims`).
//!
//! Read strictly, because a doubtful claim must mean "nobody": the document is one JSON object of at most 64 KiB, no
//! object in it repeats a name (two readers could pick different values), and only non-empty strings of at most 255
//! characters without control characters count. [`strict_json`] does the reading; `native` decides whose claims are believed.

mod strict_json;

#[cfg(feature = "postgres")]
pub mod native;

use strict_json::Value;

/// Longest document, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// Longest claim, in characters.
const LONGEST_CLAIM: usize = 255;

/// What the claims say; what they don't say, or don't say properly, is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub tenant: Option<String>,
    pub subject: Option<String>,
    pub role: Option<String>,
}

/// Reads `document`; `None` when it is not acceptable at all. Paths name a claim, dots lead into nested objects.
pub fn read(document: &str, tenant_path: &str, role_path: &str) -> Option<Claims> {
    if document.len() > LONGEST {
        return None;
    }
    let claims = strict_json::parse(document)?;
    if !matches!(claims, Value::Object(_)) {
        return None;
    }
    Some(Claims {
        tenant: string_at(&claims, tenant_path),
        subject: string_at(&claims, "sub"),
        role: string_at(&claims, role_path),
    })
}

fn string_at(claims: &Value, path: &str) -> Option<String> {
    match value_at(claims, path)? {
        Value::String(text) if is_acceptable(text) => Some(text.clone()),
        _ => None,
    }
}

/// A claim whose name is the whole path (`https://acme.com/tenant`), or the one that the path leads to. Both is neither.
fn value_at<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    let whole = claims.member(path);
    let nested = if path.contains('.') {
        path.split('.')
            .try_fold(claims, |value, name| value.member(name))
    } else {
        None
    };
    match (whole, nested) {
        (Some(_), Some(_)) => None,
        (whole, nested) => whole.or(nested),
    }
}

fn is_acceptable(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LONGEST_CLAIM && !text.chars().any(char::is_control)
}

/// Whether `session_user` is one of the comma-separated names.
pub fn is_listed(session_user: &str, names: &str) -> bool {
    !session_user.is_empty() && names.split(',').any(|name| name.trim() == session_user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(document: &str) -> Option<String> {
        read(document, "tenant_id", "rotator_role")?.tenant
    }

    #[test]
    fn reads_the_three_claims() {
        let document =
            r#"{"sub":"u-1","tenant_id":"acme","rotator_role":"admin","aud":["a"],"exp":1}"#;
        let claims = read(document, "tenant_id", "rotator_role").expect("acceptable");
        assert_eq!(claims.tenant.as_deref(), Some("acme"));
        assert_eq!(claims.subject.as_deref(), Some("u-1"));
        assert_eq!(claims.role.as_deref(), Some("admin"));
    }

    #[test]
    fn follows_dotted_paths() {
        let document =
            r#"{"app_metadata":{"rotator":{"tenant":"acme"}},"https://acme.com/t":"beta"}"#;
        let at = |path: &str| read(document, path, "r").expect("acceptable").tenant;
        assert_eq!(at("app_metadata.rotator.tenant").as_deref(), Some("acme"));
        assert_eq!(at("https://acme.com/t").as_deref(), Some("beta"));
        for path in [
            "app_metadata",
            "app_metadata.rotator",
            "app_metadata.rotator.tenant.x",
            "",
            ".",
            "app_metadata.",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
        let both = r#"{"a.b":"one","a":{"b":"two"}}"#;
        assert_eq!(read(both, "a.b", "r").expect("acceptable").tenant, None);
    }

    #[test]
    fn what_is_no_proper_string_is_no_tenant() {
        let long = format!(r#"{{"tenant_id":"{}"}}"#, "a".repeat(256));
        for document in [
            "",
            "null",
            "{}",
            "[]",
            "\"acme\"",
            "1",
            "not json",
            "{\"tenant_id\":}",
            "{\"tenant_id\":\"acme\"",
            r#"{"tenant_id":"acme"} x"#,
            r#"{"tenant_id":"acme"}{"tenant_id":"acme"}"#,
            r#"{"tenant_id":null}"#,
            r#"{"tenant_id":1}"#,
            r#"{"tenant_id":true}"#,
            r#"{"tenant_id":["acme"]}"#,
            r#"{"tenant_id":{"a":"acme"}}"#,
            r#"{"tenant_id":""}"#,
            r#"{"tenant_id":"a\u0000b"}"#,
            r#"{"tenant_id":"a\nb"}"#,
            r#"{"tenant_id":"\ud800"}"#,
            r#"{"TENANT_ID":"acme"}"#,
            r#"{tenant_id:"acme"}"#,
            r#"{"tenant_id":'acme'}"#,
            r#"{"tenant_id":"acme",}"#,
            "\u{feff}{\"tenant_id\":\"acme\"}",
            &long,
        ] {
            assert_eq!(tenant(document), None, "{document}");
        }
        assert_eq!(
            tenant(&long.replace("aa", "a")).map(|tenant| tenant.len()),
            Some(128)
        );
    }

    #[test]
    fn a_repeated_name_anywhere_spoils_everything() {
        for document in [
            r#"{"tenant_id":"acme","tenant_id":"beta"}"#,
            r#"{"tenant_id":"acme","tenant_id":"acme"}"#,
            r#"{"tenant_id":"acme","tenant\u005fid":"beta"}"#,
            r#"{"sub":"a","sub":"b","tenant_id":"acme"}"#,
            r#"{"tenant_id":"acme","x":{"y":1,"y":2}}"#,
            r#"{"tenant_id":"acme","x":[{"y":1,"y":2}]}"#,
        ] {
            assert_eq!(
                read(document, "tenant_id", "rotator_role"),
                None,
                "{document}"
            );
        }
        assert_eq!(
            tenant(r#"{"tenant_id":"acme","x":{"tenant_id":"beta"}}"#).as_deref(),
            Some("acme")
        );
    }

    #[test]
    fn size_and_depth_are_limited() {
        let padded = |length: usize| {
            let start = r#"{"tenant_id":"acme","pad":""#;
            format!(r#"{start}{}"}}"#, "x".repeat(length - start.len() - 2))
        };
        assert_eq!(tenant(&padded(LONGEST)).as_deref(), Some("acme"));
        assert_eq!(tenant(&padded(LONGEST + 1)), None);
        let deep = format!(
            r#"{{"tenant_id":"acme","x":{}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        assert_eq!(tenant(&deep), None);
    }

    #[test]
    fn authenticators_are_listed_by_their_exact_name() {
        assert!(is_listed("authenticator", "web, authenticator ,other"));
        for (user, names) in [
            ("auth", "authenticator"),
            ("", ""),
            ("", "a,,b"),
            ("A", "a"),
            ("a b", "a, b"),
        ] {
            assert!(!is_listed(user, names));
        }
    }
}
