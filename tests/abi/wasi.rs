//! What the standard library of a `wasm32-wasip1` module asks of its host.

use wasmtime::{Caller, Error, Linker, Result};

use super::guest::{Call, answer};
use super::host::Host;
use super::status::{Answered, Status};

const MODULE: &str = "wasi_snapshot_preview1";

type Env<'a> = Caller<'a, Host>;

/// Defines them all.
pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(MODULE, "random_get", |env: Env, at: u32, size: u32| {
        answer(env, "random_get", |call| {
            let random: Vec<u8> = (0..size)
                .map(|_| call.host().world.state().random.byte())
                .collect();
            call.put(at, &random)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |env: Env, _clock: u32, _precision: u64, at: u32| {
            answer(env, "clock_time_get", |call| {
                let now = call.host().world.state().now;
                call.put(at, &now.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |env: Env, count_at: u32, size_at: u32| {
            answer(env, "environ_sizes_get", |call| {
                let variables = environment(call);
                let count = u32::try_from(variables.len()).expect("variables are few");
                let size = u32::try_from(variables.concat().len()).expect("variables are short");
                call.put(count_at, &count.to_le_bytes())?;
                call.put(size_at, &size.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_get",
        |env: Env, pointers_at: u32, bytes_at: u32| {
            answer(env, "environ_get", |call| {
                write_environment(call, pointers_at, bytes_at)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |env: Env, _fd: u32, iovs: u32, count: u32, written_at: u32| {
            answer(env, "fd_write", |call| {
                let text = gathered(call, iovs, count)?;
                let written = u32::try_from(text.len()).expect("a line is short");
                let line = String::from_utf8_lossy(&text).into_owned();
                call.host()
                    .world
                    .state()
                    .log
                    .push((super::world::ERROR, line));
                call.put(written_at, &written.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(MODULE, "proc_exit", |_: Env, code: u32| -> Result<()> {
        Err(Error::msg(format!("the module called proc_exit({code})")))
    })?;
    Ok(())
}

fn environment(call: &mut Call<'_>) -> Vec<Vec<u8>> {
    let state = call.host().world.state();
    state
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}\0").into_bytes())
        .collect()
}

fn write_environment(call: &mut Call<'_>, pointers_at: u32, bytes_at: u32) -> Answered {
    let (mut place, mut at) = (pointers_at, bytes_at);
    for variable in environment(call) {
        call.put(place, &at.to_le_bytes())?;
        call.put(at, &variable)?;
        place += 4;
        at += u32::try_from(variable.len()).expect("variables are short");
    }
    Ok(())
}

/// The bytes of a list of (pointer, size).
fn gathered(call: &mut Call<'_>, iovs: u32, count: u32) -> Result<Vec<u8>, Status> {
    let mut text = Vec::new();
    for n in 0..count {
        let vector = call.bytes(iovs + n * 8, 8)?;
        let number = |at: usize| {
            u32::from_le_bytes([vector[at], vector[at + 1], vector[at + 2], vector[at + 3]])
        };
        text.extend(call.bytes(number(0), number(4))?);
    }
    Ok(text)
}
