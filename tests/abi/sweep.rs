//! One scenario with some of its hostcalls failing: replayed from the step on in which the first of them is made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::attempt::attempt;
use super::crowd::name;
use super::faults::{Fault, Made, When};
use super::given::{Given, HOST_HEADER};
use super::head::{Head, Reply};
use super::passage::assert_traffic_passed;
use super::replay::{CallAnswers, Manner, Scene, Seen, Sight, Stage};
use super::scenarios::{REPAIRABLE, REWRITABLE, assert_encoding};
use super::world::World;
use crate::scenario::{Exchange, Scenario, Step};

const MANNER: Manner = Manner {
    workers: 2,
    call_answers: CallAnswers::Late,
    headers_may_wait_alone: true,
    // Headers wait for 5 seconds at most.
    patience: Duration::from_secs(6),
    // Thousands of ticks would all fail alike.
    sleeps: true,
};

/// What fails, beginning with one call.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// That call.
    Once(Fault),
    /// That call, and another one so many calls later.
    Twice(Fault, usize, Fault),
    /// That call, and all later ones of its name.
    Name(Fault),
    /// That call, and all others from then on.
    All(Fault),
}

/// How much of a replay's course is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The calls alone.
    Once,
    /// All that was seen of each exchange as well.
    Closely,
}

/// What became of a replay: two that are equal looked the same to host, client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    sights: u64,
    /// The calls that were made from the first failing one's step on.
    pub calls: Vec<Made>,
}

/// A scenario, the hostcalls that it makes when nothing fails, and the stage before its steps.
pub struct Rehearsal<'a> {
    scenario: &'a Scenario,
    pub calls: Vec<Made>,
    scenes: Vec<Before>,
}

struct Before {
    step: usize,
    /// How many calls were made until then.
    calls: usize,
    scene: Scene,
}

impl<'a> Rehearsal<'a> {
    pub fn of(scenario: &'a Scenario) -> Self {
        let mut stage = Stage::new(scenario, MANNER);
        stage.world.record_calls();
        let mut scenes = Vec::new();
        for (step, what) in scenario.steps.iter().enumerate() {
            let calls = stage.world.recorded_calls().len();
            scenes.extend(stage.scene().map(|scene| Before { step, calls, scene }));
            stage.step(what, |_, _| {});
        }
        let calls = stage.world.recorded_calls();
        Self {
            scenario,
            calls,
            scenes,
        }
    }

    /// The place of the nth call among those of a [`Course`] that begins with trouble there.
    pub fn step_call(&self, n: usize) -> usize {
        n - self.before(n).calls
    }

    /// The scenario with trouble at its nth call, and what went wrong then.
    pub fn replay(&self, n: usize, trouble: Trouble, look: Look) -> Result<Course, String> {
        attempt(|| self.play(n, trouble, look)).map_err(|what| {
            let Scenario { file, name, .. } = self.scenario;
            let Made {
                name: call, during, ..
            } = self.calls[n];
            format!("{file}.json: '{name}': {call} in {during} (call {n}), {trouble:?}: {what}")
        })
    }

    fn play(&self, n: usize, trouble: Trouble, look: Look) -> Course {
        let before = self.before(n);
        let mut stage = Stage::again(&before.scene);
        stage.world.record_calls();
        self.make(&stage.world, trouble, n, before.calls);
        let mut given = Given::new(self.scenario);
        if trouble.misleads(self.calls[n].name) {
            given.take_any_for_an_initialize();
        }
        let mut sights = DefaultHasher::new();
        for (number, step) in self.scenario.steps.iter().enumerate() {
            let Step::Exchange(spec) = step else {
                if number >= before.step {
                    stage.step(step, |_, _| {});
                }
                continue;
            };
            given.note_calls(spec);
            if number >= before.step {
                stage.step(step, |_, sight| {
                    let Sight::Exchange(_, seen) = sight else {
                        return;
                    };
                    if look == Look::Closely {
                        format!("{seen:?}").hash(&mut sights);
                    }
                    if let Err(what) =
                        attempt(|| check(spec, seen, &given, trouble, self.calls[n].name))
                    {
                        let request = &spec.request;
                        panic!(
                            "steps[{number}] ({} {}): {what}",
                            request.method, request.path
                        );
                    }
                });
            }
            given.note(spec);
        }
        assert!(stage.world.something_failed(), "the call was not made");
        let course = Course {
            sights: sights.finish(),
            calls: stage.world.recorded_calls(),
        };
        assert_all_is_well_again(&stage);
        course
    }

    fn before(&self, n: usize) -> &Before {
        let before = self.scenes.iter().rfind(|before| before.calls <= n);
        before.expect("nothing is under way before the first step")
    }

    fn make(&self, world: &World, trouble: Trouble, n: usize, before: usize) {
        let first = n - before;
        match trouble {
            Trouble::Once(fault) => world.fail_call(first, fault),
            Trouble::Twice(fault, later, other) => {
                world.fail_call(first, fault);
                world.fail_call(first + later, other);
            }
            Trouble::Name(fault) => {
                let name = self.calls[n].name;
                let earlier = self.calls[before..n].iter();
                let earlier = earlier.filter(|call| call.name == name).count();
                world.fail(name, When::From(earlier), fault);
            }
            Trouble::All(fault) => world.fail_from(first, fault),
        }
    }
}

