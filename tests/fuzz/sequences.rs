//! Long sequences of events, for several callers at several endpoints, against models that are obvious and slow.
//!
//! The first byte of an input chooses the configuration; then two bytes are an event each: what happens, and to whom.
//! `tests/core` plays every short sequence; here long ones are searched for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mcp_session_filter::subrequest::Subrequest;
use serde_json::Value;

use crate::driver::{Envoy, Seen};
use crate::shared_model;
use crate::traffic::{self, Sent, VERSION};

const CALLERS: usize = 3;
const ENDPOINTS: [&str; 2] = ["/mcp", "/other/mcp"];
/// So many events, and each caller keeps all of its sessions.
const EVENTS: usize = 100;

/// Checks a sequence.
pub fn check(data: &[u8]) {
    let Some((config, events)) = data.split_first() else {
        return;
    };
    let events = events.as_chunks::<2>().0.iter().take(EVENTS);
    let is_held = config & 1 != 0;
    if config & 4 != 0 {
        let mut model = shared_model::Model::default();
        let config = shared_model::config(is_held);
        let mut envoy = Envoy::without_tables(config.to_string().as_bytes());
        for [event, who] in events {
            let event = shared_model::EVENTS[usize::from(*event) % shared_model::EVENTS.len()];
            let caller = usize::from(*who) % shared_model::CALLERS;
            model.step(&mut envoy, event, caller, "a sequence");
        }
        return;
    }
    let mut play = Play::new(is_held, config & 2 != 0);
    for [event, who] in events {
        let who = usize::from(*who);
        let place = (who % CALLERS, who / 4 % ENDPOINTS.len());
        play.step(*event, place, who / 8);
        // A recovery that failed is not tried again at once.
        play.envoy.platform.advance(2_000);
    }
}

/// A caller at an endpoint.
type Place = (usize, usize);

/// The filter, and what should be true.
struct Play {
    envoy: Envoy,
    is_held: bool,
    recovers: bool,
    opened: usize,
    /// All ids that clients have heard of.
    given: Vec<String>,
    /// What the servers know, by endpoint.
    living: BTreeSet<(usize, String)>,
    remembered: BTreeMap<Place, Remembered>,
}

/// What the filter should know of a caller at an endpoint.
#[derive(Default)]
struct Remembered {
    /// From an id that a client has heard of to the session that it leads to.
    ids: BTreeMap<String, String>,
    /// The session that requests without an id belong to.
    latest: Option<String>,
    /// The sessions in which requests of several clients may have met.
    shared: BTreeSet<String>,
}

impl Remembered {
    fn forget(&mut self, session: &str) {
        self.ids.retain(|_, other| other != session);
        self.latest.take_if(|latest| latest == session);
        self.shared.remove(session);
    }

    fn replace(&mut self, lost: &str, new: &str) {
        for session in self.ids.values_mut().filter(|other| *other == lost) {
            new.clone_into(session);
        }
        if self.latest.as_deref() == Some(lost) {
            self.latest = Some(new.to_owned());
        }
        if self.shared.remove(lost) {
            self.shared.insert(new.to_owned());
        }
    }
}

/// What is expected of a request of the filter's own: its method, the session that it is in, and its answer.
struct Expected {
    rpc: &'static str,
    session: Option<String>,
    status: u16,
    opens: Option<String>,
}

impl Expected {
    fn new(rpc: &'static str, session: Option<&str>, status: u16) -> Self {
        Self {
            rpc,
            session: session.map(str::to_owned),
            status,
            opens: None,
        }
    }
}

