//! Values to refuse, made at run time so that no scanner mistakes this file for a leak; none was ever a key. One
//! generator a kind; each set has its own draws. Every row of `vendors` makes its own examples.

use super::chance::{
    BASE32, BASE36, BASE62, BASE64, BASE64URL, Chance, DIGITS, HEX, UPPER, base64, base64url, hex,
};
use super::containers;
use crate::guard::shape::{ANY, Class, Part, Rule, Start, looks_random};
use crate::guard::vendors;

/// A class of the figures, and a value of it.
pub type Case = (&'static str, String);

/// Examples of every rule of the vendors, so many each.
pub fn known(chance: &mut Chance, each: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for rule in vendors::all() {
        for _ in 0..each {
            cases.push(("known", example(chance, rule)));
        }
    }
    cases
}

/// A value with the shape of the rule.
pub fn example(chance: &mut Chance, rule: &Rule) -> String {
    let prefix = String::from_utf8_lossy(rule.prefix);
    let before = match rule.start {
        Start::AfterDigit => chance.text(DIGITS, 9),
        Start::Anywhere if rule.prefix.starts_with(b".") => format!("a{}", chance.text(HEX, 13)),
        Start::Anywhere if rule.prefix.starts_with(b"/") => "https://chat.example.com".to_owned(),
        _ => String::new(),
    };
    loop {
        let body: String = rule
            .shape
            .iter()
            .map(|part| match part {
                Part::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Part::Run(class, least, most) => {
                    let most = if *most == ANY {
                        least + 40
                    } else {
                        (*most).min(least + 40)
                    };
                    let length = chance.between(*least, most);
                    chance.text(alphabet(*class), length)
                }
            })
            .collect();
        // What a run ends with isn't cut off by what wraps it.
        if looks_random(body.as_bytes())
            && body.ends_with(|last: char| {
                last.is_ascii_alphanumeric() || last == '=' || last == '/' || last == 'X'
            })
        {
            return format!("{before}{prefix}{body}");
        }
    }
}

fn alphabet(class: Class) -> &'static str {
    match class {
        Class::Hex | Class::AnyHex => HEX,
        Class::Lower => BASE36,
        Class::Upper => "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        Class::Base32 => BASE32,
        Class::Alnum => BASE62,
        Class::Word => BASE64URL,
        Class::Base64 => BASE62,
        Class::Digit => DIGITS,
    }
}

/// Everything else that is certain, so many of each kind.
pub fn certain(chance: &mut Chance, each: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for _ in 0..each {
        cases.extend(containers::private_keys(chance).map(|key| ("private key", key)));
        cases.extend(tokens(chance).map(|token| ("web token or key", token)));
        cases.extend(urls(chance).map(|url| ("url", url)));
        cases.extend(files(chance).map(|line| ("connection string or file", line)));
        cases.extend(seeds(chance).map(|seed| ("one-time password or wallet", seed)));
    }
    cases
}

