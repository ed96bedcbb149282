//! What happens before the first request: imports, configuration, slots, and hostcalls that fail already then.

use std::time::Duration;

use super::attempt::attempt;
use super::faults::{Fault, Made, When};
use super::head::{Head, Reply};
use super::module;
use super::world::World;

#[test]
fn the_module_asks_for_nothing_that_the_mock_host_does_not_know() {
    let unknown = module::unknown_imports();
    assert!(
        unknown.is_empty(),
        "the mock host only answers \"unimplemented\" to {unknown:?}"
    );
}

#[test]
fn the_module_exports_what_a_host_calls_about_http_requests_and_nothing_else() {
    let exports = module::module().exports();
    let mut exports: Vec<_> = exports.map(|export| export.name()).collect();
    exports.sort_unstable();
    let expected = [
        "_initialize",
        "memory",
        "proxy_abi_version_0_2_1",
        "proxy_on_configure",
        "proxy_on_context_create",
        "proxy_on_delete",
        "proxy_on_done",
        "proxy_on_http_call_response",
        "proxy_on_log",
        "proxy_on_memory_allocate",
        "proxy_on_queue_ready",
        "proxy_on_request_body",
        "proxy_on_request_headers",
        "proxy_on_request_trailers",
        "proxy_on_response_body",
        "proxy_on_response_headers",
        "proxy_on_response_trailers",
        "proxy_on_tick",
        "proxy_on_vm_start",
    ];
    assert_eq!(exports, expected);
}

#[test]
fn an_empty_configuration_means_the_defaults() {
    for config in ["", "{}"] {
        assert!(
            World::new(config).try_worker().is_some(),
            "'{config}' is a configuration"
        );
    }
}

#[test]
fn a_wrong_configuration_is_refused_and_the_log_names_its_key() {
    let wrong = [
        ("{\"pats\": []}", "pats"),
        ("{\"mode\": \"reapir\"}", "mode"),
        (
            "{\"session\": {\"idle_timeout\": \"soon\"}}",
            "session.idle_timeout",
        ),
        ("{\"caller\": {\"anonymous\": 7}}", "caller.anonymous"),
        ("{\"on_session_lost\": \"revive\"}", "on_session_lost"),
        ("{\"memory\": {\"slots\": -1}}", "memory.slots"),
    ];
    for (config, key) in wrong {
        let world = World::new(config);
        assert!(world.try_worker().is_none(), "{config} is refused");
        assert!(
            world.errors().iter().any(|line| line.contains(key)),
            "{config}: {key} is named: {:?}",
            world.errors()
        );
    }
    let world = World::new([0xff, 0xfe]);
    assert!(
        world.try_worker().is_none() && !world.errors().is_empty(),
        "bytes are no configuration"
    );
}

#[test]
fn all_keys_exist_before_traffic_comes_and_no_secret_is_in_them() {
    let world = World::new("{}");
    let worker = world.worker();
    let (keys, _) = world.state().shared_data.size();
    for n in 0..200 {
        let head = Head::post("/mcp").header("authorization", format!("Bearer secret-token-{n}"));
        let mut request = worker.request(&head);
        request
            .headers()
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#)
            .end();
        request
            .answer(&Reply::new(200).header("mcp-session-id", format!("s{n}")))
            .close();
    }
    world.advance(Duration::from_secs(60));
    assert_eq!(world.metric("learned"), 200);
    let state = world.state();
    assert!(
        state.shared_data.size().0 <= keys + 1,
        "{keys} keys, then {}",
        state.shared_data.size().0
    );
    for secret in ["secret-token", "Bearer", "mcp.test"] {
        assert!(
            !state.shared_data.contains(secret.as_bytes()),
            "'{secret}' is in the shared data"
        );
    }
}

#[test]
fn a_vm_whose_start_met_a_failing_hostcall_passes_traffic_or_refuses_to_start() {
    let mut starts = 0;
    for (n, call) in calls_of_a_start().into_iter().enumerate() {
        // The C library exits by itself if it can't read the environment. Envoy always can.
        if call.name.starts_with("environ_") {
            continue;
        }
        for status in [1, 2, 8, 10, 12, 77, u32::MAX] {
            starts += 1;
            if let Err(what) =
                attempt(|| start_with(|world| world.fail_call(n, Fault::Status(status))))
            {
                panic!(
                    "{} (call {n} of the start) answers {status}: {what}",
                    call.name
                );
            }
        }
    }
    println!("{starts} starts with one failing hostcall each");
}

#[test]
fn a_vm_for_which_one_hostcall_never_works_passes_traffic_or_refuses_to_start() {
    // Not `proxy_http_call` and `proxy_set_effective_context`: the SDK panics on their failures by itself.
    let names = [
        "proxy_log",
        "proxy_get_log_level",
        "proxy_get_current_time_nanoseconds",
        "proxy_set_tick_period_milliseconds",
        "proxy_get_buffer_bytes",
        "proxy_set_buffer_bytes",
        "proxy_send_local_response",
        "proxy_register_shared_queue",
        "proxy_resolve_shared_queue",
        "proxy_enqueue_shared_queue",
        "proxy_dequeue_shared_queue",
        "proxy_get_header_map_pairs",
        "proxy_get_header_map_value",
        "proxy_replace_header_map_value",
        "proxy_remove_header_map_value",
        "proxy_get_property",
        "proxy_set_property",
        "proxy_get_shared_data",
        "proxy_set_shared_data",
        "proxy_define_metric",
        "proxy_increment_metric",
        "proxy_record_metric",
        "random_get",
        "clock_time_get",
    ];
    for name in names {
        for fault in [1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 77, u32::MAX].map(Fault::Status) {
            if let Err(what) = attempt(|| start_with(|world| world.fail(name, When::Always, fault)))
            {
                panic!("{name} always answers {fault:?}: {what}");
            }
        }
    }
}

const FEW_SLOTS: &str = r#"{"memory": {"slots": 8}, "hold_request_headers": true}"#;

fn calls_of_a_start() -> Vec<Made> {
    let world = World::new(FEW_SLOTS);
    world.record_calls();
    world.worker();
    world.recorded_calls()
}

fn start_with(break_it: impl FnOnce(&World)) {
    let world = World::new(FEW_SLOTS);
    break_it(&world);
    let Some(worker) = world.try_worker() else {
        return;
    };
    for body in [
        r#"{"method":"initialize","id":1}"#,
        r#"{"method":"tools/list","id":2}"#,
    ] {
        let mut request = worker.request(&Head::post("/mcp"));
        request.headers().body(body).end();
        world.advance(Duration::from_secs(6));
        assert!(request.is_sent(), "the request passes");
        request.answer(&Reply::new(200).header("mcp-session-id", "s1").body("{}"));
        assert!(request.is_answered(), "the answer passes");
        request.close();
    }
    assert_eq!(
        world.offences(),
        Vec::<String>::new(),
        "what no filter should do"
    );
}
