// The inside of a worker of prepare_pool.ts: records come in, samples go out. Pixels and ids move without being
// copied; an error goes back in words.

import type { Sample } from "../sample.ts";
import { Planner } from "./plan.ts";
import { faultOf, type PrepareReply, type PrepareRequest } from "./prepare_pool.ts";
import { openTokenizerSpec } from "./tokenizer_spec.ts";

/** The part of a worker's own scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<PrepareRequest>) => void) | null;
  postMessage(message: PrepareReply, transfer: Transferable[]): void;
}
const scope = globalThis as unknown as WorkerScope;

let planner: Planner | undefined;
/** Two records at a time: one is decoded by native threads while the other is resized. No more, to bound memory. */
const lanes: Promise<void>[] = [Promise.resolve(), Promise.resolve()];
let received = 0;
let ended = false;

scope.onmessage = ({ data }) => {
  if ("end" in data) {
    ended = true;
    return;
  }
  const lane = received++ % lanes.length;
  lanes[lane] = lanes[lane].then(() => answer(data));
};

async function answer(request: Exclude<PrepareRequest, { end: true }>): Promise<void> {
  const about = "id" in request ? { id: request.id } : {};
  try {
    if ("settings" in request) {
      const { tokenizer, images } = request.settings;
      planner = new Planner(await openTokenizerSpec(tokenizer), images);
      scope.postMessage({ ready: true }, []);
      return;
    }
    if (ended) throw new Error("the loader is closed");
    const sample = await planner!.sample(request.record);
    scope.postMessage({ id: request.id, sample }, buffersOf(sample));
  } catch (error) {
    scope.postMessage({ ...about, fault: faultOf(error) }, []);
  }
}

/** The buffers of a sample, each once: an image may be seen by several items. */
function buffersOf({ plan }: Sample): ArrayBuffer[] {
  const arrays = plan.map((item) => (item.type === "text" ? item.ids : item.image.data));
  return [...new Set(arrays.map((a) => (a as Int32Array | Float32Array).buffer as ArrayBuffer))];
}
