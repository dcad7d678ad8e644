// graphile-worker with one task: the HTTP call that a delivery makes. Runs until it is killed.
//   node worker.mjs default|batch CONNECTION URL IN_FLIGHT
// "default" has the library's settings but for the number of jobs in flight; "batch" fetches and completes in batches,
// as its manual advises for throughput (https://worker.graphile.org/docs/performance#batching).
import http from "node:http";
import { Logger, run } from "graphile-worker";

const [mode, connectionString, url, inFlight] = process.argv.slice(2);
const concurrentJobs = Number(inFlight);
import { Pool } from "undici";
const target = new URL(url);
const pool = new Pool(target.origin, { connections: concurrentJobs, pipelining: 1 });
async function post(payload) {
  const body = JSON.stringify(payload);
  const response = await pool.request({ path: target.pathname, method: "POST", body, headers: {
      authorization: "Bearer stand-in",
      "content-type": "application/json; charset=utf-8",
    } });
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
  taskList: { deliver: post },
});
