//! An MCP server that loses all its sessions whenever it dies, and sees to it that no request harms anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::crowd::{marked, message, opened_by};
use super::head::{Headers, Reply};

pub struct Mortal {
    /// What it answers in a session that it does not know.
    unknown: u16,
    holds: Holds,
    pub health: Health,
    /// Whose each session is, of all that there ever were.
    owners: BTreeMap<String, String>,
    living: BTreeSet<String>,
    /// The marks of the calls that ran.
    ran: BTreeSet<String>,
    under_way: BTreeSet<Place>,
    /// The names of the clients whose `initialize`s opened a session in this life.
    pub openings: Vec<String>,
}

/// How many sessions may live at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Many,
    OneOfEachCaller,
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Well,
    /// It takes and gives nothing.
    Silent,
    /// Nobody is there.
    Down,
}

/// A session and a JSON-RPC id: all that such a server tells requests apart by.
type Place = (String, String);

/// A request that has arrived.
#[derive(Debug)]
pub struct Visit {
    pub reply: Reply,
    place: Option<Place>,
}

impl Mortal {
    pub fn new(unknown: u16, holds: Holds) -> Self {
        Self {
            unknown,
            holds,
            health: Health::Well,
            owners: BTreeMap::new(),
            living: BTreeSet::new(),
            ran: BTreeSet::new(),
            under_way: BTreeSet::new(),
            openings: Vec::new(),
        }
    }

    pub fn die(&mut self) {
        self.health = Health::Down;
        self.living.clear();
        self.under_way.clear();
        self.openings.clear();
    }

    pub fn owner(&self, session: &str) -> &str {
        &self.owners[session]
    }

    /// A request arrives, and does what it does, whether anybody gets the answer or not.
    ///
    /// # Panics
    /// If it is in the session of another caller, has run already, would be mixed up with another one, ends a session
    /// that is in use, or opens one too many.
    pub fn visit(&mut self, headers: &Headers, body: &[u8], events: bool) -> Visit {
        let (caller, session) = (
            headers.text("authorization"),
            headers.text("mcp-session-id"),
        );
        let method = headers.text(":method");
        // One without anybody's credentials is the filter's own: for another caller's turn, or for what nobody has used
        // for long, and all are used here.
        let is_turn = caller.is_empty() && method == "DELETE" && self.holds == Holds::One;
        if let Some(owner) = self.owners.get(&session).filter(|_| !is_turn) {
            assert_eq!(*owner, caller, "whose session {session} is");
        }
        let seen = if body.is_empty() {
            Value::Null
        } else {
            message(body)
        };
        let place = (!seen["id"].is_null()).then(|| (session.clone(), seen["id"].to_string()));
        let reply = self.reply(&caller, &session, &method, body, &seen, events);
        if let Some(place) = &place {
            let is_new = self.under_way.insert(place.clone());
            assert!(is_new || session.is_empty(), "{place:?} twice at once");
        }
        Visit { reply, place }
    }

    fn reply(
        &mut self,
        caller: &str,
        session: &str,
        method: &str,
        body: &[u8],
        seen: &Value,
        events: bool,
    ) -> Reply {
        let is_initialize = seen["method"] == "initialize";
        if is_initialize && session.is_empty() {
            let is_rival = |other: &&String| match self.holds {
                Holds::Many => false,
                Holds::OneOfEachCaller => self.owners[*other] == caller,
                Holds::One => true,
            };
            let rivals: Vec<_> = self.living.iter().filter(is_rival).collect();
            assert!(rivals.is_empty(), "it holds one session: {rivals:?}");
            let session = format!("s{}", self.owners.len() + 1);
            let name = &seen["params"]["clientInfo"]["name"];
            self.openings
                .push(name.as_str().expect("a name").to_owned());
            self.living.insert(session.clone());
            self.owners.insert(session.clone(), caller.to_owned());
            return opened_by(body, &session);
        }
        if !self.living.contains(session) {
            return refusal(if session.is_empty() {
                400
            } else {
                self.unknown
            });
        }
        if method == "DELETE" {
            let users = self.under_way.iter().filter(|(used, _)| used == session);
            let users: Vec<_> = users.map(|(_, id)| id).collect();
            assert!(users.is_empty(), "{session} ends amid {users:?}");
            self.living.remove(session);
            return Reply::new(200);
        }
        let reply = match seen["method"].as_str() {
            None => Reply::new(200)
                .header("content-type", "text/event-stream")
                .body(": open\n\n"),
            Some("initialize") => return refusal(400),
            Some("tools/call") => {
                let mark = seen["params"]["mark"].as_str().expect("a mark");
                assert!(self.ran.insert(mark.to_owned()), "{mark} runs twice");
                marked(&seen["id"].to_string(), mark, events)
            }
            Some("ping") => marked(&seen["id"].to_string(), "ping", events),
            Some(_) => Reply::new(202),
        };
        reply.header("mcp-session-id", session)
    }

    /// A session that was to end, or that nobody got to know of, is none any more: a filter can do no more about it.
    pub fn forget(&mut self, session: &str) {
        self.living.remove(session);
    }

    /// The answer has left, or nobody waits for it any more.
    pub fn leave(&mut self, visit: &Visit) {
        if let Some(place) = &visit.place {
            self.under_way.remove(place);
        }
    }
}

/// The name of the client whose `initialize` this is, if it is one.
pub fn opener(body: &[u8]) -> Option<String> {
    let initialize = (!body.is_empty()).then(|| message(body))?;
    let name = initialize["params"]["clientInfo"]["name"].as_str();
    name.map(str::to_owned)
}

fn refusal(status: u16) -> Reply {
    Reply::new(status)
        .header("content-type", "application/json")
        .body(
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#,
        )
}

/// What Envoy answers where no server does.
pub fn unavailable() -> Reply {
    Reply::new(503)
        .header("content-type", "text/plain")
        .body("upstream connect error")
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = &self.reply.headers;
        write!(
            f,
            "{} {}",
            headers.text(":status"),
            headers.text("mcp-session-id")
        )
    }
}
