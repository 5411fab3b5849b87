import assert from "node:assert/strict";
import { bf16ToFloat32, float32ToBf16 } from "../../lib/data/half.ts";
import { normalNoise } from "../../lib/data/noise.ts";
import { openSafetensors } from "../../lib/data/safetensors.ts";
import { EXIT, InputError, LabError, ResourceError, UsageError } from "../../lib/errors.ts";
import { choosePacked } from "../../lib/model/checkpoint_choice.ts";
import { openCheckpoint } from "../../lib/model/checkpoint_folder.ts";
import { Journal } from "../../lib/model/checkpoint_journal.ts";
import { encodeRows, type OutTensor, type Tally } from "../../lib/model/checkpoint_rows.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { quantizeCheckpoint, type QuantizeOptions } from "../../lib/model/quantize.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import { isPacked, packRows, unpackRows } from "../../lib/packed_layout.ts";
import { bytesOf, inFolder, madeFolder, RELEASED, rewrite } from "./made_folders.ts";

const NAMES = [...parameterShapes(PRESETS["unimedvl-14b"]).keys()];

const list = (dir: string) => [...Deno.readDirSync(dir)].map(({ name }) => name).sort();

/** The error of a failing run, after checking its class and message. */
async function fails(
  run: Promise<unknown>,
  kind: typeof LabError,
  message: RegExp,
): Promise<LabError> {
  const error = await run.then(() => assert.fail("nothing was refused"), (e) => e);
  assert.ok(error instanceof kind, String(error));
  assert.match(error.message, message);
  return error;
}

Deno.test("choosePacked() takes the layers' matrices and the connector, and what patterns say", () => {
  const usual = choosePacked(NAMES, {});
  // 7 matrices a decoder layer and expert, 6 a ViT layer, 2 in the connector
  assert.equal(usual.size, 2 * 28 * 7 + 26 * 6 + 2);
  for (const name of usual) {
    assert.match(name, /^(und|gen|vit)\.layers\.|^connector\.fc/);
    assert.doesNotMatch(name, /norm|bias|embed|position/i);
  }
  const chosen = (choice: { only?: string[]; keep?: string[] }) => choosePacked(NAMES, choice);
  assert.deepEqual(chosen({ keep: ["gen", "vit", "connector"] }), chosen({ only: ["und.layers"] }));
  assert.equal(chosen({ only: ["und.layers.0-3.mlp", "text.head"] }).size, 4 * 3 + 1);
  assert.equal(chosen({ only: ["{und,gen}.layers.27.attn.{q,k}"] }).size, 4);
  assert.equal(chosen({ only: ["*.layers.*.mlp"], keep: ["vit"] }).size, 2 * 28 * 3);
  assert.equal(chosen({ only: ["latent", "vit.embed"] }).size, 4 + 1);
  const refused = (choice: { only?: string[]; keep?: string[] }) => {
    try {
      chosen(choice);
    } catch (error) {
      assert.ok(error instanceof UsageError, String(error));
      return `${error.message} | ${error.help}`;
    }
    throw new Error("it was taken");
  };
  assert.equal(
    refused({ keep: ["und.layer.*.mlp.down"] }),
    "Cannot choose tensors by und.layer.*.mlp.down: no name begins so | " +
      "did you mean und.layers.*.mlp.down?",
  );
  assert.match(refused({ keep: ["und.layers.28"] }), /by und\.layers\.28: no name begins so/);
  assert.equal(
    refused({ only: ["text.embed"] }),
    "Cannot pack text.embed: text.embed.weight is no matrix of a linear layer | " +
      "tables, norms and biases stay as they are; leave the pattern out",
  );
});

Deno.test("encodeRows() measures every so-manyth row of a tall matrix, whatever the blocks", () => {
  const [rows, columns] = [700, 70]; // of 700 rows every fifth is measured
  const values = normalNoise(rows * columns, "tall");
  for (
    const [dtype, bytes] of [
      ["F32", new Uint8Array(values.buffer)],
      ["BF16", new Uint8Array(float32ToBf16(values).buffer)],
    ] as const
  ) {
    const tensor: OutTensor = {
      name: "tall",
      shape: [rows, columns],
      stored: "int4",
      source: { dtype, read: () => assert.fail("it is given the rows") },
    };
    const rowBytes = bytes.length / rows;
    const stored = dtype === "BF16" ? bf16ToFloat32(float32ToBf16(values)) : values;
    const want: Tally = { error: 0, size: 0 };
    for (let row = 0; row < rows; row += 5) {
      const was = stored.subarray(row * columns, (row + 1) * columns);
      const is = unpackRows(packRows(was, columns, "int4"), columns, "int4");
      was.forEach((w, i) => {
        want.error += (w - is[i]) ** 2;
        want.size += w ** 2;
      });
    }
    for (const block of [700, 13, 5, 1]) {
      const tally: Tally = { error: 0, size: 0 };
      const parts: number[] = [];
      for (let first = 0; first < rows; first += block) {
        const part = bytes.slice(first * rowBytes, (first + block) * rowBytes);
        parts.push(...encodeRows(tensor, first, part, tally));
      }
      assert.deepEqual(tally, want, `${dtype}, blocks of ${block}`);
      assert.deepEqual(Uint8Array.from(parts), packRows(stored, columns, "int4"));
    }
  }
});

