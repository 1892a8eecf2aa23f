// The interop scenarios through amqplib.
//
// Run by interop/run, which sets AMQP_URL and reads one line per scenario from standard output:
// `ok NAME` or `FAIL NAME: why`. See interop/README.md for what each scenario has to show.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const amqp = require('amqplib');

const url = process.env.AMQP_URL;
const prefix = `interop.node.${process.pid}`;
const waitMs = 10_000;

/** Connects; errors that the library also emits as events are awaited where they matter. */
async function connect(to = url) {
  const connection = await amqp.connect(to);
  connection.on('error', () => {});
  return connection;
}

/** A channel whose errors reject the call that caused them instead of ending the process. */
async function channelOf(connection, kind = 'createChannel') {
  const channel = await connection[kind]();
  channel.on('error', () => {});
  return channel;
}

/** Fails unless the promise is rejected with this code and a message that holds the text. */
async function refused(code, text, promise) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(text), error.message);
    return true;
  });
}

/** Consumes a queue; `next()` waits for one delivery, `waiting()` counts those not yet taken. */
async function consume(channel, queue, options) {
  const deliveries = [];
  let wake = () => {};
  const { consumerTag } = await channel.consume(
    queue,
    (delivery) => {
      deliveries.push(delivery);
      wake();
    },
    options,
  );
  const next = async () => {
    const deadline = AbortSignal.timeout(waitMs);
    while (deliveries.length === 0) {
      assert.ok(!deadline.aborted, `nothing from ${queue} within ${waitMs} ms`);
      let timer;
      await new Promise((resolve) => {
        wake = resolve;
        timer = setTimeout(resolve, waitMs);
      });
      clearTimeout(timer);
    }
    return deliveries.shift();
  };
  return { consumerTag, next, waiting: () => deliveries.length };
}

const body = (delivery) => delivery.content.toString();

async function getOne(channel, queue, options) {
  const got = await channel.get(queue, options);
  assert.notEqual(got, false, `nothing in ${queue}`);
  return got;
}

/** Sends the numbers below count as persistent messages and waits for every acknowledgement. */
async function publishConfirmed(channel, queue, count) {
  for (let number = 0; number < count; number++) {
    channel.sendToQueue(queue, Buffer.from(String(number)), { persistent: true });
  }
  await channel.waitForConfirms();
}

