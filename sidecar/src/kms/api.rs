//! `Encrypt` and `Decrypt` of KMS: JSON 1.1 by POST, signed with Signature Version 4, tried again while it makes sense.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>
//!
//! The encryption context binds a ciphertext to what it is for and to the id of the master key: ids only, because it
//! stands in CloudTrail in the clear. `Decrypt` names the KMS key, so that nobody else's can answer.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest};
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::Zeroizing;

use super::answer::trouble;
use super::arn::{KeyArn, KeyName, Place};
use super::credentials;
use super::error::KmsError;
use super::lines::{MasterKey, Wrapped, thirty_two};
use super::patience::{Again, Patience, Trouble};
use super::web::{Web, may_be_spoken_to};

/// A request with everything in it, the longest key name and ciphertext too.
const ROOM: usize = 16 * 1024;

/// KMS in one region, and who we are there.
pub struct Api<'a> {
    place: Place,
    who: String,
    url: Url,
    web: Web,
    context: Context,
    credential: Credential,
    patience: &'a Patience,
}

#[derive(Serialize)]
struct EncryptionContext<'a> {
    #[serde(rename = "rotator:purpose")]
    purpose: &'static str,
    #[serde(rename = "rotator:master-key-id")]
    id: &'a str,
}

impl<'a> EncryptionContext<'a> {
    fn of(id: &'a str) -> Self {
        Self {
            purpose: "master-key",
            id,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypt<'a> {
    key_id: &'a str,
    plaintext: &'a str,
    encryption_context: EncryptionContext<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt<'a> {
    key_id: &'a str,
    ciphertext_blob: &'a str,
    encryption_context: EncryptionContext<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted<'a> {
    #[serde(borrow)]
    key_id: Cow<'a, str>,
    #[serde(borrow)]
    ciphertext_blob: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted<'a> {
    #[serde(borrow)]
    key_id: Cow<'a, str>,
    plaintext: Plaintext,
}

/// 32 bytes, if that is what it is, decoded from where they stand, so that no copy of their text is made.
struct Plaintext(Option<Zeroizing<[u8; 32]>>);

impl<'de> Deserialize<'de> for Plaintext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decode;
        impl Visitor<'_> for Decode {
            type Value = Plaintext;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Plaintext, E> {
                if text.is_empty() {
                    return Err(E::custom("empty"));
                }
                Ok(Plaintext(thirty_two(text)))
            }
        }
        deserializer
            .deserialize_str(Decode)
            .map_err(|_| D::Error::custom("no plaintext"))
    }
}