impl Play {
    fn new(is_held: bool, recovers: bool) -> Self {
        let lost = if recovers { "recover" } else { "forget" };
        let config = format!(
            r#"{{
                "paths": ["/mcp", "/other/mcp"],
                "hold_request_headers": {is_held},
                "on_session_lost": "{lost}",
                "memory": {{"slots": 64, "per_caller": 1024, "bulk_slots": 4096}}
            }}"#
        );
        Self {
            envoy: Envoy::without_tables(config.as_bytes()),
            is_held,
            recovers,
            opened: 0,
            given: Vec::new(),
            living: BTreeSet::new(),
            remembered: BTreeMap::new(),
        }
    }

    fn step(&mut self, event: u8, place: Place, pick: usize) {
        match event % 12 {
            0 | 1 => self.open(place),
            2 => self.fail_to_open(place),
            3 if self.is_held => self.open_none(place),
            3..=5 => self.request("POST", place, None, pick),
            6 => self.request("GET", place, None, pick),
            7 => self.request("DELETE", place, None, pick),
            8 | 9 => self.request_with_id("POST", place, pick),
            10 => self.request_with_id(["DELETE", "GET"][pick % 2], place, pick / 2),
            _ => match pick % 4 {
                // A server forgets some of its sessions, or all.
                0 => self.living.retain(|(endpoint, _)| *endpoint != place.1),
                1 | 2 => {
                    if let Some(id) = self.given.get(pick % self.given.len().max(1)) {
                        self.living.remove(&(place.1, id.clone()));
                    }
                }
                // All sessions have been idle for too long.
                _ => {
                    self.envoy.advance(Duration::from_secs(30 * 60), &[]);
                    self.remembered.clear();
                }
            },
        }
    }

    fn remembered(&mut self, place: Place) -> &mut Remembered {
        self.remembered.entry(place).or_default()
    }

    fn new_session(&mut self, endpoint: usize) -> String {
        self.opened += 1;
        let id = format!("s{}", self.opened);
        self.living.insert((endpoint, id.clone()));
        id
    }

    /// An initialize has the id of an older session only where headers can't wait for its method.
    fn initialize(
        &mut self,
        place: Place,
        status: u16,
        opens: Option<&str>,
        calls: &[Expected],
    ) -> Seen {
        let older = self.remembered(place).latest.clone();
        let older = older.filter(|_| !self.is_held);
        let mut sent = sent("POST", place, None);
        sent.rpc = "initialize";
        sent.answer = traffic::answer(status, opens);
        self.send(sent, older.as_deref(), calls)
    }

    fn open(&mut self, place: Place) {
        let id = self.new_session(place.1);
        let seen = self.initialize(place, 200, Some(&id), &[]);
        assert_eq!(seen.outcome.as_deref(), Some("learned"));
        self.given.push(id.clone());
        let remembered = self.remembered(place);
        remembered.ids.insert(id.clone(), id.clone());
        remembered.latest = Some(id);
    }

    fn fail_to_open(&mut self, place: Place) {
        let again = self.remembered(place).latest.is_some() && !self.is_held;
        let calls = again.then(|| Expected::new("initialize", None, 500));
        let calls: Vec<_> = calls.into_iter().collect();
        let seen = self.initialize(place, 500, None, &calls);
        assert_eq!(seen.outcome.as_deref(), Some("passed_initialize"));
    }

    /// The server has no sessions: an older one is not what its client means from now on.
    fn open_none(&mut self, place: Place) {
        self.initialize(place, 200, None, &[]);
        self.remembered(place).latest = None;
    }

    fn request_with_id(&mut self, method: &'static str, place: Place, pick: usize) {
        let id = self.given.get(pick % self.given.len().max(1)).cloned();
        self.request(method, place, id.as_deref(), pick);
    }

    /// Anything but an initialize: it goes up in its own caller's session, and comes back well if there is a way.
    fn request(&mut self, method: &'static str, place: Place, own: Option<&str>, pick: usize) {
        let remembered = self.remembered(place);
        let session = match own {
            Some(own) => remembered.ids.get(own).cloned(),
            None => remembered.latest.clone(),
        };
        if let (None, Some(session)) = (own, &session) {
            remembered.shared.insert(session.clone());
        }
        let is_shared = session
            .as_ref()
            .is_some_and(|it| remembered.shared.contains(it));
        let goes_up_in = session.clone().or(own.map(str::to_owned));
        let lives = |id: &String| self.living.contains(&(place.1, id.clone()));
        let status = match &goes_up_in {
            None => 400,
            Some(id) if lives(id) => 200,
            Some(_) => 404,
        };
        let is_lost = session.is_some() && status == 404;

        let mut calls = Vec::new();
        let mut is_recovered = false;
        if let Some(lost) = session.as_deref().filter(|_| is_lost && method != "DELETE") {
            calls.extend([(); 2].map(|()| Expected::new("ping", Some(lost), 404)));
            if self.recovers {
                is_recovered = pick % 4 != 3;
                self.recover(method, place, lost, is_recovered, &mut calls);
            } else {
                self.remembered(place).forget(lost);
            }
        }
        if let Some(ended) = session.as_deref().filter(|_| method == "DELETE") {
            self.remembered(place).forget(ended);
            self.living.remove(&(place.1, ended.to_owned()));
        }

        let mut sent = sent(method, place, own);
        sent.answer = traffic::answer(status, None);
        let seen = self.send(sent, goes_up_in.as_deref(), &calls);
        assert_eq!(seen.reply.is_some(), is_recovered, "{method}: who answers?");
        if let Some(reply) = &seen.reply {
            assert_eq!(reply.status, 200);
        }
        if method == "POST" {
            let body = seen.body.windows(6).any(|bytes| bytes == b"mcpsf~");
            assert_eq!(body, is_shared, "ids are the filter's in shared sessions");
        }
    }

    /// A session is opened in the place of the lost one, and the request goes up in that.
    fn recover(
        &mut self,
        method: &str,
        place: Place,
        lost: &str,
        works: bool,
        calls: &mut Vec<Expected>,
    ) {
        let status = if works { 200 } else { 500 };
        let mut initialize = Expected::new("initialize", None, status);
        if works {
            let new = self.new_session(place.1);
            initialize.opens = Some(new.clone());
            calls.push(initialize);
            calls.push(Expected::new("notifications/initialized", Some(&new), 202));
            if method == "POST" {
                calls.push(Expected::new("tools/list", Some(&new), 200));
            }
            self.remembered(place).replace(lost, &new);
        } else {
            calls.push(initialize);
        }
    }

    /// Sends a request, which has to go up in this session, with these requests of the filter's own.
    fn send(&mut self, mut sent: Sent, session: Option<&str>, calls: &[Expected]) -> Seen {
        sent.calls = calls
            .iter()
            .map(|call| {
                traffic::call(
                    call.rpc,
                    traffic::answer(call.status, call.opens.as_deref()),
                )
            })
            .collect();
        let seen = traffic::send(&mut self.envoy, &sent);
        let went_up: Vec<_> = seen.upstream.all("mcp-session-id").collect();
        let expected: Vec<_> = session.iter().map(|id| id.as_bytes()).collect();
        assert_eq!(
            went_up, expected,
            "the session of a {} {}",
            sent.method, sent.rpc
        );
        let made: Vec<_> = seen.calls.iter().map(shown).collect();
        let expected: Vec<_> = calls
            .iter()
            .map(|call| (call.rpc.to_owned(), call.session.clone()))
            .collect();
        assert_eq!(made, expected, "the filter's own requests");
        let scripted = sent.answer.body.unwrap_or_default();
        let came = seen
            .reply
            .as_ref()
            .map_or(&seen.answer_body, |reply| &reply.body);
        let is_stream = sent.method == "GET" && seen.reply.is_some();
        assert!(*came == scripted || is_stream, "the client's own answer");
        seen
    }
}

fn sent(method: &'static str, (caller, endpoint): Place, own: Option<&str>) -> Sent {
    let mut sent = Sent {
        path: ENDPOINTS[endpoint],
        ..Sent::call(method, &caller.to_string())
    };
    let version = own.map(|_| traffic::line("mcp-protocol-version", VERSION));
    sent.headers.extend(version);
    sent.headers
        .extend(own.map(|id| traffic::line("mcp-session-id", id)));
    sent
}

/// The method of a request of the filter's own, and the session that it is in.
fn shown(call: &Subrequest) -> (String, Option<String>) {
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let rpc = body["method"].as_str().unwrap_or_default().to_owned();
    let mut headers = call.headers.iter();
    let session = headers.find(|(name, _)| name == "mcp-session-id");
    (rpc, session.map(|(_, id)| id.clone()))
}
