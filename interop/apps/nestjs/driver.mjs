// What a user of NestJS's RabbitMQ transport relies on: requests over direct reply-to, events with
// acknowledgements, patterns by topic exchange, broadcasts by fanout, and coming back by itself.
//
// Run by apps/nestjs/run. See node/checks.js for how scenarios are reported.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory, Ctx, EventPattern, MessagePattern, Payload, RmqRecordBuilder, RpcException,
  Transport,
} from '@nestjs/microservices';
import amqplib from 'amqplib';
import { firstValueFrom, of, toArray } from 'rxjs';

const { eventually, main, management, queue, ready, restartBroker, sleep } =
  createRequire(import.meta.url)('checks');

const urls = [process.env.AMQP_URL];
const socketOptions = { heartbeatIntervalInSeconds: 5, reconnectTimeInSeconds: 1 };

/** A service with these handlers; `handlers` maps '@pattern' to events, 'pattern' to requests. */
async function listen(options, handlers) {
  class Controller {}
  for (const [name, handle] of Object.entries(handlers)) {
    const event = name.startsWith('@');
    const pattern = event ? name.slice(1) : name;
    Object.defineProperty(Controller.prototype, name, { value: handle, writable: true });
    const descriptor = Object.getOwnPropertyDescriptor(Controller.prototype, name);
    Payload()(Controller.prototype, name, 0);
    Ctx()(Controller.prototype, name, 1);
    (event ? EventPattern : MessagePattern)(pattern)(Controller.prototype, name, descriptor);
  }
  Reflect.defineMetadata('__controller__', true, Controller);
  Reflect.defineMetadata('path', '/', Controller);
  class Service {}
  Module({ controllers: [Controller] })(Service);
  const app = await NestFactory.createMicroservice(Service, {
    transport: Transport.RMQ,
    options: { urls, socketOptions, ...options },
    logger: ['error'],
  });
  await app.listen();
  return app;
}

async function connect(options) {
  const client = ClientProxyFactory.create({
    transport: Transport.RMQ, options: { urls, socketOptions, ...options },
  });
  await client.connect();
  return client;
}

/** A service and a client of one queue, for one scenario. */
async function pair(options, handlers, play, clientOptions = {}) {
  const service = await listen(options, handlers);
  const client = await connect({ ...options, ...clientOptions });
  try {
    await play((...args) => firstValueFrom(client.send(...args)), client);
  } finally {
    await client.close();
    await service.close();
  }
}

/** Plays with a plain channel, to look at what the transport does not show. */
async function withChannel(play) {
  const connection = await amqplib.connect(process.env.AMQP_URL);
  try {
    return await play(await connection.createChannel());
  } finally {
    await connection.close();
  }
}

