//! The filter's own calls on their way to a server that may die at any moment.

use std::collections::BTreeMap;

use super::calls::HttpCall;
use super::crowd::name;
use super::dice::Dice;
use super::mortal::{Health, Mortal, Visit, opener, unavailable};
use super::trace::Trace;
use super::worker::Worker;
use super::world::nanoseconds;

#[derive(Default)]
pub struct Errands {
    under_way: BTreeMap<Key, Errand>,
    /// When a session of a caller could last not be opened, or was gone before it could be told that it is ready.
    pub failed: BTreeMap<String, u64>,
}

/// A worker and a token.
type Key = (usize, u32);

struct Errand {
    due: u64,
    stage: Stage,
}

enum Stage {
    Up,
    AtServer(Visit),
    Cut,
}

/// What a session is told before anybody gets it.
const READY: &str = "notifications/initialized";

/// On whose behalf a call is made.
fn caller(call: &HttpCall) -> String {
    call.headers.text("authorization").replace("Bearer ", "")
}

/// All that are under way, and whose they are.
fn calls(workers: &[Worker]) -> Vec<(Key, HttpCall)> {
    let calls_of = |(n, worker): (usize, &Worker)| {
        let calls = worker.calls().into_iter();
        calls.map(move |call| ((n, call.token), call))
    };
    workers.iter().enumerate().flat_map(calls_of).collect()
}

impl Errands {
    /// The next event of any of them.
    pub fn step(
        &mut self,
        workers: &[Worker],
        server: &mut Mortal,
        dice: &mut Dice,
        trace: &mut Trace,
    ) {
        let mut calls = calls(workers);
        if calls.is_empty() {
            return;
        }
        let (key, call) = calls.swap_remove(dice.below(calls.len()));
        let worker = &workers[key.0];
        let now = worker.world().state().now;
        let mut note = |what: &str| {
            let (name, session) = (name(&call), call.headers.text("mcp-session-id"));
            trace.note(format!("{name} {key:?} in {session:?} {what}"));
        };
        let Errand { due, stage } = self.under_way.remove(&key).unwrap_or(Errand {
            due: now + nanoseconds(call.timeout),
            stage: Stage::Up,
        });
        let health = if now < due {
            server.health
        } else {
            Health::Down
        };
        let stage = match (stage, health) {
            (Stage::Up, Health::Well) => {
                let visit = server.visit(&call.headers, &call.body, dice.once_in(2));
                note(&format!("arrives: {visit}"));
                Stage::AtServer(visit)
            }
            (Stage::AtServer(visit), Health::Well) => {
                note("is answered");
                server.leave(&visit);
                if name(&call) == READY && visit.reply.headers.text(":status") != "202" {
                    self.failed.insert(caller(&call), now);
                }
                return worker.answer(&call, visit.reply);
            }
            (stage @ (Stage::Up | Stage::AtServer(_)), Health::Silent) => stage,
            (stage, _) => {
                note("fails");
                let opener = opener(&call.body);
                if let Stage::AtServer(visit) = &stage {
                    server.leave(visit);
                    if opener.is_some() {
                        server.forget(&visit.reply.headers.text("mcp-session-id"));
                    }
                }
                if name(&call) == "DELETE" {
                    server.forget(&call.headers.text("mcp-session-id"));
                }
                if let Some(name) = &opener {
                    // What it has opened, nobody knows of.
                    server.openings.retain(|other| other != name);
                }
                if opener.is_some() || name(&call) == READY {
                    self.failed.insert(caller(&call), now);
                }
                if dice.once_in(2) {
                    return worker.reset(&call);
                }
                return worker.answer(&call, unavailable());
            }
        };
        self.under_way.insert(key, Errand { due, stage });
    }

    /// Those of clients that have left are gone.
    pub fn forget_gone(&mut self, workers: &[Worker], server: &mut Mortal) {
        let calls = calls(workers);
        self.under_way.retain(|key, errand| {
            let is_there = calls.iter().any(|(other, _)| other == key);
            if let (false, Stage::AtServer(visit)) = (is_there, &errand.stage) {
                server.leave(visit);
            }
            is_there
        });
    }

    /// The server dies. Answers that have left it may still arrive.
    pub fn lose_server(&mut self, workers: &[Worker], dice: &mut Dice) {
        for (key, call) in calls(workers) {
            let errand = self.under_way.remove(&key);
            match errand.map(|errand| errand.stage) {
                Some(Stage::AtServer(visit)) if dice.once_in(3) => {
                    workers[key.0].answer(&call, visit.reply);
                }
                _ => {
                    let (due, stage) = (u64::MAX, Stage::Cut);
                    self.under_way.insert(key, Errand { due, stage });
                }
            }
        }
    }
}

/// How many are under way.
pub fn count(workers: &[Worker]) -> usize {
    calls(workers).len()
}
