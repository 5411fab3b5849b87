// `deno task parity`: what we compute against what others computed. The first word says what is checked: a folder
// of golden numbers, test vectors of a tokenizer, or conformance cases of the safetensors header.

import { UsageError } from "../errors.ts";
import { GROUPS } from "../parity/groups.ts";
import { runCommand } from "./command.ts";
import { checkFolder } from "./parity_folder.ts";
import { checkSafetensors, checkTokenizer } from "./parity_vectors.ts";

/** The flags each use takes, beside those of every command. */
const TAKES = {
  folder: ["only", "adapter", "brief"],
  tokenizer: ["files"],
  safetensors: [],
} as const satisfies Record<string, readonly string[]>;

await runCommand({
  name: "parity",
  purpose: "Check a folder of golden numbers recorded from the reference, tensor by tensor; or a " +
    "file of tokenizer\nvectors, in both modes; or a file of safetensors headers to read or refuse.",
  usage: "DIR [flags]\n       deno task parity tokenizer VECTORS.json --files DIR\n" +
    "       deno task parity safetensors CASES.json",
  flags: {
    only: {
      type: "string",
      unit: "GROUPS",
      help: `of a folder: some of ${GROUPS.join(", ")}, comma-separated`,
    },
    adapter: {
      type: "string",
      default: "any",
      choices: ["any", "gpu", "software"],
      help: "of a folder: which adapter computes",
    },
    brief: { type: "boolean", help: "of a folder: one line per case, and the tensors that miss" },
    files: {
      type: "string",
      unit: "DIR",
      help: "of tokenizer vectors: the folder with tokenizer.json, or vocab.json and merges.txt",
    },
  },
  examples: [
    ["deno task parity ../shared/fixtures/tiny-a", "everything the folder has"],
    ["deno task parity DIR --only train --brief", "losses and gradients, one line per case"],
    ["deno task parity tokenizer VECTORS.json --files MODEL", "[{text, ids, mode}], both modes"],
    ["deno task parity safetensors CASES.json", "[{name, bytes_b64, expect, tensors}]"],
  ],
  positionals: { min: 1, max: 2, names: ["DIR"] },
  exitCodes: {
    1: "a tensor is outside its tolerance, or a case is not as expected",
    3: "the folder or file cannot be read",
  },
}, async ({ flags, given, args: [first, second], ...output }) => {
  const use = first === "tokenizer" || first === "safetensors" ? first : "folder";
  const takes: readonly string[] = TAKES[use];
  for (const flag of Object.values(TAKES).flat()) {
    if (!given.has(flag) || takes.includes(flag)) continue;
    const allowed = takes.length > 0 ? takes.map((name) => `--${name}`).join(", ") : "none";
    throw new UsageError(`Cannot run parity ${first} with --${flag}: it has no meaning there`, {
      help: `flags of that use: ${allowed}`,
    });
  }
  if (use === "folder") {
    if (second === undefined) return await checkFolder(first, flags, output);
    throw new UsageError(`Cannot run parity: unexpected argument ${second} after the folder`, {
      help: "Give one folder, or tokenizer VECTORS.json, or safetensors CASES.json",
    });
  }
  if (second === undefined) {
    const what = use === "tokenizer" ? "VECTORS.json" : "CASES.json";
    throw new UsageError(`Cannot run parity ${use}: ${what} is missing`, {
      help: `For a folder of that name, type ./${use}`,
    });
  }
  if (use === "safetensors") return await checkSafetensors(second, output);
  if (flags.files === undefined) {
    throw new UsageError("Cannot run parity tokenizer: --files DIR is missing", {
      help: "Give the folder with tokenizer.json, or with vocab.json and merges.txt",
    });
  }
  return await checkTokenizer(second, flags.files, output);
});
