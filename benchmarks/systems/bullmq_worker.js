// Does what work.py does.

const fs = require("node:fs");
const { Worker } = require("bullmq");

function stamp(sent) {
  const delay = Date.now() / 1000 - sent;
  fs.appendFileSync(process.env.BENCH_STAMPS, `${delay}\n`);
  return delay;
}

const worker = new Worker("benchmarks", async (job) => (job.name === "noop" ? 1 : stamp(job.data.sent)), {
  connection: { url: process.env.BENCH_DATABASE_URL },
  concurrency: 100,
});
process.on("SIGTERM", () => worker.close().then(() => process.exit()));