Deno.test("quantizeCheckpoint() packs as the layout says, rounds the rest to bf16, copies what belongs to it", async () => {
  await inFolder(async (dir) => {
    for (const dtype of ["F32", "BF16", "F16"] as const) {
      const source = await madeFolder(dir, `from-${dtype}`, { dtype });
      await Deno.writeTextFile(`${source}/LICENSE`, "terms");
      await Deno.writeTextFile(`${source}/vocab.json`, "{}");
      await Deno.writeTextFile(`${source}/notes.py`, "");
      const before = await openCheckpoint(source);
      for (const to of ["int8", "int4"] as const) {
        const out = `${dir}/${dtype}-${to}`;
        const { parts, bytes } = await quantizeCheckpoint(source, out, { to, blockBytes: 700 });
        assert.deepEqual(list(out), [
          "LICENSE",
          "ae.safetensors",
          "config.json",
          "llm_config.json",
          "model.safetensors",
          "quantization.json",
          "vit_config.json",
          "vocab.json",
        ]);
        for (const name of ["ae.safetensors", "config.json", "llm_config.json", "LICENSE"]) {
          assert.deepEqual(
            await Deno.readFile(`${out}/${name}`),
            await Deno.readFile(`${source}/${name}`),
          );
        }
        const after = await openCheckpoint(out);
        assert.deepEqual([after.config, after.surplus], [RELEASED, []]);
        const packed = choosePacked([...before.tensors.keys()], {});
        const sums = new Map<string, [error: number, size: number]>();
        for (const [name, tensor] of before.tensors) {
          const values = await before.readFloat32(tensor);
          const stored = after.tensors.get(name)!;
          assert.equal(stored.dtype, packed.has(name) ? to : "BF16", name);
          if (!packed.has(name)) {
            assert.deepEqual(await after.readFloat32(stored), bf16ToFloat32(float32ToBf16(values)));
            continue;
          }
          const want = packRows(values, tensor.shape[1], to);
          assert.deepEqual(await after.readBytes(stored), want, name);
          const back = unpackRows(want, tensor.shape[1], to);
          assert.deepEqual(await after.readFloat32(stored), back);
          const sum = sums.get(name.split(".")[0]) ?? [0, 0];
          values.forEach((w, i) => {
            sum[0] += (w - back[i]) ** 2;
            sum[1] += w ** 2;
          });
          sums.set(name.split(".")[0], sum);
        }
        for (const [part, [error, size]] of sums) {
          const found = parts.find((p) => p.part === part)!;
          const want = Math.sqrt(error / size);
          // every row of such small matrices is measured
          assert.ok(Math.abs(found.relativeError! - want) < 1e-6 * want, `${part} ${to}`);
          assert.ok(want < (to === "int8" ? 0.007 : 0.11), `${part} ${to}: ${want}`);
        }
        const written = [...Deno.readDirSync(out)].filter(({ name }) =>
          name !== "quantization.json"
        );
        assert.equal(
          bytes,
          written.reduce((n, { name }) => n + Deno.statSync(`${out}/${name}`).size, 0),
        );
        const report = JSON.parse(await Deno.readTextFile(`${out}/quantization.json`));
        assert.deepEqual(report.parts, JSON.parse(JSON.stringify(parts)));
        after.close();
      }
      before.close();
    }
  });
});

Deno.test("quantizeCheckpoint() gives the same bytes whatever the blocks, in shards with their index", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from", { shardBytes: 40_000 });
    await quantizeCheckpoint(source, `${dir}/a`, { to: "int4", shardBytes: 20_000 });
    await quantizeCheckpoint(source, `${dir}/b`, {
      to: "int4",
      shardBytes: 20_000,
      blockBytes: 1,
      syncBytes: 1,
    });
    assert.deepEqual(await bytesOf(`${dir}/a`), await bytesOf(`${dir}/b`));
    assert.ok(list(`${dir}/a`).includes("model.safetensors.index.json"));
    assert.ok(list(`${dir}/a`).filter((name) => name.includes("-of-")).length > 2);
    (await openCheckpoint(`${dir}/a`)).close();
  });
});