/// The calls that it takes to let requests and answers go. Without a clock nobody's turn comes and no wait is over, until
/// it can be read again.
const LET_GO: [&str; 6] = [
    "proxy_get_current_time_nanoseconds",
    "proxy_continue_stream",
    "proxy_set_effective_context",
    "proxy_send_local_response",
    "proxy_set_buffer_bytes",
    "proxy_replace_header_map_value",
];

impl Trouble {
    /// Whether the host refuses again and again what it takes to let a request go, or to put back what waits of it.
    fn stops_traffic(self, name: &str) -> bool {
        match self {
            Self::Once(_) | Self::Twice(..) => false,
            Self::Name(_) => LET_GO.contains(&name),
            Self::All(_) => true,
        }
    }

    /// Whether the host hands over bodies of its own making, which then go on like that, or a time that is none.
    fn misleads(self, name: &str) -> bool {
        let (Self::Once(fault) | Self::Name(fault) | Self::All(fault)) = self else {
            return false;
        };
        let is_garbled = matches!(
            fault,
            Fault::Garbage | Fault::Zeros | Fault::Ones | Fault::Lying
        );
        is_garbled && ["proxy_get_buffer_bytes", LET_GO[0]].contains(&name)
    }
}

/// Nothing fails any more: each worker does its work.
fn assert_all_is_well_again(stage: &Stage) {
    assert_eq!(
        stage.world.offences(),
        Vec::<String>::new(),
        "what no filter should do"
    );
    stage.world.heal();
    for worker in &stage.workers {
        let mut request = worker.request(&Head::post("/mcp").header("mcp-session-id", "own"));
        request
            .headers()
            .body("{}")
            .end()
            .answer(&Reply::new(200).body("{}"));
        assert!(
            request.is_sent() && request.is_answered(),
            "a plain request passes afterwards"
        );
        assert_eq!(
            request.server_headers().text("mcp-session-id"),
            "own",
            "the plain request's id"
        );
        request.close();
    }
}

/// The request reached the server as it was, but for a sound repair; the answer reached the client.
fn check(spec: &Exchange, seen: &Seen, given: &Given, trouble: Trouble, name_of_call: &str) {
    // Where the host refuses to take back what it refuses to let go, the filter says so.
    let is_given_up = matches!(trouble, Trouble::Twice(..))
        && seen.answered_locally
        && seen
            .client
            .headers
            .as_ref()
            .is_some_and(|headers| headers.text(":status") == "500");
    let is_excused =
        is_given_up || trouble.stops_traffic(name_of_call) || trouble.misleads(name_of_call);
    if !(is_excused || seen.answered_locally && given.may_answer(spec, &seen.client)) {
        assert_traffic_passed(spec, seen);
    }
    for call in &seen.calls {
        let id = call.headers.first("mcp-session-id").unwrap_or_default();
        let own = seen.sent.first("mcp-session-id") == Some(id);
        let known = given.to_anybody(id);
        assert!(
            id.is_empty() || own || known,
            "a call is in a session that nobody has"
        );
    }
    // Of one that was begun and reset the server heeds nothing.
    let Some(server) = seen
        .server
        .headers
        .as_ref()
        .filter(|_| !seen.upstream_reset)
    else {
        return;
    };
    let repairable = [REPAIRABLE, &[HOST_HEADER]].concat();
    let free = [&repairable, REWRITABLE].concat();
    assert_eq!(
        server.without(&free),
        seen.sent.without(&free),
        "the other headers at the server"
    );
    assert_encoding(&seen.sent, server);
    for name in repairable {
        let (sent, arrived) = (seen.sent.all(name), server.all(name));
        // A line without a value says no more than none.
        let emptied = arrived.is_empty() && sent.iter().all(|value| value.is_empty());
        // A version that a server refuses may stay away.
        let versionless = name == "mcp-protocol-version" && arrived.is_empty();
        // No client chooses a host.
        let hostless = name == HOST_HEADER && arrived.is_empty();
        let sound = arrived == sent
            || hostless
            || emptied
            || versionless
            || arrived.len() == 1 && given.may_set(spec, name, arrived[0]);
        let shown: Vec<_> = arrived
            .iter()
            .map(|line| line.escape_ascii().to_string())
            .collect();
        assert!(sound, "{name} at the server is {shown:?}, a third thing");
    }
    // What is sent again is what was read.
    let calls = seen.calls.iter();
    for call in calls.filter(|call| !trouble.misleads(name_of_call) && name(call) == "ping") {
        let id = call.headers.all("mcp-session-id");
        let is_own = id == server.all("mcp-session-id");
        // Before its caller goes on in another one it asks there as well.
        let is_callers = id.len() == 1 && given.may_set(spec, "mcp-session-id", id[0]);
        assert!(is_own || is_callers, "whose session is a ping about?");
    }
}
