//! Every sequence of up to five events between two callers and a server, against a model that is obvious and slow.
//!
//! The model knows what a caller's latest session is and which sessions a server still has. Whatever the order of
//! events: a request without an id goes up with its own caller's latest session or with none.

use std::collections::BTreeSet;

use serde_json::json;

use crate::driver::Envoy;
use crate::scenario::{Answer, Call, Exchange, Request};

const LENGTH: u32 = 5;
const CALLERS: usize = 2;

/// What may happen next, to one of the callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// An initialize that opens a session.
    Open,
    /// An initialize that the server refuses.
    FailToOpen,
    /// A call without an id.
    Call,
    /// A DELETE without an id.
    Delete,
    /// The server forgets all sessions of the caller.
    Restart,
}

const EVENTS: [Event; 5] = [
    Event::Open,
    Event::FailToOpen,
    Event::Call,
    Event::Delete,
    Event::Restart,
];

/// What should be true.
#[derive(Default)]
struct Model {
    opened: usize,
    /// By caller: what it opened last, until it ended or was found lost.
    latest: [Option<String>; CALLERS],
    /// What the server knows, with its caller.
    living: BTreeSet<(usize, String)>,
}

/// Every sequence of so many of these events, each of them to one of so many callers.
pub fn every_sequence<E: Copy>(
    events: &[E],
    callers: usize,
    length: u32,
) -> impl Iterator<Item = Vec<(E, usize)>> {
    let choices = events.len() * callers;
    (0..choices.pow(length)).map(move |number| {
        let digit = |place| number / choices.pow(place) % choices;
        let event = |choice| (events[choice / callers], choice % callers);
        (0..length).map(digit).map(event).collect()
    })
}

#[test]
fn no_short_sequence_of_events_puts_a_request_into_a_wrong_session() {
    let mut played = 0;
    for hold in [true, false] {
        let config = json!({
            "hold_request_headers": hold,
            "memory": {"slots": 8},
            "on_session_lost": "forget"
        });
        let fresh = Envoy::new(config.to_string().as_bytes());
        for sequence in every_sequence(&EVENTS, CALLERS, LENGTH) {
            play(&fresh, hold, &sequence);
            played += 1;
        }
    }
    println!("{played} sequences of {LENGTH} events");
}

fn play(fresh: &Envoy, hold: bool, sequence: &[(Event, usize)]) {
    let mut envoy = fresh.copy();
    let mut model = Model::default();
    for (event, caller) in sequence {
        model.step(
            &mut envoy,
            hold,
            *event,
            *caller,
            &format!("{hold} {sequence:?}"),
        );
    }
}

impl Model {
    fn step(&mut self, envoy: &mut Envoy, hold: bool, event: Event, caller: usize, at: &str) {
        let expected = self.latest[caller].clone();
        let is_living = expected
            .clone()
            .is_some_and(|id| self.living.contains(&(caller, id)));
        let (method, status, opened) = match event {
            Event::Restart => {
                self.living.retain(|(other, _)| *other != caller);
                return;
            }
            Event::Open => {
                self.opened += 1;
                let id = format!("s{}", self.opened);
                self.living.insert((caller, id.clone()));
                self.latest[caller] = Some(id.clone());
                ("initialize", 200, Some(id))
            }
            Event::FailToOpen => ("initialize", 500, Some("dead".to_owned())),
            Event::Call | Event::Delete if expected.is_none() => (call(event), 400, None),
            Event::Call | Event::Delete => (call(event), if is_living { 200 } else { 404 }, None),
        };
        let pings = if event == Event::Call && expected.is_some() && !is_living {
            2
        } else {
            0
        };
        // Where headers can't wait, an initialize goes up like any other, and once more if it opens no session.
        let repeats = usize::from(!hold && event == Event::FailToOpen && expected.is_some());
        let seen = envoy.exchange(&exchange(method, caller, status, opened.as_deref(), pings));
        let sent: Vec<&[u8]> = seen.upstream.all("mcp-session-id").collect();
        let initializes = hold && method == "initialize";
        match expected {
            Some(id) if !initializes => assert_eq!(sent, [id.as_bytes()], "{at}"),
            _ => assert!(sent.is_empty(), "{at}: {event:?} went up with {sent:?}"),
        }
        assert_eq!(
            seen.calls.len(),
            pings + repeats,
            "{at}: calls after {event:?}"
        );
        if event == Event::Delete || pings > 0 {
            self.latest[caller] = None;
        }
    }
}

fn call(event: Event) -> &'static str {
    if event == Event::Delete {
        "DELETE"
    } else {
        "tools/list"
    }
}

fn exchange(
    method: &str,
    caller: usize,
    status: u16,
    opened: Option<&str>,
    pings: usize,
) -> Exchange {
    let line = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let is_post = method != "DELETE";
    let mut headers = vec![line("authorization", &format!("Bearer {caller}"))];
    if method == "tools/list" {
        headers.push(line("mcp-protocol-version", "2025-06-18"));
    }
    let answer = |status, headers| Answer {
        status,
        headers,
        ..Answer::default()
    };
    let ping = Call {
        method: "POST".to_owned(),
        rpc: Some(Call::PING.to_owned()),
        headers: Vec::new(),
        answer: answer(404, Vec::new()),
    };
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method})
        .to_string()
        .into_bytes();
    Exchange {
        request: Request {
            method: if is_post { "POST" } else { "DELETE" }.to_owned(),
            path: "/mcp".to_owned(),
            authority: "mcp.test".to_owned(),
            from: [127, 0, 0, 1].into(),
            headers,
            body: is_post.then_some(body),
            cut: None,
        },
        upstream: Vec::new(),
        answer: Some(answer(
            status,
            opened.iter().map(|id| line("mcp-session-id", id)).collect(),
        )),
        client: None,
        calls: vec![ping; pings],
        ids: None,
        outcome: None,
    }
}
