//! Which addresses a delivery may connect to. Names are resolved by us, every address is filtered, and the connection
//! goes to the filtered addresses only, so that a name can't point somewhere else between check and use. Literal
//! addresses never reach a resolver: [`Egress::permits_host`] is for them.
//!
//! Elsewhere: the exceptions an operator makes (`ROTATOR_EGRESS_ALLOW`), and who uses the filter (`web.rs`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::config::Cidr;

/// Not for the public internet: <https://www.iana.org/assignments/iana-ipv4-special-registry>.
const DENIED_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, cloud metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// All that is given out for the public internet so far: <https://www.iana.org/assignments/ipv6-address-space>. Loopback,
/// v4-compatible and translated addresses, NAT64, unique local, link-local and multicast all lie outside.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What isn't for the public in there: <https://www.iana.org/assignments/iana-ipv6-special-registry>. Ranges that embed an
/// IPv4 address (6to4, Teredo) are denied as a whole.
const DENIED_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// The filter, with the operator's exceptions.
#[derive(Clone)]
pub struct Egress {
    allow: Arc<[Cidr]>,
}

/// No address of a name may be connected to. The text is fit for a member to read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the host has no address that may be connected to; ROTATOR_EGRESS_ALLOW can permit private networks"
)]
pub struct Denied;

impl Egress {
    /// A filter that lets through what is public, and these networks.
    pub fn new(allow: Arc<[Cidr]>) -> Self {
        Self { allow }
    }

    /// Whether a connection to that address is allowed. A v4 address written as v6 counts as what it is.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.allow.iter().any(|range| range.contains(address)) {
            return true;
        }
        let lies_in_v6 = |(network, prefix): &(Ipv6Addr, u8)| {
            Cidr::new(IpAddr::V6(*network), *prefix).contains(address)
        };
        match address {
            IpAddr::V4(_) => !DENIED_V4.iter().any(|(network, prefix)| {
                Cidr::new(IpAddr::V4(*network), *prefix).contains(address)
            }),
            IpAddr::V6(_) => lies_in_v6(&PUBLIC_V6) && !DENIED_V6.iter().any(lies_in_v6),
        }
    }

    /// Whether a URL's host may be asked at all: literal addresses are checked here, names when they are resolved.
    pub fn permits_host(&self, host: Option<&Host<&str>>) -> bool {
        match host {
            Some(Host::Ipv4(address)) => self.permits(IpAddr::V4(*address)),
            Some(Host::Ipv6(address)) => self.permits(IpAddr::V6(*address)),
            Some(Host::Domain(name)) => !name.is_empty(),
            None => false,
        }
    }
}

impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| egress.permits(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(Denied.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    fn egress(allow: &[&str]) -> Egress {
        Egress::new(allow.iter().map(|range| range.parse().unwrap()).collect())
    }

    #[test]
    fn private_addresses_are_denied_however_they_are_written() {
        let egress = egress(&[]);
        let denied = [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.100.0.1",
            "192.0.0.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "fec0::1",
            "4000::1",
        ];
        for address in denied {
            assert!(!egress.permits(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(egress.permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn literal_hosts_in_odd_spellings_are_denied_too() {
        let egress = egress(&[]);
        for host in [
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "[::ffff:7f00:1]",
            "１２７.0.0.1",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "017700000001",
            "0xA9FEA9FE",
            "[::ffff:169.254.169.254]",
            "[0:0:0:0:0:0:0:1]",
            "①②⑦.⓪.⓪.①",
        ] {
            let url = Url::parse(&format!("https://{host}/")).unwrap();
            assert!(!egress.permits_host(url.host().as_ref()), "{host}");
        }
    }

    #[test]
    fn the_operator_can_permit_a_network() {
        let egress = egress(&["10.1.0.0/16", "::1"]);
        assert!(egress.permits("10.1.9.9".parse().unwrap()));
        assert!(egress.permits("::ffff:10.1.9.9".parse().unwrap()));
        assert!(egress.permits("::1".parse().unwrap()));
        assert!(!egress.permits("10.2.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn names_that_resolve_to_private_addresses_are_refused() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(egress(&[]).resolve(name()).await.is_err());
        assert!(
            egress(&["127.0.0.0/8", "::1"])
                .resolve(name())
                .await
                .unwrap()
                .count()
                > 0
        );
    }
}
