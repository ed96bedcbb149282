//! The host of a cluster that holds a session, as the load balancer is told of it.
//!
//! Envoy's policy `override_host` sends a request to the host that a header of it names, if the cluster has that host.

use core::fmt;
use core::net::SocketAddr;

use crate::headers::Headers;
use crate::platform::Platform;

/// The bit of `response.flags` that says that no connection to the host came about (Envoy, Access logging, `UF`): nothing
/// of the request has reached it.
const CONNECTION_FAILURE: u64 = 1 << 5;

/// An address of an upstream host, with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamHost(SocketAddr);

impl UpstreamHost {
    /// The longest that one is written down as, in bytes: an IPv6 address in full with a scope and a port.
    pub const MAX_BYTES: usize = 64;

    /// Reads `ip:port`, or `[ip]:port` for IPv6, as Envoy writes it. Other kinds of addresses can't be chosen.
    #[must_use]
    pub fn parse(address: &[u8]) -> Option<Self> {
        let is_bounded = address.len() <= Self::MAX_BYTES;
        let address = core::str::from_utf8(address).ok().filter(|_| is_bounded)?;
        address.parse().ok().map(Self)
    }

    /// The one that the client's request went to; known once the headers of its answer are there.
    #[must_use]
    pub fn of_request(platform: &impl Platform) -> Option<Self> {
        let address = platform.attribute(&["upstream", "address"])?;
        Self::parse(&address)
    }

    /// The one that the cluster says has given this answer, in the header of that name.
    #[must_use]
    pub fn named_in(headers: &Headers, name: &str) -> Option<Self> {
        Self::parse(headers.get(name)?)
    }
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether the client's request was answered by Envoy, as its host could not be connected to.
#[must_use]
pub fn is_unreachable(status: Option<u16>, platform: &impl Platform) -> bool {
    let flags = || {
        let flags = platform.attribute(&["response", "flags"])?;
        Some(u64::from_le_bytes(flags.try_into().ok()?))
    };
    status == Some(503) && flags().is_some_and(|flags| flags & CONNECTION_FAILURE != 0)
}

/// Whether Envoy has given this answer itself, to a request that it can't read, say (Envoy, Attributes,
/// `response.code_details`): it is no word of a server's.
pub fn is_envoys_own(platform: &impl Platform) -> bool {
    let details = platform.attribute(&["response", "code_details"]);
    details.is_some_and(|details| details != b"via_upstream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_a_port_is_a_host() {
        for address in ["10.0.0.1:8080", "[2001:db8::1]:80"] {
            let host = UpstreamHost::parse(address.as_bytes()).unwrap();
            assert_eq!(host.to_string(), address);
        }
        let longest = format!("[{}%4294967295]:65535", ["ffff"; 8].join(":"));
        let host = UpstreamHost::parse(longest.as_bytes()).unwrap();
        assert_eq!(host.to_string(), longest);
        let odd: [&[u8]; 8] = [
            b"",
            b"10.0.0.1",
            b"mcp.internal:8080",
            b"10.0.0.1:8080,10.0.0.2:8080",
            b"10.0.0.1:8080\r\nx: y",
            b"/run/server.sock",
            b"envoy://internal/",
            b"\xff",
        ];
        for address in odd {
            assert_eq!(UpstreamHost::parse(address), None, "{address:?}");
        }
        let too_long = format!("[{}::1]:80", "0".repeat(UpstreamHost::MAX_BYTES));
        assert_eq!(UpstreamHost::parse(too_long.as_bytes()), None);
    }
}