const scenarios = {
  // Server properties are RabbitMQ's; wrong credentials and vhosts are refused as it does.
  connect: async (connection) => {
    const properties = connection.connection.serverProperties;
    assert.equal(properties.product, 'RabbitMQ');
    const [major, minor] = properties.version.split('.').map(Number);
    assert.ok(major > 3 || (major === 3 && minor >= 10), properties.version);
    for (const capability of [
      'publisher_confirms',
      'exchange_exchange_bindings',
      'basic.nack',
      'consumer_cancel_notify',
      'connection.blocked',
      'consumer_priorities',
      'authentication_failure_close',
      'per_consumer_qos',
      'direct_reply_to',
    ]) {
      assert.equal(properties.capabilities[capability], true, capability);
    }
    const wrong = new URL(url);
    wrong.password = 'wrong';
    await assert.rejects(amqp.connect(wrong.href), /403 \(ACCESS.REFUSED\).*Login was refused/);
    const lost = new URL(url);
    lost.pathname = '/no-such-vhost';
    // The library does not pass the broker's 530 on, only that it closed instead of opening.
    await assert.rejects(
      amqp.connect(lost.href),
      /Expected ConnectionOpenOk; got <ConnectionClose/,
    );
  },

  // Exchanges, queues and bindings; the same again is fine, a different one is 406.
  declare: async (connection, channel, name) => {
    await channel.assertExchange(name, 'direct', { durable: true });
    await channel.assertExchange(name, 'direct', { durable: true });
    await channel.assertQueue(name, { durable: true, maxLength: 5 });
    await channel.bindQueue(name, name, 'in');
    channel.publish(name, 'in', Buffer.from('routed'));
    channel.publish(name, 'out', Buffer.from('not routed'));
    assert.equal(body(await getOne(channel, name, { noAck: true })), 'routed');
    assert.equal(await channel.get(name), false);
    assert.deepEqual(await channel.checkQueue(name), {
      queue: name,
      messageCount: 0,
      consumerCount: 0,
    });
    await refused(
      406,
      `inequivalent arg 'auto_delete' for queue '${name}' in vhost '/': ` +
          `received 'true' but current is 'false'`,
      channel.assertQueue(name, { durable: true, maxLength: 5, autoDelete: true }),
    );
    const next = await channelOf(connection);
    await refused(
      404,
      `no exchange '${name}.none' in vhost '/'`,
      next.bindQueue(name, `${name}.none`, ''),
    );
    const last = await channelOf(connection);
    await last.unbindQueue(name, name, 'in');
    await last.deleteQueue(name);
    await last.deleteExchange(name);
  },

  // Each persistent message to a durable queue is confirmed, and all are there in order.
  confirm: async (connection, _channel, name) => {
    const channel = await channelOf(connection, 'createConfirmChannel');
    await channel.assertQueue(name, { durable: true });
    await publishConfirmed(channel, name, 1000);
    const deliveries = await consume(channel, name, { noAck: true });
    for (let number = 0; number < 1000; number++) {
      assert.equal(body(await deliveries.next()), String(number));
    }
    await channel.deleteQueue(name);
  },

  // Every property and every kind of header value arrives as it was sent.
  properties: async (_connection, channel, name) => {
    const headers = {
      text: 'grün',
      int: -7,
      long: 2 ** 40,
      double: 2.5,
      bool: true,
      void: null,
      bytes: Buffer.from([0, 255]),
      list: [1, 'two', { deep: false }],
      table: { inner: 'x' },
    };
    const properties = {
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      headers,
      deliveryMode: 2,
      priority: 3,
      correlationId: 'c-1',
      replyTo: 'somewhere',
      expiration: '60000',
      messageId: 'm-1',
      timestamp: 1700000000,
      type: 'kind',
      userId: 'guest',
      appId: 'interop',
    };
    await channel.assertQueue(name, { exclusive: true });
    channel.sendToQueue(name, Buffer.from('body'), properties);
    const got = await getOne(channel, name, { noAck: true });
    assert.equal(body(got), 'body');
    assert.deepEqual(got.properties.headers, headers);
    for (const [key, value] of Object.entries(properties)) {
      assert.deepEqual(got.properties[key], value, key);
    }
  },

  // Bodies from nothing to many frames arrive whole, also at the edges of a frame.
  sizes: async (connection, channel, name) => {
    const whole = connection.connection.frameMax - 8;
    await channel.assertQueue(name, { exclusive: true });
    const bodies = [0, 1, whole - 1, whole, whole + 1, 2 * whole, 1_000_000].map((size) =>
      Buffer.from(Uint8Array.from({ length: size }, (_, index) => index % 251)),
    );
    for (const content of bodies) channel.sendToQueue(name, content, { persistent: true });
    const deliveries = await consume(channel, name, { noAck: true });
    for (const content of bodies) {
      const received = (await deliveries.next()).content;
      assert.ok(
        received.equals(content),
        `${received.length} bytes are not the ${content.length} sent`,
      );
    }
  },

  // No more than the prefetch count is out at a time; an acknowledgement brings the next.
  prefetch: async (_connection, channel, name) => {
    await channel.assertQueue(name, { exclusive: true });
    for (let number = 0; number < 10; number++)
      channel.sendToQueue(name, Buffer.from(String(number)));
    await channel.prefetch(3);
    const deliveries = await consume(channel, name);
    const received = [];
    const waitFor = async (count) => {
      while (received.length < count) {
        const delivery = await deliveries.next();
        assert.equal(body(delivery), String(received.length));
        received.push(delivery);
      }
      // Counted on the same channel: whatever was sent before the answer has come.
      assert.equal((await channel.checkQueue(name)).messageCount, 10 - count);
      assert.equal(deliveries.waiting(), 0);
    };
    await waitFor(3);
    channel.ack(received[0]);
    await waitFor(4);
    channel.ack(received[3], true);
    await waitFor(7);
    channel.ackAll();
    await waitFor(10);
  },

  // nack and reject with requeue bring a message back, marked; without, it is gone.
  requeue: async (connection, channel, name) => {
    await channel.assertQueue(name, { exclusive: true });
    channel.sendToQueue(name, Buffer.from('again'));
    channel.sendToQueue(name, Buffer.from('next'));
    const expect = async (from, text, redelivered) => {
      const got = await getOne(from, name);
      assert.deepEqual([body(got), got.fields.redelivered], [text, redelivered]);
      return got;
    };
    channel.nack(await expect(channel, 'again', false), false, true);
    channel.reject(await expect(channel, 'again', true), true);
    await expect(channel, 'again', true);
    await channel.recover();
    channel.nack(await expect(channel, 'again', true), false, false);
    await expect(channel, 'next', false);
    // Closing a channel gives back what it had not acknowledged.
    await channel.close();
    const fresh = await channelOf(connection);
    fresh.ack(await expect(fresh, 'next', true));
    assert.equal(await fresh.get(name), false);
  },

  // A mandatory message without a queue comes back, before its confirm; a plain one is dropped.
  mandatory: async (connection, _channel, name) => {
    const channel = await channelOf(connection, 'createConfirmChannel');
    const events = [];
    channel.on('return', (message) => events.push(message));
    await channel.assertExchange(name, 'direct', { durable: false });
    channel.publish(name, 'nowhere', Buffer.from('dropped'), {}, () => events.push('first ack'));
    await channel.waitForConfirms();
    const options = { mandatory: true, messageId: 'm' };
    channel.publish(name, 'nowhere', Buffer.from('returned'), options, () =>
      events.push('second ack'),
    );
    await channel.waitForConfirms();
    assert.equal(events.length, 3);
    const [, returned] = events;
    assert.deepEqual([events[0], events[2]], ['first ack', 'second ack']);
    assert.deepEqual([returned.fields.replyCode, returned.fields.replyText], [312, 'NO_ROUTE']);
    assert.deepEqual([returned.fields.exchange, returned.fields.routingKey], [name, 'nowhere']);
    assert.deepEqual([returned.properties.messageId, body(returned)], ['m', 'returned']);
    await channel.deleteExchange(name);
  },

  // Requests and answers through direct reply-to, with the address rewritten on the way.
  rpc: async (connection, channel, name) => {
    await channel.assertQueue(name, { exclusive: true });
    const server = await channelOf(connection);
    const requests = await consume(server, name);
    const replies = await consume(channel, 'amq.rabbitmq.reply-to', { noAck: true });
    for (let number = 0; number < 5; number++) {
      const options = { replyTo: 'amq.rabbitmq.reply-to', correlationId: String(number) };
      channel.sendToQueue(name, Buffer.from(`call ${number}`), options);
      const request = await requests.next();
      assert.ok(
        request.properties.replyTo.startsWith('amq.rabbitmq.reply-to.'),
        request.properties.replyTo,
      );
      server.sendToQueue(request.properties.replyTo, Buffer.from(body(request).toUpperCase()), {
        correlationId: request.properties.correlationId,
      });
      server.ack(request);
      const reply = await replies.next();
      assert.deepEqual(
        [reply.properties.correlationId, body(reply)],
        [String(number), `CALL ${number}`],
      );
    }
  },

  // basic.get takes one message at a time, tells how many are left, and says when none is.
  get: async (_connection, channel, name) => {
    await channel.assertQueue(name, { exclusive: true });
    assert.equal(await channel.get(name), false);
    for (let number = 0; number < 3; number++)
      channel.sendToQueue(name, Buffer.from(String(number)));
    for (let number = 0; number < 3; number++) {
      const got = await getOne(channel, name);
      assert.deepEqual([body(got), got.fields.messageCount], [String(number), 2 - number]);
      channel.ack(got);
    }
    assert.equal(await channel.get(name), false);
  },

  // Exclusive queues are locked to others and end with their connection; '' asks for a name.
  exclusive: async (connection, channel, name) => {
    const owner = await connect();
    const owned = await channelOf(owner);
    const { queue: made } = await owned.assertQueue('', { exclusive: true });
    assert.ok(made.startsWith('amq.gen-'), made);
    await owned.assertQueue(name, { exclusive: true });
    await refused(
      405,
      `cannot obtain exclusive access to locked queue '${name}'`,
      channel.checkQueue(name),
    );
    await owner.close();
    for (const gone of [name, made]) {
      const fresh = await channelOf(connection);
      await refused(404, `NOT_FOUND - no queue '${gone}' in vhost '/'`, fresh.checkQueue(gone));
    }
  },

  // An error ends its channel only: others and new ones go on.
  'channel-error': async (connection, channel, name) => {
    const other = await channelOf(connection);
    await refused(404, `NOT_FOUND - no queue '${name}' in vhost '/'`, channel.checkQueue(name));
    await other.assertQueue(name, { exclusive: true });
    const fresh = await channelOf(connection);
    assert.equal((await fresh.checkQueue(name)).messageCount, 0);
    const failed = new Promise((resolve) => fresh.once('error', resolve));
    fresh.ack({ fields: { deliveryTag: 99 } });
    const error = await failed;
    assert.equal(error.code, 406);
    assert.ok(error.message.includes('unknown delivery tag 99'), error.message);
    assert.equal((await other.checkQueue(name)).messageCount, 0);
  },

  // Expired, rejected and overflowing messages reach the dead letter exchange with x-death.
  'dead-letter': async (_connection, channel, name) => {
    await channel.assertExchange(name, 'fanout', { durable: false });
    await channel.assertQueue(`${name}.dead`, { exclusive: true });
    await channel.bindQueue(`${name}.dead`, name, '');
    await channel.assertQueue(name, {
      exclusive: true,
      maxLength: 1,
      deadLetterExchange: name,
      deadLetterRoutingKey: 'late',
    });
    channel.sendToQueue(name, Buffer.from('pushed out'));
    channel.sendToQueue(name, Buffer.from('rejected'));
    const rejected = await getOne(channel, name);
    assert.equal(body(rejected), 'rejected');
    channel.reject(rejected, false);
    channel.sendToQueue(name, Buffer.from('expired'), { expiration: 20 });
    const deliveries = await consume(channel, `${name}.dead`, { noAck: true });
    for (const expected of ['pushed out maxlen', 'rejected rejected', 'expired expired']) {
      const delivery = await deliveries.next();
      const { headers, expiration } = delivery.properties;
      assert.equal(headers['x-death'].length, 1);
      const [death] = headers['x-death'];
      assert.equal(`${body(delivery)} ${death.reason}`, expected);
      assert.deepEqual([death.queue, death.exchange, death.count], [name, '', 1]);
      assert.deepEqual([death['routing-keys'], delivery.fields.routingKey], [[name], 'late']);
      assert.equal(headers['x-first-death-reason'], death.reason);
      assert.equal(expiration, undefined);
    }
    await channel.deleteExchange(name);
  },

  // The client's cancel stops deliveries; the end of a queue cancels its consumers.
  cancel: async (connection, channel, name) => {
    await channel.assertQueue(name, { durable: false });
    const deliveries = await consume(channel, name, { noAck: true });
    await channel.cancel(deliveries.consumerTag);
    channel.sendToQueue(name, Buffer.from('kept'));
    assert.equal(body(await getOne(channel, name, { noAck: true })), 'kept');
    assert.equal(deliveries.waiting(), 0);
    // The library tells of a cancelled consumer by an empty delivery.
    const cancelled = await consume(channel, name, { noAck: true, consumerTag: 'mine' });
    await (await channelOf(connection)).deleteQueue(name);
    assert.equal(await cancelled.next(), null);
  },

  // This library sends the connection's close between the publishes of a busy channel. The broker
  // answers it although more follows, which it has to read and drop.
  close: async (_connection, _channel, name) => {
    const busy = await connect();
    const failures = [];
    busy.on('error', (error) => failures.push(error));
    const channel = await channelOf(busy);
    await channel.assertQueue(name, { exclusive: true });
    for (let number = 0; number < 5000; number++)
      channel.sendToQueue(name, Buffer.from(String(number)));
    let timer;
    const late = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error('the close was not answered')), waitMs);
    });
    await Promise.race([busy.close(), late]);
    clearTimeout(timer);
    assert.deepEqual(failures, []);
  },

  // A queue declared as quorum holds messages and counts their deliveries.
  quorum: async (connection, _channel, name) => {
    const channel = await channelOf(connection, 'createConfirmChannel');
    await channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    await publishConfirmed(channel, name, 1);
    const deliveries = await consume(channel, name);
    const first = await deliveries.next();
    assert.equal(first.fields.redelivered, false);
    channel.reject(first, true);
    const second = await deliveries.next();
    assert.deepEqual([body(second), second.fields.redelivered], ['0', true]);
    assert.equal(second.properties.headers['x-delivery-count'], 1);
    channel.ack(second);
    await channel.deleteQueue(name);
  },
};

