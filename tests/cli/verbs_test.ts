// The commands ask, report, generate, edit, segment and chat: what they print and write is what the library gives.

import assert from "node:assert/strict";
import { ASK } from "../../lib/cli/verbs/ask.ts";
import { CHAT } from "../../lib/cli/verbs/chat.ts";
import { EDIT } from "../../lib/cli/verbs/edit.ts";
import { GENERATE } from "../../lib/cli/verbs/generate.ts";
import { REPORT } from "../../lib/cli/verbs/report.ts";
import { SEGMENT } from "../../lib/cli/verbs/segment.ts";
import { dashed } from "../../lib/cli/flags.ts";
import { readPicture } from "../../lib/data/picture.ts";
import { ask, report } from "../../lib/infer/ask.ts";
import { Chat } from "../../lib/infer/chat.ts";
import { counterfactual, edit, generate, segment } from "../../lib/infer/generate.ts";
import { presetPrompt } from "../../lib/infer/prompts.ts";
import { reconstruct } from "../../lib/infer/reconstruct.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { attachLora } from "../../lib/model/lora.ts";
import { saveLora } from "../../lib/model/lora_file.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { drawAdapters } from "../model/lora_models.ts";
import { type Place, runHere, type Said, withPlace } from "./verb_world.ts";

const test = (name: string, work: (place: Place) => Promise<void>, seed?: number) =>
  Deno.test(name, GPU_TEST, () => withPlace(work, seed));

/** The values of one kind of event. */
const eventsOf = (said: Said, event: string) => said.events().filter((e) => e.event === event);

/** The pieces of one kind of event, joined. */
const piecesOf = (said: Said, event: string) =>
  eventsOf(said, event).map(({ piece }) => piece).join("");

async function assertPicture(path: string, expected: { data: Uint8Array; width: number }) {
  const { data, width } = await readPicture(path);
  assert.equal(width, expected.width);
  assert.deepEqual(data, expected.data);
}

test("ask prints the library's answer, and writes it to --out", async (place) => {
  const question = "what is this ?";
  const out = place.path("new/answer.txt");
  const args = ["--model", place.model, place.path("a.png"), question, "--max-tokens", "6"];
  const expected = await place.asLibrary(async (open) =>
    await ask(open, await place.picture("a.png"), question, { maxTokens: 6 })
  );
  assert.notEqual(expected.text, "");
  const said = await runHere(ASK, [...args, "--out", out]);
  assert.equal(said.code, 0, said.stderr);
  assert.equal(said.stdout, `${expected.text}\n`);
  assert.equal(await Deno.readTextFile(out), `${expected.text}\n`);
  assert.match(
    said.stderr,
    /^note: adapter .*, budget 2\.15 GB\nload {2}0\/1 {2}MB\nread {2}0\/2 /,
  );
  assert.match(said.stderr, /\nnote: 6 tokens, [\d.]+ tokens\/s\n/);
  assert.match(said.stderr, /\nnote: the answer was cut at 6 tokens; --max-tokens allows more\n/);
  const quiet = await runHere(ASK, [...args, "--quiet"]);
  assert.deepEqual([quiet.stdout, quiet.stderr], [`${expected.text}\n`, ""]);
});

test("ask --lora answers as the library does with the adapter, and refuses what is none", async (place) => {
  const question = "what is this ?", lora = place.path("adapter.safetensors");
  const picture = await place.picture("a.png");
  await place.asLibrary(async (open) => {
    await open.need(["und", "head"]);
    attachLora(open.model, { rank: 2, alpha: 4, targets: ["und", "text.head"] });
    drawAdapters(open.model, 1, 0.5);
    await saveLora(open.model, lora);
  });
  const plain = await place.asLibrary((open) => ask(open, picture, question, { maxTokens: 6 }));
  const open = await openModel(await testGpu(), place.model, { lora });
  const adapted = await ask(open, picture, question, { maxTokens: 6 });
  open.dispose();
  assert.notEqual(adapted.text, plain.text);
  const args = [
    ...["--model", place.model, place.path("a.png"), question, "--max-tokens", "6", "--quiet"],
  ];
  const said = await runHere(ASK, [...args, "--lora", lora]);
  assert.deepEqual([said.code, said.stdout], [0, `${adapted.text}\n`]);
  const wrong = await runHere(ASK, [...args, "--lora", `${place.model}/model.safetensors`]);
  assert.deepEqual([wrong.code, wrong.stdout], [3, ""]);
  assert.match(wrong.stderr, /Cannot read adapter .*its metadata has format/);
});

