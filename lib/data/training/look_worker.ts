// The inside of a worker of look_pool.ts: images come in, what is kept of them goes out.

import { lookAt } from "./image_look.ts";
import type { LookReply, LookRequest } from "./look_pool.ts";
import { faultOf } from "./prepare_pool.ts";

/** The part of a worker's own scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<LookRequest>) => void) | null;
  postMessage(message: LookReply): void;
}
const scope = globalThis as unknown as WorkerScope;

/** One image at a time: what is decoded at once is bounded. */
let before: Promise<void> = Promise.resolve();

let ended = false;

scope.onmessage = ({ data }) => {
  if ("end" in data) {
    ended = true;
    return;
  }
  before = before.then(() => answer(data));
};

async function answer({ id, image, where }: Exclude<LookRequest, { end: true }>): Promise<void> {
  try {
    if (ended) throw new Error("no more images are looked at");
    scope.postMessage({ id, look: await lookAt(image, where) });
  } catch (error) {
    scope.postMessage({ id, fault: faultOf(error) });
  }
}
