//! The hostcalls about shared queues.

use wasmtime::{Caller, Linker, Result};

use super::guest::answer;
use super::host::Host;
use super::status::Status;

type Env<'a> = Caller<'a, Host>;

/// Defines them all.
pub fn define(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_register_shared_queue",
        |env: Env, name: u32, size: u32, id_at: u32| {
            answer(env, "proxy_register_shared_queue", |call| {
                let name = call.bytes(name, size)?;
                let owner = call.host().number;
                let id = call.host().world.state().queues.register(&name, owner);
                call.put(id_at, &id.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_resolve_shared_queue",
        |env: Env, vm_id: u32, vm_id_size: u32, name: u32, size: u32, id_at: u32| {
            answer(env, "proxy_resolve_shared_queue", |call| {
                let (vm_id, name) = (call.bytes(vm_id, vm_id_size)?, call.bytes(name, size)?);
                // None stands for the module's own, and here all VMs are of one that has no name.
                if !vm_id.is_empty() {
                    return Err(Status::NOT_FOUND);
                }
                let id = call.host().world.state().queues.resolve(&name)?;
                call.put(id_at, &id.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_enqueue_shared_queue",
        |env: Env, id: u32, data: u32, size: u32| {
            answer(env, "proxy_enqueue_shared_queue", |call| {
                let data = call.bytes(data, size)?;
                call.host().world.state().queues.enqueue(id, data)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_dequeue_shared_queue",
        |env: Env, id: u32, data_at: u32, size_at: u32| {
            answer(env, "proxy_dequeue_shared_queue", |call| {
                let data = call.host().world.state().queues.dequeue(id)?;
                call.give(&data, data_at, size_at)
            })
        },
    )?;
    Ok(())
}