// Confirmed messages survive a broker killed or stopped, in order, for a client that sees its
// connection end and connects again.
async function restart(how) {
  const [total, acknowledged, held] = [200, 20, 10];
  const queue = `${prefix}.restart`;
  let connection = await amqp.connect(url);
  const ended = new Promise((resolve) => {
    connection.on('error', resolve);
    connection.on('close', resolve);
  });
  let channel = await channelOf(connection, 'createConfirmChannel');
  await channel.assertQueue(queue, { durable: true });
  await publishConfirmed(channel, queue, total);
  for (let number = 0; number < acknowledged + held; number++) {
    const got = await getOne(channel, queue);
    // The gets that follow are answered after the queue has seen this.
    if (number === acknowledged - 1) channel.ack(got, true);
  }
  console.log('ready');
  await once(process.stdin, 'data');

  const reason = await ended;
  if (how === 'term') {
    assert.match(String(reason), /320 \(CONNECTION.FORCED\)|CONNECTION_FORCED/);
  } else {
    assert.doesNotMatch(String(reason), /CONNECTION.FORCED/);
  }
  connection = await connect();
  channel = await channelOf(connection);
  const left = (await channel.checkQueue(queue)).messageCount;
  // A kill may lose the acknowledgements, but no message that was not acknowledged.
  assert.ok(total - acknowledged <= left && left <= total, `${left} messages left`);
  assert.ok(how === 'kill' || left === total - acknowledged, `${left} left after a clean stop`);
  const deliveries = await consume(channel, queue, { noAck: true });
  for (let number = total - left; number < total; number++) {
    assert.equal(body(await deliveries.next()), String(number));
  }
  await channel.deleteQueue(queue);
  await connection.close();
}

