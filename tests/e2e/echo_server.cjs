// The MCP server of echo_server.py on the TypeScript SDK: echo_server.cjs sse|json PORT
'use strict';
const { randomUUID } = require('node:crypto');
const { createServer } = require('node:http');
const { createInterface } = require('node:readline');
const { Server } = require('@modelcontextprotocol/sdk/server/index.js');
const { StreamableHTTPServerTransport } = require('@modelcontextprotocol/sdk/server/streamableHttp.js');
const { CallToolRequestSchema, ListToolsRequestSchema } = require('@modelcontextprotocol/sdk/types.js');

// Each name's lines that nobody took yet, and the calls that wait for one.
const lines = new Map();
let lonely;

function named(name) {
  if (!lines.has(name)) lines.set(name, { spare: 0, waiting: [] });
  return lines.get(name);
}

function line(name) {
  const { waiting } = named(name);
  if (waiting.length) waiting.shift()();
  else named(name).spare += 1;
}

async function nextLine(name) {
  if (named(name).spare) named(name).spare -= 1;
  else await new Promise((resolve) => named(name).waiting.push(resolve));
}

const TOOLS = {
  echo: async ({ message }) => `Echo: ${message}`,

  // Prints it as well: a call that ran twice is seen.
  async count({ message }) {
    console.log(`counted ${message}`);
    return `Echo: ${message}`;
  },

  // Every second call is answered before the one that came before it.
  async overtaken({ message }) {
    if (lonely) {
      setImmediate(lonely);
      lonely = undefined;
    } else {
      await new Promise((resolve) => {
        lonely = resolve;
        setTimeout(() => {
          if (lonely === resolve) lonely = undefined;
          resolve();
        }, 100);
      });
    }
    return `Echo: ${message}`;
  },

  // Tells each step after a line with this name.
  async progress({ name, steps }, { _meta, sendNotification }) {
    for (let step = 1; step <= steps; step += 1) {
      await nextLine(name);
      const params = { progressToken: _meta.progressToken, progress: step, total: steps, message: name };
      await sendNotification({ method: 'notifications/progress', params });
    }
    return `Done: ${name}`;
  },

  // Waits for a line with this name, and prints when it begins and if it is cancelled.
  async wait({ name }, { signal }) {
    signal.addEventListener('abort', () => console.log(`cancelled ${name}`));
    console.log(`waiting ${name}`);
    await nextLine(name);
    return `Done: ${name}`;
  },
};

function newServer() {
  const server = new Server({ name: 'echo', version: '1.0' }, { capabilities: { tools: {} } });
  const tools = Object.keys(TOOLS).map((name) => ({ name, inputSchema: { type: 'object' } }));
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    const text = await TOOLS[params.name](params.arguments, extra);
    return { content: [{ type: 'text', text }] };
  });
  return server;
}

const sessions = new Map();

async function openSession(enableJsonResponse) {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    enableJsonResponse,
    onsessioninitialized: (id) => sessions.set(id, transport),
  });
  await newServer().connect(transport);
  return transport;
}

function main(answers, port) {
  createInterface(process.stdin).on('line', line);
  const server = createServer(async (request, response) => {
    const known = sessions.get(request.headers['mcp-session-id']);
    const transport = known ?? (await openSession(answers === 'json'));
    await transport.handleRequest(request, response);
  });
  server.listen(Number(port), '127.0.0.1', () => console.log(`on loopback port ${server.address().port}`));
}

main(...process.argv.slice(2));