Deno.test("quantizeCheckpoint() writes vae_model.* of the weights' file as ae.safetensors, f32 as it was", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from");
    const vae = await openSafetensors(`${source}/ae.safetensors`);
    const tensors = await Promise.all([...vae.tensors].map(async ([name, { shape }]) => {
      return [name, { dtype: "F32" as const, shape, data: await vae.readFloat32(name) }] as const;
    }));
    vae.close();
    await Deno.remove(`${source}/ae.safetensors`);
    await rewrite(`${source}/model.safetensors`, (all) => {
      for (const [name, tensor] of tensors) all.set(`module.vae_model.${name}`, tensor);
    });
    await quantizeCheckpoint(source, `${dir}/to`, { to: "int8" });
    const after = await openCheckpoint(`${dir}/to`);
    assert.deepEqual(after.files, ["model.safetensors", "ae.safetensors"]);
    for (const [name, { data }] of tensors) {
      const stored = after.autoencoder!.get(name)!;
      assert.deepEqual([stored.dtype, await after.readFloat32(stored)], ["F32", data]);
    }
    after.close();
  });
});

Deno.test("quantizeCheckpoint() killed at any tensor goes on and ends with the same bytes", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from");
    const settings = { to: "int4", shardBytes: 15_000, blockBytes: 500, syncBytes: 1 } as const;
    await quantizeCheckpoint(source, `${dir}/whole`, settings);
    const want = await bytesOf(`${dir}/whole`);
    const total = [...(await openedNames(source))].length;
    const module = new URL("../../lib/model/quantize.ts", import.meta.url).href;
    await Deno.writeTextFile(
      `${dir}/child.ts`,
      `import { quantizeCheckpoint } from ${JSON.stringify(module)};
       let blocks = 0;
       await quantizeCheckpoint(${JSON.stringify(source)}, ${JSON.stringify(`${dir}/out`)}, {
         ...${JSON.stringify(settings)},
         onProgress() {
           if (++blocks !== Number(Deno.args[0])) return;
           console.log("here");
           Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // until it is killed
         },
       });`,
    );
    let done = 0;
    for (const blocks of [1, 40, 110]) { // killed three times, each time further on
      const child = new Deno.Command("deno", {
        args: [
          "run",
          "-q",
          "--no-prompt",
          "--no-config",
          "--no-check",
          `--allow-read`,
          `--allow-write=${dir}`,
          `${dir}/child.ts`,
          String(blocks),
        ],
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const reader = child.stdout.getReader();
      const { value } = await reader.read();
      assert.equal(new TextDecoder().decode(value), "here\n");
      child.kill("SIGKILL");
      await child.status;
      await reader.cancel();
      assert.deepEqual(list(dir).filter((name) => name.startsWith("out")), ["out.partial"]);
      const lines =
        (await Deno.readTextFile(`${dir}/out.partial/journal.jsonl`)).split("\n").length;
      assert.ok(lines >= done, "what was noted stays noted");
      done = lines;
    }
    let resumed = 0;
    await quantizeCheckpoint(source, `${dir}/out`, {
      ...settings,
      onProgress: (state) => resumed = state.resumed,
    });
    assert.ok(resumed > 10 && resumed < total, `${resumed} of ${total} were taken over`);
    assert.deepEqual(await bytesOf(`${dir}/out`), want);
    assert.deepEqual(list(dir).filter((name) => name.startsWith("out")), ["out"]);
  });
});

async function openedNames(dir: string): Promise<string[]> {
  const checkpoint = await openCheckpoint(dir);
  checkpoint.close();
  return [...checkpoint.tensors.keys()];
}

/** Starts and is stopped after some blocks. */
async function stopped(source: string, out: string, options: QuantizeOptions, blocks: number) {
  const stop = new AbortController();
  let seen = 0;
  const onProgress = () => {
    if (++seen === blocks) stop.abort(new Error("stopped here"));
  };
  await assert.rejects(
    quantizeCheckpoint(source, out, { ...options, signal: stop.signal, onProgress }),
    /stopped here/,
  );
}

Deno.test("quantizeCheckpoint() goes on after a stop, whatever lies behind the last noted byte", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from");
    const [out, options] = [
      `${dir}/out`,
      { to: "int8", shardBytes: 30_000, syncBytes: 1 } as const,
    ];
    await quantizeCheckpoint(source, `${dir}/whole`, options);
    await stopped(source, out, options, 30);
    const journal = `${out}.partial/journal.jsonl`;
    await Deno.writeTextFile(journal, '{"error":1,', { append: true }); // cut short in a line
    const last = list(`${out}.partial`).filter((name) => name.startsWith("model")).at(-1);
    await Deno.writeTextFile(`${out}.partial/${last}`, "half a tensor", { append: true });
    await Deno.writeTextFile(`${out}.partial/quantization.json`, "half a repo");
    await quantizeCheckpoint(source, out, options);
    assert.deepEqual(await bytesOf(out), await bytesOf(`${dir}/whole`));
  });
});

