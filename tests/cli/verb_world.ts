// What tests of the model's verbs share: a world of strings around the test device, the model folder, small files.

import { encodePng } from "../../lib/data/image.ts";
import { readPicture } from "../../lib/data/picture.ts";
import type { Image } from "../../lib/data/resize.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { runVerb, type Verb, type VerbWorld } from "../../lib/cli/verbs/world.ts";
import { type OpenModel, openModel } from "../../lib/infer/open_model.ts";
import { testGpu } from "../helpers.ts";
import { modelFolder } from "../infer/model_folder.ts";

/** A temporary folder with the model in `model` and pictures `a.png` and `b.png`. */
export class Place {
  constructor(readonly dir: string, readonly model: string) {}

  /** A path in the folder. */
  path(name: string): string {
    return `${this.dir}/${name}`;
  }

  /** One of the pictures, as a verb gets it. */
  picture(name: string): Promise<Image> {
    return readPicture(this.path(name));
  }

  /** Names in the folder, in order. */
  async names(): Promise<string[]> {
    return (await Array.fromAsync(Deno.readDir(this.dir), (entry) => entry.name)).sort();
  }

  /** What the library says of the same model. */
  async asLibrary<T>(work: (open: OpenModel) => Promise<T>): Promise<T> {
    const open = await openModel(await testGpu(), this.model);
    try {
      return await work(open);
    } finally {
      open.dispose();
    }
  }
}

/** Makes a folder, works in it, removes it. */
export async function withPlace(work: (place: Place) => Promise<void>, seed = 1): Promise<void> {
  const model = await modelFolder(await testGpu(), seed);
  const dir = await Deno.makeTempDir({ prefix: "oka-verbs-" });
  try {
    await Deno.writeFile(`${dir}/a.png`, await encodePng(shades(20, 16, 3)));
    await Deno.writeFile(`${dir}/b.png`, await encodePng(shades(16, 16, 5)));
    await work(new Place(dir, model));
  } finally {
    await Deno.remove(dir, { recursive: true });
    await Deno.remove(model, { recursive: true });
  }
}

function shades(width: number, height: number, step: number): Image {
  const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => (step * i) % 256);
  return { width, height, data };
}

/** What a verb said. */
export interface Said {
  stdout: string;
  stderr: string;
  /** The exit code. */
  code: number;
  /** Lines of stdout as JSON. */
  events(): ({ event: string } & Record<string, unknown>)[];
}

/** What may differ from a pipe without input and the test device. */
export interface Circumstances extends Partial<Omit<VerbWorld, "stdin">> {
  stdin?: string | Uint8Array<ArrayBuffer>;
  /** Called with what comes on stdout. */
  heard?: (text: string, signal: (name: "SIGINT") => void) => void;
}

/** Runs a verb in this process. */
export async function runHere<T extends Flags>(
  verb: Verb<T>,
  args: string[],
  { stdin = "", heard, ...rest }: Circumstances = {},
): Promise<Said> {
  const seen = { stdout: "", stderr: "", codes: [] as number[] };
  const bytes = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
  let interrupt: (name: "SIGINT") => void = () => {};
  const gpu = await testGpu();
  await runVerb(verb, {
    args,
    stdout: (text) => {
      seen.stdout += text;
      heard?.(text, interrupt);
    },
    stderr: (text) => void (seen.stderr += text),
    terminal: false,
    noColor: true,
    exit: (code) => void seen.codes.push(code),
    onSignal: (listener) => interrupt = listener,
    onStray: () => {},
    stdoutTerminal: false,
    stdinTerminal: false,
    stdin: () => new Blob([bytes]).stream(),
    columns: () => 100,
    now: () => performance.now(),
    memoryBytes: () => 2 ** 34,
    openGpu: () => Promise.resolve(gpu),
    closeGpu: () => {},
    ...rest,
  });
  return {
    stdout: seen.stdout,
    stderr: seen.stderr,
    code: seen.codes[0],
    events: () => seen.stdout.trim().split("\n").map((line) => JSON.parse(line)),
  };
}

/** A world without a device: whoever opens one fails. */
export const NO_GPU: Circumstances = {
  openGpu: () => Promise.reject(new Error("a device was opened")),
};
