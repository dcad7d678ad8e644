//! Certificates as secrets' metadata: what expires, when, and by whom it was issued.
//!
//! A certificate's identity is its SHA-256 fingerprint (`external_id`), so importing a bundle again changes nothing. Its
//! name is the subject's common name; where a bundle repeats one (several keys of one authority), the first eight
//! digits of the fingerprint tell them apart. Finding the blocks is `pem.rs`; RFC 5280 says what the fields mean.

use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::pem::{Block, Content};
use super::text::{cut, printable};
use super::{Entry, Item, Options, ReadError, Reading, entry, fields, pem};

/// Longest name that the database takes.
const LONGEST_NAME: usize = 256;
/// Room for ` (d7a7a0fb)`.
const SUFFIX: usize = 11;

/// What is kept of one certificate.
struct Certificate {
    name: String,
    fingerprint: String,
    item: Item,
}

pub fn read(data: &[u8], options: &Options) -> Result<Reading, ReadError> {
    let mut blocks = pem::blocks(data);
    // A lone certificate in DER begins with an ASN.1 sequence, which no PEM file does.
    if blocks.is_empty() && data.first() == Some(&0x30) {
        blocks.push(Block {
            line: 1,
            content: Content::Certificate {
                der: data.to_vec(),
                trusted: false,
            },
        });
    }
    let mut reading = Reading::default();
    let mut found = Vec::new();
    for Block { line, content } in blocks {
        let parsed = match content {
            Content::Certificate { der, trusted } => parse(&der, trusted),
            Content::Broken(problem) => Err(problem),
            Content::PrivateKey => {
                reading.notes.push(format!(
                    "line {line}: a private key was passed over; only certificates are read"
                ));
                continue;
            }
            Content::Other => continue,
        };
        found.push((
            format!("certificate {} (line {line})", found.len() + 1),
            parsed,
        ));
    }
    if found.is_empty() {
        return Err(ReadError::NoCertificate);
    }
    let repeated = names_of_several(&found);
    let mut first_places: HashMap<String, String> = HashMap::new();
    for (place, parsed) in found {
        let certificate = match parsed {
            Ok(certificate) => certificate,
            Err(problem) => {
                reading.entries.push(entry(
                    place,
                    None,
                    Err(format!("the certificate {problem}")),
                ));
                continue;
            }
        };
        if let Some(first) = first_places.get(&certificate.fingerprint) {
            reading
                .notes
                .push(format!("{place} repeats {first}; it was left out"));
            continue;
        }
        first_places.insert(certificate.fingerprint.clone(), place.clone());
        reading
            .entries
            .push(finished(place, certificate, &repeated, options));
    }
    Ok(reading)
}

/// Names (compared as the database does: without regard to case) that more than one fingerprint has.
fn names_of_several(
    found: &[(String, Result<Certificate, &'static str>)],
) -> HashMap<String, bool> {
    let mut owners: HashMap<String, &str> = HashMap::new();
    let mut several = HashMap::new();
    for certificate in found.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()) {
        let name = certificate.name.to_lowercase();
        let other = owners.insert(name.clone(), &certificate.fingerprint);
        if other.is_some_and(|other| other != certificate.fingerprint) {
            several.insert(name, true);
        }
    }
    several
}

fn finished(
    place: String,
    certificate: Certificate,
    repeated: &HashMap<String, bool>,
    options: &Options,
) -> Entry {
    let mut name = certificate.name;
    if repeated.contains_key(&name.to_lowercase()) {
        name = format!(
            "{} ({})",
            cut(&name, LONGEST_NAME - SUFFIX),
            &certificate.fingerprint[..8]
        );
    }
    let mut item = certificate.item;
    item.insert("name".into(), Value::String(name.clone()));
    entry(place, Some(&name), fields::finish(item, options))
}

fn parse(der: &[u8], trusted: bool) -> Result<Certificate, &'static str> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "is not valid X.509")?;
    if !rest.is_empty() && !trusted {
        return Err("is followed by bytes that don't belong to it");
    }
    let der = &der[..der.len() - rest.len()];
    let fingerprint = hex(&Sha256::digest(der));
    let serial = cut(&hex(certificate.raw_serial()), 64);
    let issuer = issuer(certificate.issuer());
    let name = name(&certificate).unwrap_or_else(|| format!("serial {serial}"));
    let validity = certificate.validity();
    let item = json!({
        "provider_type": "x509",
        "expiry_date": rfc3339(&validity.not_after),
        "external_id": format!("x509:sha256:{fingerprint}"),
        "purpose": format!("Issued by {issuer}"),
        "labels": json!({
            "serial": serial,
            "sha256": &fingerprint[..16],
            "not_before": rfc3339(&validity.not_before),
            "issuer": issuer,
        }).to_string(),
    });
    let Value::Object(item) = item else {
        return Err("is not valid X.509");
    };
    Ok(Certificate {
        name: cut(&name, LONGEST_NAME),
        fingerprint,
        item,
    })
}

/// Common name, else the first host name (certificates without a subject have only those), else organisation or unit.
fn name(certificate: &X509Certificate<'_>) -> Option<String> {
    let subject = certificate.subject();
    most_specific(subject.iter_common_name())
        .or_else(|| first_host_name(certificate))
        .or_else(|| most_specific(subject.iter_organization()))
        .or_else(|| most_specific(subject.iter_organizational_unit()))
}

