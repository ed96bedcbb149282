//! A server of many callers that trusts nobody: it writes down for whom each session was opened, and says of each answer
//! whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use super::crowd::message;
use super::dice::Dice;
use super::head::{Headers, Reply};

/// Names a request's caller to the server; the filter knows nothing of it.
pub const WHO: &str = "x-who";

/// A caller at an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    pub caller: String,
    pub endpoint: String,
}

#[derive(Default)]
pub struct Ledger {
    /// Whose each session is, of all that there ever were.
    owners: BTreeMap<String, Party>,
    living: BTreeSet<String>,
    /// Sessions that a client named though they are another's: there, no filter is to blame.
    strays: BTreeSet<(Party, String)>,
    /// A session and a JSON-RPC id: all that a server tells requests under way apart by.
    under_way: BTreeMap<(String, String), usize>,
    /// How often two of them were the same.
    pub equals: usize,
    /// How many requests were looked at.
    pub visits: usize,
}

impl Party {
    pub fn of(headers: &Headers) -> Self {
        Self {
            caller: headers.text(WHO),
            endpoint: headers.text(":authority") + &headers.text(":path"),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.caller, self.endpoint)
    }
}

impl Ledger {
    /// A session of somebody else, if there is any.
    pub fn anothers(&self, party: &Party, dice: &mut Dice) -> Option<String> {
        let others = self.owners.iter().filter(|(_, owner)| *owner != party);
        let others: Vec<_> = others.map(|(session, _)| session).collect();
        let is_any = !others.is_empty();
        is_any.then(|| others[dice.below(others.len())].clone())
    }

    /// This client is about to name a session that is not its own.
    pub fn expect_stray(&mut self, party: &Party, session: &str) {
        self.strays.insert((party.clone(), session.to_owned()));
    }

    /// Whether a client may be told of this session.
    pub fn belongs(&self, session: &str, party: &Party) -> bool {
        self.owners.get(session) == Some(party)
            || self.strays.contains(&(party.clone(), session.to_owned()))
    }

    /// All sessions are lost, or one of them.
    pub fn lose(&mut self, dice: &mut Dice) {
        if dice.once_in(2) {
            return self.living.clear();
        }
        let nth = dice.below(self.living.len().max(1));
        if let Some(session) = self.living.iter().nth(nth).cloned() {
            self.living.remove(&session);
        }
    }

    /// A request arrives.
    ///
    /// # Panics
    /// If it is in a session of somebody else, or opens one with what another caller's client said.
    pub fn visit(&mut self, headers: &Headers, body: &[u8], events: bool) -> Reply {
        self.visits += 1;
        let (party, session) = (Party::of(headers), headers.text("mcp-session-id"));
        let method = headers.text(":method");
        // The filter ends what nobody needs any more, and keeps no credentials for that.
        let is_last = party.caller.is_empty() && method == "DELETE";
        if !session.is_empty() && !is_last {
            let owner = self.owners.get(&session);
            let is_own = self.belongs(&session, &party);
            assert!(is_own, "{party} is in session {session} of {owner:?}");
        }
        let seen = if body.is_empty() {
            Value::Null
        } else {
            message(body)
        };
        let is_open = self.living.contains(&session);
        let reply = match seen["method"].as_str() {
            Some("initialize") => self.open(&party, &session, &seen),
            _ if !is_open => return refusal(if session.is_empty() { 400 } else { 404 }),
            _ if method == "DELETE" => {
                self.living.remove(&session);
                return Reply::new(200);
            }
            None => Reply::new(405),
            Some(_) if seen["id"].is_null() => Reply::new(202),
            Some(_) => {
                let mark = &seen["params"]["mark"];
                let result = json!({"mark": mark, "session": session, "caller": party.caller});
                let answer = json!({"jsonrpc": "2.0", "id": seen["id"], "result": result});
                told(&answer.to_string(), events).header("mcp-session-id", &session)
            }
        };
        // What a stranger sends there under which id is its own affair.
        if self.owners.get(&session) == Some(&party) {
            self.enter(&session, &seen["id"]);
        }
        reply
    }

    fn open(&mut self, party: &Party, old: &str, seen: &Value) -> Reply {
        if !old.is_empty() {
            return refusal(400);
        }
        let name = seen["params"]["clientInfo"]["name"]
            .as_str()
            .unwrap_or_default();
        let is_own = name == party.caller || name == env!("CARGO_PKG_NAME");
        assert!(is_own, "{party} opens a session as {name}");
        let session = format!("s{}", self.owners.len() + 1);
        self.owners.insert(session.clone(), party.clone());
        self.living.insert(session.clone());
        let result = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": session},
        });
        let answer = json!({"jsonrpc": "2.0", "id": seen["id"], "result": result});
        told(&answer.to_string(), false).header("mcp-session-id", session)
    }

    fn enter(&mut self, session: &str, id: &Value) {
        if id.is_null() {
            return;
        }
        let place = (session.to_owned(), id.to_string());
        let before = self.under_way.entry(place).or_default();
        self.equals += usize::from(*before > 0);
        *before += 1;
    }

    /// The answer to this request has left, or nobody waits for it any more.
    pub fn leave(&mut self, headers: &Headers, body: &[u8]) {
        let id = if body.is_empty() {
            Value::Null
        } else {
            message(body)["id"].clone()
        };
        let place = (headers.text("mcp-session-id"), id.to_string());
        if let Some(count) = self.under_way.get_mut(&place) {
            *count = count.saturating_sub(1);
        }
    }
}

fn told(answer: &str, events: bool) -> Reply {
    let (media_type, body) = if events {
        ("text/event-stream", format!(": ping\n\ndata: {answer}\n\n"))
    } else {
        ("application/json", answer.to_owned())
    };
    Reply::new(200)
        .header("content-type", media_type)
        .body(body)
}

fn refusal(status: u16) -> Reply {
    Reply::new(status)
        .header("content-type", "application/json")
        .body(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no session"}}"#)
}
