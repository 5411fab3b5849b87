// Where a model lies that is named by a training's run or by one of its names, such as runs/…/checkpoints/best.

import { InputError } from "../errors.ts";

/** A folder of a step, as a training names it. */
const STEP = /^step-\d{7,}$/;

/**
 * The folder of a model: of a run its newest checkpoint, or its `model` if it trained a part alone; of a name (`latest`,
 * `best`) the checkpoint that it stands for; else `path`.
 *
 * @throws {InputError} If a run has no checkpoint yet
 */
export async function modelFolder(path: string): Promise<string> {
  const dir = path.replace(/(.)\/+$/, "$1");
  const named = await textOf(dir);
  if (named !== undefined && STEP.test(named)) return `${dir.replace(/[^/]*$/, "")}${named}`;
  if (await textOf(`${dir}/run.json`) === undefined) return path;
  if (await textOf(`${dir}/model/config.json`) !== undefined) return `${dir}/model`;
  const latest = await textOf(`${dir}/checkpoints/latest`);
  if (latest !== undefined && STEP.test(latest)) return `${dir}/checkpoints/${latest}`;
  throw new InputError(`Cannot open model ${path}: it is a run that has no checkpoint yet`, {
    help: "go on with it by deno task train … --resume, or give a folder with weights",
  });
}

/** Text of a small file, or undefined if there is no such file. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    const { isFile, size } = await Deno.stat(path);
    return isFile && size < 1e6 ? (await Deno.readTextFile(path)).trim() : undefined;
  } catch (cause) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (cause instanceof NotFound || cause instanceof NotADirectory) return undefined;
    throw cause;
  }
}
