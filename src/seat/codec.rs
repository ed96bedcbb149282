//! How a seat is written down, and what is read back: anything odd reads as nothing.
//!
//! ```text
//! key       32 bytes
//! watched    1 byte    0 or 1
//! failed     8 bytes   milliseconds; 0 = not
//!   if so:   capabilities, 32 bytes
//! state      1 byte    0 = free, 1 = opening, 2 = taken, 3 = closing
//!   opening, closing: number and vm, 8 bytes each
//!   taken:   caller, endpoint and capabilities, 32 bytes each; opening, opened and used, 8 bytes each;
//!            session, cluster, path and authority: 2 bytes of length, then so many bytes; host: 1 byte of
//!            length, then so many bytes, 0 = any
//! ticket    number and vm, 8 bytes each, again and again to the end
//! ```
//! Numbers are little-endian.

use super::{Failure, Holder, Seat, State, Ticket};
use crate::input::{Input, put_host, put_text};
use crate::session::SessionId;
use crate::subrequest::Target;
use crate::time::Millis;

impl Seat {
    /// The seat as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.key.as_bytes().to_vec();
        bytes.push(u8::from(self.watched));
        let failed = self.failed.filter(|failure| failure.at.0 > 0);
        put_number(&mut bytes, failed.map_or(0, |failure| failure.at.0));
        if let Some(failure) = failed {
            bytes.extend_from_slice(failure.capabilities.as_bytes());
        }
        match &self.state {
            State::Free => bytes.push(0),
            State::Opening(ticket) => {
                bytes.push(1);
                put_ticket(&mut bytes, *ticket);
            }
            State::Taken(holder) => {
                bytes.push(2);
                put_holder(&mut bytes, holder);
            }
            State::Closing(ticket) => {
                bytes.push(3);
                put_ticket(&mut bytes, *ticket);
            }
        }
        for ticket in &self.line {
            put_ticket(&mut bytes, *ticket);
        }
        bytes
    }

    /// Reads a seat back.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let key = input.digest()?;
        let watched = match input.array()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let failed = match Millis(input.number()?) {
            Millis(0) => None,
            at => Some(Failure {
                at,
                capabilities: input.digest()?,
            }),
        };
        let state = match input.array()? {
            [0] => State::Free,
            [1] => State::Opening(ticket(&mut input)?),
            [2] => State::Taken(Box::new(holder(&mut input)?)),
            [3] => State::Closing(ticket(&mut input)?),
            _ => return None,
        };
        let mut line = Vec::new();
        while !input.0.is_empty() {
            line.push(ticket(&mut input)?);
        }
        Some(Self {
            key,
            state,
            line,
            watched,
            failed,
        })
    }
}

fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_ticket(bytes: &mut Vec<u8>, ticket: Ticket) {
    put_number(bytes, ticket.number);
    put_number(bytes, ticket.vm);
}

fn put_holder(bytes: &mut Vec<u8>, holder: &Holder) {
    for digest in [&holder.caller, &holder.endpoint, &holder.capabilities] {
        bytes.extend_from_slice(digest.as_bytes());
    }
    for number in [holder.opening, holder.opened.0, holder.used.0] {
        put_number(bytes, number);
    }
    put_text(bytes, holder.session.as_bytes());
    let Target {
        cluster,
        path,
        authority,
        host,
    } = &holder.target;
    for text in [cluster, path, authority] {
        put_text(bytes, text.as_bytes());
    }
    put_host(bytes, *host);
}

fn ticket(input: &mut Input) -> Option<Ticket> {
    Some(Ticket {
        number: input.number()?,
        vm: input.number()?,
    })
}

fn holder(input: &mut Input) -> Option<Holder> {
    let text = |input: &mut Input| String::from_utf8(input.text()?.to_vec()).ok();
    let [caller, endpoint, capabilities] = [(); 3].map(|()| input.digest());
    let [opening, opened, used] = [(); 3].map(|()| input.number());
    let session = SessionId::parse(input.text()?)?;
    let [cluster, path, authority] = [(); 3].map(|()| text(input));
    let host = input.host()?;
    Some(Holder {
        caller: caller?,
        endpoint: endpoint?,
        target: Target {
            cluster: cluster?,
            path: path?,
            authority: authority?,
            host,
        },
        session,
        capabilities: capabilities?,
        opening: opening?,
        opened: Millis(opened?),
        used: Millis(used?),
    })
}