fn tokens(chance: &mut Chance) -> impl Iterator<Item = String> + use<> {
    let algorithm = chance.of(&["HS256", "RS256", "ES256", "EdDSA", "PS512"]);
    let headers = [
        format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#),
        format!(
            r#"{{"typ":"JWT","kid":"{}","alg":"{algorithm}"}}"#,
            chance.text(HEX, 8)
        ),
        format!(r#"{{ "alg": "{algorithm}" }}"#),
    ];
    let mut made: Vec<String> = headers
        .iter()
        .map(|header| {
            let claims = format!(
                r#"{{"sub":"{}","iat":1{}}}"#,
                chance.uuid(),
                chance.text(DIGITS, 9)
            );
            let signature = chance.bytes(32);
            format!(
                "{}.{}.{}",
                base64url(header.as_bytes()),
                base64url(claims.as_bytes()),
                base64url(&signature)
            )
        })
        .collect();
    made.push(format!(
        r#"{{"kty":"RSA","n":"{}","e":"AQAB","d":"{}"}}"#,
        chance.text(BASE64URL, 342),
        chance.text(BASE64URL, 342)
    ));
    made.push(format!(
        r#"{{"d":"{}","crv":"P-256","kty":"EC","x":"{}"}}"#,
        chance.text(BASE64URL, 43),
        chance.text(BASE64URL, 43)
    ));
    made.push(format!(
        r#"{{"kty": "oct", "k": "{}"}}"#,
        chance.text(BASE64URL, 43)
    ));
    made.push(format!("v4.local.{}", chance.text(BASE64URL, 100)));
    made.into_iter()
}

fn password(chance: &mut Chance) -> String {
    let words = [
        "Winter",
        "hunter",
        "Passw0rd",
        "s3cret",
        "Kaffee",
        "tr0ub4dor",
    ];
    match chance.below(3) {
        0 => format!("{}{}", chance.of(&words), chance.text(DIGITS, 3)),
        1 => chance.text(BASE62, 12),
        _ => format!("{}!{}", chance.text(BASE62, 6), chance.text(BASE62, 6)),
    }
}

fn urls(chance: &mut Chance) -> impl Iterator<Item = String> + use<> {
    let host = format!("{}.example.com", chance.of(&["db", "mq", "cache", "api"]));
    let secret = password(chance).replace('!', "-");
    let scheme = chance.of(&[
        "postgres",
        "postgresql",
        "mysql",
        "mongodb+srv",
        "amqp",
        "amqps",
        "https",
        "ftp",
        "smtp",
        "ldap",
    ]);
    let signature = base64(&chance.bytes(32))
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    let token = chance.text(BASE62, 32);
    vec![
        format!("{scheme}://app:{secret}@{host}/main"),
        format!("redis://:{secret}@{host}:6379/0"),
        format!("rediss://default:{secret}@{host}:6380"),
        format!("jdbc:postgresql://{host}/main?user=app&password={secret}"),
        format!("jdbc:oracle:thin:scott/{secret}@//{host}:1521/XE"),
        format!("app:{secret}@tcp({host}:3306)/main?parseTime=true"),
        format!("https://{host}/v1/items?access_token={token}"),
        format!("https://{host}/v1/items?page=2&api_key={token}"),
        format!("https://acme.blob.core.windows.net/b/f.txt?sv=2022-11-02&se=2027-01-01&sr=b&sp=r&sig={signature}"),
        format!("SharedAccessSignature sr=acme.servicebus.windows.net&sig={signature}&se=1767225600&skn=send"),
        format!("https://prod-12.westeurope.logic.azure.com:443/workflows/{}/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers&sv=1.0&sig={}", chance.text(HEX, 32), chance.text(BASE64URL, 43)),
        format!("https://acme.s3.amazonaws.com/f?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=900&X-Amz-Signature={}", chance.text(HEX, 64)),
        format!("https://storage.googleapis.com/b/f?X-Goog-Expires=900&X-Goog-Signature={}", chance.text(HEX, 128)),
    ]
    .into_iter()
}

fn files(chance: &mut Chance) -> impl Iterator<Item = String> + use<> {
    let host = format!("{}.example.com", chance.of(&["sql", "pg", "cache"]));
    let secret = password(chance);
    let login = base64(format!("deploy:{secret}").as_bytes());
    vec![
        format!("Server={host};Database=main;User Id=app;Password={secret};Encrypt=True"),
        format!(
            "Driver={{ODBC Driver 18 for SQL Server}};Server=tcp:{host},1433;Uid=app;Pwd={secret};"
        ),
        format!("host={host} port=5432 dbname=main user=app password={secret} sslmode=require"),
        format!("{host}:6380,password={secret},ssl=True,abortConnect=False"),
        format!("{host}:5432:main:app:{secret}"),
        format!("*:*:*:app:{secret}"),
        format!("machine {host} login app password {secret}"),
        format!("machine {host}\n  login app\n  password {secret}"),
        format!("app:$2y$10${}", chance.text(BASE62, 53)),
        format!(
            "app:$apr1${}${}",
            chance.text(BASE62, 8),
            chance.text(BASE62, 22)
        ),
        format!(
            "root:$6${}${}",
            chance.text(BASE62, 16),
            chance.text(BASE62, 86)
        ),
        format!(
            "$argon2id$v=19$m=65536,t=3,p=4${}${}",
            chance.text(BASE62, 22),
            chance.text(BASE62, 43)
        ),
        format!("app:{{SSHA}}{}", base64(&chance.bytes(24))),
        format!("Authorization: Basic {login}"),
        format!("Authorization: Bearer {}", chance.text(BASE62, 40)),
        format!(r#"{{"auths":{{"{host}":{{"auth": "{login}"}}}}}}"#),
        format!("curl -s -u deploy:{secret} https://{host}/"),
        format!("aws_secret_access_key = {}", mixed(chance, BASE64, 40)),
        format!("SecretAccessKey: {}", mixed(chance, BASE64, 40)),
    ]
    .into_iter()
}

/// So many characters, all three kinds among them.
fn mixed(chance: &mut Chance, alphabet: &str, length: usize) -> String {
    loop {
        let text = chance.text(alphabet, length);
        let has = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
        if has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) {
            return text;
        }
    }
}

fn seeds(chance: &mut Chance) -> impl Iterator<Item = String> + use<> {
    let length = chance.of(&[&16, &26, &32]);
    let seed = chance.text(BASE32, *length);
    let groups: Vec<&str> = (0..seed.len() / 4)
        .map(|group| &seed[group * 4..group * 4 + 4])
        .collect();
    let entropy = chance.of(&[&16, &20, &24, &28, &32]);
    let entropy = chance.bytes(*entropy);
    let phrase = bip39::Mnemonic::from_entropy(&entropy)
        .map(|phrase| phrase.words().collect::<Vec<_>>())
        .unwrap_or_default();
    vec![
        format!("otpauth://totp/ACME:ops?secret={seed}&issuer=ACME"),
        format!(
            "otpauth-migration://offline?data={}",
            chance.text(BASE62, 60)
        ),
        format!("TOTP seed: {seed}"),
        format!("2FA secret {}", groups.join(" ")),
        format!("mfa_secret={seed}"),
        phrase.join(" "),
        phrase.join(", "),
    ]
    .into_iter()
}

/// Tokens without any mark: the heuristic class.
pub fn random(chance: &mut Chance, count: usize) -> Vec<Case> {
    (0..count)
        .map(|_| {
            let (alphabet, least, most) = *chance.of(&[
                &(BASE62, 20, 40),
                &(BASE62, 24, 64),
                &(BASE64, 40, 40),
                &(BASE64URL, 32, 43),
                &(BASE36, 28, 48),
            ]);
            let length = chance.between(least, most);
            ("random", mixed_if(chance, alphabet, length))
        })
        .collect()
}

fn mixed_if(chance: &mut Chance, alphabet: &str, length: usize) -> String {
    if alphabet == BASE36 {
        return format!("{}{}", chance.text(BASE36, length - 2), "q7");
    }
    let _ = (UPPER, hex);
    mixed(chance, alphabet, length)
}