test("ask --json streams pieces, and ends with answer, options and images", async (place) => {
  const said = await runHere(ASK, [
    ...["--model", place.model, "--image", place.path("a.png"), "--image", place.path("b.png")],
    ...["--preset", "anatomy", "--max-tokens", "5", "--temperature", "0.8", "--seed", "3"],
    ...["--top-k", "9", "--json", "--quiet"],
  ]);
  assert.equal(said.code, 0, said.stderr);
  const [{ event: _, ...answer }] = eventsOf(said, "answer");
  const question = presetPrompt("ask", "anatomy");
  const options = {
    maxTokens: 5,
    temperature: 0.8,
    topK: 9,
    topP: 1,
    context: 32768,
    specialTokens: false,
    seed: 3,
    think: false as const,
    imageRule: "trainVit" as const,
  };
  const expected = await place.asLibrary(async (open) =>
    await ask(open, [await place.picture("a.png"), await place.picture("b.png")], question, options)
  );
  const images = ["a.png", "b.png"].map((name) => place.path(name));
  assert.deepEqual(answer, { ...expected, question, images, model: place.model, options });
  assert.equal(piecesOf(said, "text"), expected.text);
  assert.equal(said.events().at(-1)?.event, "done");
});

test("ask takes the question from stdin, for - and where there is none", async (place) => {
  const args = ["--model", place.model, "--max-tokens", "4", "--quiet"];
  const given = await runHere(ASK, [...args, "no lesion ?"]);
  assert.notEqual(given.stdout, "");
  for (const more of [[], ["-"], ["--text", "-"]]) {
    const said = await runHere(ASK, [...args, ...more], { stdin: "no lesion ?\n" });
    assert.deepEqual([said.stdout, said.code], [given.stdout, 0]);
  }
  const empty = await runHere(ASK, args, { stdin: " \n" });
  assert.match(empty.stderr, /^error: Cannot go on without a question: stdin is empty\nhelp: /);
  const typed = await runHere(ASK, args, { stdinTerminal: true });
  assert.match(typed.stderr, /^error: Cannot go on without a question\nhelp: .*deno task ask /);
  const bytes = await runHere(ASK, args, { stdin: Uint8Array.of(0xff, 0xfe, 0x00) });
  assert.match(bytes.stderr, /^error: Cannot read the question from stdin: .*\nhelp: give UTF-8/);
  assert.deepEqual([empty.code, typed.code, bytes.code], [2, 2, 3]);
});

test("ask on a terminal leaves the line to the text while it comes", async (place) => {
  const args = ["--model", place.model, "what is this ?", "--max-tokens", "4"];
  const terminal = { terminal: true, stdoutTerminal: true };
  const said = await runHere(ASK, args, terminal);
  assert.equal(said.code, 0);
  assert.ok(said.stderr.includes("\r\x1b[Kread "));
  assert.ok(!said.stderr.includes("\x1b[Kwrite "));
  const piped = await runHere(ASK, args, { terminal: true });
  assert.ok(piped.stderr.includes("\x1b[Kwrite "));
});

test("report prints the preset's report", async (place) => {
  const args = ["--model", place.model, place.path("a.png"), "--modality", "cxr"];
  const said = await runHere(REPORT, [...args, "--max-tokens", "5", "--json"]);
  const expected = await place.asLibrary(async (open) =>
    await report(open, await place.picture("a.png"), { modality: "cxr", maxTokens: 5 })
  );
  assert.equal(said.code, 0, said.stderr);
  const [answer] = eventsOf(said, "answer");
  assert.equal(answer.text, expected.text);
  assert.equal(answer.prompt, presetPrompt("report", "report", { modality: "cxr" }));
});

test("report --out FILE.png draws each image again from the report", async (place) => {
  const args = ["--model", place.model, place.path("a.png"), place.path("b.png")];
  const drawing = ["--steps", "3", "--max-tokens", "4", "--out", place.path("again.png")];
  const said = await runHere(REPORT, [...args, ...drawing, "--instruction", "what is this ?"]);
  const expected = await place.asLibrary(async (open) =>
    await reconstruct(
      open,
      [await place.picture("a.png"), await place.picture("b.png")],
      "what is this ?",
      { steps: 3, maxTokens: 4 },
    )
  );
  assert.equal(said.code, 0, said.stderr);
  assert.notEqual(expected.text, "");
  assert.equal(said.stdout, `${expected.text}\n`);
  for (const [i, { image }] of expected.images.entries()) {
    await assertPicture(place.path(`again-${i + 1}.png`), image);
  }
  assert.deepEqual(await place.names(), ["a.png", "again-1.png", "again-2.png", "b.png"]);
}, 2);

