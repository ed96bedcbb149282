//! Many clients with equal ids in one session, in any order of events: everybody gets its own answer.

use std::collections::BTreeMap;

use super::crowd::{assert_no_offences, assert_opened, head, id_of, knock, marked, message, open};
use super::dice::Dice;
use super::exchange::Exchange;
use super::worker::Worker;
use super::world::World;

const CLIENTS: usize = 16;
const EXCHANGES: usize = 2_000;

/// A client's request on its way, and then its answer.
struct Request {
    exchange: Exchange,
    id: String,
    mark: String,
    /// Pieces of the request, then of the answer, that have yet to come; the last one first.
    pieces: Vec<Vec<u8>>,
    stage: Stage,
    events: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Headers,
    Body,
    AtServer,
    Answer,
    Over,
}

/// How often a server that tells requests apart by their ids had two under way with one id.
#[derive(Default)]
struct Server {
    under_way: BTreeMap<String, usize>,
    mix_ups: usize,
}

impl Request {
    fn new(dice: &mut Dice, workers: &[Worker], client: usize, n: usize) -> Self {
        let number = n / CLIENTS / 4;
        let id = match dice.below(4) {
            0 => format!("\"{number}\""),
            1 => format!("\"a\\u00e9-{number}\""),
            _ => number.to_string(),
        };
        let mark = format!("{client}/{n}");
        let filler = "x".repeat(dice.below(300));
        let body = match dice.below(3) {
            0 => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"mark":"{mark}","id":7,"f":"{filler}"}}}}"#
            ),
            1 => format!(
                r#"{{"params":{{"f":"{filler}","mark":"{mark}"}},"method":"tools/call","id":{id},"jsonrpc":"2.0"}}"#
            ),
            _ => format!(
                "\n{{ \"id\" : {id} , \"params\":{{\"mark\":\"{mark}\"}},\r\n\"method\":\"tools/call\" }}"
            ),
        };
        let mut head = head("a", "POST").header("accept", "application/json, text/event-stream");
        if dice.below(4) > 0 {
            head = head.header("mcp-session-id", "s1");
        } else {
            head = head.header("mcp-protocol-version", "2025-06-18");
        }
        if dice.below(2) == 0 {
            head = head.header("content-length", body.len().to_string());
        }
        let worker = &workers[dice.below(workers.len())];
        Self {
            exchange: worker.request(&head),
            id,
            mark,
            pieces: dice.cut(body.as_bytes()),
            stage: Stage::Headers,
            events: dice.below(2) == 0,
        }
    }

    fn step(&mut self, dice: &mut Dice, server: &mut Server) {
        match (self.stage, self.pieces.pop()) {
            (Stage::Headers, piece) => {
                self.exchange.headers();
                self.pieces.extend(piece);
                self.stage = Stage::Body;
            }
            (Stage::Body, Some(piece)) => {
                self.exchange.body(piece);
            }
            (Stage::Body, None) => {
                self.exchange.end();
                self.arrive(server);
                self.stage = Stage::AtServer;
            }
            (Stage::AtServer, _) => self.be_answered(dice, server),
            (Stage::Answer, Some(piece)) => {
                self.exchange.answer_body(piece);
            }
            (Stage::Answer, None) => {
                self.exchange.answer_end();
                self.check();
                self.stage = Stage::Over;
            }
            (Stage::Over, _) => {}
        }
    }

    fn at_server(&self) -> (String, String) {
        let seen = message(&self.exchange.at_server().body);
        let mark = seen["params"]["mark"].as_str().expect("a mark");
        (seen["id"].to_string(), mark.to_owned())
    }

    fn arrive(&mut self, server: &mut Server) {
        assert!(self.exchange.is_sent(), "{} arrives", self.mark);
        let at_server = self.exchange.at_server();
        let headers = at_server.headers.unwrap();
        assert_eq!(headers.text("mcp-session-id"), "s1", "{}", self.mark);
        for length in headers.all("content-length") {
            let right = at_server.body.len().to_string();
            assert_eq!(length, right.as_bytes(), "the length of {}", self.mark);
        }
        let (id, mark) = self.at_server();
        assert_eq!(mark, self.mark);
        let before = server.under_way.entry(id).or_default();
        server.mix_ups += usize::from(*before > 0);
        *before += 1;
    }

    fn be_answered(&mut self, dice: &mut Dice, server: &mut Server) {
        let (id, mark) = self.at_server();
        *server.under_way.get_mut(&id).expect("it is under way") -= 1;
        let mut reply = marked(&id, &mark, self.events);
        if dice.below(2) == 0 {
            let length = reply.body.len().to_string();
            reply = reply.header("content-length", length);
        }
        self.exchange.answer_headers(&reply, false);
        self.pieces = dice.cut(&reply.body);
        self.stage = Stage::Answer;
    }

    fn check(&mut self) {
        assert!(self.exchange.is_answered(), "{} is answered", self.mark);
        let text = String::from_utf8(self.exchange.at_client().body).unwrap();
        let id = id_of(&text, &self.mark);
        // Whoever reads JSON and writes it anew may spell an id otherwise: but not through a token.
        if self.at_server().0.starts_with("\"mcpsf~") {
            assert_eq!(id, self.id, "the id of {}, to the letter", self.mark);
        }
        let [got, sent] = [id, &self.id].map(|id| message(id.as_bytes()));
        assert_eq!(got, sent, "the id of {}", self.mark);
        self.exchange.close();
    }
}

/// Has all clients send one request after the other, and gives how often the server could have mixed them up.
fn drive(config: &str, headers_may_wait_alone: bool, seed: u64) -> usize {
    let world = World::new(config);
    world.state().headers_may_wait_alone = headers_may_wait_alone;
    let mut dice = Dice::new(seed);
    let workers: Vec<_> = (0..2 + dice.below(2)).map(|_| world.worker()).collect();
    let mut first = knock(&workers[0], "a", "0");
    open(&workers, "s1");
    assert_opened(&mut first, "0", "s1");
    let mut server = Server::default();
    let mut clients: Vec<Option<Request>> = (0..CLIENTS).map(|_| None).collect();
    let (mut begun, mut done) = (0, 0);
    while done < EXCHANGES {
        let client = dice.below(CLIENTS);
        let Some(request) = &mut clients[client] else {
            if begun < EXCHANGES {
                clients[client] = Some(Request::new(&mut dice, &workers, client, begun));
                begun += 1;
            }
            continue;
        };
        request.step(&mut dice, &mut server);
        if request.stage == Stage::Over {
            clients[client] = None;
            done += 1;
        }
    }
    assert_no_offences(&world);
    assert_eq!(world.metric("host_error"), 0);
    server.mix_ups
}

#[test]
fn sixteen_clients_with_equal_ids_in_one_session_are_never_mixed_up() {
    let config = r#"{"on_reinitialize":"reuse""#;
    let held = format!(r#"{config},"hold_request_headers":true}}"#);
    assert_eq!(drive(&held, true, 1), 0);
    assert_eq!(drive(&format!("{config}}}"), true, 2), 0);
    assert_eq!(drive(&format!("{config}}}"), false, 3), 0);
}

#[test]
fn without_translation_the_server_sees_equal_ids_at_once() {
    let config = r#"{"on_reinitialize":"reuse","translate_ids":false}"#;
    assert!(drive(config, true, 1) > 0);
}
