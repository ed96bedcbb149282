//! A client's request on its way to a server that may die at any moment, and its answer on the way back.

use super::callers::Request;
use super::dice::Dice;
use super::exchange::Exchange;
use super::mortal::{Health, Mortal, Visit, unavailable};
use super::worker::Worker;

pub struct Journey {
    pub request: Request,
    pub exchange: Exchange,
    /// How often the server had been out of reach when it began, and when that was.
    pub troubles: usize,
    pub began: u64,
    /// Whether it met no server.
    pub is_cut: bool,
    /// Pieces of the request, then of the answer, that have yet to come; the last one first.
    pieces: Vec<Vec<u8>>,
    stage: Stage,
}

enum Stage {
    Headers,
    Body,
    /// On the way to the server.
    Up,
    AtServer(Visit),
    Answer,
    /// All that the server has to say has been said.
    Said,
    /// The server died before that.
    Cut,
    /// The client's connection has ended amid an answer, or without any.
    Broken,
}

impl Journey {
    pub fn new(request: Request, worker: &Worker, troubles: usize, dice: &mut Dice) -> Self {
        Self {
            exchange: worker.request(&request.head),
            troubles,
            began: worker.world().state().now,
            is_cut: false,
            pieces: dice.cut(request.body.as_bytes()),
            stage: Stage::Headers,
            request,
        }
    }

    pub fn is_being_sent(&self) -> bool {
        matches!(self.stage, Stage::Headers | Stage::Body)
    }

    pub fn is_broken(&self) -> bool {
        matches!(self.stage, Stage::Broken)
    }

    /// The next event. Says so if it is one at the server.
    pub fn step(&mut self, server: &mut Mortal, dice: &mut Dice) -> Option<String> {
        let exchange = &mut self.exchange;
        let mut what = None;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Said) {
            Stage::Headers if self.request.body.is_empty() => {
                exchange.headers_only();
                Stage::Up
            }
            Stage::Headers => {
                exchange.headers();
                Stage::Body
            }
            Stage::Body => {
                if let Some(piece) = self.pieces.pop() {
                    exchange.body(piece);
                    Stage::Body
                } else {
                    exchange.end();
                    Stage::Up
                }
            }
            Stage::Up if !exchange.is_sent() => Stage::Up,
            Stage::Up if server.health == Health::Well => {
                let request = exchange.at_server();
                let headers = request.headers.expect("it is sent");
                let visit = server.visit(&headers, &request.body, dice.once_in(2));
                what = Some(format!("arrives: {visit}"));
                Stage::AtServer(visit)
            }
            Stage::AtServer(visit) if server.health == Health::Well => {
                server.leave(&visit);
                exchange.answer_headers(&visit.reply, visit.reply.body.is_empty());
                self.pieces = dice.cut(&visit.reply.body);
                if visit.reply.body.is_empty() {
                    Stage::Said
                } else {
                    Stage::Answer
                }
            }
            stage @ (Stage::Up | Stage::AtServer(_)) if server.health == Health::Silent => stage,
            Stage::Answer => {
                if let Some(piece) = self.pieces.pop() {
                    exchange.answer_body(piece);
                    Stage::Answer
                } else {
                    exchange.answer_end();
                    Stage::Said
                }
            }
            Stage::Up | Stage::AtServer(_) | Stage::Cut => {
                what = Some("is cut off".to_owned());
                self.is_cut = true;
                if exchange.at_client().headers.is_some() || exchange.answer_waits() {
                    exchange.close();
                    Stage::Broken
                } else {
                    exchange.answer(&unavailable());
                    Stage::Said
                }
            }
            stage @ (Stage::Said | Stage::Broken) => stage,
        };
        what
    }

    /// The server dies. An answer that has left it may still arrive.
    pub fn lose_server(&mut self, dice: &mut Dice) {
        let is_up = self.exchange.at_server().headers.is_some();
        if !is_up || self.exchange.is_cut_off() {
            return;
        }
        match &self.stage {
            Stage::AtServer(visit) if dice.once_in(3) => {
                self.exchange.answer(&visit.reply);
                self.stage = Stage::Said;
            }
            Stage::Said | Stage::Broken => {}
            _ => self.stage = Stage::Cut,
        }
    }

    /// The client is content, or has left.
    pub fn close(mut self, server: &mut Mortal) {
        if let Stage::AtServer(visit) = &self.stage {
            server.leave(visit);
        }
        self.exchange.close();
    }
}
