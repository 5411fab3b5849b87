// What the model's verbs take from the system beside a command's shell, as a record: the device, standard input, a
// clock. Tests pass theirs. And the one thing the shared flag reader cannot do: flags that repeat, values like -600/1500.

import { type Gpu, type GpuOptions, openDevice } from "../../gpu/device.ts";
import {
  type CommandSpec,
  type Context,
  processShell,
  runCommand,
  type Shell,
} from "../command.ts";
import type { Flags } from "../flags.ts";

/** What a verb needs from the process. */
export interface VerbWorld extends Shell {
  /** True when stdout is a terminal: then nothing else is drawn while text comes. */
  stdoutTerminal: boolean;
  /** True when somebody types on stdin. */
  stdinTerminal: boolean;
  /** Bytes of stdin, to its end. */
  stdin(): ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Characters in a line of the terminal. */
  columns(): number;
  /** Milliseconds of a monotonic clock. */
  now(): number;
  /** Bytes of memory of this machine. */
  memoryBytes(): number;
  openGpu(options: GpuOptions): Promise<Gpu>;
  closeGpu(gpu: Gpu): void;
}

/** This process. Needs --allow-sys=systemMemoryInfo. */
export function thisVerbWorld(): VerbWorld {
  return {
    ...processShell(),
    stdoutTerminal: Deno.stdout.isTerminal(),
    stdinTerminal: Deno.stdin.isTerminal(),
    stdin: () => Deno.stdin.readable,
    columns: () => Deno.stderr.isTerminal() && Deno.consoleSize().columns || 80,
    now: () => performance.now(),
    memoryBytes: () => Deno.systemMemoryInfo().total,
    openGpu: openDevice,
    closeGpu: (gpu) => gpu.close(),
  };
}

/** Where a verb's results and messages go, whatever its flags are. */
export interface Desk
  extends Pick<Context<Flags>, "print" | "emit" | "note" | "signal" | "terminal"> {
  flags: { json: boolean; quiet: boolean };
  world: VerbWorld;
}

/** A command's context, with what was typed with --image and the world. */
export interface VerbContext<T extends Flags> extends Context<T> {
  /** Paths given with --image, in order. */
  images: string[];
  world: VerbWorld;
}

/** A verb: its command and its work. */
export interface Verb<T extends Flags> {
  spec: CommandSpec<T>;
  work(context: VerbContext<T>): Promise<void>;
}

/** Runs a verb from parsing to exit code. */
export async function runVerb<const T extends Flags>(
  verb: Verb<T>,
  world: VerbWorld = thisVerbWorld(),
): Promise<void> {
  const { args, images } = takeImages(world.args);
  await runCommand(
    verb.spec,
    (context) => verb.work(Object.assign(context, { images, world })),
    { ...world, args },
  );
}

/** Values that begin with a minus sign, by flag. */
const MINUS = new Map([["--window", /^-\d/], ["--text", /^-$/], ["--instruction", /^-$/]]);

/**
 * Takes `--image PATH` out of arguments, any number of them, and joins values that begin with a minus sign to their
 * flags, which the reader would take for flags. An `--image` without a value stays, to be refused with the other flags.
 */
export function takeImages(all: readonly string[]): { args: string[]; images: string[] } {
  const args: string[] = [];
  const images: string[] = [];
  for (let i = 0; i < all.length; i++) {
    const [arg, next] = [all[i], all[i + 1]];
    if (arg === "--") return { args: [...args, ...all.slice(i)], images };
    if (/^--image=./s.test(arg)) images.push(arg.slice("--image=".length));
    else if (arg === "--image" && next && !next.startsWith("--")) images.push(all[++i]);
    else if (MINUS.get(arg)?.test(next ?? "")) args.push(`${arg}=${all[++i]}`);
    else args.push(arg);
  }
  return { args, images };
}
