import assert from "node:assert/strict";
import { DeviceLostError } from "../../lib/errors.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { trainLoop } from "../../lib/train/loop.ts";
import { type Attempt, surviveLoss } from "../../lib/train/recover.ts";
import { GPU_TEST } from "../helpers.ts";
import { inputsOf, QUESTION, smallModel } from "../model/small.ts";

/** Runs a session whose n-th try ends as told, with checkpoints at these steps by then. */
async function run(
  ends: (Error | string)[],
  checkpoints: (number | undefined)[] = [],
  restarts?: number,
) {
  const attempts: Attempt[] = [];
  const told: [Attempt, string][] = [];
  const options = {
    lastCheckpoint: () => Promise.resolve(checkpoints[attempts.length - 1]),
    onRestart: (attempt: Attempt, loss: string) => told.push([attempt, loss]),
    ...(restarts === undefined ? {} : { restarts }),
  };
  let [result, error]: unknown[] = [];
  try {
    result = await surviveLoss((attempt) => {
      const end = ends[attempts.length];
      attempts.push(attempt);
      return end instanceof Error ? Promise.reject(end) : Promise.resolve(end);
    }, options);
  } catch (thrown) {
    error = thrown;
  }
  return { attempts, told, result, error };
}

Deno.test("surviveLoss() runs a session once if nothing happens", async () => {
  const { attempts, told, result } = await run(["done"]);
  assert.deepEqual([attempts, told, result], [[{ number: 0 }], [], "done"]);
});

Deno.test("surviveLoss() goes on from the last checkpoint after a loss, and says so", async () => {
  const { attempts, told, result } = await run([new DeviceLostError("reset"), "done"], [1200]);
  assert.deepEqual(attempts, [{ number: 0 }, { number: 1, from: 1200 }]);
  assert.deepEqual(told, [[{ number: 1, from: 1200 }, "reset"]]);
  assert.equal(result, "done");
});

Deno.test("surviveLoss() starts a run without a checkpoint as it was asked to", async () => {
  const { attempts, result } = await run([new DeviceLostError("reset"), "done"]);
  assert.deepEqual([attempts, result], [[{ number: 0 }, { number: 1 }], "done"]);
});

Deno.test("surviveLoss() stops at the second loss with exit 4 and the step that stands", async () => {
  const second = new DeviceLostError("gone");
  const { attempts, error } = await run([new DeviceLostError("reset"), second, "never"], [
    100,
    300,
  ]);
  assert.equal(attempts.length, 2);
  assert.ok(error instanceof DeviceLostError);
  assert.equal(error.message, "gone, 2 times in this run; step 300 stands");
  assert.deepEqual([error.exitCode, error.cause], [4, second]);
  const none = await run([new DeviceLostError("reset"), "never"], [], 0);
  assert.match(`${none.error}`, /: reset, once in this run; no checkpoint was saved$/);
  const many = await run([new DeviceLostError("a"), new DeviceLostError("b"), "done"], [1, 2], 2);
  assert.deepEqual(many.attempts.map(({ from }) => from), [undefined, 1, 2]);
});

Deno.test("surviveLoss() passes other errors on as they are, after a restart too", async () => {
  const other = new Error("disk");
  assert.equal((await run([other, "never"])).error, other);
  const { attempts, error } = await run([new DeviceLostError("reset"), other, "never"], [5]);
  assert.deepEqual([attempts.length, error], [2, other]);
});

Deno.test("surviveLoss() sees a device that goes in the middle of training", GPU_TEST, async () => {
  const numbers: number[][] = [];
  const session = async ({ number, from = 0 }: Attempt) => {
    const gpu = await openDevice({ tuned: false });
    try {
      const model = smallModel(gpu);
      numbers.push([]);
      const steps = trainLoop(model, new AdamW(model.parameters), {
        steps: 5 - from,
        objectives: () => [{ name: "text", inputs: inputsOf([QUESTION]) }],
        learningRate: () => 1e-3,
        readEveryMs: 0,
      });
      for await (const step of steps) {
        numbers.at(-1)!.push(from + step.number);
        if (number === 0 && step.number === 3) gpu.device.destroy();
      }
      return "done";
    } finally {
      gpu.close();
    }
  };
  const losses: string[] = [];
  const result = await surviveLoss(session, {
    lastCheckpoint: () => Promise.resolve(2),
    onRestart: (_, loss) => losses.push(loss),
  });
  assert.equal(result, "done");
  assert.deepEqual(numbers, [[1, 2, 3], [3, 4, 5]]);
  assert.match(losses.join(), /^Cannot go on: the GPU was lost \(.*\)$/);
});
