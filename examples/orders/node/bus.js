'use strict';
// How a Node service hears and tells: one queue, one message after the other.
//
// What is told is confirmed, and so on disk, before what was heard is acknowledged. When the
// connection is lost the program ends; whoever started it starts it again.

const fs = require('fs');
const amqp = require('amqplib');

/**
 * Calls handle(kind, order) for each message of a queue; its result is the news to tell, if any.
 */
async function serve(queue, handle) {
  const connection = await amqp.connect(process.env.AMQP_URL);
  connection.on('error', gone);
  connection.on('close', gone);
  const channel = await connection.createConfirmChannel();
  await channel.prefetch(20);
  let turn = Promise.resolve();
  await channel.consume(queue, (message) => {
    turn = turn.then(() => heard(channel, message, handle)).catch(gone);
  });
}

async function heard(channel, message, handle) {
  const order = parsed(message.content);
  if (!order) {
    channel.reject(message, false);
    return;
  }
  const key = handle(message.properties.type, order);
  if (key) {
    channel.publish('orders', key, message.content, {
      persistent: true,
      contentType: 'application/json',
      type: key,
      messageId: `${order.id}/${key}`,
      headers: { 'x-group-id': order.customer },
    });
    await channel.waitForConfirms();
  }
  channel.ack(message);
}

/** The order in a message, or null if that is none. */
function parsed(content) {
  try {
    return JSON.parse(content);
  } catch (error) {
    console.error(`rejected: ${error.message}`);
    return null;
  }
}

function gone(error) {
  console.error('the broker is gone:', error?.message);
  process.exit(1);
}

/** What a service has done: a file with a line for each deed, which it reads when it starts. */
class Journal {
  constructor(path) {
    this.file = fs.openSync(path, 'a+');
    const lines = fs.readFileSync(path, 'utf8').split('\n').slice(0, -1);
    this.deeds = new Set(lines);
  }

  /** Does it if it has not been done. */
  once(deed) {
    if (this.deeds.has(deed)) return;
    fs.writeSync(this.file, `${deed}\n`);
    this.deeds.add(deed);
  }
}

module.exports = { Journal, gone, serve };
