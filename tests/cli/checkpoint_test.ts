import assert from "node:assert/strict";
import { checkpointCommand } from "../../lib/cli/checkpoint.ts";
import { countText, sizeText, tableText } from "../../lib/cli/checkpoint_text.ts";
import type { Shell } from "../../lib/cli/command.ts";
import { openCheckpoint } from "../../lib/model/checkpoint_folder.ts";
import { checkDigests, findNonFinite, readDigests } from "../../lib/model/checkpoint_verify.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { editJson, inFolder, madeFolder, rewrite } from "../model/made_folders.ts";

/** Runs `deno task checkpoint …` in this process against a shell of strings. */
const run = (...args: string[]) => runIn({}, ...args);

async function runIn(options: Partial<Shell>, ...args: string[]) {
  const seen = { stdout: "", stderr: "", codes: [] as number[] };
  const shell: Shell = {
    args,
    stdout: (text) => void (seen.stdout += text),
    stderr: (text) => void (seen.stderr += text),
    terminal: false,
    noColor: true,
    exit: (code) => void seen.codes.push(code),
    onSignal: () => {},
    onStray: () => {},
    ...options,
  };
  await checkpointCommand(shell);
  return { ...seen, code: seen.codes[0] };
}

async function sha256(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(digest).toHex();
}

Deno.test("checkpoint --help lists its subcommands, each has help, and a wrong one is corrected", async () => {
  const help = await run("--help");
  assert.equal(help.code, 0);
  for (const name of ["inspect", "verify", "quantize", "merge", "synth", "download"]) {
    assert.match(help.stdout, new RegExp(`^  ${name} `, "m"));
    const one = await run(name, "--help");
    assert.equal(one.code, 0);
    assert.match(one.stdout, new RegExp(`^usage: deno task checkpoint ${name} `, "m"));
  }
  const wrong = await run("quantise", "DIR");
  assert.deepEqual([wrong.code, wrong.stdout], [2, ""]);
  assert.match(wrong.stderr, /no subcommand quantise\nhelp: did you mean quantize\?/);
  const none = await run();
  assert.equal(none.code, 2);
  assert.match(none.stderr, /what to do is missing\nhelp: subcommands are inspect, verify,/);
  const proto = await run("constructor", "--json");
  assert.equal(proto.code, 2);
  assert.equal(JSON.parse(proto.stdout).event, "error");
});

Deno.test("checkpoint inspect prints config, parts and totals, and as JSON the same", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a", { to: "int4" });
    const { code, stdout, stderr } = await run("inspect", folder);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^decoder +2 layers × 2 experts, width 32, 4 heads \(2 for keys\)/m);
    assert.match(stdout, /^image encoder +2 layers, width 24/m);
    assert.match(stdout, /^part +tensors +parameters +size +stored as$/m);
    assert.match(stdout, /^und +29 +[\d,]+ +[\d.]+ kB +BF16 × 15, int4 × 14$/m);
    assert.match(stdout, /^autoencoder +\d+ +[\d,]+ +[\d.]+ kB +F32 × \d+$/m);
    const lines = (await run("inspect", folder, "--json")).stdout.trim().split("\n")
      .map((line) => JSON.parse(line));
    const total = lines.find(({ event }) => event === "total");
    const parts = lines.filter(({ event, part }) => event === "part" && part !== "vae");
    assert.equal(total.tensors, parts.reduce((n, { tensors }) => n + tensors, 0));
    assert.equal(total.bytes, parts.reduce((n, { bytes }) => n + bytes, 0));
    assert.equal(lines.find(({ event }) => event === "config").config.language.hiddenSize, 32);
    assert.equal(lines.at(-1).event, "done");

    await editJson(`${folder}/llm_config.json`, (json) => json.num_hidden_layers = 9);
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      tensors.delete("llm2vae.bias");
      tensors.delete("latent_pos_embed.pos_embed");
      tensors.set("more", { dtype: "F32", shape: [1], data: new Float32Array(1) });
    });
    const odd = await run("inspect", folder);
    assert.equal(odd.code, 0);
    assert.match(odd.stderr, /^note: decoder layers: 9 by the config, 2 in the file/m);
    assert.match(odd.stderr, /^note: computed, as the files lack them: latent_pos_embed/m);
    assert.match(odd.stderr, /^note: 1 tensors are none of the model's: more$/m);
    assert.match(odd.stderr, /^warning: 1 missing: llm2vae\.bias \(16\)$/m);
    assert.equal((await run("inspect", `${dir}/none`)).code, 3);
  });
});

