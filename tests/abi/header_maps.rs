//! The hostcalls about header maps: what can be read and changed, and when.

use wasmtime::{Caller, Linker, Result};

use super::guest::{Call, answer};
use super::head::Headers;
use super::host::Host;
use super::status::{Answered, Status};
use super::stream::Direction;

type Env<'a> = Caller<'a, Host>;

/// Defines them all.
pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |env: Env, map: u32, value_at: u32, size_at: u32| {
            answer(env, "proxy_get_header_map_pairs", |call| {
                // A map that can't be read is "ok" and empty, unlike a value of it.
                let pairs = readable(call.host(), map)
                    .map(Headers::serialized)
                    .unwrap_or_default();
                call.give(&pairs, value_at, size_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_replace_header_map_value",
        |env: Env, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| {
            answer(env, "proxy_replace_header_map_value", |call| {
                let (key, value) = (call.text(key, key_size)?, call.bytes(value, value_size)?);
                edit(call, map, &key, &value, |headers| headers.set(&key, &value))
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_add_header_map_value",
        |env: Env, map: u32, key: u32, key_size: u32, value: u32, value_size: u32| {
            answer(env, "proxy_add_header_map_value", |call| {
                let (key, value) = (call.text(key, key_size)?, call.bytes(value, value_size)?);
                edit(call, map, &key, &value, |headers| headers.add(&key, &value))
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |env: Env, map: u32, key: u32, key_size: u32| {
            answer(env, "proxy_remove_header_map_value", |call| {
                let key = call.text(key, key_size)?;
                edit(call, map, &key, &[], |headers| headers.remove(&key))
            })
        },
    )?;
    Ok(())
}

/// The headers behind a map's number, while they can be read.
fn readable(host: &mut Host, map: u32) -> Result<&Headers, Status> {
    let direction = match map {
        0 => Direction::Request,
        2 => Direction::Response,
        6 => {
            return host
                .call_answer
                .as_ref()
                .map(|answer| &answer.headers)
                .ok_or(Status::BAD_ARGUMENT);
        }
        _ => return Err(Status::BAD_ARGUMENT),
    };
    let stream = host.stream().ok_or(Status::BAD_ARGUMENT)?;
    let logging = stream.logging;
    let flow = stream.flow(direction);
    match (flow.readable || logging, flow.headers.0.is_empty()) {
        (true, false) => Ok(&flow.headers),
        (true, true) if logging => Err(Status::NOT_FOUND),
        _ => Err(Status::BAD_ARGUMENT),
    }
}

fn edit(
    call: &mut Call<'_>,
    map: u32,
    key: &str,
    value: &[u8],
    change: impl FnOnce(&mut Headers),
) -> Answered {
    let direction = match map {
        0 => Direction::Request,
        2 => Direction::Response,
        _ => return Err(Status::BAD_ARGUMENT),
    };
    let host = call.host();
    let callback = host.callback;
    let stream = host.stream().ok_or(Status::BAD_ARGUMENT)?;
    let flow = stream.flow(direction);
    if !flow.readable {
        return Err(Status::BAD_ARGUMENT);
    }
    change(&mut flow.headers);
    let too_late = !flow.headers_are_here();
    if too_late {
        host.offend(format!(
            "{callback} edited '{key}' of a {direction:?} whose headers had gone on"
        ));
    }
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        host.offend(format!(
            "{callback} set '{key}' to something that is no header value"
        ));
    }
    Ok(())
}
