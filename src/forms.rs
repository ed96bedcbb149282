//! What stands in shared data, byte by byte, for each version of the codec: workers of two builds with one version have to
//! understand each other.

use crate::caller;
use crate::config::Config;
use crate::digest::{Digest, DigestKey, Salt};
use crate::exchange::Plugin;
use crate::headers::Headers;
use crate::memory::{self, CODEC, Rewritten, Session};
use crate::platform::Store;
use crate::reply::Reply;
use crate::roster::{Roster, mailbox_name};
use crate::seat::{Failure, Holder, Knock, Ticket};
use crate::session::{ProtocolVersion, SessionId};
use crate::subrequest::Target;
use crate::testing::FakePlatform;
use crate::time::Millis;
use crate::upstream_host::UpstreamHost;

const SALT: Salt = [7; 32];
const NOW: Millis = Millis(1_790_000_000_000);
const CONFIG: &[u8] = br#"{
    "on_reinitialize": "reuse",
    "on_missing_session": "initialize",
    "memory": {"slots": 5, "bulk_slots": 5}
}"#;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn id(text: &str) -> SessionId {
    SessionId::parse(text.as_bytes()).unwrap()
}

fn ticket(number: u64) -> Ticket {
    Ticket { number, vm: 0xAA }
}

fn knock(number: u64) -> Knock {
    Knock {
        ticket: ticket(number),
        arrived: NOW,
        capabilities: digest(0xC0),
        shares: true,
        is_told: true,
        backoff: core::time::Duration::ZERO,
        since: Millis(0),
    }
}

/// A store in which every kind of record stands, with all that it can hold.
fn filled() -> FakePlatform {
    let store = FakePlatform::default();
    memory::agree_on_salt(&store, || Some(SALT)).unwrap();
    let plugin = Plugin::new(Config::parse(CONFIG).unwrap(), SALT, b"", 0xAA);
    plugin.create_tables(&store).unwrap();
    Roster::sign(&store, 0xAA, NOW).unwrap();
    Roster::sign(&store, 0xBB, NOW).unwrap();
    remember(&plugin, &store);
    sit(&plugin, &store);
    for (whose, nonce) in [(1, 9), (1, 10), (2, 11)] {
        let begun = plugin.flights.begin(&store, &digest(whose), nonce, NOW);
        begun.unwrap();
    }
    let body = br#"{"id":1,"method":"initialize"}"#;
    let kept = plugin.initializes.keep(&store, &digest(1), body, NOW);
    kept.unwrap();
    store
}

fn remember(plugin: &Plugin, store: &FakePlatform) {
    let lost = Session {
        latest: false,
        hidden: true,
        successor: Some(id("b")),
        ..Session::new(digest(0xE0), id("a"), NOW)
    };
    let living = Session {
        version: ProtocolVersion::parse(b"2025-11-25"),
        rewritten: Rewritten::parse(b"/inside", b"inside.test"),
        host: UpstreamHost::parse(b"10.0.0.1:8080"),
        used: Millis(NOW.0 + 1),
        shared: true,
        owned: true,
        versionless: true,
        ..Session::new(digest(0xE0), id("b"), NOW)
    };
    let remembered = plugin.memory.change(store, &digest(1), NOW, |record| {
        record.sessions = vec![lost.clone(), living.clone()];
    });
    remembered.unwrap();
    plugin.memory.sweep(store, NOW).unwrap();
}

