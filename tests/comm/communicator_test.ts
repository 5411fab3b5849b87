import assert from "node:assert/strict";
import { anyRank, checkAgreement } from "../../lib/comm/agree.ts";
import { SOLO } from "../../lib/comm/communicator.ts";
import { openCommunicator } from "../../lib/comm/open.ts";
import { UsageError } from "../../lib/errors.ts";

Deno.test("openCommunicator() without mpirun is the group of one, and asks for no library", async () => {
  assert.equal(await openCommunicator({ variable: () => undefined }), SOLO);
  const nonsense = { OMPI_COMM_WORLD_SIZE: "many" } as Record<string, string>;
  assert.throws(() => openCommunicator({ variable: (name) => nonsense[name] }), UsageError);
});

Deno.test("SOLO gives back what it is given, as copies where the group would", async () => {
  const values = new Float32Array([1, 2, 3]);
  await SOLO.sum(values);
  await SOLO.broadcast(values, 0);
  assert.deepEqual([...values], [1, 2, 3]);
  const part = await SOLO.reduceScatter(values, [3]);
  part[0] = 9;
  assert.equal(values[0], 1);
  assert.deepEqual([...await SOLO.allGather(new Uint8Array([4, 5]), [2])], [4, 5]);
  assert.deepEqual(await SOLO.sumNumbers([0.1, 2]), [0.1, 2]);
  assert.equal(await anyRank(SOLO, true), true);
  await checkAgreement(SOLO, "weights", new Map([["a", new Uint8Array(32)]]));
});

Deno.test("wrong counts, ranks and digests are refused", async () => {
  assert.throws(() => SOLO.reduceScatter(new Float32Array(3), [2]), {
    message: "Cannot share 3 values: the counts say 2",
  });
  assert.throws(() => SOLO.allGather(new Uint8Array(3), [1, 2]), /\[1, 2\] among 1 ranks/);
  assert.throws(() => SOLO.broadcast(new Uint8Array(3), 1), /Cannot broadcast from rank 1/);
  await assert.rejects(checkAgreement(SOLO, "weights", new Map([["a", new Uint8Array(3)]])), {
    message: "Cannot compare a: its digest has 3 bytes",
  });
});
