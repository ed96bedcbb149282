//! Scenarios that are played again and again: on all processors, with small tables, and with a count of what failed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Scenario;

/// Runs something for each of these, on all processors.
pub fn for_each<T: Sync>(all: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(one);
                }
            });
        }
    });
}

/// The scenario with so many slots, if it does not say how many: each replay begins with a copy of all that is in them.
pub fn with_few_slots(scenario: &Scenario, slots: u32) -> Scenario {
    let mut scenario = scenario.clone();
    if scenario.config.get("memory").is_none() {
        scenario.config["memory"] = serde_json::json!({"slots": slots, "bulk_slots": slots});
    }
    scenario
}

/// # Panics
/// If any failed; it tells of the first ones.
pub fn assert_none_failed(replays: usize, failed: &[String]) {
    let shown: Vec<_> = failed.iter().take(20).map(String::as_str).collect();
    assert!(
        failed.is_empty(),
        "{} of {replays} replays failed, such as:\n{}",
        failed.len(),
        shown.join("\n")
    );
}
