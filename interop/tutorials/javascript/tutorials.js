// RabbitMQ's seven tutorials with amqplib: each program of them is one subcommand.
//
// Use: AMQP_URL=amqp://guest:guest@localhost node tutorials.js send
// Receiving programs print `waiting` once they are ready and then run until they are stopped.
'use strict';

const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const amqp = require('amqplib');

const quorum = { durable: true, arguments: { 'x-queue-type': 'quorum' } };
const say = (...words) => console.log(words.join(' '));

async function emit(channel, exchange, kind, key, words) {
  await channel.assertExchange(exchange, kind, { durable: false });
  channel.publish(exchange, key, Buffer.from(words.join(' ')));
  say('sent', ...words);
}

async function subscribe(channel, exchange, kind, keys) {
  await channel.assertExchange(exchange, kind, { durable: false });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const key of keys) await channel.bindQueue(queue, exchange, key);
  const print = ({ fields, content }) =>
    say('received', `[${fields.routingKey}]`, content.toString());
  await channel.consume(queue, print, { noAck: true });
}

const fibonacci = (number) => (number < 2 ? number : fibonacci(number - 1) + fibonacci(number - 2));

// Programs that do one thing and end.
const once = {
  // 1. Hello World: one queue between two programs.
  send: async (channel) => {
    await channel.assertQueue('hello', quorum);
    channel.sendToQueue('hello', Buffer.from('Hello World!'));
    say('sent Hello World!');
  },

  // 2. Work queues: tasks shared by workers, none lost when a worker dies.
  new_task: async (channel, ...words) => {
    await channel.assertQueue('task_queue', quorum);
    channel.sendToQueue('task_queue', Buffer.from(words.join(' ')), { persistent: true });
    say('sent', ...words);
  },

  // 3 to 5. Publish/subscribe, routing and topics: exchanges and temporary queues.
  emit_log: (channel, ...words) => emit(channel, 'logs', 'fanout', '', words),
  emit_log_direct: (channel, severity, ...words) =>
    emit(channel, 'direct_logs', 'direct', severity, words),
  emit_log_topic: (channel, key, ...words) => emit(channel, 'topic_logs', 'topic', key, words),

  // 6. RPC: a reply queue of the client's own, answers told apart by correlation id.
  rpc_client: async (channel, number) => {
    const { queue } = await channel.assertQueue('', { exclusive: true });
    const correlationId = randomUUID();
    let answered;
    const answer = new Promise((resolve) => {
      answered = resolve;
    });
    const take = ({ properties, content }) => {
      if (properties.correlationId === correlationId) answered(content.toString());
    };
    await channel.consume(queue, take, { noAck: true });
    channel.sendToQueue('rpc_queue', Buffer.from(number), { correlationId, replyTo: queue });
    say('got', await answer);
  },

  // 7. Publisher confirms, waited for in batches.
  publisher_confirms: async (_channel, connection) => {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (let number = 0; number < 50; number++) {
      channel.sendToQueue(queue, Buffer.from(String(number)));
      // Rejects if the broker refuses any message of the batch.
      if (number % 10 === 9) await channel.waitForConfirms();
    }
    say('confirmed', (await channel.checkQueue(queue)).messageCount);
  },
};

// Programs that receive until they are stopped.
const forever = {
  receive: async (channel) => {
    await channel.assertQueue('hello', quorum);
    await channel.consume('hello', ({ content }) => say('received', content.toString()), {
      noAck: true,
    });
  },

  worker: async (channel) => {
    await channel.assertQueue('task_queue', quorum);
    // One task at a time: a busy worker is passed over.
    await channel.prefetch(1);
    await channel.consume('task_queue', async (message) => {
      const task = message.content.toString();
      say('received', task);
      await sleep(100 * (task.split('.').length - 1));
      say('done', task);
      channel.ack(message);
    });
  },

  receive_logs: (channel) => subscribe(channel, 'logs', 'fanout', ['']),
  receive_logs_direct: (channel, ...severities) =>
    subscribe(channel, 'direct_logs', 'direct', severities),
  receive_logs_topic: (channel, ...keys) => subscribe(channel, 'topic_logs', 'topic', keys),

  rpc_server: async (channel) => {
    await channel.assertQueue('rpc_queue', quorum);
    await channel.prefetch(1);
    await channel.consume('rpc_queue', (message) => {
      const { replyTo, correlationId } = message.properties;
      const result = fibonacci(Number(message.content.toString()));
      channel.sendToQueue(replyTo, Buffer.from(String(result)), { correlationId });
      channel.ack(message);
      say('answered', message.content.toString());
    });
  },
};

async function main([name, ...rest]) {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  if (forever[name]) {
    await forever[name](channel, ...rest);
    say('waiting');
  } else {
    if (name === 'publisher_confirms') rest.push(connection);
    await once[name](channel, ...rest);
    await channel.close();
    await connection.close();
  }
}

main(process.argv.slice(2));