test("report --preset counterfactual gives text and image together", async (place) => {
  const said = await runHere(REPORT, [
    ...["--model", place.model, place.path("a.png"), "--preset", "counterfactual", "--text"],
    ...["no lesion", "--steps", "3", "--max-tokens", "4", "--out", place.path("c.png"), "--json"],
  ]);
  assert.equal(said.code, 0, said.stderr);
  const { text, image, used } = await place.asLibrary(async (open) =>
    await counterfactual(open, await place.picture("a.png"), "no lesion", {
      steps: 3,
      maxTokens: 4,
    })
  );
  assert.equal(eventsOf(said, "answer")[0].text, text);
  assert.equal(piecesOf(said, "text"), text);
  assert.deepEqual(eventsOf(said, "image")[0].options, { ...used });
  await assertPicture(place.path("c.png"), image);
});

test("generate draws what the library draws, a picture per seed", async (place) => {
  const args = ["--model", place.model, "a bright lung", "--steps", "4", "--size", "16x32"];
  const out = place.path("new/g.png");
  const said = await runHere(GENERATE, [...args, "--out", out, "--count", "2"]);
  assert.equal(said.code, 0, said.stderr);
  const paths = ["new/g-1.png", "new/g-2.png"].map((name) => place.path(name));
  assert.equal(said.stdout, paths.map((path) => `${path}\n`).join(""));
  for (const [i, path] of paths.entries()) {
    const { image } = await place.asLibrary((open) =>
      generate(open, "a bright lung", { steps: 4, size: [16, 32], seed: 42 + i })
    );
    await assertPicture(path, image);
  }
});

test("generate hands every flag of drawing to the library", async (place) => {
  const out = place.path("g.png");
  const flags = "--steps 4 --shift 2 --seed 7 --noise keyed --text-guidance 3 --image-guidance 2" +
    " --interval 0.1,0.9 --renorm channel --renorm-min 0.2 --size 16 --json --quiet";
  const args = ["--model", place.model, "lung", "--out", out, ...flags.split(" ")];
  const said = await runHere(GENERATE, args);
  assert.equal(said.code, 0, said.stderr);
  const [{ options, ...event }] = eventsOf(said, "image");
  assert.deepEqual(options, {
    steps: 4,
    shift: 2,
    seed: 7,
    noise: "keyed",
    textGuidance: 3,
    imageGuidance: 2,
    interval: [0.1, 0.9],
    renorm: "channel",
    renormMin: 0.2,
    asReference: false,
    width: 16,
    height: 16,
  });
  const facts = { path: out, width: 16, height: 16, prompt: "lung", model: place.model };
  assert.deepEqual(event, { event: "image", ...facts });
});

test("generate draws by the defaults that its help names, or by the model folder's", async (place) => {
  const args = ["--model", place.model, "lung", "--out", place.path("g.png"), "--size", "4"];
  const usedBy = async () => eventsOf(await runHere(GENERATE, [...args, "--json"]), "image")[0];
  const { options } = await usedBy() as unknown as { options: Record<string, unknown> };
  const help = (await runHere(GENERATE, ["--help"])).stdout;
  for (const name of ["steps", "shift", "seed", "textGuidance", "imageGuidance", "renormMin"]) {
    const flag = dashed(name);
    const [, stated] = new RegExp(`\n  --${flag} .*\\(default ([\\d.]+)`).exec(help) ?? [];
    assert.equal(Number(stated), options[name], name);
  }
  await Deno.writeTextFile(`${place.model}/defaults.json`, '{"draw": {"steps": 5, "shift": 2}}');
  const { options: own } = await usedBy() as unknown as { options: Record<string, unknown> };
  assert.deepEqual(own, { ...options, steps: 5, shift: 2 });
});

test("generate --preview shows the picture as it becomes, and cleans up", async (place) => {
  const out = place.path("g.png");
  const preview = place.path("g.preview.png");
  const sizes: number[] = [];
  const args = ["--model", place.model, "lung", "--out", out, "--steps", "8", "--json"];
  const said = await runHere(GENERATE, [...args, "--preview", "--preview-every", "3"], {
    heard: (text) => {
      if (text.includes('"preview"')) sizes.push(Deno.statSync(preview).size);
    },
  });
  assert.equal(said.code, 0, said.stderr);
  const steps = eventsOf(said, "preview").map(({ path, step, total }) => [path, step, total]);
  assert.deepEqual(steps, [[preview, 3, 7], [preview, 6, 7]]);
  assert.ok(sizes.length === 2 && sizes.every((size) => size > 100));
  assert.equal(said.stderr.split(preview).length - 1, 1, "the path is said once");
  assert.deepEqual(await place.names(), ["a.png", "b.png", "g.png"]);
});