Deno.test("checkpoint verify checks names, digests and values, and exits 3 with every difference", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a", { shardBytes: 40_000 });
    const files = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    const sums = await Promise.all(
      files.map(async (name) => [await sha256(`${folder}/${name}`), name]),
    );
    const text = `${dir}/SHA256SUMS`, json = `${dir}/index.json`;
    await Deno.writeTextFile(
      text,
      sums.map(([hex, name], i) => `${hex} ${i % 2 ? "*" : " "}${name}\n`).join(""),
    );
    await Deno.writeTextFile(
      json,
      JSON.stringify(Object.fromEntries(sums.map(([hex, name]) => [name, hex.toUpperCase()]))),
    );
    for (const index of [text, json]) {
      const { code, stdout } = await run("verify", folder, "--index", index, "--values", "--quiet");
      assert.equal(code, 0, stdout);
      assert.match(stdout, /^ok {4}names: \d+ tensors are there$/m);
      assert.match(stdout, new RegExp(`^ok    digests: ${files.length} files$`, "m"));
      assert.match(stdout, /^ok {4}values: all finite$/m);
    }
    const shard = files.find((name) => /00002-of/.test(name))!;
    const path = `${folder}/${shard}`;
    const bytes = await Deno.readFile(path);
    bytes[bytes.length - 1] ^= 1;
    await Deno.writeFile(path, bytes);
    await Deno.remove(`${folder}/vit_config.json`);
    await Deno.writeTextFile(`${folder}/vit_config.json.old`, "");
    const broken = await run("verify", folder, "--index", text, "--quiet");
    assert.equal(broken.code, 3);
    assert.match(broken.stdout, /^MISS {2}digests: 2$/m); // though the folder cannot be opened
    assert.match(broken.stderr, /Cannot read .*vit_config\.json: No such file/);

    const other = await madeFolder(dir, "b", { shardBytes: 40_000 });
    await Deno.writeFile(`${other}/${shard}`, bytes);
    await Deno.remove(`${other}/ae.safetensors`);
    await rewrite(`${other}/${files.find((name) => /00001-of/.test(name))}`, (tensors) => {
      const first = [...tensors.values()].find(({ dtype }) => dtype === "BF16")!;
      (first.data as Float32Array)[37] = NaN;
    });
    const { code, stdout } = await run("verify", other, "--index", text, "--values", "--quiet");
    assert.equal(code, 3);
    assert.match(stdout, /^MISS {2}names: \d+$/m);
    assert.match(stdout, /^ {6}vae_model\.encoder\.conv_in\.weight \(32, 3, 3, 3\)$/m);
    assert.match(stdout, /^MISS {2}digests: 3$/m);
    assert.match(stdout, /^ {6}ae\.safetensors cannot be opened: No such file or directory$/m);
    assert.match(
      stdout,
      new RegExp(`^      ${shard} has SHA-256 [0-9a-f]{64}, listed is [0-9a-f]{64}$`, "m"),
    );
    assert.match(
      stdout,
      /^MISS {2}values: 1\n {6}\S+ has 1 value not finite, the first in row 1, column 5$/m,
    );
    await Deno.writeTextFile(text, `${sums[0][0]}  ${sums[0][1]}\n`);
    const unlisted = await run("verify", other, "--index", text, "--quiet");
    assert.equal(unlisted.code, 3);
    assert.match(unlisted.stdout, new RegExp(`^ {6}${shard} is not in .*SHA256SUMS$`, "m"));
  });
});

