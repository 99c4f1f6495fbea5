//! Which addresses an actor's request may be sent to: the public ones, and what a link names beside them.
//!
//! Asked for each address just before it is connected to, whether it was looked up or stood in the URI. A name that is
//! public at one look-up and private at the next gains nothing by that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Services that give credentials to whoever can reach them. Only naming that very address opens one; a block that holds
/// it does not.
///
/// The common one of the large clouds; Azure's, which looks public; those of Alibaba and Oracle; AWS's and Google's by
/// IPv6; the ones that hand credentials to containers on AWS (ECS, EKS) by both.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Addresses of version 4 that are not public: address, length of the prefix, what it is.
///
/// The IANA IPv4 Special-Purpose Address Registry (RFC 6890), and multicast.
const SPECIAL_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (
        Ipv4Addr::new(100, 64, 0, 0),
        10,
        "shared by a carrier's customers",
    ),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay to IPv6"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// Parts of 2000::/3 that are not public. What lies outside 2000::/3 never is.
const SPECIAL_V6: &[(Ipv6Addr, u8, &str)] = &[
    // Teredo, benchmarks, ORCHID and other protocols' own addresses, some of which hold one of version 4.
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        "reserved for protocols",
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        "for documentation",
    ),
    (
        Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0),
        16,
        "a tunnel to IPv4",
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        "for documentation",
    ),
];

const PUBLIC_V6: AddressBlock = AddressBlock {
    address: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)),
    prefix: 3,
};

const NAT64: AddressBlock = AddressBlock {
    address: IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)),
    prefix: 96,
};

/// An address, or all that begin with the same bits: `127.0.0.1`, `10.1.2.0/24`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressBlock {
    address: IpAddr,
    prefix: u8,
}

impl AddressBlock {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                (block.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                (block.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    fn is_single(&self) -> bool {
        self.prefix == bits(self.address)
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for AddressBlock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed =
            || format!("`{text}` is no address like `127.0.0.1` and no block like `10.1.2.0/24`");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| malformed())?;
        let all = bits(written);
        let prefix = match prefix {
            None => all,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= all)
                .ok_or_else(malformed)?,
        };
        // An address of version 4 in the clothes of version 6 is compared as what it is.
        let address = written.to_canonical();
        let block = match prefix.checked_sub(all - bits(address)) {
            Some(prefix) => Self { address, prefix },
            None => Self {
                address: written,
                prefix,
            },
        };
        let first = match block.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(block.prefix))
                    .unwrap_or(0);
                IpAddr::from(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(block.prefix))
                    .unwrap_or(0);
                IpAddr::from(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        if first != block.address {
            return Err(format!(
                "`{text}` has bits beyond its prefix; the block is `{first}/{}`",
                block.prefix
            ));
        }
        Ok(block)
    }
}

/// Says what kind of address this is, where a request must not go there.
pub(crate) fn prohibited(address: IpAddr, allowed: &[AddressBlock]) -> Option<&'static str> {
    let address = address.to_canonical();
    let embedded = embedded_v4(address);
    let is_metadata = METADATA.contains(&address)
        || embedded.is_some_and(|address| METADATA.contains(&IpAddr::V4(address)));
    let mut naming = allowed.iter().filter(|block| block.contains(address));
    if is_metadata {
        return (!naming.any(AddressBlock::is_single)).then_some("a metadata service");
    }
    if naming.next().is_some() {
        return None;
    }
    match (address, embedded) {
        (IpAddr::V4(address), _) | (_, Some(address)) => special_v4(address),
        (IpAddr::V6(address), None) => special_v6(address),
    }
}

/// The address behind a translator to version 4. All other forms that hold one are not public at all.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [.., a, b, c, d] = v6.octets();
    NAT64.contains(address).then_some(Ipv4Addr::new(a, b, c, d))
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let block = SPECIAL_V4.iter().find(|(block, prefix, _)| {
        let block = AddressBlock {
            address: IpAddr::V4(*block),
            prefix: *prefix,
        };
        block.contains(IpAddr::V4(address))
    });
    block.map(|(_, _, what)| *what)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let address = IpAddr::V6(address);
    if !PUBLIC_V6.contains(address) {
        return Some(match address {
            _ if address.is_loopback() => "loopback",
            _ if address.is_unspecified() => "unspecified",
            _ if address.is_multicast() => "multicast",
            _ => "not public",
        });
    }
    let block = SPECIAL_V6.iter().find(|(block, prefix, _)| {
        let block = AddressBlock {
            address: IpAddr::V6(*block),
            prefix: *prefix,
        };
        block.contains(address)
    });
    block.map(|(_, _, what)| *what)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn blocks(texts: &[&str]) -> Vec<AddressBlock> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn goes(address: &str, allowed: &[&str]) -> bool {
        prohibited(address.parse().unwrap(), &blocks(allowed)).is_none()
    }

    #[test]
    fn public_addresses_are_open() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00::1",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(goes(address, &[]), "{address}");
        }
    }

    #[test]
    fn what_is_not_public_is_closed_in_every_form() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!goes(address, &[]), "{address}");
        }
    }

    #[test]
    fn a_link_opens_what_it_names_up_to_the_last_address_of_a_block() {
        let allowed = ["10.1.2.0/24", "127.0.0.1", "fd00:1::/32"];
        for (address, open) in [
            ("10.1.2.0", true),
            ("10.1.2.255", true),
            ("::ffff:10.1.2.3", true),
            ("10.1.1.255", false),
            ("10.1.3.0", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::1", false),
            ("fd00:1:ffff::1", true),
            ("fd00:2::1", false),
        ] {
            assert_eq!(goes(address, &allowed), open, "{address}");
        }
    }

    #[test]
    fn a_metadata_service_is_opened_by_its_own_address_alone() {
        for block in ["169.254.0.0/16", "0.0.0.0/0", "169.254.169.254/31"] {
            assert!(!goes("169.254.169.254", &[block]), "{block}");
        }
        assert!(goes("169.254.169.254", &["169.254.169.254"]));
        assert!(goes("::ffff:169.254.169.254", &["169.254.169.254/32"]));
        assert!(!goes("64:ff9b::a9fe:a9fe", &["64:ff9b::/96"]));
        assert!(goes("169.254.1.1", &["0.0.0.0/0"]));
    }

    #[test]
    fn a_malformed_block_is_refused_with_what_was_meant() {
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "fd00::/129",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
        let error = "10.1.2.3/24".parse::<AddressBlock>().unwrap_err();
        assert!(error.contains("`10.1.2.0/24`"), "{error}");
        assert_eq!(
            "::ffff:10.0.0.0/104".parse::<AddressBlock>(),
            "10.0.0.0/8".parse()
        );
    }
}