test("generate stopped by a signal ends with 130 and leaves nothing", async (place) => {
  const args = ["--model", place.model, "lung", "--out", place.path("new/g.png"), "--steps", "20"];
  const said = await runHere(GENERATE, [...args, "--preview", "--preview-every", "2", "--json"], {
    heard: (text, signal) => {
      if (text.includes('"preview"')) signal("SIGINT");
    },
  });
  assert.equal(said.code, 130);
  assert.equal(eventsOf(said, "preview").length, 1);
  assert.equal(eventsOf(said, "image").length, 0);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(place.path("new"))), []);
});

test("edit draws by instruction and plan, segment by the mask's prompt", async (place) => {
  const image = await place.picture("a.png");
  const drawing = ["--steps", "3", "--model", place.model, place.path("a.png")];
  const out = place.path("e.png");
  const edited = await place.asLibrary((open) =>
    edit(open, image, "bright lung", { steps: 3, maxTokens: 4 })
  );
  const said = await runHere(EDIT, [
    ...[...drawing, "bright lung", "--max-tokens", "4", "--out", out, "--json", "--quiet"],
  ]);
  assert.equal(said.code, 0, said.stderr);
  const [{ plan, drawnBy, options }] = eventsOf(said, "image");
  assert.deepEqual([plan, drawnBy], [edited.plan, edited.instruction]);
  assert.equal(piecesOf(said, "plan"), edited.plan);
  assert.deepEqual(options, { ...edited.used });
  await assertPicture(out, edited.image);

  const mask = place.path("mask.png");
  const masked = await runHere(SEGMENT, [...drawing, "lung", "--modality", "cxr", "--out", mask]);
  const expected = await place.asLibrary((open) =>
    segment(open, image, "lung", { steps: 3, modality: "cxr" })
  );
  assert.deepEqual([masked.code, masked.stdout], [0, `${mask}\n`]);
  await assertPicture(mask, expected.image);
});

test("chat keeps earlier turns and images in mind, and begins anew", async (place) => {
  const lines = ["what is this ?", `/image ${place.path("b.png")}`, "no lesion ?", "/reset", "yes"];
  const args = ["--model", place.model, place.path("a.png"), "--max-tokens", "3", "--json"];
  const said = await runHere(CHAT, args, { stdin: lines.join("\n") });
  assert.equal(said.code, 0, said.stderr);
  const expected = await place.asLibrary(async (open) => {
    const chat = new Chat(open, { maxTokens: 3 });
    const first = await chat.say(lines[0], [await place.picture("a.png")]);
    const second = await chat.say(lines[2], [await place.picture("b.png")]);
    chat.dispose();
    const other = new Chat(open, { maxTokens: 3 });
    const third = await other.say("yes");
    other.dispose();
    return [first, second, third];
  });
  const answers = eventsOf(said, "answer");
  const parts = answers.map(({ tokens, promptTokens }) => ({ tokens, promptTokens }));
  assert.deepEqual(
    parts,
    expected.map(({ tokens, promptTokens }) => ({ tokens, promptTokens })),
  );
  const shown = [["a.png"], ["b.png"], []].map((names) => names.map((name) => place.path(name)));
  assert.deepEqual(answers.map(({ images }) => images), shown);
});

test("chat goes on after a bad line where somebody types, and ends with it in a pipe", async (place) => {
  const args = ["--model", place.model, "--max-tokens", "3", "--quiet"];
  const stdin = "/rest\n/image nothing.png\nyes\n/quit\nno\n";
  const typed = await runHere(CHAT, args, { stdin, stdinTerminal: true });
  assert.equal(typed.code, 0);
  assert.match(
    typed.stderr,
    /> error: Cannot understand \/rest\nhelp: \/reset: start anew\n> error: /,
  );
  assert.equal(typed.stdout.trim().split("\n").length, 1, "one answer");
  const piped = await runHere(CHAT, args, { stdin });
  assert.deepEqual([piped.code, piped.stdout], [2, ""]);
  const missing = await runHere(CHAT, args, { stdin: "/image nothing.png\nyes\n" });
  assert.deepEqual([missing.code, missing.stdout], [3, ""]);
});
