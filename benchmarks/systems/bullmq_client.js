// Sends jobs as bullmq.py says, a line of JSON each: [action, argument]. Answers each with a line when it is done.

const readline = require("node:readline");
const { Queue, QueueEvents } = require("bullmq");

const connection = { url: process.env.BENCH_DATABASE_URL };
const queue = new Queue("benchmarks", { connection });
const events = new QueueEvents("benchmarks", { connection });

const actions = {
  async add(count) {
    for (let number = 0; number < count; number++) await queue.add("noop", {});
  },
  async bulk(count) {
    await queue.addBulk(Array.from({ length: count }, () => ({ name: "noop", data: {} })));
  },
  async stamp(sent) {
    const job = await queue.add("stamp", { sent });
    await job.waitUntilFinished(events);
  },
};

async function main() {
  await events.waitUntilReady();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [action, argument] = JSON.parse(line);
    await actions[action](argument);
    console.log("done");
  }
  process.exit();
}

main();