/// One seat for each state that it can be in: taken, opening with a line, closing, and free after a failure.
fn sit(plugin: &Plugin, store: &FakePlatform) {
    let seats = &plugin.seats;
    let holder = Holder {
        caller: digest(1),
        endpoint: digest(0xE0),
        target: Target {
            cluster: "mcp".to_owned(),
            path: "/mcp".to_owned(),
            authority: "mcp.test".to_owned(),
            host: UpstreamHost::parse(b"[::1]:8080"),
        },
        session: id("b"),
        capabilities: digest(0xC0),
        opening: 1,
        opened: NOW,
        used: Millis(NOW.0 + 1),
    };
    let open = |key, number| {
        seats
            .knock(store, &digest(key), &knock(number), NOW)
            .unwrap()
    };
    for key in [1, 2, 3, 4] {
        open(key, 1);
    }
    for key in [1, 3] {
        let taken = seats.take(store, &digest(key), ticket(1), &holder, Some(br#"{"a":1}"#));
        assert!(taken.unwrap().is_done);
    }
    let alone = Knock {
        shares: false,
        ..knock(2)
    };
    seats.knock(store, &digest(2), &alone, NOW).unwrap();
    let later = Millis(NOW.0 + 60_000);
    Roster::sign(store, 0xAA, later).unwrap();
    seats.knock(store, &digest(3), &alone, later).unwrap();
    let words = Reply::error(503, b"1", "no").encode();
    let failure = Failure {
        at: NOW,
        capabilities: digest(0xC0),
    };
    let failed = seats.fail(store, &digest(4), ticket(1), Some(&words), failure);
    assert!(failed.unwrap().is_done);
}

/// What stands for callers and endpoints: where a record is found depends on it.
fn digests() -> Vec<(&'static str, Digest)> {
    let key = DigestKey::new(&SALT, b"secret");
    let platform = FakePlatform::default();
    let caller = |config: &str, headers: &[(&str, &str)]| {
        let config = Config::parse(config.as_bytes()).unwrap().caller;
        let headers = Headers::new(headers.iter().copied());
        caller::identify(&config, &headers, &platform, &key).unwrap()
    };
    platform.set_attribute("source.address", "10.0.0.1:1");
    let address = caller("", &[]);
    platform.set_attribute("connection.uri_san_peer_certificate", "spiffe://a");
    let certificate = caller("", &[]);
    let headers = caller("", &[("authorization", "a"), ("x-api-key", "b")]);
    platform.set_attribute("metadata.filter_metadata.jwt.sub", "ann");
    let metadata = caller(r#"{"caller": {"metadata": ["jwt", "sub"]}}"#, &[]);
    vec![
        ("address", address),
        ("certificate", certificate),
        ("headers", headers),
        ("metadata", metadata),
        (
            "endpoint",
            key.digest("endpoint", [&b"mcp"[..], b"/mcp", b"mcp.test"]),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn forms() -> String {
    let stored = filled().dump().into_iter();
    // Empty slots say no more than that their table is there.
    let stored = stored.filter(|(key, value)| !value.is_empty() || key.ends_with("/created"));
    let stored = stored.map(|(key, value)| format!("{key} {}\n", hex(&value)));
    let mailbox = format!("queue {} of digests\n", mailbox_name(0));
    let digests = digests().into_iter();
    let digests =
        digests.map(|(what, digest)| format!("digest of {what} {}\n", hex(digest.as_bytes())));
    stored.chain([mailbox]).chain(digests).collect()
}

#[test]
fn what_stands_in_shared_data_changes_with_the_codec_only() {
    let path = format!("{}/src/forms/{CODEC}.txt", env!("CARGO_MANIFEST_DIR"));
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let forms = forms();
    assert!(
        forms == known,
        "not as in {path}: a build with another form needs another memory::CODEC, and a file of its own:\n{forms}"
    );
}

#[test]
fn every_key_and_every_queue_names_the_codec() {
    let own = format!("mcp_session/{CODEC}/");
    for (key, _) in filled().dump() {
        assert!(key.starts_with(&own), "{key}");
    }
    assert!(mailbox_name(0).starts_with(&own));
}

#[test]
fn what_another_codec_left_is_neither_read_nor_written() {
    let store = filled();
    // The same bytes under the keys of the codec before, and odd ones under those of the next.
    let others = [(CODEC - 1, None), (CODEC + 1, Some(vec![0xFF; 200]))];
    let theirs: Vec<_> = others
        .into_iter()
        .flat_map(|(codec, odd)| {
            let own = format!("mcp_session/{CODEC}/");
            let theirs = format!("mcp_session/{codec}/");
            let dump = store.dump().into_iter();
            dump.map(move |(key, value)| {
                (key.replacen(&own, &theirs, 1), odd.clone().unwrap_or(value))
            })
        })
        .collect();
    let here = FakePlatform::default();
    for (key, value) in &theirs {
        here.write(key, value, None).unwrap();
    }
    let other_salt = memory::agree_on_salt(&here, || Some([9; 32])).unwrap();
    assert_eq!(other_salt, Some([9; 32]), "each codec has its own salt");
    let plugin = Plugin::new(Config::parse(CONFIG).unwrap(), SALT, b"", 0xAA);
    plugin.create_tables(&here).unwrap();
    assert_eq!(plugin.memory.recall(&here, &digest(1), NOW), Ok(None));
    assert_eq!(plugin.initializes.find(&here, &digest(1)), Ok(None));
    assert_eq!(
        Roster::sign(&here, 0xCC, NOW),
        Ok(Some(0)),
        "nobody is there"
    );
    remember(&plugin, &here);
    sit(&plugin, &here);
    let after = here.dump();
    for stored in &theirs {
        assert!(after.contains(stored), "{} was written", stored.0);
    }
}
