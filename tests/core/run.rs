//! Runs a scenario on the core.

use crate::driver::{Envoy, Seen};
use crate::scenario::{Exchange, Expected, Scenario, Step};

pub fn run(scenario: &Scenario) {
    let mut envoy = Envoy::new(scenario.config.to_string().as_bytes());
    for (number, step) in scenario.steps.iter().enumerate() {
        let at = format!("{}.json '{}' step {number}", scenario.file, scenario.name);
        match step {
            Step::Advance(by, _) => envoy
                .platform
                .advance(u64::try_from(by.as_millis()).unwrap()),
            Step::Exchange(exchange) => check(&at, &envoy.exchange(exchange), exchange),
        }
    }
}

fn check(at: &str, seen: &Seen, exchange: &Exchange) {
    for (name, expected) in &exchange.upstream {
        let lines: Vec<Vec<u8>> = seen.upstream.all(name).map(<[u8]>::to_vec).collect();
        let expected = match expected {
            Expected::Absent => Vec::new(),
            Expected::Lines(lines) => lines.clone(),
        };
        assert_eq!(lines, expected, "{at}: {name} at the server");
    }
    assert_eq!(seen.outcome, exchange.outcome, "{at}: outcome");
    assert_eq!(seen.pings, exchange.calls.len(), "{at}: pings");
}
