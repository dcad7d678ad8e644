// graphile-worker with one task: the HTTP call that a delivery makes. Runs until it is killed.
//   node worker.mjs default|batch CONNECTION URL IN_FLIGHT
// "default" has the library's settings but for the number of jobs in flight; "batch" fetches and completes in batches,
// as its manual advises for throughput (https://worker.graphile.org/docs/performance#batching).
import http from "node:http";
import { Logger, run } from "graphile-worker";

const [mode, connectionString, url, inFlight] = process.argv.slice(2);
const concurrentJobs = Number(inFlight);
const agent = new http.Agent({ keepAlive: true, maxSockets: concurrentJobs });

function post(payload) {
  const body = JSON.stringify(payload);
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: "Bearer stand-in",
      "content-length": Buffer.byteLength(body),
      "content-type": "application/json; charset=utf-8",
    };
    const request = http.request(url, { method: "POST", agent, headers }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => {
        const answer = JSON.parse(Buffer.concat(chunks).toString());
        if (response.statusCode === 200 && answer.ok) resolve();
        else reject(new Error(`status ${response.statusCode}`));
      });
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
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
