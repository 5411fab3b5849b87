import assert from "node:assert/strict";

const GUARDS = new URL("../../../lib/data/training/parquet_guards.ts", import.meta.url).href;

/** What each code returns or throws, in a worker whose realm is guarded; the guards would stay in this one. */
async function guarded(codes: readonly string[]): Promise<string[]> {
  const module = `
    import { allowTime, installGuards } from ${JSON.stringify(GUARDS)};
    installGuards();
    const view = new DataView(new ArrayBuffer(8));
    self.onmessage = ({ data }) => {
      try {
        self.postMessage(String(Function("view", "allowTime", data)(view, allowTime)));
      } catch (error) {
        self.postMessage(error.message);
      }
    };`;
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(module)}`, {
    type: "module",
  });
  const said: string[] = [];
  try {
    for (const code of codes) {
      said.push(
        await new Promise((resolve, reject) => {
          worker.onmessage = ({ data }) => resolve(data);
          worker.onerror = (event) => reject(new Error(event.message));
          worker.postMessage(`"use strict"; ${code}`);
        }),
      );
    }
  } finally {
    worker.terminate();
  }
  return said;
}

Deno.test("guards stop reads at no offset, reads for too long, and lists that outgrow their length", async () => {
  const cases = [
    ["return view.getUint8(NaN);", "it would read at byte NaN"],
    ["return view.getInt32(-1, true);", "it would read at byte -1"],
    ["view.setInt32(0, 5, true); return view.getInt32(0, true);", "5"],
    ["const list = new Array(2); list[1] = 7; return list.join();", ",7"],
    ["const list = new Array(2); for (let i = 0; ; i++) list[i] = i;", /Cannot add property 2/],
    ["return new Array(1e9);", "a list would have 1000000000 entries"],
    [
      "return [Array(3).length, Array.isArray(new Array(1)), new Array(4, 5).join()];",
      "3,true,4,5",
    ],
    ["allowTime(50); while (true) view.getUint8(0);", "it takes too long"],
  ] as const;
  const said = await guarded(cases.map(([code]) => code));
  for (const [i, [, expected]] of cases.entries()) {
    if (typeof expected === "string") assert.equal(said[i], expected);
    else assert.match(said[i], expected);
  }
});
