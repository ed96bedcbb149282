// The official TypeScript client that calls a tool for each line "TOOL MESSAGE" on its input: calling_client.cjs URL
// It knows nothing of restarts: one session, opened once. Each call ends in a line, "answered MESSAGE" or "failed MESSAGE: why".
'use strict';
const { createInterface } = require('node:readline');
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

const PATIENCE = { timeout: 15_000 };

async function call(client, name, message) {
  try {
    const { content } = await client.callTool({ name, arguments: { message } }, undefined, PATIENCE);
    const { text } = content[0];
    return text === `Echo: ${message}` ? `answered ${message}` : `failed ${message}: ${text}`;
  } catch (failure) {
    return `failed ${message}: ${failure.message}`;
  }
}

async function main(url) {
  const client = new Client({ name: 'typescript-client', version: '1.0' });
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  console.log('ready');
  for await (const line of createInterface({ input: process.stdin })) {
    if (!line) break;
    const [, tool, message] = line.match(/^(\S+) (.*)$/);
    console.log((await call(client, tool, message)).replace(/\s+/g, ' '));
  }
  await transport.terminateSession();
  await client.close();
  process.exit(0);
}

main(process.argv[2]);
