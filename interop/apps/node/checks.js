'use strict';
// What the Node drivers of interop/apps share: playing scenarios, waiting, and the broker.
//
// A driver calls `main({name: async () => ...})`. Each scenario is played once, in order, and
// reported as one line: `ok NAME`, `FAIL NAME: why` or `skip NAME: why`.

const { execFileSync } = require('child_process');
const { setTimeout: sleep } = require('timers/promises');

const waitMs = 20_000;

/** The scenario cannot be played, and why. */
class Skip extends Error {}

/** The first truthy value of `condition`, asked again until it is one. */
async function eventually(what, condition, milliseconds = waitMs) {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`);
    await sleep(30);
  }
}

/** The management API's answer to GET /api/PATH, or null where it says 404. */
async function management(path) {
  const token = Buffer.from('guest:guest').toString('base64');
  const response = await fetch(`${process.env.MANAGEMENT_URL}/api/${path}`, {
    headers: { authorization: `Basic ${token}` },
  });
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`GET /api/${path}: ${response.status}`);
  return response.json();
}

const queue = (name) => management(`queues/%2F/${encodeURIComponent(name)}`);

/** A condition for `eventually`: so many messages are ready in a queue. */
const ready = (name, count) => async () => (await queue(name))?.messages_ready === count;

function restartBroker(how) {
  execFileSync(process.env.BROKER, ['restart', process.env.BROKER_DIR, how], {
    stdio: ['ignore', process.stderr, process.stderr],
  });
}

async function main(scenarios) {
  let passed = true;
  const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(scenarios);
  for (const name of chosen) {
    const giveUp = new AbortController();
    try {
      await Promise.race([
        scenarios[name](),
        sleep(3 * waitMs, null, { signal: giveUp.signal }).then(() => {
          throw new Error('took too long');
        }),
      ]);
      console.log(`ok ${name}`);
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`skip ${name}: ${error.message}`);
      } else {
        passed = false;
        console.log(`FAIL ${name}: ${String(error?.message ?? error).replace(/\s+/g, ' ')}`);
        console.error(error);
      }
    } finally {
      giveUp.abort();
    }
  }
  process.exit(passed ? 0 : 1);
}

// A library's stray rejection is a failure of the driver, not of whatever runs by then.
process.on('unhandledRejection', (error) => {
  if (error?.name === 'AbortError') return;
  console.log(`FAIL driver: unhandled ${String(error?.message ?? error).replace(/\s+/g, ' ')}`);
  console.error(error);
});

module.exports = { Skip, eventually, main, management, queue, ready, restartBroker, sleep };
