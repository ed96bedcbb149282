// As main.rs, in WebAssembly: in V8, which is what runs the filter in Envoy. node in_v8.mjs scanner_speed.wasm

import { readFile } from "node:fs/promises";

const NAMES = ["one long text", "a text with an escape in each line", "many small values"];
const READERS = ["the scanner", "serde_json", "memchr"];
const ROUNDS = 15;
const REPEATS = 20;

const module = await WebAssembly.compile(await readFile(process.argv[2]));
// The filter's hostcalls and the standard library's are there to be linked; none is made.
const imports = {};
for (const { module: from, name } of WebAssembly.Module.imports(module)) {
  (imports[from] ??= {})[name] = () => {
    throw new Error(`${name} was called`);
  };
}
const { exports } = await WebAssembly.instantiate(module, imports);
exports._initialize?.();

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

function seconds(reader) {
  const start = performance.now();
  for (let repeat = 0; repeat < REPEATS; repeat += 1) {
    if (exports.read(reader) !== 0) {
      throw new Error("not an initialize");
    }
  }
  return (performance.now() - start) / 1e3 / REPEATS;
}

console.log("| in V8, MB/s | the scanner | serde_json | memchr | the scanner, of serde_json |");
console.log("| --- | ---: | ---: | ---: | ---: |");
for (const [number, name] of NAMES.entries()) {
  const megabytes = exports.choose(number) / 1e6;
  const found = READERS.map(() => []);
  for (let round = 0; round < ROUNDS; round += 1) {
    READERS.forEach((_, reader) => found[reader].push(seconds(reader)));
  }
  const speeds = found.map((values) => megabytes / median(values));
  const times = (speeds[0] / speeds[1]).toFixed(1);
  console.log(`| ${[name, ...speeds.map(Math.round), `${times} times`].join(" | ")} |`);
}
