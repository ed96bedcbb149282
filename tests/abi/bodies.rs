//! The hostcalls about bodies: what can be read and changed, and answers of the filter's own.

use wasmtime::{Caller, Linker, Result};

use super::guest::answer;
use super::head::Headers;
use super::host::Host;
use super::local_reply::LocalReply;
use super::status::Status;

type Env<'a> = Caller<'a, Host>;

/// Defines them all.
pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    local_reply(linker)?;
    buffers(linker)
}

fn local_reply(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |env: Env,
         status: u32,
         details: u32,
         details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         _grpc_status: u32| {
            answer(env, "proxy_send_local_response", |call| {
                let details = call.text(details, details_size)?;
                let body = call.bytes(body, body_size)?;
                let headers = Headers::deserialized(&call.bytes(headers, headers_size)?);
                let headers = headers.ok_or(Status::BAD_ARGUMENT)?;
                let status = u16::try_from(status).map_err(|_| Status::BAD_ARGUMENT)?;
                let reply = LocalReply::new(status, headers, body, details);
                call.host().send_local_reply(reply)
            })
        },
    )?;
    Ok(())
}

fn buffers(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_set_buffer_bytes",
        |env: Env, kind: u32, start: u32, size: u32, data: u32, data_size: u32| {
            answer(env, "proxy_set_buffer_bytes", |call| {
                let data = call.bytes(data, data_size)?;
                let (start, size) = (start as usize, size as usize);
                call.host().set_buffer(kind, start, size, &data)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |env: Env, kind: u32, start: u32, most: u32, value_at: u32, size_at: u32| {
            answer(env, "proxy_get_buffer_bytes", |call| {
                let buffer = buffer(call.host(), kind)?;
                let (start, most) = (start as usize, most as usize);
                let end = buffer.len().min(start.saturating_add(most));
                call.give(
                    buffer.get(start..end).unwrap_or_default(),
                    value_at,
                    size_at,
                )
            })
        },
    )?;
    Ok(())
}

/// An absent configuration is "not found"; an absent body is "ok" and empty.
fn buffer(host: &mut Host, kind: u32) -> Result<Vec<u8>, Status> {
    match kind {
        0 => Ok(host
            .stream()
            .map(|stream| stream.request.window.clone())
            .unwrap_or_default()),
        1 => Ok(host
            .stream()
            .map(|stream| stream.response.window.clone())
            .unwrap_or_default()),
        4 => host
            .call_answer
            .as_ref()
            .map(|answer| answer.body.clone())
            .ok_or(Status::NOT_FOUND),
        6 => Ok(Vec::new()),
        7 if host.configuring => Ok(host.world.state().config.clone()),
        7 => Err(Status::NOT_FOUND),
        _ => Err(Status::BAD_ARGUMENT),
    }
}
