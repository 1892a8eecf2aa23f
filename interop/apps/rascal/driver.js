'use strict';
// What a user of Rascal relies on: topology from configuration, retries by delay queues, dead
// letters, counted redeliveries, shovels between exchanges, and coming back after the broker does.
//
// Run by apps/rascal/run. See node/checks.js for how scenarios are reported.

const assert = require('assert/strict');
const { BrokerAsPromised: Broker, withDefaultConfig } = require('rascal');
const {
  Skip, eventually, main, management, queue, ready, restartBroker, sleep,
} = require('checks');

const dead = { 'x-dead-letter-exchange': 'dead_letters' };

/** One service's configuration, in the manner of Rascal's own advanced example. */
const service = {
  vhosts: {
    '/': {
      connection: {
        url: process.env.AMQP_URL,
        options: { heartbeat: 5 },
        retry: { min: 200, max: 1000, factor: 2, strategy: 'exponential' },
      },
      exchanges: ['service', 'delay', 'retry', 'dead_letters', 'other'],
      queues: {
        saves: { options: { arguments: { ...dead, 'x-dead-letter-routing-key': 'saves.dead' } } },
        deletes: { options: { arguments: dead } },
        counted: { options: { arguments: dead } },
        limited: {
          options: { arguments: { ...dead, 'x-queue-type': 'quorum', 'x-delivery-limit': 3 } },
        },
        republished: { options: { arguments: dead } },
        shovelled: {},
        moved: {},
        plain: {},
        replies: { replyTo: true, options: { exclusive: true, durable: false } },
        'delay:1s': {
          options: { arguments: { 'x-message-ttl': 1000, 'x-dead-letter-exchange': 'retry' } },
        },
        dead_letters: {},
      },
      bindings: [
        'service[a.save] -> saves',
        'service[a.delete] -> deletes',
        'service[a.count] -> counted',
        'service[a.limit] -> limited',
        'service[a.republish] -> republished',
        'service[a.shovel] -> shovelled',
        'service[a.plain] -> plain',
        'other[#] -> moved',
        'delay[delay.1s] -> delay:1s',
        // The retried message comes with the queue's name, which it got by CC, as routing key.
        'retry[saves.#] -> saves',
        'dead_letters -> dead_letters',
      ],
      publications: {
        save: { exchange: 'service', routingKey: 'a.save' },
        delete: { exchange: 'service', routingKey: 'a.delete' },
        count: { exchange: 'service', routingKey: 'a.count' },
        limit: { exchange: 'service', routingKey: 'a.limit' },
        republish: { exchange: 'service', routingKey: 'a.republish' },
        shovel: { exchange: 'service', routingKey: 'a.shovel' },
        plain: { exchange: 'service', routingKey: 'a.plain' },
        secret: { exchange: 'service', routingKey: 'a.plain', encryption: 'key' },
        request: { exchange: 'service', routingKey: 'a.plain', replyTo: 'replies' },
        respond: { exchange: '' },
        nowhere: { exchange: 'service', routingKey: 'nowhere' },
        to_other: { exchange: 'other' },
        retry_in_1s: {
          exchange: 'delay',
          routingKey: 'delay.1s',
          options: { CC: ['saves.retried'] },
        },
        unconfirmed: { exchange: 'service', routingKey: 'a.plain', confirm: false },
      },
      subscriptions: {
        save: { queue: 'saves', prefetch: 3 },
        delete: { queue: 'deletes' },
        count: { queue: 'counted', redeliveries: { limit: 3, counter: 'memory' } },
        limit: { queue: 'limited' },
        republish: { queue: 'republished' },
        shovel: { queue: 'shovelled' },
        moved: { queue: 'moved' },
        plain: { queue: 'plain', prefetch: 4 },
        channel: { queue: 'plain', prefetch: 10, channelPrefetch: 2 },
        replies: { queue: 'replies' },
        dead: { queue: 'dead_letters' },
      },
    },
  },
  encryption: {
    key: {
      key: 'f81db52a3b2c717fe65d9a3b7dd04d2a08793e1a28e3083db3ea08db56e7c315',
      ivLength: 16,
      algorithm: 'aes-256-cbc',
    },
  },
  redeliveries: { counters: { memory: { type: 'inMemory', size: 100 } } },
};
const shovelling = { ...service, shovels: ['shovel -> to_other'] };

