// SPDX-License-Identifier: Apache-2.0

//! Lists of IP addresses and networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Addresses and networks in the notation of nginx's `allow`: `192.0.2.1`, `10.0.0.0/8`,
/// `2001:db8::/32`, `unix:`.
#[derive(Debug, Default)]
pub struct AddressRanges {
    networks: Vec<IpNet>,
    unix: bool,
}

/// The text is neither an address nor a network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is no address, and no network", .0.escape_ascii())]
pub struct InvalidRange(Vec<u8>);

impl AddressRanges {
    pub fn new<'a>(ranges: impl Iterator<Item = &'a [u8]>) -> Result<Self, InvalidRange> {
        let mut all = Self::default();
        for range in ranges {
            if range == b"unix:" {
                all.unix = true;
                continue;
            }
            let network = std::str::from_utf8(range).ok().and_then(network);
            let network = network.ok_or_else(|| InvalidRange(range.to_vec()))?;
            all.networks.push(canonical(network));
        }
        Ok(all)
    }

    /// Returns whether `address`, in the format of `$remote_addr`, is in one of the ranges.
    pub fn contain(&self, address: &[u8]) -> bool {
        if address == b"unix:" {
            return self.unix;
        }
        let address = std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
        // An IPv4 client may connect to an IPv6 socket (`listen [::]:80 ipv6only=off`).
        address
            .map(|address: IpAddr| address.to_canonical())
            .is_some_and(|address| self.networks.iter().any(|network| network.contains(&address)))
    }
}

/// Parses an address or a network. `IpNet` itself would accept numbers with leading zeros, which
/// some software reads as octal.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, prefix)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = is_number && (prefix == "0" || !prefix.starts_with('0'));
    let prefix = prefix.parse().ok().filter(|_| is_canonical)?;
    IpNet::new(address.parse().ok()?, prefix).ok()
}

/// Converts IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2) to IPv4.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;

    let IpNet::V6(mapped) = network else {
        return network;
    };
    let address = mapped.addr().to_ipv4_mapped();
    address
        .zip(mapped.prefix_len().checked_sub(MAPPED))
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Result<AddressRanges, InvalidRange> {
        AddressRanges::new(texts.iter().map(|text| text.as_bytes()))
    }

    #[test]
    fn addresses_and_networks() {
        let ranges = ranges(&["192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "::1"]).unwrap();
        for address in ["192.0.2.1", "10.255.0.1", "2001:db8:1::1", "::1", "::ffff:10.0.0.1"] {
            assert!(ranges.contain(address.as_bytes()), "{address}");
        }
        for address in ["192.0.2.2", "11.0.0.1", "2001:db9::1", "::2", "unix:", "", "10.0.0", "a"] {
            assert!(!ranges.contain(address.as_bytes()), "{address}");
        }
        assert!(AddressRanges::new([&b"unix:"[..]].into_iter()).unwrap().contain(b"unix:"));
        assert!(!AddressRanges::default().contain(b"127.0.0.1"));
        let mapped = self::ranges(&["::ffff:10.0.0.0/104"]).unwrap();
        assert!(mapped.contain(b"10.1.1.1") && !mapped.contain(b"11.1.1.1"));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in
            ["", "a", "10.0.0.0/33", "10.0.0/8", "1.2.3.4.5", "::/129", "unix:/a", "10.0.0.1 "]
                .into_iter()
                .chain([
                    "010.0.0.0/8",
                    "010.0.0.1",
                    "10.0.0.0/08",
                    "10.0.0.0/+8",
                    "10.0.0.0/",
                    "/8",
                ])
                .chain(["10.0.0.0/8/8", "10.0.0.0/ 8", "::/00"])
        {
            assert!(ranges(&[text]).is_err(), "{text}");
        }
        assert_eq!(
            ranges(&["10.0.0.0/x"]).unwrap_err().to_string(),
            "\"10.0.0.0/x\" is no address, and no network"
        );
    }
}
