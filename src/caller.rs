//! Who sent a request: a digest of the first thing that tells one caller from another.

use core::iter;
use core::net::{IpAddr, SocketAddr};

use crate::config::{Anonymous, CallerConfig};
use crate::digest::{Digest, DigestKey};
use crate::headers::Headers;
use crate::platform::Platform;

/// The digest of the request's caller, or nothing if it has none that may be told from others.
///
/// The kind of evidence, and the names of the headers, are part of the digest: an API key never equals a subject.
pub fn identify(
    config: &CallerConfig,
    headers: &Headers,
    platform: &impl Platform,
    key: &DigestKey,
) -> Option<Digest> {
    by_metadata(config, platform, key)
        .or_else(|| by_headers(config, headers, key))
        .or_else(|| by_certificate(platform, key))
        .or_else(|| by_address(config, platform, key))
}

/// Dynamic metadata that an earlier filter wrote, such as `jwt_authn` (Envoy, Attributes, `metadata`).
fn by_metadata(config: &CallerConfig, platform: &impl Platform, key: &DigestKey) -> Option<Digest> {
    let names = config.metadata.as_ref()?;
    let path: Vec<&str> = ["metadata", "filter_metadata"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let value = platform.attribute(&path)?;
    let parts = names.iter().map(String::as_bytes).chain([value.as_slice()]);
    Some(key.digest("metadata", parts))
}

/// All configured headers that are present, with all their lines; empty values say nothing.
fn by_headers(config: &CallerConfig, headers: &Headers, key: &DigestKey) -> Option<Digest> {
    let mut present = config.headers.iter().flat_map(|name| {
        let values = headers.all(name).filter(|value| !value.is_empty());
        values.flat_map(move |value| [name.as_bytes(), value])
    });
    let first = present.next()?;
    Some(key.digest("headers", iter::once(first).chain(present)))
}

/// The URI SAN of the downstream peer's certificate (Envoy, Attributes, `connection`).
fn by_certificate(platform: &impl Platform, key: &DigestKey) -> Option<Digest> {
    let san = platform.attribute(&["connection", "uri_san_peer_certificate"])?;
    Some(key.digest("certificate", [san.as_slice()]))
}

/// The peer's address without its port: Python clients open a connection for nearly every request.
fn by_address(config: &CallerConfig, platform: &impl Platform, key: &DigestKey) -> Option<Digest> {
    match config.anonymous {
        Anonymous::Refuse => None,
        Anonymous::ByAddress => {
            let source = platform.attribute(&["source", "address"])?;
            let source: SocketAddr = core::str::from_utf8(&source).ok()?.parse().ok()?;
            Some(match source.ip() {
                IpAddr::V4(ip) => key.digest("address", [ip.octets().as_slice()]),
                IpAddr::V6(ip) => key.digest("address", [ip.octets().as_slice()]),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::FakePlatform;

    const SAN: &str = "connection.uri_san_peer_certificate";
    const SUBJECT: &str = "metadata.filter_metadata.jwt.payload.sub";

    fn caller(
        config: &str,
        headers: &[(&str, &str)],
        attributes: &[(&str, &str)],
    ) -> Option<Digest> {
        let config = Config::parse(config.as_bytes()).unwrap().caller;
        let platform = FakePlatform::default();
        for (path, value) in attributes {
            platform.set_attribute(path, value);
        }
        let key = DigestKey::new(&[0; 32], b"");
        identify(
            &config,
            &Headers::new(headers.iter().copied()),
            &platform,
            &key,
        )
    }

    #[test]
    fn each_source_tells_its_callers_apart_and_stays_the_same_for_one() {
        let jwt = r#"{"caller": {"metadata": ["jwt", "payload", "sub"]}}"#;
        let distinct = [
            caller(jwt, &[], &[(SUBJECT, "ann")]),
            caller(jwt, &[], &[(SUBJECT, "bob")]),
            caller("", &[("authorization", "ann")], &[]),
            caller("", &[("authorization", "bob")], &[]),
            caller("", &[("x-api-key", "ann")], &[]),
            caller("", &[("authorization", "ann"), ("x-api-key", "k")], &[]),
            caller("", &[("authorization", "ann"), ("authorization", "k")], &[]),
            caller("", &[], &[(SAN, "ann")]),
            caller("", &[], &[("source.address", "10.0.0.1:1")]),
            caller("", &[], &[("source.address", "10.0.0.2:1")]),
            caller("", &[], &[("source.address", "[::ffff:10.0.0.1]:1")]),
        ];
        for (i, one) in distinct.iter().enumerate() {
            assert!(one.is_some(), "{i}");
            for (j, other) in distinct.iter().enumerate() {
                assert_eq!(one == other, i == j, "{i} and {j}");
            }
        }
    }

    #[test]
    fn the_first_source_that_is_there_decides() {
        let jwt = r#"{"caller": {"metadata": ["jwt", "payload", "sub"]}}"#;
        let all = [
            (SUBJECT, "ann"),
            (SAN, "spiffe://a"),
            ("source.address", "10.0.0.1:1"),
        ];
        let token = [("authorization", "t")];
        assert_eq!(caller(jwt, &token, &all), caller(jwt, &[], &all[..1]));
        assert_eq!(caller("", &token, &all), caller("", &token, &[]));
        assert_eq!(
            caller("", &[("authorization", "")], &all),
            caller("", &[], &all[1..2])
        );
        assert_eq!(caller(jwt, &[], &all[2..]), caller("", &[], &all[2..]));
    }

    #[test]
    fn a_port_does_not_tell_callers_apart() {
        let port = |port| caller("", &[], &[("source.address", port)]);
        assert_eq!(port("10.0.0.1:1"), port("10.0.0.1:65535"));
        assert_eq!(port("[fe80::1]:1"), port("[fe80::1]:2"));
    }

    #[test]
    fn without_evidence_there_is_no_caller() {
        let refuse = r#"{"caller": {"anonymous": "refuse"}}"#;
        assert_eq!(
            caller(refuse, &[], &[("source.address", "10.0.0.1:1")]),
            None
        );
        for odd in ["", "10.0.0.1", "/run/envoy.sock", "\u{fffd}"] {
            assert_eq!(caller("", &[], &[("source.address", odd)]), None, "{odd}");
        }
    }
}