/** A broker for one scenario, shut down after it. */
async function withBroker(config, play) {
  const broker = await Broker.create(withDefaultConfig(config));
  broker.on('error', (error) => console.error('broker:', error.message));
  try {
    return await play(broker);
  } finally {
    await broker.shutdown();
  }
}

const scenario = (play) => () => withBroker(service, play);

/** Publishes and waits for the confirm; a return is a failure. */
async function publish(broker, name, body, overrides) {
  const publication = await broker.publish(name, body, overrides);
  return new Promise((resolve, reject) => {
    publication.on('success', resolve);
    publication.on('error', reject);
    publication.on('return', () => reject(new Error(`${name} was returned`)));
  });
}

/** Subscribes, and gives what comes to `handle(content, ackOrNack, message)`; returns the list. */
async function subscribe(broker, name, handle = (content, ackOrNack) => ackOrNack(), more = {}) {
  const got = [];
  const session = await broker.subscribe(name, more);
  session.on('error', (error) => console.error(`subscription ${name}:`, error.message));
  session.on('message', (message, content, ackOrNack) => {
    got.push({ message, content, redelivered: message.fields.redelivered });
    handle(content, ackOrNack, message);
  });
  got.session = session;
  return got;
}

/** A subscription holds so many messages at most, and gets one for each that it acknowledges. */
async function held(broker, name, limit) {
  const held = [];
  const got = await subscribe(broker, name, (content, ackOrNack) => held.push(ackOrNack));
  for (let number = 0; number < 20; number++) await publish(broker, 'plain', { number });
  for (const count of [limit, limit + 1, limit + 2]) {
    await arrived(got, count);
    await sleep(200);
    assert.equal(got.length, count);
    held.shift()();
  }
  await eventually('all are acknowledged', async () => {
    while (held.length) held.shift()();
    return (await queue('plain')).messages === 0;
  });
  assert.equal(got.length, 20);
}

const arrived = (got, count) => eventually(`${count} messages`, () => got.length >= count);