/** What a TLS connection trusts and shows: files of TLS_DIR. */
function byTls(certificate) {
  const file = (name) => readFileSync(`${process.env.TLS_DIR}/${name}`);
  const own = certificate && {
    cert: file(`${certificate}.pem`),
    key: file(`${certificate}.key`),
  };
  return { ca: [file('ca.pem')], servername: 'localhost', ...own };
}

/** Confirmed messages of several sizes arrive whole. */
async function thereAndBack(options, name, properties = {}) {
  const connection = await amqp.connect(process.env.AMQPS_URL, options);
  const channel = await channelOf(connection, 'createConfirmChannel');
  await channel.assertQueue(name, { exclusive: true });
  for (const size of [0, 1, 16_384, 1_000_000]) {
    const body = Buffer.from(Uint8Array.from({ length: size }, (_, at) => at % 251));
    channel.sendToQueue(name, body, { mandatory: true, ...properties });
    await channel.waitForConfirms();
    const arrived = await channel.get(name, { noAck: true });
    assert.ok(arrived && arrived.content.equals(body), `${size} bytes arrived otherwise`);
  }
  await connection.close();
}

const tlsScenarios = {
  'tls-plain': (name) => thereAndBack(byTls(), name),
  'tls-mutual': (name) => thereAndBack(byTls('client'), name),
  'tls-external': (name) => {
    const credentials = amqp.credentials.external();
    // The broker checks that whoever publishes is who it says.
    return thereAndBack({ ...byTls('client'), credentials }, name, { userId: 'guest' });
  },
  'tls-stranger': () => assert.rejects(amqp.connect(process.env.AMQPS_URL, byTls('stranger'))),
};

/** Plays one scenario and says whether it passed. */
async function run(name, play) {
  try {
    await play();
    console.log(`ok ${name}`);
    return true;
  } catch (error) {
    console.log(`FAIL ${name}: ${String(error).replaceAll('\n', ' ')}`);
    console.error(error);
    return false;
  }
}

async function main() {
  const [, , verb, how] = process.argv;
  let passed = true;
  if (verb === 'restart') {
    passed = await run(`restart-${how}`, () => restart(how));
  } else if (verb === 'tls') {
    for (const [name, play] of Object.entries(tlsScenarios)) {
      passed = (await run(name, () => play(`${prefix}.${name}`))) && passed;
    }
  } else {
    for (const [name, play] of Object.entries(scenarios)) {
      const scenario = async () => {
        const connection = await connect();
        try {
          await play(connection, await channelOf(connection), `${prefix}.${name}`);
        } finally {
          await connection.close();
        }
      };
      passed = (await run(name, scenario)) && passed;
    }
  }
  process.exit(passed ? 0 : 1);
}

main();