Deno.test("readDigests() refuses lines and names that are wrong", async () => {
  await inFolder(async (dir) => {
    const hex = "0".repeat(64);
    const said = async (text: string) => {
      await Deno.writeTextFile(`${dir}/sums`, text);
      return await readDigests(`${dir}/sums`).then((digests) => [...digests], (e) => e.message);
    };
    assert.deepEqual(await said(`# all\n\n${hex}  ./a b.txt\r\n`), [["a b.txt", hex]]);
    assert.match(await said("hello"), /line 1 is no digest and file name$/);
    assert.match(await said(`${hex.slice(1)}  a`), /line 1: no SHA-256 of a$/);
    assert.match(await said(`${hex}  ../a`), /line 1: "\.\.\/a" is not in the folder$/);
    assert.match(await said(`${hex}  /etc/a`), /is not in the folder$/);
    assert.match(await said(`${hex}  a\n${hex}  ./a`), /line 2: a is there twice$/);
    assert.match(await said(""), /it lists no file$/);
    assert.match(await said(`{"a": 3}`), /a: no SHA-256 of a$/);
    assert.match(await said(`{"a": `), /it is not JSON$/);
    await assert.rejects(readDigests(`${dir}/none`), /Cannot read digests .*none: No such file/);
  });
});

Deno.test("findNonFinite() finds NaN and infinity in every dtype, and in the scales of packed rows", async () => {
  await inFolder(async (dir) => {
    for (const dtype of ["F32", "F16", "BF16"] as const) {
      const folder = await madeFolder(dir, dtype, { dtype });
      await rewrite(`${folder}/model.safetensors`, (tensors) => {
        (tensors.get("connector.fc1.weight")!.data as Float32Array).set(
          [Infinity, 1, -Infinity],
          50,
        );
        (tensors.get("llm2vae.bias")!.data as Float32Array)[3] = NaN;
      });
      const checkpoint = await openCheckpoint(folder);
      const all = [...checkpoint.tensors.values()];
      assert.deepEqual(await findNonFinite(all, checkpoint), [
        "connector.fc1.weight has 2 values not finite, the first in row 2, column 2",
        "llm2vae.bias has 1 value not finite, the first at 3",
      ]);
      checkpoint.close();
    }
    const folder = await madeFolder(dir, "packed", { to: "int8" });
    const scale = 80 * 5 + 64; // of row 5 of 32: 64 values, then the scale
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      (tensors.get("connector.fc1.weight")!.data as Uint8Array).set([0x80, 0x7f], scale);
    });
    const checkpoint = await openCheckpoint(folder);
    assert.deepEqual(await findNonFinite(checkpoint.tensors.values(), checkpoint), [
      "connector.fc1.weight has 1 rows with scales that are not finite, the first is 5",
    ]);
    const stop = AbortSignal.abort(new Error("stopped"));
    await assert.rejects(
      findNonFinite(checkpoint.tensors.values(), checkpoint, { signal: stop }),
      /stopped/,
    );
    const digests = new Map([["model.safetensors", "0".repeat(64)]]);
    await assert.rejects(checkDigests(folder, digests, { signal: stop }), /stopped/);
    checkpoint.close();
  });
});

Deno.test("checkpoint quantize says what it needs, reports parts and errors, and refuses a second time", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const usage = await run("quantize", folder, "--to", "int4");
    assert.equal(usage.code, 2);
    assert.match(
      usage.stderr,
      /--out is missing\nhelp: usage: deno task checkpoint quantize DIR --to/,
    );
    assert.match((await run("quantize", folder, "--out", "x")).stderr, /--to is missing/);
    assert.match((await run("quantize", folder, "--to", "int3")).stderr, /expected int8 or int4/);
    const group = await run(
      "quantize",
      folder,
      "--to",
      "int4",
      "--out",
      `${dir}/x`,
      "--group",
      "32",
    );
    assert.deepEqual([group.code, group.stdout], [2, ""]);
    assert.match(group.stderr, /Cannot quantize in groups of 32\nhelp: .* groups of 64/);

    const args = [
      "quantize",
      folder,
      "--to",
      "int4",
      "--out",
      `${dir}/q/`,
      "--keep",
      "vit,gen",
      "--quiet",
    ];
    const { code, stdout, stderr } = await run(...args);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^part +tensors +packed +before +after +relative error$/m);
    assert.match(stdout, /^und +29 +14 +[\d.]+ kB +[\d.]+ kB +\d+\.\d\d %$/m);
    assert.match(stdout, /^gen +29 +0 +([\d.]+ kB) +\1$/m);
    assert.match(stdout, /^.*\/q\/: [\d.]+ (kB|MB)$/m);
    const twice = await run(...args);
    assert.equal(twice.code, 2);
    assert.match(twice.stderr, /Cannot write .*\/q: it exists\nhelp: give another folder by --out/);
    const part = await run(
      "quantize",
      folder,
      "--to",
      "int8",
      "--out",
      `${dir}/r`,
      "--only",
      "{und,gen}.layers.0,und.layers.1",
      "--json",
      "--quiet",
    );
    const lines = part.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(lines.find((line) => line.part === "und").packed, 14);
    assert.equal(lines.find((line) => line.part === "gen").packed, 7);
    assert.equal(lines.find((line) => line.part === "vit").packed, 0);
    assert.equal(lines.find((line) => line.event === "folder").folder, `${dir}/r`);
  });
});

