// Preloaded into a Node server that offers no setting for its address: it listens on loopback only, and says where.
// With ANY_PORT in the environment it takes a free port, whatever it was told: some servers refuse to be told 0.
'use strict';
const { Server } = require('node:net');

const listen = Server.prototype.listen;
Server.prototype.listen = function listenOnLoopback(first, ...rest) {
  const named = typeof first === 'object' && first !== null;
  if (named && first.port === undefined) return listen.call(this, first, ...rest); // a pipe or a handle: no address
  this.once('listening', () => console.log(`on loopback port ${this.address().port}`));
  const options = named ? { ...first } : { port: Number(first ?? 0) };
  const done = rest.filter((argument) => typeof argument === 'function');
  if (process.env.ANY_PORT) options.port = 0;
  return listen.call(this, { ...options, host: '127.0.0.1' }, ...done);
};
