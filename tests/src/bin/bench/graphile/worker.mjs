// graphile-worker with one task: the HTTP call that a delivery makes. Runs until it is killed.
//   node worker.mjs default|batch CONNECTION URL IN_FLIGHT
// "default" has the library's settings but for the number of jobs in flight; "batch" fetches and completes in batches,
// as its manual advises for throughput (https://worker.graphile.org/docs/performance#batching). The call goes through
// undici's pool, the fastest client Node has: with node:http it delivered a third less.
import { Logger, run } from "graphile-worker";
import { Pool } from "undici";

const [mode, connectionString, url, inFlight] = process.argv.slice(2);
const concurrentJobs = Number(inFlight);
const { origin, pathname } = new URL(url);
const pool = new Pool(origin, { connections: concurrentJobs, pipelining: 1 });

async function deliver(payload) {
  const response = await pool.request({
    method: "POST",
    path: pathname,
    headers: {
      authorization: "Bearer stand-in",
      "content-type": "application/json; charset=utf-8",
    },
    body: JSON.stringify(payload),
  });
  const answer = await response.body.json();
  if (response.statusCode !== 200 || !answer.ok) throw new Error(`status ${response.statusCode}`);
}

const batch = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
await run({
  preset: {
    worker: {
      connectionString,
      concurrentJobs,
      logger: new Logger(() => (level, message) => {
        if (level === "error") console.error(message);
      }),
      ...(mode === "batch" ? batch : {}),
    },
  },
  taskList: { deliver },
});
