// What the model's commands refuse, and what they say without a model: help, presets, wrong flags, bad input. Nothing is
// computed or written then.

import assert from "node:assert/strict";
import { helpText } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { ASK } from "../../lib/cli/verbs/ask.ts";
import { CHAT } from "../../lib/cli/verbs/chat.ts";
import { EDIT } from "../../lib/cli/verbs/edit.ts";
import { GENERATE } from "../../lib/cli/verbs/generate.ts";
import { REPORT } from "../../lib/cli/verbs/report.ts";
import { SEGMENT } from "../../lib/cli/verbs/segment.ts";
import type { Verb } from "../../lib/cli/verbs/world.ts";
import { MODALITIES, PROMPTS } from "../../lib/infer/prompts.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { GPU_TEST } from "../helpers.ts";
import { NO_GPU, type Place, runHere, withPlace } from "./verb_world.ts";

// The verbs differ in their flags; what is asked here is the same of all.
const VERBS = [ASK, REPORT, GENERATE, EDIT, SEGMENT, CHAT] as unknown as Verb<Flags>[];

Deno.test("--help of every verb works without a device and shows two examples or more", async () => {
  for (const verb of VERBS) {
    const { name, purpose, examples } = verb.spec;
    const said = await runHere(verb, ["--help"], NO_GPU);
    assert.equal(said.code, 0);
    assert.ok(said.stdout.startsWith(`${purpose}\n\nusage: deno task ${name} --model DIR`));
    assert.ok(examples.length >= 2);
    for (const [example] of examples) assert.ok(example.includes(`deno task ${name} --model DIR`));
    assert.match(said.stdout, /\n {2}--budget SIZE .*\(default: 6GB; on a software adapter 60 %/);
    assert.doesNotMatch(said.stdout, /undefined|Infinity/);
  }
});

Deno.test("every flag in a verb's examples is one of its flags", () => {
  for (const { spec } of VERBS) {
    const known = helpText(spec);
    for (const [example] of spec.examples) {
      for (const [flag] of example.matchAll(/--[a-z-]+/g)) {
        assert.ok(known.includes(`\n  ${flag} `), `${spec.name}: ${flag}`);
      }
    }
  }
});

Deno.test("deno.json has a task for every verb, without net or all permissions", async () => {
  const config = new URL("../../deno.json", import.meta.url);
  const { tasks } = JSON.parse(await Deno.readTextFile(config));
  for (const { spec: { name } } of VERBS) {
    assert.ok(tasks[name].endsWith(` lib/cli/verbs/${name}.ts`));
    assert.doesNotMatch(tasks[name], / -A|--allow-all|--allow-net|--allow-run/);
  }
});

Deno.test("--list-presets lists a verb's prompts and the modalities without a device", async () => {
  const verbs = VERBS.filter((verb) => verb !== VERBS.at(-1));
  const listed: string[] = [];
  for (const verb of verbs) {
    const said = await runHere(verb, ["--list-presets", "--json"], NO_GPU);
    const presets = said.events().filter(({ event }) => event === "preset");
    for (const { name, verb: whose, prompt } of presets) {
      assert.deepEqual([whose, prompt], [verb.spec.name, PROMPTS[name as string].prompt]);
    }
    listed.push(...presets.map(({ name }) => name as string));
    const modalities = said.events().filter(({ event }) => event === "modality");
    assert.deepEqual(modalities.map(({ name }) => name), Object.keys(MODALITIES));
    const people = await runHere(verb, ["--list-presets"], NO_GPU);
    for (const { name, purpose } of presets) {
      assert.match(people.stdout, new RegExp(`\n  ${name} +${(purpose as string).slice(0, 9)}`));
    }
  }
  assert.deepEqual(listed.sort(), Object.keys(PROMPTS).sort());
});

type Case = [verb: unknown, args: string, code: number, said: RegExp];

/** Arguments with A for a picture, M for the model; quotes hold words together. */
function argumentsOf(text: string, { dir, model }: Place): string[] {
  const words = text.match(/"[^"]*"|\S+/g) ?? [];
  return words.map((word) => word.replaceAll('"', ""))
    .map((word) => word === "A" ? `${dir}/a.png` : word === "M" ? model : word)
    .map((word) => word.replace("DIR/", `${dir}/`));
}

const BEFORE: Case[] = [
  [
    ASK,
    "hello",
    2,
    /^error: Cannot ask without a model: --model DIR is missing\nhelp: .*--model DIR/,
  ],
  [CHAT, "A", 2, /^error: Cannot chat without a model/],
  [
    ASK,
    "--model M A what is this",
    2,
    /more than one question: "what" and "is" and "this"\nhelp: put it in quotes/,
  ],
  [ASK, "--model M A q --text r", 2, /more than one question: "q" and "r"/],
  [ASK, '--model M A " "', 2, /with an empty question/],
  [
    ASK,
    "--model M none.png q",
    3,
    /^error: Cannot read picture none.png: there is no such file\nhelp: .*--text/,
  ],
  [
    ASK,
    "--model M --image none q",
    3,
    /^error: Cannot read picture none: No such file or directory\nhelp: /,
  ],
  [ASK, "--model M --image", 2, /^error: Cannot read --image "": expected a value \(PATH\)/],
  [ASK, "--model M DIR/empty.dcm q", 3, /empty.dcm: the file is empty\nhelp: /],
  [ASK, "--model M DIR/text.png q", 3, /text.png: it is not a JPEG, PNG, .*\nhelp: /],
  [ASK, "--model M A q --window lung", 2, /^error: Cannot window .*\nhelp: Leave out --window/],
  [
    ASK,
    "--model M A q --slice last",
    2,
    /^error: Cannot read --slice last: expected a number from 0, or middle/,
  ],
  [ASK, "--model M A q --frame 1", 2, /^error: Cannot take a frame of .*a.png: it is a PNG file/],
  [ASK, "--model M A --preset captoin", 2, /preset "captoin": .*\nhelp: did you mean caption\?/],
  [
    ASK,
    "--model M A q --preset caption",
    2,
    /preset caption and the text "q": it has no place for it\nhelp: /,
  ],
  [ASK, "--model M A q --top-p 2", 2, /^error: Cannot sample with topP 2\nhelp: /],
  [
    ASK,
    "--model M A q --out DIR/a.png/x.txt",
    2,
    /^error: Cannot write to .*a.png\/x.txt: Not a directory\nhelp: .*--out/,
  ],
  [ASK, "--model M A q --out DIR/.", 2, /it is a folder\nhelp: /],
  [ASK, "--model M A q --out DIR/x.png", 2, /an answer is text\nhelp: /],
  [
    ASK,
    "--model M A q --out /proc/no/x.txt",
    2,
    /^error: Cannot write to \/proc\/no\/x.txt: .*\nhelp: /,
  ],
  [GENERATE, "--model M lung --out DIR/x.jpg", 2, /images are written as PNG\nhelp: .*\.png/],
  [GENERATE, "--model M lung --out DIR/a.png/x.png", 2, /Not a directory\nhelp: /],
  [GENERATE, "--model M lung --steps 1", 2, /^error: Cannot read --steps 1: expected at least 2/],
  [
    GENERATE,
    "--model M lung --shift 0",
    2,
    /^error: Cannot read --shift 0: expected a number above 0\nhelp: /,
  ],
  [
    GENERATE,
    "--model M lung --size big",
    2,
    /^error: Cannot read --size big: expected pixels\nhelp: .*512x384/,
  ],
  [
    GENERATE,
    "--model M lung --interval 0.5",
    2,
    /^error: Cannot read --interval 0.5: .*\nhelp: .*0.4,1/,
  ],
  [
    GENERATE,
    "--model M lung --interval 0.9,0.1",
    2,
    /^error: Cannot guide with the interval 0.9 to 0.1\nhelp: /,
  ],
  [
    GENERATE,
    "--model M lung --renorm all",
    2,
    /^error: Cannot read --renorm all: expected global or /,
  ],
  [
    GENERATE,
    "--model M lung --modality ct",
    2,
    /--modality alone: .*\nhelp: add --preset synthesis/,
  ],
  [GENERATE, "--model M lung --image A", 2, /^error: Cannot generate from an image\nhelp: .*edit/],
  [EDIT, "--model M lung", 2, /^error: Cannot edit without an image\nhelp: /],
  [
    EDIT,
    "--model M A lung --think-set bagel",
    2,
    /--think-set with plan answer\nhelp: add --plan think/,
  ],
  [SEGMENT, "--model M A A lung", 2, /^error: Cannot segment 2 images: it takes one/],
  [REPORT, "--model M", 2, /^error: Cannot report without an image/],
  [
    REPORT,
    "--model M A lung",
    2,
    /^error: Cannot take "lung": it is no file\nhelp: .*--instruction/,
  ],
  [
    REPORT,
    "--model M A --steps 9 --rules bagel",
    2,
    /Cannot use --steps, --rules: nothing is drawn\nhelp: add --out/,
  ],
  [
    REPORT,
    "--model M A --think bagel --out DIR/x.png",
    2,
    /Cannot think in a report that is drawn\nhelp: /,
  ],
  [
    REPORT,
    "--model M A --preset report --instruction lung",
    2,
    /both --instruction and --preset\nhelp: /,
  ],
  [
    REPORT,
    "--model M A A --preset counterfactual --text x",
    2,
    /Cannot imagine 2 images otherwise/,
  ],
  [REPORT, "--model M A --preset counterfactual", 2, /without a condition: stdin is empty\nhelp: /],
];

Deno.test("what can be known at once is refused before a device is opened", async () => {
  await withPlace(async (place) => {
    await Deno.writeTextFile(place.path("empty.dcm"), "");
    await Deno.writeTextFile(place.path("text.png"), "no picture at all, only words");
    const before = await place.names();
    for (const [verb, args, code, expected] of BEFORE) {
      const said = await runHere(verb as Verb<Flags>, argumentsOf(args, place), NO_GPU);
      const lines = said.stderr.replace(/^note: .*\n/gm, "");
      assert.match(lines, expected, args);
      assert.deepEqual([said.code, said.stdout], [code, ""], args);
      assert.doesNotMatch(lines, /\n\s+at /, "no stack");
    }
    assert.deepEqual(await place.names(), before);
  });
});

Deno.test("a model that cannot be used is refused, and nothing is written", GPU_TEST, async () => {
  await withPlace(async (place) => {
    const copy = async (name: string, but: string) => {
      await Deno.mkdir(place.path(name));
      for await (const { name: file } of Deno.readDir(place.model)) {
        if (file !== but) {
          await Deno.copyFile(`${place.model}/${file}`, place.path(`${name}/${file}`));
        }
      }
    };
    await copy("bare", "words.json");
    await copy("other", "");
    const config = await Deno.readTextFile(place.path("other/config.json"));
    await Deno.writeTextFile(
      place.path("other/config.json"),
      config.replace(/"intermediateSize": 40/, '"intermediateSize": 48'),
    );
    const before = await place.names();
    const cases: Case[] = [
      [ASK, "--model DIR/none q", 3, /DIR\/none: there is no such folder\nhelp: /],
      [ASK, "--model DIR/bare q", 3, /DIR\/bare: it has no tokenizer files\nhelp: /],
      [
        ASK,
        "--model DIR/other q",
        3,
        /DIR\/other: .* \(48, 32\) by the config, \(40, 32\) in the file/,
      ],
      [
        ASK,
        "--model M q --context 9",
        3,
        /takes \d+ tokens, the context holds 9\nhelp: .*--context/,
      ],
      [ASK, "--model M A q", 4, /budget is 1000000 B\nhelp: give --budget /],
      [GENERATE, "--model M lung --size 30", 2, /30×30\nhelp: both sides must be multiples of 4 /],
      [CHAT, "--model M --context 4", 3, /the context holds 4|\d+ of 4 are left/],
    ];
    for (const [verb, args, code, expected] of cases) {
      const small = code === 4 ? { openGpu: () => openDevice({ budgetBytes: 1e6 }) } : {};
      const said = await runHere(verb as Verb<Flags>, argumentsOf(args, place), {
        ...small,
        stdin: "yes\n",
      });
      assert.match(said.stderr.replaceAll(place.dir, "DIR"), expected, args);
      assert.deepEqual([said.code, said.stdout], [code, ""], args);
    }
    assert.deepEqual(await place.names(), before);
  });
});