main({
  topology: scenario(async () => {
    for (const name of service.vhosts['/'].exchanges) {
      const { type, durable } = await management(`exchanges/%2F/${name}`);
      assert.deepEqual({ type, durable }, { type: 'topic', durable: true });
    }
    const delay = await queue('delay:1s');
    assert.deepEqual(delay.arguments, { 'x-message-ttl': 1000, 'x-dead-letter-exchange': 'retry' });
    const names = (await management('queues/%2F')).map((found) => found.name);
    assert.ok(names.some((name) => /^replies:[0-9a-f-]{36}$/.test(name)), `replies in ${names}`);
    // Asserting all of it again changes nothing.
    await withBroker(service, async () => {});
  }),

  publish: scenario(async (broker) => {
    const got = await subscribe(broker, 'plain');
    await publish(broker, 'plain', { json: ['ü', 1, null] });
    await publish(broker, 'plain', 'text');
    await publish(broker, 'plain', Buffer.alloc(500_000, 7));
    await publish(broker, 'unconfirmed', 'unconfirmed');
    await publish(broker, 'secret', 'a secret');
    await arrived(got, 5);
    assert.deepEqual(got[0].content, { json: ['ü', 1, null] });
    assert.equal(got[1].content, 'text');
    assert.ok(got[2].content.equals(Buffer.alloc(500_000, 7)));
    assert.deepEqual([got[3].content, got[4].content].sort(), ['a secret', 'unconfirmed']);
    const { properties } = got[0].message;
    assert.equal(properties.deliveryMode, 2);
    assert.match(properties.messageId, /^[0-9a-f-]{36}$/);
    await Promise.all(
      Array.from({ length: 500 }, (_, number) => publish(broker, 'plain', { number }))
    );
    await arrived(got, 505);
  }),

  returned: scenario(async (broker) => {
    const publication = await broker.publish('nowhere', 'lost');
    const returned = await new Promise((resolve, reject) => {
      publication.on('return', resolve);
      publication.on('error', reject);
    });
    assert.equal(returned.fields.replyText, 'NO_ROUTE');
    assert.equal(returned.fields.routingKey, 'nowhere');
  }),

  'delayed-retries': scenario(async (broker) => {
    // Rascal's own recipe: up to two tries by way of the delay queue, then a dead letter.
    const deadLetters = await subscribe(broker, 'dead');
    const start = Date.now();
    const times = [];
    const got = await subscribe(broker, 'save', (content, ackOrNack) => {
      times.push(Date.now() - start);
      ackOrNack(new Error('as asked'), [
        { strategy: 'forward', publication: 'retry_in_1s', attempts: 2, xDeathFix: true },
        { strategy: 'nack' },
      ]);
    });
    await publish(broker, 'save', 'failing');
    await arrived(deadLetters, 1);
    assert.equal(got.length, 3);
    assert.ok(times[1] >= 1000 && times[2] >= 2000 && times[2] < 8000, `tries after ${times} ms`);
    const { properties, fields } = deadLetters[0].message;
    assert.equal(properties.headers.rascal.recovery.saves.forwarded, 2);
    assert.equal(properties.headers.rascal.error.message, 'as asked');
    const deaths = properties.headers['x-death'].map(({ queue, reason }) => [queue, reason]);
    assert.deepEqual(deaths[0], ['saves', 'rejected']);
    assert.ok(fields.redelivered === false);
  }),

  'dead-letters': scenario(async (broker) => {
    const deadLetters = await subscribe(broker, 'dead');
    await subscribe(broker, 'delete', (content, ackOrNack) => ackOrNack(new Error('no')));
    await publish(broker, 'delete', { id: 1 });
    await arrived(deadLetters, 1);
    const [death] = deadLetters[0].message.properties.headers['x-death'];
    assert.equal(death.queue, 'deletes');
    assert.equal(death.reason, 'rejected');
    assert.equal(death.exchange, 'service');
    assert.deepEqual(death['routing-keys'], ['a.delete']);
    assert.equal(death.count, 1);
    assert.deepEqual(deadLetters[0].content, { id: 1 });
  }),

  'redeliveries-counted': scenario(async (broker) => {
    // Without an x-delivery-count Rascal counts redelivered messages by their id.
    const deadLetters = await subscribe(broker, 'dead');
    const got = await subscribe(broker, 'count', (content, ackOrNack) =>
      ackOrNack(new Error('again'), { strategy: 'nack', requeue: true })
    );
    const exceeded = [];
    got.session.on('redeliveries_exceeded', (error, message, ackOrNack) => {
      exceeded.push(message.properties.headers.rascal.redeliveries);
      ackOrNack(error);
    });
    await publish(broker, 'count', 'poison');
    await arrived(deadLetters, 1);
    assert.deepEqual(got.map(({ redelivered }) => redelivered), [false, true, true, true]);
    assert.deepEqual(exceeded, [4]);
  }),

  'delivery-limit': scenario(async (broker) => {
    const deadLetters = await subscribe(broker, 'dead');
    const got = await subscribe(broker, 'limit', (content, ackOrNack) =>
      ackOrNack(new Error('again'), { strategy: 'nack', requeue: true })
    );
    await publish(broker, 'limit', 'poison');
    await arrived(deadLetters, 1);
    const counts = got.map(({ message }) => message.properties.headers['x-delivery-count'] ?? 0);
    assert.deepEqual(counts, [0, 1, 2, 3]);
    const [death] = deadLetters[0].message.properties.headers['x-death'];
    assert.deepEqual([death.queue, death.reason], ['limited', 'delivery_limit']);
  }),

  republish: scenario(async (broker) => {
    // Republishing counts in a header, and at last is nacked at once, so that it is a dead letter.
    const deadLetters = await subscribe(broker, 'dead');
    let failing = true;
    const got = await subscribe(broker, 'republish', (content, ackOrNack) => {
      if (!failing) return ackOrNack();
      return ackOrNack(new Error('as asked'), [
        { strategy: 'republish', attempts: 3, defer: 50 },
        { strategy: 'republish', immediateNack: true },
      ]);
    });
    await publish(broker, 'republish', 'poison');
    await arrived(deadLetters, 1);
    assert.equal(got.length, 4);
    const { headers } = deadLetters[0].message.properties;
    assert.equal(headers.rascal.recovery.republished.immediateNack, true);
    assert.equal(headers['x-death'][0].queue, 'republished');
    // From the dead letters it can be sent back: it is not nacked at once again.
    failing = false;
    await broker.forward('republish', deadLetters[0].message);
    await arrived(got, 5);
  }),

  shovel: () =>
    withBroker(shovelling, async (broker) => {
      const got = await subscribe(broker, 'moved');
      for (let number = 0; number < 100; number++) await publish(broker, 'shovel', { number });
      await arrived(got, 100);
      assert.deepEqual(got.map(({ content }) => content.number), [...Array(100).keys()]);
      assert.equal(got[0].message.fields.exchange, 'other');
      const { headers } = got[0].message.properties;
      assert.equal(headers.rascal.originalRoutingKey, 'a.shovel');
      await eventually('nothing is left', async () => (await queue('shovelled')).messages === 0);
    }),

  prefetch: scenario((broker) => held(broker, 'plain', 4)),

  // AMQP's global limit; the consumer's own is ten.
  'channel-prefetch': scenario((broker) => held(broker, 'channel', 2)),

  replies: scenario(async (broker) => {
    const answers = await subscribe(broker, 'replies');
    await subscribe(broker, 'plain', async (content, ackOrNack, message) => {
      ackOrNack();
      await publish(broker, 'respond', { sum: content.a + content.b }, {
        routingKey: message.properties.replyTo,
        options: { correlationId: message.properties.correlationId },
      });
    });
    await publish(broker, 'request', { a: 40, b: 2 }, { options: { correlationId: 'one' } });
    await arrived(answers, 1);
    assert.deepEqual(answers[0].content, { sum: 42 });
    assert.equal(answers[0].message.properties.correlationId, 'one');
  }),

  'invalid-content': scenario(async (broker) => {
    const text = { contentType: 'text/plain' };
    const deadLetters = await subscribe(broker, 'dead', (content, ackOrNack) => ackOrNack(), text);
    const got = await subscribe(broker, 'delete');
    const invalid = [];
    got.session.on('invalid_content', (error, message, ackOrNack) => {
      invalid.push(error.message);
      ackOrNack(error, { strategy: 'nack' });
    });
    await publish(broker, 'delete', '{', { options: { contentType: 'application/json' } });
    await arrived(deadLetters, 1);
    assert.equal(deadLetters[0].content, '{');
    assert.equal(invalid.length, 1);
  }),

  'broker-restart': scenario(async (broker) => {
    const got = await subscribe(broker, 'plain');
    await publish(broker, 'plain', 'before');
    await arrived(got, 1);
    for (const how of ['term', 'kill']) {
      const before = got.length;
      restartBroker(how);
      await eventually('it is connected again', async () => {
        // The management API is gone for a while, too.
        const found = await queue('plain').catch(() => null);
        return found?.consumers === 1;
      });
      await publish(broker, 'plain', how);
      await arrived(got, before + 1);
      assert.equal(got.at(-1).content, how);
    }
  }),

  'purge-and-nuke': async () => {
    // Without the exclusive queue, which only its own connection may purge.
    const { replies, ...queues } = service.vhosts['/'].queues;
    const config = structuredClone(service);
    config.vhosts['/'].queues = queues;
    delete config.vhosts['/'].publications.request;
    delete config.vhosts['/'].subscriptions.replies;
    const broker = await Broker.create(withDefaultConfig(config));
    broker.on('error', (error) => console.error('broker:', error.message));
    for (let number = 0; number < 10; number++) await publish(broker, 'save', { number });
    await eventually('they wait', ready('saves', 10));
    await broker.purge();
    await eventually('they are gone', ready('saves', 0));
    await broker.nuke();
    assert.equal(await queue('saves'), null);
    assert.equal(await management('exchanges/%2F/service'), null);
  },

  'vhost-from-configuration': async () => {
    // `assert` makes the vhost by the management API, and nuke deletes it.
    const [, address] = process.env.AMQP_URL.split('//');
    const config = {
      vhosts: {
        rascal: {
          assert: true,
          connection: {
            url: `amqp://${address}/rascal`,
            management: { url: process.env.MANAGEMENT_URL.replace('//', '//guest:guest@') },
          },
          queues: ['q'],
          publications: { q: { queue: 'q' } },
        },
      },
    };
    let broker;
    try {
      broker = await Broker.create(withDefaultConfig(config));
    } catch (error) {
      if (!/returned status 40[45]/.test(error.message)) throw error;
      throw new Skip(`PUT /api/vhosts/{vhost}: ${error.message}`);
    }
    broker.on('error', (error) => console.error('broker:', error.message));
    await publish(broker, 'q', 'text');
    await broker.nuke();
    await eventually('it is gone', async () => (await management('vhosts/rascal')) === null);
  },
});
