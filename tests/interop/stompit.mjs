// Stories told by stompit: `stompit.mjs STORY VERSION PORT` ends with 0 when the story came true.
//
// Finds the package below the folder in ESCROW_PEERS_NPM. Every wait is for a frame; a story that
// waits in vain is ended by a timer.

import { createRequire } from 'node:module';
import assert from 'node:assert/strict';

const require = createRequire(`${process.env.ESCROW_PEERS_NPM}/`);
const stompit = require('stompit');

const [story, version, port] = process.argv.slice(2);
const patienceMs = 30_000;

class Client {
  static open(heartBeat = '0,0') {
    const connectHeaders = {
      host: 'localhost',
      login: 'guest',
      passcode: 'guest',
      'accept-version': version,
      'heart-beat': heartBeat,
    };
    return new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: Number(port), connectHeaders };
      stompit.connect(options, (error, client) => {
        if (error) return reject(error);
        assert.equal(client.headers.version ?? '1.0', version);
        resolve(new Client(client));
      });
    });
  }

  constructor(client) {
    this.client = client;
    this.inbox = [];
    this.waiting = [];
    // An end that the story does not await is thrown there, where it waits next.
    this.ended = new Promise((resolve) => client.on('error', resolve));
  }

  send(destination, body, headers = {}) {
    return new Promise((resolve) => {
      const all = { destination, 'content-length': Buffer.byteLength(body), ...headers };
      const frame = this.client.send(all, { onReceipt: resolve });
      frame.end(body);
    });
  }

  // SUBSCRIBE is heard before any later frame of this connection, so no receipt is needed.
  subscribe(destination, ack = 'auto', headers = {}) {
    const all = { destination, ack, ...headers };
    return this.client.subscribe(all, (error, message) => {
      if (error) return;
      const pieces = [];
      message.on('data', (piece) => pieces.push(piece));
      message.on('end', () => this.#arrived({ message, body: Buffer.concat(pieces) }));
    });
  }

  #arrived(item) {
    const waiting = this.waiting.shift();
    waiting ? waiting(item) : this.inbox.push(item);
  }

  message() {
    if (this.inbox.length > 0) return Promise.resolve(this.inbox.shift());
    const arrival = new Promise((resolve) => this.waiting.push(resolve));
    const end = this.ended.then((error) => Promise.reject(error));
    return Promise.race([arrival, end]);
  }

  async text() {
    return (await this.message()).body.toString();
  }

  ack({ message }) {
    return new Promise((resolve) => this.client.ack(message, {}, { onReceipt: resolve }));
  }

  nack({ message }) {
    return new Promise((resolve) => this.client.nack(message, {}, { onReceipt: resolve }));
  }

  close() {
    return new Promise((resolve, reject) => {
      this.client.disconnect((error) => (error ? reject(error) : resolve()));
    });
  }
}

// All bodies that wait in a queue, up to a mark sent behind them; nothing is consumed.
async function restOf(destination) {
  const client = await Client.open();
  await client.send(destination, 'the end');
  client.subscribe(destination, 'client-individual');
  const bodies = [];
  for (;;) {
    const item = await client.message();
    if (item.body.toString() === 'the end') {
      await client.ack(item);
      await client.close();
      return bodies;
    }
    bodies.push(item.body.toString());
  }
}

