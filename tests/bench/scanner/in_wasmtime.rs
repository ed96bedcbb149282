//! As `main.rs`, in WebAssembly: how many instructions each reader takes for a byte, the same on every machine, and how
//! fast that is in wasmtime. `make bench-scanner` runs it, and `in_v8.mjs` after it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use wasmtime::{Config, Engine, Instance, Linker, Module, Store, TypedFunc};

const NAMES: [&str; 3] = [
    "one long text",
    "a text with an escape in each line",
    "many small values",
];
const READERS: u32 = 3;
const ROUNDS: usize = 15;
const REPEATS: u32 = 20;
/// More than any reader takes.
const FUEL: u64 = 1 << 40;

fn main() {
    let path = std::env::args().nth(1).expect("the module's path");
    let mut counted = Guest::start(&path, true);
    let mut timed = Guest::start(&path, false);
    println!(
        "| in wasmtime: instructions per byte, MB/s | the scanner | serde_json | memchr | the scanner, of serde_json |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (number, name) in (0..).zip(NAMES) {
        let size = f64::from(counted.choose(number));
        let instructions = [0, 1, 2].map(|reader| counted.instructions(reader) / size);
        timed.choose(number);
        let speeds = timed.seconds().map(|seconds| size / 1e6 / seconds);
        let both = instructions.iter().zip(&speeds);
        let cells: Vec<_> = both
            .map(|(n, speed)| format!("{n:.2}, {speed:.0}"))
            .collect();
        let ([scanner, serde, _], [speed, serde_speed, _]) = (instructions, speeds);
        let (fewer, faster) = (serde / scanner, speed / serde_speed);
        println!(
            "| {name} | {} | {fewer:.1}, {faster:.1} times |",
            cells.join(" | ")
        );
    }
}

/// The readers in an instance of their own.
struct Guest {
    store: Store<()>,
    choose: TypedFunc<u32, u32>,
    read: TypedFunc<u32, u32>,
}

impl Guest {
    fn start(path: &str, counts: bool) -> Self {
        let mut config = Config::new();
        config.consume_fuel(counts);
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::from_file(&engine, path).expect("a module");
        let mut linker = Linker::new(&engine);
        // The filter's hostcalls and the standard library's are there to be linked; none is made.
        linker
            .define_unknown_imports_as_traps(&module)
            .expect("all imports");
        let mut store = Store::new(&engine, ());
        if counts {
            store.set_fuel(FUEL).expect("fuel is counted");
        }
        let instance = linker
            .instantiate(&mut store, &module)
            .expect("an instance");
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
            initialize.call(&mut store, ()).expect("it starts");
        }
        let [choose, read] = ["choose", "read"].map(|name| export(&instance, &mut store, name));
        Self {
            store,
            choose,
            read,
        }
    }

    fn choose(&mut self, body: u32) -> u32 {
        let size = self.choose.call(&mut self.store, body);
        size.expect("there is such a body")
    }

    fn read(&mut self, reader: u32) {
        let verdict = self.read.call(&mut self.store, reader);
        assert_eq!(verdict.expect("it can be read"), 0, "not an initialize");
    }

    fn instructions(&mut self, reader: u32) -> f64 {
        self.store.set_fuel(FUEL).expect("fuel is counted");
        self.read(reader);
        let left = self.store.get_fuel().expect("fuel is counted");
        #[allow(clippy::cast_precision_loss)]
        let used = (FUEL - left) as f64;
        used
    }

    /// The median time of each reader.
    fn seconds(&mut self) -> [f64; 3] {
        let mut seconds = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (reader, seconds) in (0..READERS).zip(&mut seconds) {
                let start = Instant::now();
                (0..REPEATS).for_each(|_| self.read(reader));
                seconds.push(start.elapsed().as_secs_f64() / f64::from(REPEATS));
            }
        }
        seconds.map(median)
    }
}

fn export(instance: &Instance, store: &mut Store<()>, name: &str) -> TypedFunc<u32, u32> {
    let function = instance.get_typed_func(store, name);
    function.expect("the readers' module")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.swap_remove(values.len() / 2)
}
