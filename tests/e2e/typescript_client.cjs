// A fixed session of the official TypeScript client: typescript_client.cjs URL
// It waits for a line on its input before it ends the session, so that its event stream is sure to be open by then.
'use strict';
const { once } = require('node:events');
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

async function main(url) {
  const client = new Client({ name: 'typescript-client', version: '1.0' });
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  const { tools } = await client.listTools();
  if (!tools.some((tool) => tool.name === 'echo')) throw new Error('no tool named echo');
  for (const message of ['one', 'two']) {
    const { content } = await client.callTool({ name: 'echo', arguments: { message } });
    if (content[0].text !== `Echo: ${message}`) throw new Error(JSON.stringify(content));
  }
  console.log('used');
  await once(process.stdin, 'data');
  await transport.terminateSession();
  await client.close();
  process.exit(0);
}

main(process.argv[2]);
