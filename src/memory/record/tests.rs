use super::*;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn session(endpoint: u8, id: &str, used: u64) -> Session {
    let id = SessionId::parse(id.as_bytes()).unwrap();
    Session {
        used: Millis(used),
        latest: false,
        ..Session::new(digest(endpoint), id, Millis(0))
    }
}

fn record(sessions: &[Session]) -> CallerRecord {
    let mut record = CallerRecord::new(digest(0xC));
    sessions.iter().cloned().for_each(|one| record.learn(one));
    record
}

fn ids(record: &CallerRecord) -> Vec<&str> {
    let ids = record.sessions.iter().map(|session| session.id.as_bytes());
    ids.map(|id| core::str::from_utf8(id).unwrap()).collect()
}

#[test]
fn what_is_written_is_what_is_read() {
    let mut sessions = [session(1, "a", 5), session(2, &"x".repeat(4096), u64::MAX)];
    sessions[1].version = ProtocolVersion::parse(b"2025-11-25");
    sessions[1].rewritten = Rewritten::parse(&[b'/'; 1024], &[b'a'; 255]);
    assert!(sessions[1].rewritten.is_some());
    let record = record(&sessions);
    let bytes = record.encode();
    assert_eq!(bytes.len(), record.encoded_len());
    assert_eq!(CallerRecord::decode(&bytes), Some(record));
}

#[test]
fn a_record_without_sessions_takes_no_bytes() {
    assert!(CallerRecord::new(digest(1)).encode().is_empty());
    assert_eq!(CallerRecord::decode(&[]), None);
    assert_eq!(CallerRecord::decode(&[0; 32]), None);
}

#[test]
fn a_cut_or_lengthened_record_reads_as_nothing() {
    let bytes = record(&[session(1, "abc", 5)]).encode();
    for length in 0..bytes.len() {
        assert_eq!(CallerRecord::decode(&bytes[..length]), None, "{length}");
    }
    let longer = [bytes.as_slice(), b"\0"].concat();
    assert_eq!(CallerRecord::decode(&longer), None);
}

#[test]
fn a_record_with_one_byte_changed_is_another_record_or_none() {
    let mut session = session(1, "abc", 5);
    session.version = ProtocolVersion::parse(b"2025-11-25");
    session.rewritten = Rewritten::parse(b"/mcp", b"mcp.test");
    session.host = UpstreamHost::parse(b"10.0.0.1:80");
    session.successor = SessionId::parse(b"def");
    let bytes = record(&[session]).encode();
    for index in 0..bytes.len() {
        for flip in 1..=u8::MAX {
            let mut changed = bytes.clone();
            changed[index] ^= flip;
            if let Some(other) = CallerRecord::decode(&changed) {
                assert_eq!(other.encode(), changed, "byte {index}");
            }
        }
    }
}

#[test]
fn the_session_learned_last_is_the_latest_of_its_endpoint_only() {
    let record = record(&[session(1, "a", 0), session(2, "b", 0), session(1, "c", 0)]);
    let latest = |endpoint| record.latest(&digest(endpoint)).map(|s| s.id.as_bytes());
    assert_eq!(latest(1), Some(b"c".as_slice()));
    assert_eq!(latest(2), Some(b"b".as_slice()));
    assert_eq!(latest(3), None);
}

#[test]
fn a_session_is_found_at_its_own_endpoint_only() {
    let mut record = record(&[session(1, "a", 0), session(2, "b", 0)]);
    let id = SessionId::parse(b"a").unwrap();
    for (endpoint, is_found) in [(1, true), (2, false), (3, false)] {
        let endpoint = digest(endpoint);
        assert_eq!(record.session(&endpoint, &id).is_some(), is_found);
        assert_eq!(record.living(&endpoint, &id).is_some(), is_found);
        assert_eq!(record.session_mut(&endpoint, &id).is_some(), is_found);
    }
}

#[test]
fn an_id_learned_again_is_remembered_once() {
    let record = record(&[session(1, "a", 0), session(1, "b", 0), session(1, "a", 9)]);
    assert_eq!(ids(&record), ["b", "a"]);
    assert_eq!(record.latest(&digest(1)).unwrap().used, Millis(9));
}

#[test]
fn forgetting_an_id_leaves_newer_sessions_and_other_endpoints_alone() {
    let mut record = record(&[session(1, "a", 0), session(2, "a", 0), session(1, "b", 0)]);
    record.forget(&digest(1), &SessionId::parse(b"a").unwrap());
    assert_eq!(ids(&record), ["a", "b"]);
    assert!(record.latest(&digest(1)).is_some() && record.latest(&digest(2)).is_some());
}

#[test]
fn idle_and_old_sessions_expire_to_the_millisecond() {
    let (idle, age) = (Duration::from_millis(10), Duration::from_millis(100));
    let left = |opened, used, now| {
        let mut one = session(1, "a", used);
        one.opened = Millis(opened);
        let mut record = record(&[one]);
        record.expire(Millis(now), idle, age);
        record.sessions.len()
    };
    assert_eq!(left(0, 50, 59), 1);
    assert_eq!(left(0, 50, 60), 0);
    assert_eq!(left(0, 95, 99), 1);
    assert_eq!(left(0, 95, 100), 0);
    assert_eq!(
        left(500, 500, 100),
        1,
        "a clock that was set back expires nothing"
    );
}