impl<'a> Api<'a> {
    /// Finds the endpoint and the credentials.
    ///
    /// # Errors
    /// There are none, or TLS can't be set up.
    pub async fn open(
        place: &Place,
        stand_in: Option<&Url>,
        patience: &'a Patience,
    ) -> Result<Self, KmsError> {
        let web = Web::new(stand_in)?;
        let url = match stand_in {
            Some(url) => url.clone(),
            None => endpoint(place)?,
        };
        let context = credentials::context(&web);
        let credential = credentials::load(&context, place, patience).await?;
        Ok(Self {
            who: format!("AWS KMS in {}", place.region()),
            place: place.clone(),
            url,
            web,
            context,
            credential,
            patience,
        })
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Wraps one master key.
    ///
    /// # Errors
    /// A refusal, or no answer in time.
    pub async fn encrypt(&self, key: &MasterKey, by: &KeyName) -> Result<Wrapped, KmsError> {
        // With room for all of it at once: what grows leaves copies behind.
        let mut plaintext = Zeroizing::new(String::with_capacity(64));
        STANDARD.encode_string(key.bytes.as_slice(), &mut plaintext);
        let body = body(&Encrypt {
            key_id: by.as_str(),
            plaintext: &plaintext,
            encryption_context: EncryptionContext::of(&key.id),
        });
        let answer = self
            .call("Encrypt", &key.id, body, Some(&plaintext))
            .await?;
        let not_kms = |what: &str| KmsError::NotKms(what.to_owned());
        let answer: Encrypted<'_> = serde_json::from_slice(&answer)
            .map_err(|_| not_kms("it answers with something else"))?;
        let key_arn: KeyArn = answer
            .key_id
            .parse()
            .map_err(|()| not_kms("it names no KMS key by its ARN"))?;
        if key_arn.place() != self.place {
            return Err(not_kms("it names a KMS key of another region"));
        }
        let ciphertext = STANDARD.decode(answer.ciphertext_blob.as_bytes()).ok();
        let ciphertext = ciphertext.filter(|bytes| !bytes.is_empty());
        Ok(Wrapped {
            id: key.id.clone(),
            key: key_arn,
            ciphertext: ciphertext.ok_or_else(|| not_kms("it gives no ciphertext"))?,
        })
    }

    /// Unwraps one again.
    ///
    /// # Errors
    /// A refusal, or no answer in time.
    pub async fn decrypt(&self, line: &Wrapped) -> Result<MasterKey, KmsError> {
        let body = body(&Decrypt {
            key_id: line.key.as_str(),
            ciphertext_blob: &STANDARD.encode(&line.ciphertext),
            encryption_context: EncryptionContext::of(&line.id),
        });
        let answer = self.call("Decrypt", &line.id, body, None).await?;
        let answer: Decrypted<'_> = serde_json::from_slice(&answer)
            .map_err(|_| KmsError::NotKms("it answers with something else".to_owned()))?;
        if answer.key_id != line.key.as_str() {
            let what = "it answers for another KMS key than was asked";
            return Err(KmsError::NotKms(what.to_owned()));
        }
        let bytes = answer.plaintext.0;
        Ok(MasterKey {
            id: line.id.clone(),
            bytes: bytes.ok_or_else(|| KmsError::NotAMasterKey(line.id.clone()))?,
        })
    }

    async fn call(
        &self,
        action: &str,
        id: &str,
        body: Bytes,
        secret: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        self.patience
            .keep_trying(&self.who, async || {
                let request = self.signed(action, body.clone()).await?;
                let answer = self.web.send(request).await;
                let answer =
                    answer.map_err(|why| Trouble::Again(Again::new(self.who.clone(), why)))?;
                if answer.status == 200 {
                    return Ok(answer.body);
                }
                Err(trouble(&self.who, id, answer.status, &answer.body, secret))
            })
            .await
    }

    /// A signature holds for some minutes: each attempt has its own.
    async fn signed(&self, action: &str, body: Bytes) -> Result<Request<Bytes>, KmsError> {
        let unusable = |problem: String| KmsError::Credentials {
            source_name: "that source",
            problem,
        };
        let digest: String = Sha256::digest(&body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (mut parts, body) = Request::post(self.url.as_str())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{action}"))
            .header("x-amz-content-sha256", digest)
            .body(body)
            .map_err(|_| unusable("no request can be made of them".to_owned()))?
            .into_parts();
        RequestSigner::new("kms", self.place.region())
            .sign_request(&self.context, &mut parts, Some(&self.credential), None)
            .await
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Request::from_parts(parts, body))
    }
}

/// `AWS_ENDPOINT_URL_KMS`, else AWS's own.
fn endpoint(place: &Place) -> Result<Url, KmsError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match variable("AWS_ENDPOINT_URL_KMS") {
        Some(url) => Url::parse(&url)
            .ok()
            .filter(may_be_spoken_to)
            .ok_or(KmsError::InsecureEndpoint),
        None => {
            let fips = variable("AWS_USE_FIPS_ENDPOINT");
            place.endpoint(fips.is_some_and(|value| value.eq_ignore_ascii_case("true")))
        }
    }
}

/// A request's body, wiped when the last attempt is over.
fn body(request: &impl Serialize) -> Bytes {
    let mut body = Zeroizing::new(Vec::with_capacity(ROOM));
    // Texts into memory: neither can fail.
    let _ = serde_json::to_writer(&mut *body, request);
    Bytes::from_owner(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encryption_context_holds_ids_only() {
        let body = body(&Decrypt {
            key_id: "arn",
            ciphertext_blob: "AQID",
            encryption_context: EncryptionContext::of("mk-1"),
        });
        assert_eq!(
            body,
            r#"{"KeyId":"arn","CiphertextBlob":"AQID","EncryptionContext":{"rotator:purpose":"master-key","rotator:master-key-id":"mk-1"}}"#
        );
    }

    #[test]
    fn plaintext_is_32_bytes_or_said_not_to_be() {
        let one = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let read = |plaintext: &str| {
            let text = format!(r#"{{"KeyId":"arn","Plaintext":{plaintext},"More":1}}"#);
            serde_json::from_str::<Decrypted<'_>>(&text)
                .map(|answer| answer.plaintext.0.map(|bytes| *bytes))
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(&format!("\"{one}\"")), Ok(Some([1; 32])));
        assert_eq!(
            read(&format!("\"{}\"", one.replace('Q', "\\u0051"))),
            Ok(Some([1; 32]))
        );
        assert_eq!(read("\"AQID\""), Ok(None));
        assert_eq!(read("\"no base64\""), Ok(None));
        for nothing in ["\"\"", "1", "null", "{}"] {
            assert!(
                read(nothing).unwrap_err().starts_with("no plaintext"),
                "{nothing}"
            );
        }
    }
}
