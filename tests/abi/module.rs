//! The shipped module, compiled once, and fresh instances of it.

use std::path::Path;
use std::sync::OnceLock;

use wasmtime::{
    Caller, Config, Engine, ExternType, ImportType, InstancePre, Linker, Module, Store, Val,
};

use super::host::Host;
use super::queues::VmNumber;
use super::world::World;
use super::{imports, wasi};

/// `proxy_status_t`
const UNIMPLEMENTED: i32 = 12;

/// What `make build` makes.
pub fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp_session_filter.wasm");
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("{}: {e}: run `make build` first", path.display()));
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config).expect("the engine starts");
        Module::new(&engine, bytes).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()))
    })
}

/// Named by the SDK's own code. The filter makes none of these calls; the mock host would not know how to answer.
const NEVER_MADE: [&str; 7] = [
    "proxy_close_stream",
    "proxy_done",
    "proxy_get_status",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_set_header_map_pairs",
];

/// The module with the mock host's imports, ready to be instantiated.
pub fn linked() -> InstancePre<Host> {
    thread_local! {
        static LINKED: InstancePre<Host> = {
            let mut linker = known();
            for import in unplayed() {
                let (from, name, kind) = (import.module(), import.name(), import.ty());
                let ExternType::Func(function) = kind else { panic!("{from}.{name} is no function") };
                let unplayed = move |mut caller: Caller<'_, Host>, _: &[Val], results: &mut [Val]| {
                    caller.data_mut().offend(format!("the filter called {name}, which the mock host does not play"));
                    results.fill(Val::I32(UNIMPLEMENTED));
                    Ok(())
                };
                linker.func_new(from, name, function, unplayed).expect("an import is defined once");
            }
            linker.instantiate_pre(module()).expect("all imports are there")
        };
    }
    LINKED.with(Clone::clone)
}

/// The imports that neither the mock host nor the SDK's unused code explains.
pub fn unknown_imports() -> Vec<String> {
    let unknown = unplayed()
        .into_iter()
        .filter(|import| !NEVER_MADE.contains(&import.name()));
    unknown
        .map(|import| format!("{}.{}", import.module(), import.name()))
        .collect()
}

fn unplayed() -> Vec<ImportType<'static>> {
    let linker = known();
    let mut store = Store::new(
        module().engine(),
        Host::new(World::new(""), VmNumber::default()),
    );
    module()
        .imports()
        .filter(|import| linker.get_by_import(&mut store, import).is_none())
        .collect()
}

fn known() -> Linker<Host> {
    let mut linker = Linker::new(module().engine());
    imports::define(&mut linker)
        .and_then(|()| wasi::define(&mut linker))
        .expect("an import is defined once");
    linker
}
