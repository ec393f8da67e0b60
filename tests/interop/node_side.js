// A client and a worker of celery-node, to talk to: node node_side.js URL QUEUE client|worker
//
// The client prints one line of JSON for what becomes of each call; the worker prints a line when it is connected.

const celery = require("celery-node");

const [url, queue, role] = process.argv.slice(2);

async function ask(client, name, args, kwargs) {
  try {
    const value = await client.createTask(name).applyAsync(args, kwargs).get(30000);
    console.log(JSON.stringify(["value", value]));
  } catch (error) {
    console.log(JSON.stringify([error.message, error.exc_type, error.exc_message]));
  }
}

async function main() {
  if (role === "worker") {
    const worker = celery.createWorker(url, url, queue);
    worker.register("add", (x, y) => x + y);
    worker.register("fail", (message) => Promise.reject(new Error(message)));
    worker.start();
    return;
  }
  for (const protocol of [2, 1]) {
    const client = celery.createClient(url, url, queue);
    client.conf.TASK_PROTOCOL = protocol;
    await ask(client, "add", [2, 3], {});
    await ask(client, "add", [2], { y: 3 });
    await ask(client, "fail", ["bad"], {});
    await client.disconnect();
  }
}

main();