const stories = {
  async sends_and_receives() {
    const client = await Client.open();
    client.subscribe('/queue/js.plain');
    await client.send('/queue/js.plain', 'hello', { colour: 'blue' });
    const { message, body } = await client.message();
    assert.equal(body.toString(), 'hello');
    assert.equal(message.headers.destination, '/queue/js.plain');
    assert.equal(message.headers.colour, 'blue');
    assert.ok(message.headers['message-id']);
    await client.close();
  },

  async auto_ack_consumes_on_delivery() {
    const client = await Client.open();
    for (const body of ['a', 'b']) await client.send('/queue/js.auto', body);
    client.subscribe('/queue/js.auto', 'auto');
    assert.deepEqual([await client.text(), await client.text()], ['a', 'b']);
    await client.close();
    assert.deepEqual(await restOf('/queue/js.auto'), []);
  },

  async client_ack_covers_all_before() {
    const client = await Client.open();
    for (const body of ['a', 'b', 'c', 'd']) await client.send('/queue/js.client', body);
    client.subscribe('/queue/js.client', 'client');
    const items = [];
    for (let n = 0; n < 4; n += 1) items.push(await client.message());
    await client.ack(items[2]);
    await client.close();
    assert.deepEqual(await restOf('/queue/js.client'), ['d']);
  },

  async a_commit_does_all_and_an_abort_nothing() {
    const client = await Client.open();
    for (const [body, end] of [['seen', 'commit'], ['never', 'abort']]) {
      const transaction = client.client.begin();
      const destination = '/queue/js.tx';
      transaction.send({ destination, 'content-length': Buffer.byteLength(body) }).end(body);
      await new Promise((resolve) => transaction[end]({ onReceipt: resolve }));
    }
    await client.close();
    assert.deepEqual(await restOf('/queue/js.tx'), ['seen']);
  },

  async individual_ack_covers_one() {
    const client = await Client.open();
    for (const body of ['a', 'b', 'c']) await client.send('/queue/js.individual', body);
    client.subscribe('/queue/js.individual', 'client-individual');
    const items = [];
    for (let n = 0; n < 3; n += 1) items.push(await client.message());
    await client.ack(items[1]);
    await client.close();
    assert.deepEqual(await restOf('/queue/js.individual'), ['a', 'c']);
  },

  async nack_brings_a_message_back() {
    const client = await Client.open();
    await client.send('/queue/js.nack', 'again');
    client.subscribe('/queue/js.nack', 'client-individual');
    const first = await client.message();
    assert.notEqual(first.message.headers.redelivered, 'true');
    await client.nack(first);
    const second = await client.message();
    assert.equal(second.body.toString(), 'again');
    assert.equal(second.message.headers.redelivered, 'true');
    assert.equal(second.message.headers['message-id'], first.message.headers['message-id']);
    await client.ack(second);
    await client.close();
    assert.deepEqual(await restOf('/queue/js.nack'), []);
  },

  async bodies_arrive_byte_by_byte() {
    const client = await Client.open();
    client.subscribe('/queue/js.bodies');
    const all = Buffer.from(Array.from({ length: 256 * 40 }, (_, n) => n % 256));
    const bodies = [all, Buffer.from('Grüße, 世界 🦀'), Buffer.from([0]), Buffer.from('\n\n\0\n')];
    for (const body of bodies) {
      await client.send('/queue/js.bodies', body);
      assert.ok((await client.message()).body.equals(body));
    }
    await client.close();
  },

  async headers_keep_their_marks() {
    const client = await Client.open();
    client.subscribe('/queue/js.headers');
    const marks = { slash: 'a\\b', end: 'ends with \\', speech: 'ü 世' };
    if (version !== '1.0') Object.assign(marks, { lines: 'two\nlines', 'na:me': 'a:b' });
    if (version === '1.2') marks.return = 'a\r\nb';
    await client.send('/queue/js.headers', 'x', { ...marks });
    const { headers } = (await client.message()).message;
    for (const [name, value] of Object.entries(marks)) assert.equal(headers[name], value);
    await client.close();
  },

  async heart_beats_keep_an_idle_connection() {
    const client = await Client.open('400,400');
    const [send, want] = client.client.headers['heart-beat'].split(',').map(Number);
    assert.ok(send > 0 && want > 0, 'the broker offers no heart-beats');
    const socket = client.client.getTransportSocket();
    // Each beat is a piece of data; stompit itself ends a connection whose beats stay away.
    for (let beats = 0; beats < 4; beats += 1) {
      await Promise.race([
        new Promise((resolve) => socket.once('data', resolve)),
        client.ended.then((error) => Promise.reject(error)),
      ]);
    }
    await client.send('/queue/js.heart', 'still here');
    await client.close();
    assert.deepEqual(await restOf('/queue/js.heart'), ['still here']);
  },

  async topic_reaches_all_who_listen_now() {
    const [one, two] = [await Client.open(), await Client.open()];
    for (const client of [one, two]) {
      client.subscribe('/topic/js.news');
      // The receipt of anything sent later says that the subscription stands.
      await client.send('/queue/js.barrier', 'x', { persistent: 'false' });
    }
    await one.send('/topic/js.news', 'news');
    assert.deepEqual([await one.text(), await two.text()], ['news', 'news']);
    await one.close();
    await two.close();
  },

  async unsubscribed_gets_no_more() {
    const client = await Client.open();
    const subscription = client.subscribe('/queue/js.gone');
    await client.send('/queue/js.gone', 'one');
    assert.equal(await client.text(), 'one');
    subscription.unsubscribe();
    await client.send('/queue/js.gone', 'two');
    client.subscribe('/queue/js.other');
    await client.send('/queue/js.other', 'three');
    assert.equal(await client.text(), 'three');
    await client.close();
    assert.deepEqual(await restOf('/queue/js.gone'), ['two']);
  },

  async errors_say_why() {
    // Depending on timing, stompit raises the error on a stream that no program can get hold of.
    const raised = new Promise((resolve) => process.on('uncaughtException', resolve));
    const client = await Client.open();
    const nothing = { id: 'none', 'message-id': 'none', subscription: 'none' };
    client.client.sendFrame('ACK', nothing).end();
    const error = await Promise.race([client.ended, raised]);
    // stompit forgets that the error came as a frame, but not what it says; its own words for an
    // end without one are these.
    assert.doesNotMatch(error.message, /^$|connection ended|timed out|ECONN/);
  },
};

setTimeout(() => {
  console.error(`${story} waited ${patienceMs} ms in vain`);
  process.exit(1);
}, patienceMs).unref();

// A story whose every wait hangs on a closed socket would let the process end as if all were well.
process.exitCode = 1;
await stories[story]();
console.log(`${story} in ${version}: ok`);
process.exit(0);
