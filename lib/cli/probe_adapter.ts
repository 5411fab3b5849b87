// Run by setup in a process of its own: a process that has once seen no adapter never sees one, even after a driver
// was installed. Prints one JSON line.

import { openDevice } from "../gpu/device.ts";

try {
  const gpu = await openDevice({ budgetBytes: 2 ** 24 });
  console.log(JSON.stringify({ ...gpu.adapter, subgroupSize: gpu.subgroupSize }));
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }));
}
Deno.exit(0);
