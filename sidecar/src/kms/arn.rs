//! Naming a KMS key, and which region and host answer for it.
//! What a name looks like: <https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id>.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::error::KmsError;

/// Where a KMS key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    region: String,
}

impl Place {
    /// A region by its name, such as `eu-central-1`.
    ///
    /// # Errors
    /// It can't be one: it would become part of a host's name.
    pub fn new(region: &str) -> Result<Self, KmsError> {
        let fits = (3..=64).contains(&region.len())
            && region
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !region.starts_with('-')
            && !region.ends_with('-');
        if !fits {
            return Err(KmsError::BadRegion(region.chars().take(64).collect()));
        }
        Ok(Self {
            region: region.to_owned(),
        })
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// What AWS calls the host of KMS there.
    ///
    /// # Errors
    /// Never for a region that [`Place::new`] took.
    pub fn endpoint(&self, fips: bool) -> Result<Url, KmsError> {
        let service = if fips { "kms-fips" } else { "kms" };
        let url = format!("https://{}", self.host(service));
        Url::parse(&url).map_err(|_| KmsError::BadRegion(self.region.clone()))
    }

    /// What AWS calls the host of a service there.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.{}", self.region, self.domain())
    }

    fn domain(&self) -> &'static str {
        // https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
        [
            ("cn-", "amazonaws.com.cn"),
            ("eusc-", "amazonaws.eu"),
            ("us-isob-", "sc2s.sgov.gov"),
            ("us-iso-", "c2s.ic.gov"),
            ("eu-isoe-", "cloud.adc-e.uk"),
            ("us-isof-", "csp.hci.ic.gov"),
        ]
        .iter()
        .find(|(begin, _)| self.region.starts_with(begin))
        .map_or("amazonaws.com", |(_, domain)| domain)
    }
}

/// One KMS key, by its ARN: `arn:aws:kms:eu-central-1:111122223333:key/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    place: Place,
}

impl KeyArn {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KeyArn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (place, resource) = take_apart(text).ok_or(())?;
        if !resource.strip_prefix("key/").is_some_and(is_name) {
            return Err(());
        }
        Ok(Self {
            text: text.to_owned(),
            place,
        })
    }
}

/// What `--key-id` takes: an ARN of a key or of an alias, or one of the two without what stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    text: String,
    place: Option<Place>,
}

impl KeyName {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region, where the name says it.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }
}

impl FromStr for KeyName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRITE: &str = "write an ARN like arn:aws:kms:eu-central-1:111122223333:key/…, alias/NAME, or a key id";
        let (place, resource) = if text.starts_with("arn:") {
            let (place, resource) = take_apart(text).ok_or(WRITE)?;
            (Some(place), resource)
        } else {
            (None, text)
        };
        let fits = match (resource.split_once('/'), &place) {
            (Some(("alias", name)), _) => name.split('/').all(is_name),
            (Some(("key", id)), Some(_)) => is_name(id),
            (None, None) => is_name(text),
            _ => false,
        };
        if !fits || text.len() > 2048 {
            return Err(WRITE);
        }
        Ok(Self {
            text: text.to_owned(),
            place,
        })
    }
}

/// Region and resource of an ARN of KMS.
fn take_apart(text: &str) -> Option<(Place, &str)> {
    let parts: [&str; 6] = text.splitn(6, ':').collect::<Vec<_>>().try_into().ok()?;
    let ["arn", partition, "kms", region, account, resource] = parts else {
        return None;
    };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() > 2048 || !partition.starts_with("aws") || !is_name(partition) || !is_account {
        return None;
    }
    Some((Place::new(region).ok()?, resource))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_aws_names_them() {
        for good in [
            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
            "arn:aws:kms:eu-central-1:111122223333:alias/rotator/master",
            "alias/rotator",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
        ] {
            assert!(good.parse::<KeyName>().is_ok(), "{good}");
            let is_key = good.contains(":key/");
            assert_eq!(good.parse::<KeyArn>().is_ok(), is_key, "{good}");
        }
        for bad in [
            "",
            "a b",
            "key/1234",
            "alias/",
            "alias/a//b",
            "arn:aws:s3:::bucket",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:kms:eu-central-1:111122223333:key/a:b",
            "arn:aws:kms:eu-central-1:1111:key/a",
            "arn:aws:kms:evil.example/:111122223333:key/a",
            "arn:aws:kms::111122223333:key/a",
            "arn:evil:kms:eu-central-1:111122223333:key/a",
        ] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
            assert!(bad.parse::<KeyArn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_region_has_its_host() {
        let host = |region: &str, fips| {
            let url = Place::new(region).unwrap().endpoint(fips).unwrap();
            url.host_str().unwrap().to_owned()
        };
        assert_eq!(
            host("eu-central-1", false),
            "kms.eu-central-1.amazonaws.com"
        );
        assert_eq!(host("us-east-1", true), "kms-fips.us-east-1.amazonaws.com");
        assert_eq!(host("cn-north-1", false), "kms.cn-north-1.amazonaws.com.cn");
        for bad in ["", "eu", "EU-1", "a/b", "x.evil.example", "-eu-1"] {
            assert!(Place::new(bad).is_err(), "{bad}");
        }
    }
}