/// The session "a", which was lost, and has "b" in its place.
fn succeeded(used: u64) -> CallerRecord {
    let mut record = record(&[session(1, "a", 0)]);
    record.succeed(&lost("a"), session(1, "b", used));
    record
}

/// A session that clients know by its id.
fn lost(name: &str) -> Lost {
    Lost {
        id: id(name),
        known_as: Some(id(name)),
        rewritten: None,
        versionless: false,
        owned: false,
    }
}

fn id(id: &str) -> SessionId {
    SessionId::parse(id.as_bytes()).unwrap()
}

#[test]
fn a_lost_session_is_known_for_as_long_as_the_one_that_took_its_place() {
    let (idle, age) = (Duration::from_millis(10), Duration::from_millis(100));
    let mut record = succeeded(50);
    record.touch(&digest(1), &id("b"), Millis(60));
    assert!(record.sessions.iter().all(|one| one.used == Millis(60)));
    record.session_mut(&digest(1), &id("a")).unwrap().used = Millis(0);
    record.expire(Millis(69), idle, age);
    let living = record.living(&digest(1), &id("a")).unwrap();
    assert_eq!(living.id, id("b"));
    record.expire(Millis(70), idle, age);
    assert_eq!(ids(&record), [""; 0]);
}

#[test]
fn one_that_took_no_known_sessions_place_stands_for_it_and_may_be_shared() {
    let mut record = record(&[session(1, "c", 0)]);
    let rewritten = Rewritten::parse(b"/on", b"other.test");
    let a = Lost {
        rewritten: rewritten.clone(),
        versionless: true,
        ..lost("a")
    };
    record.succeed(&a, session(1, "b", 5));
    let living = record.living(&digest(1), &id("a")).unwrap();
    assert_eq!(living.id, id("b"));
    assert!(living.shared && living.hidden && !living.latest);
    assert!(living.versionless);
    assert_eq!(living.rewritten, rewritten);
    assert_eq!(record.latest(&digest(1)).unwrap().id, id("c"));
}

#[test]
fn an_id_that_a_server_gives_again_leads_to_what_takes_its_place() {
    let mut record = record(&[session(1, "a", 0)]);
    for next in ["a", "b", "a", "a", "c", "d"] {
        let now = record.living(&digest(1), &id("a")).unwrap();
        let gone = Lost {
            id: now.id.clone(),
            ..lost("a")
        };
        record.succeed(&gone, session(1, next, 5));
        let living = record.living(&digest(1), &id("a")).unwrap();
        assert_eq!(living.id, id(next));
        assert_eq!(living.hidden, next != "a");
        assert_eq!(record.sessions.len(), if next == "a" { 1 } else { 2 });
        record.expire(Millis(9), Duration::from_millis(5), Duration::from_secs(1));
    }
}

#[test]
fn one_that_another_was_opened_beside_leads_there_with_all_that_it_stood_for() {
    let mut record = succeeded(0);
    let marked = Session {
        owned: true,
        latest: true,
        ..session(1, "c", 7)
    };
    record.learn(marked.clone());
    let gone = Lost {
        id: id("b"),
        ..lost("a")
    };
    for _ in 0..2 {
        record.follow(&gone, &marked);
        assert_eq!(ids(&record), ["a", "c"], "nobody knows b");
        assert_eq!(record.living(&digest(1), &id("a")), Some(&marked));
        assert_eq!(record.latest(&digest(1)), Some(&marked));
    }
    // Not known any more, but by its client.
    record.follow(&lost("e"), &marked);
    assert_eq!(record.living(&digest(1), &id("e")), Some(&marked));
    let nobodys = Lost {
        known_as: None,
        ..lost("f")
    };
    record.follow(&nobodys, &marked);
    assert_eq!(ids(&record), ["a", "c", "e"]);
}

#[test]
fn at_the_bound_the_least_recently_used_go_and_never_the_newest() {
    let mut full = record(&[session(1, "a", 7), session(1, "b", 3), session(1, "c", 1)]);
    assert_eq!(full.shrink(3, usize::MAX), 0);
    assert_eq!(full.shrink(2, usize::MAX), 1);
    assert_eq!(ids(&full), ["a", "c"]);
    assert_eq!(full.shrink(1, 1), 1);
    assert_eq!(ids(&full), ["c"]);

    let long = "x".repeat(SessionId::MAX_BYTES);
    let mut long = record(&[session(1, "a", 7), session(1, &long, 0)]);
    let bytes = long.encoded_len();
    assert_eq!(long.shrink(64, bytes), 0);
    assert_eq!(long.shrink(64, bytes - 1), 1);
    assert_eq!(long.sessions.len(), 1);
}
