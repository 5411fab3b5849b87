// Verbs as a user runs them: processes of their own, with the permissions of their tasks and no others.

import assert from "node:assert/strict";
import { readPicture } from "../../lib/data/picture.ts";
import { GPU_TEST } from "../helpers.ts";
import { withPlace } from "./verb_world.ts";

const ROOT = new URL("../..", import.meta.url);

/** A verb's process; `deno task` would run the same line. */
async function spawn(verb: string, args: string[], stdin: string): Promise<Deno.ChildProcess> {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const words: string[] = tasks[verb].split(" ");
  const process = new Deno.Command("deno", {
    args: [...words.slice(words.indexOf("run")), ...args],
    cwd: ROOT,
    env: { XDG_RUNTIME_DIR: "/tmp" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  if (verb === "chat") writer.releaseLock();
  else await writer.close();
  return process;
}

async function run(verb: string, args: string[], stdin = "") {
  const { code, stdout, stderr } = await (await spawn(verb, args, stdin)).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

Deno.test(
  "ask as a process reads a picture, a question from stdin, and writes its answer",
  GPU_TEST,
  async () => {
    await withPlace(async (place) => {
      const out = place.path("new/answer.txt");
      const said = await run(
        "ask",
        ["--model", place.model, place.path("a.png"), "--max-tokens", "4", "--out", out],
        "what is this ?\n",
      );
      assert.equal(said.code, 0, said.stderr);
      assert.notEqual(said.stdout.trim(), "");
      assert.equal(await Deno.readTextFile(out), said.stdout);
      assert.match(said.stderr, /^note: reading the question from stdin\nnote: adapter /);
    });
  },
);

Deno.test("edit as a process reads a picture and writes one", GPU_TEST, async () => {
  await withPlace(async (place) => {
    const out = place.path("new/edited.png");
    const args = [
      "--model",
      place.model,
      place.path("a.png"),
      "bright",
      "--steps",
      "3",
      "--out",
      out,
    ];
    const said = await run("edit", [...args, "--max-tokens", "3", "--preview-every", "1"]);
    assert.equal(said.code, 0, said.stderr);
    assert.equal(said.stdout, `${out}\n`);
    const { format, width, height } = await readPicture(out);
    assert.deepEqual([format, width, height], ["png", 32, 24]);
    const names = await Array.fromAsync(Deno.readDir(place.path("new")), (entry) => entry.name);
    assert.deepEqual(names, ["edited.png"]);
  });
});

Deno.test(
  "chat as a process answers each line, and a SIGINT ends it while it waits for the next",
  GPU_TEST,
  async () => {
    await withPlace(async (place) => {
      const args = ["--model", place.model, "--max-tokens", "3", "--json", "--quiet"];
      const process = await spawn("chat", args, "what is this ?\nno lesion ?\n");
      const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (text.split('"event":"answer"').length < 3) {
        const { value, done } = await reader.read();
        assert.ok(!done, text);
        text += value;
      }
      process.kill("SIGINT");
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
      }
      const { code } = await process.status;
      await process.stderr.cancel();
      await process.stdin.close();
      assert.equal(code, 130);
      assert.match(text, /"event":"error","message":"Stopped by SIGINT","exitCode":130\}\n$/);
    });
  },
);
