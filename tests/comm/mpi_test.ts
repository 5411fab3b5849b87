// Open MPI through FFI, in processes that mpirun starts.

import assert from "node:assert/strict";
import { ResourceError } from "../../lib/errors.ts";
import { LIBRARY_PATHS, loadMpi } from "../../lib/comm/mpi_library.ts";
import { mpiTest, msUntilGone, runRanks } from "./mpirun.ts";

Deno.test({
  ...mpiTest("every operation gives on 3 ranks what it should"),
  fn: async () => {
    const { code, stderr, said } = await runRanks(3, "operations");
    assert.equal(code, 0, stderr);
    assert.deepEqual(said.flat().map(({ localRank, size }) => [localRank, size]), [
      [0, 3],
      [1, 3],
      [2, 3],
    ]);
  },
});

Deno.test({
  ...mpiTest("ranks that disagree all learn the first name that differs"),
  fn: async () => {
    const { code, stderr, said } = await runRanks(3, "agreement");
    assert.equal(code, 0, stderr);
    for (const [rank, [[contents, number, names]]] of said.entries()) {
      assert.match(
        contents,
        /weights differ between ranks: rank 2 has another second than rank 0$/,
      );
      assert.match(number, new RegExp(`rank ${rank} has ${rank === 2 ? 2 : 3} weights, others`));
      assert.match(names, /rank 2 has another list of names than rank 0$/);
    }
  },
});

Deno.test({
  ...mpiTest("a rank that dies ends the job within 10 s, not with 0, and leaves no process"),
  fn: async () => {
    for (const [end, code] of [["kill", 137], ["abort", 5]] as const) {
      const result = await runRanks(2, "death", { end });
      assert.equal(result.code, code, `${end}: ${result.stderr}`);
      const pids: number[] = result.said.flat().map((s) => s.pid);
      assert.equal(pids.length, 2);
      let { ms } = result;
      for (const pid of pids) ms += await msUntilGone(pid, 10_000);
      assert.ok(ms < 10_000, `${end} took ${ms} ms`);
    }
  },
});

Deno.test({
  ...mpiTest("a rank that hangs is found by the others' patience"),
  fn: async () => {
    const { code, stderr, ms } = await runRanks(2, "death", { end: "hang", patienceMs: 1000 });
    assert.notEqual(code, 0);
    assert.match(stderr, /rank 0 waited 1 s for the other 1 in one all-reduce/);
    assert.ok(ms < 10_000, `${ms} ms`);
  },
});

Deno.test("loadMpi() says what to install, and what to allow", () => {
  // A name in the folder that these tests may load libraries from.
  const missing = new URL("../../node_modules/libmpi.so.40", import.meta.url).pathname;
  const refusal = (path: string, message: RegExp, help: RegExp) =>
    assert.throws(() => loadMpi(path), (error) => {
      assert.ok(error instanceof ResourceError);
      assert.match(error.message, message);
      assert.match(error.help ?? "", help);
      return true;
    });
  const install = /apt-get install openmpi-bin libopenmpi3.*OKA_LIBMPI/;
  refusal(missing, /^Cannot load Open MPI: \/.*libmpi\.so\.40: /, install);
  assert.ok(LIBRARY_PATHS.every((path) => path.startsWith("/")), "flags name files");
});
