// Trainings as users run them: processes with the permissions of the task, watched through their JSON lines.

import { DENO } from "../deno_command.ts";

const ROOT = new URL("../..", import.meta.url);

/** A training that runs. */
export interface TrainProcess {
  child: Deno.ChildProcess;
  /** Resolves with the step once a step of at least this number was told; rejects if the process ends before. */
  step(number: number): Promise<number>;
  /** The end: exit code and everything that was told. */
  ended: Promise<{ code: number; events: TrainEvent[]; stderr: string }>;
}

/** A line of `--json`. */
export type TrainEvent = { event: string; number?: number; message?: string; help?: string };

/** The words of the task's command line after `deno`. */
export async function taskWords(task: string): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const line: string = typeof tasks[task] === "string" ? tasks[task] : tasks[task].command;
  const words = line.split(" ");
  return words.slice(words.indexOf("run"));
}

/** Starts `deno task train …`, or the same under `launcher` (mpirun and its arguments). */
export async function startTraining(
  args: readonly string[],
  launcher: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<TrainProcess> {
  const deno = [DENO ?? "deno", ...await taskWords("train"), ...args, "--json", "--quiet"];
  const [program, ...rest] = [...launcher, ...deno];
  const child = new Deno.Command(program, {
    args: rest,
    cwd: ROOT,
    env: { XDG_RUNTIME_DIR: "/tmp", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const events: TrainEvent[] = [];
  const waiting: { number: number; done: (n: number) => void; failed: (e: Error) => void }[] = [];
  const stderr = new Response(child.stderr).text();
  const reading = readLines(child.stdout, (line) => {
    const event = JSON.parse(line) as TrainEvent;
    events.push(event);
    if (event.event !== "step") return;
    for (const each of waiting) if (event.number! >= each.number) each.done(event.number!);
  });
  const ended = (async () => {
    const [{ code }, text] = await Promise.all([child.status, stderr, reading]);
    for (const { failed } of waiting) failed(new Error(`it ended with ${code}: ${text}`));
    return { code, events, stderr: text };
  })();
  return {
    child,
    ended,
    step: (number) =>
      new Promise((done, failed) => {
        const told = events.findLast((e) => e.event === "step" && e.number! >= number);
        if (told) done(told.number!);
        else waiting.push({ number, done, failed });
      }),
  };
}

async function readLines(
  stream: ReadableStream<Uint8Array>,
  take: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line !== "") take(line);
  }
}
