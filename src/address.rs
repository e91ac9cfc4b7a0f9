//! An address to listen on, as written on the command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// `ADDR:PORT`. A host name stands for its first IPv4 address, or its first address if it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "write ADDR:PORT, such as 127.0.0.1:3260 or [::1]:3260";
        let found = text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?;
        let found: Vec<_> = found.collect();
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
        address.copied().map(Self).ok_or_else(|| format!("the name has no address; {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_addresses() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.0.to_string());
        assert_eq!(parse("127.0.0.1:3260").as_deref(), Ok("127.0.0.1:3260"));
        assert_eq!(parse("[::1]:0").as_deref(), Ok("[::1]:0"));
        assert_eq!(parse("localhost:3260").as_deref(), Ok("127.0.0.1:3260"));
        for wrong in ["", "127.0.0.1", "::1", "127.0.0.1:banana", "127.0.0.1:65536"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("write ADDR:PORT"), "{wrong}: {error}");
        }
    }
}