Deno.test("quantizeCheckpoint() refuses to go on from other weights or settings, or from a damaged folder", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from");
    const [out, options] = [`${dir}/out`, { to: "int4", syncBytes: 1 } as const];
    await stopped(source, out, options, 30);
    const before = await bytesOf(`${out}.partial`);
    const other = /Cannot go on with .*out\.partial: it was begun from other weights or with other/;
    const refused = await fails(
      quantizeCheckpoint(source, out, { ...options, to: "int8" }),
      UsageError,
      other,
    );
    assert.equal(refused.help, "--force removes it and starts over");
    await fails(quantizeCheckpoint(source, out, { ...options, keep: ["vit"] }), UsageError, other);
    await Deno.utime(`${source}/model.safetensors`, 1, 1);
    await fails(quantizeCheckpoint(source, out, options), UsageError, other);
    assert.deepEqual(await bytesOf(`${out}.partial`), before, "nothing was touched");

    await quantizeCheckpoint(source, out, { ...options, force: true });
    (await openCheckpoint(out)).close();
    await fails(
      quantizeCheckpoint(source, out, { ...options, force: true }),
      UsageError,
      /out: it exists$/,
    );

    const again = `${dir}/again`;
    await stopped(source, again, options, 30);
    await Deno.truncate(`${again}.partial/model.safetensors`, 100);
    await fails(
      quantizeCheckpoint(source, again, options),
      ResourceError,
      /has 100 bytes, by the journal/,
    );
    await Deno.remove(`${again}.partial/journal.jsonl`);
    await fails(quantizeCheckpoint(source, again, options), UsageError, /it has no journal/);
    await quantizeCheckpoint(source, again, { ...options, force: true });
    assert.deepEqual(await bytesOf(again), await bytesOf(out));
  });
});

Deno.test("quantizeCheckpoint() lets one process at a time write a folder", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from");
    const held = await Journal.open(`${dir}/out`, "a plan");
    const error = await fails(
      quantizeCheckpoint(source, `${dir}/out`, { to: "int4", force: true }),
      LabError,
      /Cannot write .*out: another process is at it/,
    );
    assert.equal(error.exitCode, EXIT.busy);
    held.close();
    await quantizeCheckpoint(source, `${dir}/out`, { to: "int4", force: true });
  });
});

Deno.test("quantizeCheckpoint() refuses a full disk, bad values and packed weights before it has a folder", async () => {
  await inFolder(async (dir) => {
    const source = await madeFolder(dir, "from");
    const out = `${dir}/out`;
    const full = await fails(
      quantizeCheckpoint(source, out, { to: "int4", freeBytes: () => 99_000 }),
      ResourceError,
      /Cannot write .*out: it needs \d{7} more bytes, the disk has 99000 free/,
    );
    assert.equal(full.exitCode, EXIT.resources);
    assert.deepEqual(list(dir), ["from"]);

    await fails(
      quantizeCheckpoint(source, `${source}/config.json/out`, { to: "int4" }),
      InputError,
      /Cannot look at .*config\.json\/out: Not a directory/,
    );

    await quantizeCheckpoint(source, `${dir}/packed`, { to: "int4" });
    await fails(
      quantizeCheckpoint(`${dir}/packed`, out, { to: "int8" }),
      InputError,
      /Cannot quantize .*packed: language_model.* is int4 already/,
    );
    for (const bad of [NaN, Infinity, -Infinity]) {
      await rewrite(`${source}/model.safetensors`, (tensors) => {
        (tensors.get("connector.fc2.weight")!.data as Float32Array)[32 * 21 + 7] = bad;
      });
      await fails(
        quantizeCheckpoint(source, out, { to: "int4", blockBytes: 640, force: true }),
        InputError,
        new RegExp(`Cannot pack connector\\.fc2\\.weight: row 21, column 7 is ${bad}$`),
      );
    }
    assert.deepEqual(list(dir), ["from", "out.partial", "packed"]);
    // Kept as it is, the value is the user's affair.
    await quantizeCheckpoint(source, out, { to: "int4", keep: ["connector"], force: true });
    const after = await openCheckpoint(out);
    const kept = after.tensors.get("connector.fc2.weight")!;
    assert.ok(!isPacked(kept.dtype));
    assert.equal((await after.readFloat32(kept))[32 * 21 + 7], -Infinity);
    after.close();
  });
});
