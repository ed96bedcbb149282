//! Who meets in a history, and under which configuration: chosen by dice.

use super::dice::Dice;
use super::head::Head;
use super::ledger::{Party, WHO};

/// The headers that tell a caller.
type Evidence = &'static [(&'static str, &'static str)];

/// Callers whose evidence looks alike: what they show, and where they come from.
const CALLERS: [(&str, Evidence, [u8; 4]); 6] = [
    ("ann", &[("authorization", "k")], [10, 0, 0, 1]),
    ("bob", &[("x-api-key", "k")], [10, 0, 0, 1]),
    (
        "cid",
        &[("authorization", "k"), ("x-api-key", "k")],
        [10, 0, 0, 1],
    ),
    ("dan", &[("authorization", "kk")], [10, 0, 0, 1]),
    ("eve", &[], [10, 0, 0, 1]),
    ("fay", &[], [10, 0, 0, 2]),
];
const ENDPOINTS: [(&str, &str); 3] = [("a.test", "/mcp"), ("b.test", "/mcp"), ("a.test", "/mcp/b")];
/// Clients of one caller at one endpoint.
const CLIENTS: usize = 2;

/// A configuration, and whether the host lets headers wait alone.
pub fn choose(dice: &mut Dice) -> (String, bool) {
    let mode = ["forward", "forward", "reuse", "queue"][dice.below(4)];
    let hold = mode == "queue" || dice.once_in(2);
    let config = serde_json::json!({
        "paths": ["/mcp*"],
        "on_reinitialize": mode,
        "hold_request_headers": hold,
        "on_session_lost": if dice.once_in(3) { "forget" } else { "recover" },
        "on_missing_session": if dice.once_in(3) { "initialize" } else { "pass" },
        "translate_ids": !dice.once_in(4),
        "session": {"lease": "1s", "queue_timeout": "5s"},
        "memory": {
            "slots": few_or_many(dice),
            "per_caller": few_or_many(dice),
            "bulk_slots": few_or_many(dice),
        },
    });
    (config.to_string(), hold || dice.once_in(2))
}

fn few_or_many(dice: &mut Dice) -> u32 {
    [1, 2, 64][dice.below(3)]
}

/// A client of a caller at an endpoint, and the session that it knows.
pub struct Client {
    pub party: Party,
    pub head: Head,
    pub session: Option<String>,
    pub echoes: bool,
}

impl Client {
    pub fn all(dice: &mut Dice) -> Vec<Self> {
        let mut clients = Vec::new();
        // Few of them: they are to meet.
        let (mut callers, mut endpoints) = (CALLERS.to_vec(), ENDPOINTS.to_vec());
        while callers.len() > 3 {
            callers.swap_remove(dice.below(callers.len()));
        }
        while endpoints.len() > 1 + dice.below(2) {
            endpoints.swap_remove(dice.below(endpoints.len()));
        }
        for (caller, evidence, address) in callers {
            for (authority, path) in &endpoints {
                for _ in 0..CLIENTS {
                    let head = Head::new("POST", path)
                        .authority(authority)
                        .from(address.into())
                        .header(WHO, caller)
                        .header("accept", "application/json, text/event-stream");
                    let head = evidence
                        .iter()
                        .fold(head, |head, (name, value)| head.header(name, value));
                    clients.push(Self {
                        party: Party::of(&head.headers),
                        head,
                        session: None,
                        echoes: dice.once_in(2),
                    });
                }
            }
        }
        clients
    }
}
