//! The hostcalls of module `env` that the filter may use, answered as Envoy answers them.

use std::time::Duration;

use wasmtime::{Caller, Linker, Result};

use super::guest::answer;
use super::head::Headers;
use super::host::Host;
use super::status::Status;
use super::stream::Direction;
use super::{bodies, header_maps, queue_calls};

type Env<'a> = Caller<'a, Host>;

/// Defines them all.
pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    process(linker)?;
    metrics(linker)?;
    shared_data(linker)?;
    queue_calls::define(linker)?;
    stream(linker)?;
    bodies::define(linker)?;
    header_maps::define(linker)?;
    properties(linker)
}

fn process(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_log",
        |env: Env, level: u32, at: u32, size: u32| {
            answer(env, "proxy_log", |call| {
                let line = call.text(at, size)?;
                if level > 5 {
                    return Err(Status::BAD_ARGUMENT);
                }
                call.host().world.state().log.push((level, line));
                Ok(())
            })
        },
    )?;
    linker.func_wrap("env", "proxy_get_log_level", |env: Env, at: u32| {
        answer(env, "proxy_get_log_level", |call| {
            let level = call.host().world.state().log_level;
            call.put(at, &level.to_le_bytes())
        })
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_current_time_nanoseconds",
        |env: Env, at: u32| {
            answer(env, "proxy_get_current_time_nanoseconds", |call| {
                let now = call.host().world.state().now;
                call.put(at, &now.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_tick_period_milliseconds",
        |env: Env, period: u32| {
            answer(env, "proxy_set_tick_period_milliseconds", |call| {
                call.host()
                    .set_tick_period(Duration::from_millis(period.into()));
                Ok(())
            })
        },
    )?;
    Ok(())
}

fn metrics(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_define_metric",
        |env: Env, kind: u32, at: u32, size: u32, id_at: u32| {
            answer(env, "proxy_define_metric", |call| {
                let name = call.text(at, size)?;
                let id = call.host().define_metric(kind, name)?;
                call.put(id_at, &id.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_increment_metric",
        |env: Env, id: u32, by: i64| {
            answer(env, "proxy_increment_metric", |call| {
                call.host().increment_metric(id, by)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_record_metric",
        |env: Env, id: u32, value: u64| {
            answer(env, "proxy_record_metric", |call| {
                call.host().record_metric(id, value)
            })
        },
    )?;
    linker.func_wrap("env", "proxy_get_metric", |env: Env, id: u32, at: u32| {
        answer(env, "proxy_get_metric", |call| {
            let value = call.host().metric_value(id)?;
            call.put(at, &value.to_le_bytes())
        })
    })?;
    Ok(())
}

fn shared_data(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_shared_data",
        |env: Env, key: u32, key_size: u32, value_at: u32, size_at: u32, cas_at: u32| {
            answer(env, "proxy_get_shared_data", |call| {
                let key = call.bytes(key, key_size)?;
                let (value, cas) = call.host().world.state().shared_data.read(&key)?;
                let other = call.mistakes_key_by();
                let other =
                    other.and_then(|n| call.host().world.state().shared_data.other(&key, n));
                call.give(&other.unwrap_or(value), value_at, size_at)?;
                call.give_token(cas, cas_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_shared_data",
        |env: Env, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| {
            answer(env, "proxy_set_shared_data", |call| {
                let (key, value) = (call.bytes(key, key_size)?, call.bytes(value, value_size)?);
                call.host()
                    .world
                    .state()
                    .shared_data
                    .write(&key, &value, cas)
            })
        },
    )?;
    Ok(())
}

fn stream(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_set_effective_context",
        |env: Env, context: u32| {
            answer(env, "proxy_set_effective_context", |call| {
                call.host().set_effective_context(context)
            })
        },
    )?;
    linker.func_wrap("env", "proxy_continue_stream", |env: Env, kind: u32| {
        answer(env, "proxy_continue_stream", |call| {
            let direction = match kind {
                0 => Direction::Request,
                1 => Direction::Response,
                _ => return Err(Status::BAD_ARGUMENT),
            };
            call.host().continue_stream(direction);
            Ok(())
        })
    })?;
    linker.func_wrap(
        "env",
        "proxy_http_call",
        |env: Env,
         cluster: u32,
         cluster_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         _trailers: u32,
         _trailers_size: u32,
         timeout: u32,
         token_at: u32| {
            answer(env, "proxy_http_call", |call| {
                let cluster = call.text(cluster, cluster_size)?;
                let headers = Headers::deserialized(&call.bytes(headers, headers_size)?);
                let headers = headers.ok_or(Status::BAD_ARGUMENT)?;
                let body = call.bytes(body, body_size)?;
                let timeout = Duration::from_millis(timeout.into());
                let token = call.host().http_call(cluster, headers, body, timeout)?;
                call.put(token_at, &token.to_le_bytes())
            })
        },
    )?;
    Ok(())
}

fn properties(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |env: Env, path: u32, path_size: u32, value_at: u32, size_at: u32| {
            answer(env, "proxy_get_property", |call| {
                let path = call.bytes(path, path_size)?;
                let stream = call.host().stream().ok_or(Status::NOT_FOUND)?;
                let value = stream
                    .properties
                    .get(&path)
                    .cloned()
                    .ok_or(Status::NOT_FOUND)?;
                call.give(&value, value_at, size_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_property",
        |env: Env, path: u32, path_size: u32, value: u32, value_size: u32| {
            answer(env, "proxy_set_property", |call| {
                let (path, value) = (call.bytes(path, path_size)?, call.bytes(value, value_size)?);
                // The filter state "wasm.<path>": where there is no stream, there is none.
                let stream = call.host().stream().ok_or(Status::NOT_FOUND)?;
                stream.filter_state.insert(path, value);
                Ok(())
            })
        },
    )?;
    Ok(())
}
