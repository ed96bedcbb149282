//! Sixteen clients of seven callers: what each of them sends next, and what it must be answered.

use std::fmt;

use super::crowd::{head, id_of, initialize_of, message};
use super::dice::Dice;
use super::exchange::Exchange;
use super::head::Head;
use super::mortal::Mortal;

pub const CLIENTS: usize = 16;
const READY: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Clients in one session.
#[derive(Default)]
pub struct Group {
    /// Its id, once one of them has opened it.
    pub session: Option<String>,
    /// Whether the server has been told that it is.
    pub is_ready: bool,
}

pub struct Client {
    pub number: usize,
    pub caller: &'static str,
    pub group: usize,
    /// Whether it sends its session's id.
    echoes: bool,
    /// Whether it opens its group's session.
    leads: bool,
    /// Whether it is alone in its group.
    is_alone: bool,
}

/// Two groups of four that share a session; four clients of one caller, and four of different ones, with a session each.
pub fn clients() -> Vec<Client> {
    let client = |number| {
        let (caller, group, echoes) = match number {
            0..4 => ("a", 0, false),
            4..8 => ("b", 1, number < 6),
            8..12 => ("c", number - 6, true),
            12 => ("d", 6, true),
            13 => ("e", 7, true),
            14 => ("f", 8, false),
            _ => ("g", 9, false),
        };
        Client {
            number,
            caller,
            group,
            echoes,
            leads: number >= 7 || number == 3,
            is_alone: group > 1,
        }
    };
    (0..CLIENTS).map(client).collect()
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Open,
    Ready,
    Call,
    Listen,
    End,
}

/// What a client sends.
#[derive(Debug)]
pub struct Request {
    pub kind: Kind,
    pub head: Head,
    pub body: String,
    id: String,
    mark: String,
    /// The id of the session, if the client sends it.
    session: Option<String>,
}

impl Client {
    /// The next request, whose number nobody else has; nothing as long as it waits for a session. All clients choose
    /// from the same ids, and from others after each change of them.
    pub fn next(
        &self,
        group: &Group,
        number: usize,
        changes: usize,
        dice: &mut Dice,
    ) -> Option<Request> {
        let kind = match group {
            Group { session: None, .. } => self.leads.then_some(Kind::Open)?,
            Group {
                is_ready: false, ..
            } => self.leads.then_some(Kind::Ready)?,
            _ if self.is_alone && dice.once_in(60) => Kind::End,
            _ if dice.once_in(30) => Kind::Listen,
            _ => Kind::Call,
        };
        let mark = format!("{}/{number}", self.number);
        let id = 2 * changes + dice.below(2);
        let id = if dice.once_in(3) {
            format!("\"{id}\"")
        } else {
            id.to_string()
        };
        let (method, body) = match kind {
            Kind::Open => ("POST", initialize_of(&mark, &id)),
            Kind::Ready => ("POST", READY.to_owned()),
            Kind::Call => (
                "POST",
                format!(
                    r#"{{"method":"tools/call","params":{{"mark":"{mark}"}},"jsonrpc":"2.0","id":{id}}}"#
                ),
            ),
            Kind::Listen => ("GET", String::new()),
            Kind::End => ("DELETE", String::new()),
        };
        let accept = if kind == Kind::Listen {
            "text/event-stream"
        } else {
            "application/json, text/event-stream"
        };
        let mut head = head(self.caller, method).header("accept", accept);
        if kind != Kind::Open {
            head = head.header("mcp-protocol-version", "2025-06-18");
        }
        if !body.is_empty() && dice.once_in(2) {
            head = head.header("content-length", body.len().to_string());
        }
        let session = group
            .session
            .clone()
            .filter(|_| self.echoes && kind != Kind::Open);
        if let Some(session) = &session {
            head = head.header("mcp-session-id", session);
        }
        Some(Request {
            kind,
            head,
            body,
            id,
            mark,
            session,
        })
    }
}

impl Request {
    /// Whether the answer is what the client asked for.
    ///
    /// # Panics
    /// If it is anybody else's.
    pub fn succeeded(&self, exchange: &Exchange, caller: &str, server: &Mortal) -> bool {
        let client = exchange.at_client();
        let headers = client.headers.expect("an answer");
        let status = headers.text(":status");
        let session = headers.text("mcp-session-id");
        if let Some(own) = self.session.as_ref().filter(|_| !session.is_empty()) {
            assert_eq!(session, *own, "the session that {} is told", self.mark);
        } else if !session.is_empty() {
            let owner = server.owner(&session).trim_start_matches("Bearer ");
            assert_eq!(owner, caller, "whose session {} is told", self.mark);
        }
        let text = String::from_utf8(client.body).unwrap();
        match (self.kind, status.as_str()) {
            (Kind::Open, "200") => {
                let answer = message(text.trim_start_matches("data: ").trim_end().as_bytes());
                assert_eq!(answer["id"].to_string(), self.id, "the id of {}", self.mark);
                assert_ne!(session, "", "{} opens a session", self.mark);
                true
            }
            (Kind::Call, "200") => {
                assert_eq!(id_of(&text, &self.mark), self.id, "the id of {}", self.mark);
                true
            }
            // What was lost has ended as well.
            (Kind::Ready, "202")
            | (Kind::Listen, "200" | "405")
            | (Kind::End, "200" | "400" | "404" | "405") => true,
            (_, "400" | "404" | "503" | "504") => false,
            _ => panic!("{} is answered {status} {text}", self.mark),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mark, id, .. } = self;
        let session = self.session.as_deref().unwrap_or("-");
        write!(f, "{kind:?} {mark} (id {id}, session {session})")
    }
}