main({
  requests: () =>
    pair({ queue: 'nest.requests' }, { sum: (numbers) => numbers.reduce((a, b) => a + b, 0) },
      async (send) => {
        assert.equal(await send('sum', [1, 2, 39]), 42);
        const all = Array.from({ length: 300 }, (_, n) => send('sum', [n, n]));
        assert.deepEqual(await Promise.all(all), all.map((_, n) => 2 * n));
        // Replies come by direct reply-to: there is no queue for them.
        const names = (await management('queues/%2F')).map(({ name }) => name);
        assert.deepEqual(names, ['nest.requests']);
      }),

  streams: () =>
    pair({ queue: 'nest.streams' }, { count: (to) => of(...Array(to).keys()) },
      async (send, client) => {
        const all = await firstValueFrom(client.send('count', 50).pipe(toArray()));
        assert.deepEqual(all, [...Array(50).keys()]);
      }),

  errors: () =>
    pair({ queue: 'nest.errors' }, { fail: () => { throw new RpcException('as asked'); } },
      async (send) => {
        await assert.rejects(send('fail', {}), (error) => /as asked/.test(error.message ?? error));
        await assert.rejects(send('unknown', {}),
          (error) => /no matching message handler/.test(error.message ?? error));
      }),

  events: async () => {
    const got = [];
    await pair({ queue: 'nest.events', queueOptions: { durable: true } },
      { '@created': (data, context) => got.push([data, context.getMessage().fields]) },
      async (send, client) => {
        for (let n = 0; n < 100; n++) client.emit('created', { n });
        await eventually('all events', () => got.length === 100);
        assert.deepEqual(got.map(([data]) => data.n), [...Array(100).keys()]);
        assert.equal(got[0][1].redelivered, false);
      });
  },

  acknowledgements: async () => {
    // Manual acknowledgement: given back once, then rejected to the dead letters.
    const options = {
      queue: 'nest.acks',
      noAck: false,
      prefetchCount: 1,
      queueOptions: {
        durable: true, deadLetterExchange: '', deadLetterRoutingKey: 'nest.acks.dead',
      },
    };
    await withChannel((channel) => channel.assertQueue('nest.acks.dead'));
    const got = [];
    const handle = (data, context) => {
      const message = context.getMessage();
      got.push([data, message.fields.redelivered]);
      if (data === 'fine') context.getChannelRef().ack(message);
      else context.getChannelRef().nack(message, false, !message.fields.redelivered);
    };
    await pair(options, { '@work': handle }, async (send, client) => {
      for (const data of ['fine', 'bad', 'fine']) client.emit('work', data);
      client.emit('nobody', 'unhandled');
      await eventually('dead letters', ready('nest.acks.dead', 2));
      assert.deepEqual(got, [['fine', false], ['bad', false], ['bad', true], ['fine', false]]);
    }, { noAck: true });
    await withChannel(async (channel) => {
      const bad = await channel.get('nest.acks.dead', { noAck: true });
      assert.equal(JSON.parse(bad.content).data, 'bad');
      const [death] = bad.properties.headers['x-death'];
      assert.deepEqual([death.reason, death.queue, death.count], ['rejected', 'nest.acks', 1]);
    });
  },

  prefetch: async () => {
    // isGlobalPrefetchCount is AMQP's channel-wide limit.
    for (const isGlobalPrefetchCount of [false, true]) {
      const name = `nest.prefetch.${isGlobalPrefetchCount}`;
      const held = [];
      const handle = (data, context) => held.push(context);
      const options = { queue: name, noAck: false, prefetchCount: 3, isGlobalPrefetchCount };
      await pair(options, { '@hold': handle }, async (send, client) => {
        for (let n = 0; n < 10; n++) client.emit('hold', n);
        await eventually('the rest waits', ready(name, 7));
        assert.equal(held.length, 3);
        held[0].getChannelRef().ack(held[0].getMessage());
        await eventually('one more', () => held.length === 4);
        await sleep(100);
        assert.equal(held.length, 4);
      }, { noAck: true });
      await eventually('what was held is given back', ready(name, 9));
    }
  },

  records: async () => {
    const got = [];
    const options = {
      queue: 'nest.records', queueOptions: { durable: true, arguments: { 'x-max-priority': 5 } },
    };
    const handle = (data, context) => {
      got.push(context.getMessage().properties);
      return data;
    };
    await pair(options, { echo: handle }, async (send) => {
      const record = new RmqRecordBuilder('text')
        .setOptions({
          headers: { 'x-version': '1.0' }, priority: 3, persistent: true, expiration: 60000,
        })
        .build();
      assert.equal(await send('echo', record), 'text');
      assert.equal(got[0].headers['x-version'], '1.0');
      assert.deepEqual([got[0].priority, got[0].deliveryMode], [3, 2]);
      assert.match(got[0].replyTo, /^amq\.rabbitmq\.reply-to\./);
    });
  },

  quorum: () =>
    pair({
      queue: 'nest.quorum',
      noAck: false,
      queueOptions: { durable: true, arguments: { 'x-queue-type': 'quorum' } },
    }, {
      echo: (data, context) => {
        context.getChannelRef().ack(context.getMessage());
        return data;
      },
    }, async (send) => {
      assert.equal(await send('echo', 'text'), 'text');
      assert.equal((await queue('nest.quorum')).type, 'quorum');
    }, { noAck: true }),

  wildcards: async () => {
    const got = [];
    const options = { queue: 'nest.wild', wildcards: true, queueOptions: { durable: false } };
    await pair(options, {
      '@orders.*': (data) => got.push(`one ${data}`),
      '@logs.#': (data) => got.push(`all ${data}`),
      'exact.sum': ([a, b]) => a + b,
    }, async (send, client) => {
      client.emit('orders.created', 1);
      client.emit('orders.created.twice', 2);
      client.emit('logs.a.b.c', 3);
      assert.equal(await send('exact.sum', [40, 2]), 42);
      await eventually('two events', () => got.length >= 2);
      await sleep(200);
      assert.deepEqual(got.sort(), ['all 3', 'one 1']);
      assert.equal((await management('exchanges/%2F/nest.wild')).type, 'topic');
    });
  },

  broadcast: async () => {
    const got = [];
    const options = { exchange: 'nest.fanout', exchangeType: 'fanout', queue: '' };
    const services = await Promise.all([1, 2, 3].map((number) =>
      listen({ ...options, queueOptions: { exclusive: true } }, {
        '@news': (data) => got.push(`${number} ${data}`),
      })));
    const client = await connect({ ...options, noAssert: true });
    client.emit('news', 'x');
    await eventually('all three', () => got.length === 3);
    assert.deepEqual(got.sort(), ['1 x', '2 x', '3 x']);
    await client.close();
    await Promise.all(services.map((service) => service.close()));
  },

  'broker-restart': () =>
    pair({ queue: 'nest.restart', queueOptions: { durable: true } }, { echo: (data) => data },
      async (send) => {
        for (const how of ['term', 'kill']) {
          assert.equal(await send('echo', how), how);
          restartBroker(how);
          await eventually('the service is back', async () => {
            const found = await queue('nest.restart').catch(() => null);
            return found?.consumers === 1;
          });
          await eventually('an answer', async () =>
            Promise.race([send('echo', 'again'), sleep(1000)]).catch(() => null));
        }
      }),
});