Deno.test("checkpoint quantize and synth that are interrupted say how to go on, and do", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const quantize = ["quantize", folder, "--to", "int8", "--out", `${dir}/q`];
    for (const [signal, exit] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      const { code, stdout, stderr } = await runIn(
        { onSignal: (stop) => stop(signal) },
        ...quantize,
      );
      assert.deepEqual([code, stdout], [exit, ""]);
      assert.match(
        stderr,
        /Stopped by SIG\w+\nhelp: what was written is kept: the same command goes on/,
      );
    }
    const kept = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
    assert.deepEqual(kept, ["a", "q.partial"]);
    assert.equal((await run(...quantize, "--quiet")).code, 0);
    (await openCheckpoint(`${dir}/q`)).close();
    const bad = await run(
      "synth",
      "--config",
      "tiny",
      "--to",
      "int4",
      "--dtype",
      "f32",
      "--out",
      "x",
    );
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /Cannot use --dtype f32 with --to int4/);
    assert.match((await run("synth", "--out", "x")).stderr, /--config is missing/);
    assert.match((await run("synth", "--config", "huge")).stderr, /expected unimedvl-14b or tiny/);
    assert.match((await run("synth", "--config", "tiny", "--layers", "0")).stderr, /at least 1/);
  });
});

Deno.test("the task's permissions are enough for synth, quantize, inspect and verify", async () => {
  await inFolder(async (dir) => {
    const config = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
    const words = String(config.tasks.checkpoint).split(" ");
    const flags = words.slice(words.indexOf("run") + 1, -1);
    assert.ok(flags.includes("--no-prompt") && !flags.includes("-A"));
    const root = new URL("../../", import.meta.url).pathname;
    const task = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command("deno", {
        args: ["run", "-q", ...flags, "lib/cli/checkpoint.ts", ...args],
        cwd: root,
        stdout: "piped",
        stderr: "piped",
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      assert.equal(code, 0, text(stderr));
      return text(stdout);
    };
    await task("synth", "--config", "tiny", "--layers", "2", "--dtype", "f32", "--out", `${dir}/a`);
    await task("quantize", `${dir}/a`, "--to", "int8", "--out", `${dir}/b`);
    assert.match(await task("inspect", `${dir}/b`), /^decoder +2 layers .*\n.*\nlatents +pixels/m);
    assert.match(await task("verify", `${dir}/b`, "--values"), /^ok {4}values: all finite$/m);
    const checkpoint = await openCheckpoint(`${dir}/b`);
    assert.deepEqual(checkpoint.config.vision, PRESETS.tiny.vision);
    checkpoint.close();
  });
});

Deno.test("sizes, counts and tables are written for people", () => {
  assert.deepEqual([0, 999, 1000, 29_214_520_256].map(sizeText), [
    "0 bytes",
    "999 bytes",
    "1.00 kB",
    "29.2 GB",
  ]);
  assert.deepEqual([7, 1223, 14_607_260_128].map(countText), ["7", "1,223", "14,607,260,128"]);
  assert.equal(tableText([["a", "n", "x"], ["bcd", "12", "y"]]), "a     n  x\nbcd  12  y");
});