fn issuer(name: &X509Name<'_>) -> String {
    let name = most_specific(name.iter_common_name())
        .or_else(|| most_specific(name.iter_organization()))
        .or_else(|| most_specific(name.iter_organizational_unit()));
    name.map_or_else(
        || "an unnamed issuer".to_owned(),
        |name| cut(&name, LONGEST_NAME),
    )
}

/// The last usable value: a distinguished name goes from the general to the specific.
fn most_specific<'a>(
    values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Option<String> {
    values
        .filter_map(|attribute| directory_string(attribute.attr_value()))
        .last()
}

fn first_host_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(host) => Some(printable(host)).filter(|host| !host.is_empty()),
            _ => None,
        })
}

/// The five encodings of RFC 5280's DirectoryString, and IA5; TeletexString is read as Latin-1, as everyone does.
fn directory_string(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    let text = match value.tag() {
        Tag::BmpString => {
            let units = bytes.chunks(2).map(|pair| {
                pair.iter()
                    .fold(0, |unit, &byte| (unit << 8) | u16::from(byte))
            });
            char::decode_utf16(units)
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        Tag::UniversalString => bytes
            .chunks(4)
            .map(|four| {
                four.iter()
                    .fold(0, |point, &byte| (point << 8) | u32::from(byte))
            })
            .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        Tag::TeletexString => bytes.iter().map(|&byte| char::from(byte)).collect(),
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => String::from_utf8_lossy(bytes).into_owned(),
        _ => return None,
    };
    Some(printable(&text)).filter(|text| !text.is_empty())
}

/// In UTC, to the second. The year 9999 stands for "no expiry" (RFC 5280, 4.1.2.5) and stays itself.
fn rfc3339(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test with `openssl req -x509`: two authorities called "Acme Root", one host certificate without a
    /// subject, one with a BMPString and a control character.
    const BUNDLE: &str = include_str!("testdata/bundle.pem");

    fn items(reading: &Reading) -> Vec<Item> {
        reading
            .entries
            .iter()
            .filter_map(|entry| entry.item.as_ref().ok())
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    }

    #[test]
    fn names_are_unique_within_the_bundle() {
        let reading = read(BUNDLE.as_bytes(), &Options::default()).unwrap();
        let names: Vec<_> = items(&reading)
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names.len(), 5, "{names:?}");
        for (index, item) in items(&reading).iter().take(2).enumerate() {
            let fingerprint = item["external_id"]
                .as_str()
                .unwrap()
                .strip_prefix("x509:sha256:")
                .unwrap();
            assert_eq!(fingerprint.len(), 64);
            let base = ["Acme Root", "ACME root"][index];
            assert_eq!(names[index], format!("{base} ({})", &fingerprint[..8]));
        }
        assert_eq!(
            names[2..],
            ["shop.example.com", "Größe\u{fffd} GmbH", "Acme Holding"]
        );
    }

    #[test]
    fn an_item_says_what_when_and_by_whom() {
        let options = Options {
            owner: Some("dana".into()),
            ..Options::default()
        };
        let reading = read(BUNDLE.as_bytes(), &options).unwrap();
        let item = &items(&reading)[0];
        assert_eq!(item["provider_type"], "x509");
        assert_eq!(item["expiry_date"], "2036-01-01T12:00:00Z");
        assert_eq!(item["purpose"], "Issued by Acme Root");
        assert_eq!(item["owner_id"], "dana");
        assert_eq!(item["labels"]["not_before"], "2026-01-01T12:00:00Z");
        assert_eq!(item["labels"]["issuer"], "Acme Root");
        assert_eq!(item["labels"]["serial"], "0a1b2c");
        assert_eq!(
            item["labels"]["sha256"],
            item["external_id"].as_str().unwrap()[12..28]
        );
        assert!(!item.contains_key("rotation_interval"));
    }

    #[test]
    fn a_repeated_certificate_is_left_out_with_a_remark() {
        let twice = format!("{BUNDLE}\n{BUNDLE}");
        let reading = read(twice.as_bytes(), &Options::default()).unwrap();
        assert_eq!(items(&reading).len(), 5);
        assert_eq!(reading.notes.len(), 5);
        assert!(
            reading.notes[0].starts_with("certificate 6 (line "),
            "{}",
            reading.notes[0]
        );
        assert!(reading.notes[0].ends_with("repeats certificate 1 (line 1); it was left out"));
    }

    #[test]
    fn malformed_certificates_are_reported_and_the_rest_is_read() {
        let broken = format!(
            "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQ==\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n{BUNDLE}"
        );
        let reading = read(broken.as_bytes(), &Options::default()).unwrap();
        assert_eq!(reading.entries[0].place, "certificate 1 (line 1)");
        assert_eq!(
            reading.entries[0].item.as_ref().unwrap_err(),
            "the certificate is not valid X.509"
        );
        assert_eq!(reading.entries[1].place, "certificate 2 (line 4)");
        assert_eq!(
            reading.entries[1].item.as_ref().unwrap_err(),
            "the certificate is not valid base64"
        );
        assert_eq!(items(&reading).len(), 5);
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            read(key.as_bytes(), &Options::default()).unwrap_err(),
            ReadError::NoCertificate
        );
    }
}
