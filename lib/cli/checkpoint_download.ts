// `deno task checkpoint download REPO`: a published checkpoint into the cache that hub tools share, resumed by byte
// range and checked by digest. The hub's library lists the files; their bytes are fetched here, as it does neither.

import { HUB_URL, listFiles, modelInfo } from "@huggingface/hub";
import { InputError, LabError, ResourceError } from "../errors.ts";
import { type Progress, SILENT, terminalProgress } from "../show/progress.ts";
import { type CommandSpec, type Context, Interrupted } from "./command.ts";
import type { Flags } from "./flags.ts";
import { fetchBlob } from "./hub_blob.ts";
import { cacheFolder, checkCommit, checkRevision, existingPart, RepoCache } from "./hub_cache.ts";
import { checkedEndpoint, checkedToken } from "./hub_access.ts";
import { Hub } from "./hub_client.ts";
import {
  checkpointFiles,
  type Chosen,
  filesFrom,
  type HubFile,
  matchingFiles,
  sizeText,
} from "./hub_files.ts";
import { type HubWorld, thisHubWorld } from "./hub_world.ts";

const FLAGS = {
  revision: { type: "string", default: "main", unit: "NAME", help: "branch, tag or commit" },
  files: {
    type: "list",
    unit: "PATTERNS",
    help: "these files instead of what a model needs: names with * (in a name) and ** (in a path)",
  },
  cache: { type: "string", unit: "DIR", help: "the hub cache; else HF_HUB_CACHE, HF_HOME/hub, …" },
  endpoint: { type: "string", unit: "URL", help: "the hub; else HF_ENDPOINT, else the public one" },
  token: { type: "string", unit: "TOKEN", help: "for gated repositories; better set HF_TOKEN" },
} as const satisfies Flags;

/** More files than a model has: a list that long is not read further. */
const MAX_FILES = 100_000;

/** The subcommand as `deno task checkpoint` needs it. */
export const downloadSpec = {
  name: "checkpoint download",
  purpose: "Download a published checkpoint into the hub cache, resumed and checked.",
  usage: "REPO [flags]",
  flags: FLAGS,
  positionals: { min: 1, max: 1, names: ["REPO (org/name)"] },
  examples: [
    ["deno task checkpoint download org/name", "configs, tokenizer and one kind of weights"],
    ["deno task checkpoint download org/name --files '*.json'", "only what the patterns name"],
  ],
  exitCodes: {
    3: "no such repository or no right to it; or its bytes are not what the hub lists",
    4: "not enough space on the disk, or it cannot be written to",
    6: "another process is downloading the same file",
  },
} as const satisfies CommandSpec<typeof FLAGS>;

/** The subcommand `download` of `deno task checkpoint`. */
export const downloadCommand = {
  spec: downloadSpec,
  main: (context: Context<typeof FLAGS>): Promise<void> => download(context, thisHubWorld()),
};

/**
 * Downloads what the flags ask for and prints the snapshot's folder.
 *
 * @throws {UsageError} On an impossible name, revision, endpoint, token or pattern
 * @throws {InputError} If the repository, its list of files or their bytes are not what they should be
 * @throws {ResourceError} If the disk has no room
 */
export async function download(
  context: Context<typeof FLAGS>,
  world: HubWorld,
): Promise<void> {
  const { flags, args: [repo], signal, print, emit, note, terminal } = context;
  checkRevision(flags.revision);
  const endpoint = checkedEndpoint(flags.endpoint ?? world.env("HF_ENDPOINT") ?? HUB_URL);
  const token = checkedToken(flags.token ?? world.env("HF_TOKEN"), endpoint);
  const root = flags.cache ?? cacheFolder(world.env);
  const cache = new RepoCache(root.replace(/\/+$/, ""), repo);
  const progress = flags.quiet ? SILENT : terminalProgress({
    write: world.write,
    terminal,
    now: world.now,
  });
  const hub = new Hub({
    endpoint,
    token,
    repo,
    revision: flags.revision,
    world,
    signal,
    note: progress.note,
  });
  try {
    const { commit, files } = await list(hub);
    const chosen = flags.files
      ? matchingFiles(repo, files, flags.files)
      : checkpointFiles(repo, files);
    if (chosen.passedOver.length > 0) {
      const names = chosen.passedOver.join(", ");
      note(`left out: ${names} (one kind of weights is enough; --files takes others)`);
    }
    const folder = `${cache.snapshot(commit)}/${chosen.folder}`.replace(/\/$/, "");
    const missing = await missingFiles(cache, chosen);
    const totals = {
      files: chosen.files.length,
      bytes: chosen.files.reduce((sum, file) => sum + file.sizeBytes, 0),
    };
    const toFetch = missing.reduce((sum, { leftBytes }) => sum + leftBytes, 0);
    emit({ event: "plan", repo, commit, folder, ...totals, bytesToFetch: toFetch });
    note(
      `${repo} at ${commit.slice(0, 12)}: ${totals.files} files, ${sizeText(totals.bytes)}` +
        (toFetch < totals.bytes ? `, ${sizeText(toFetch)} to fetch` : ""),
    );
    await checkSpace(world, cache.folder, toFetch, note);
    await cache.prepare(commit);
    const received = await fetchAll(context, { hub, cache, commit, chosen, missing, progress });
    for (const file of chosen.files) await cache.link(commit, file);
    await cache.writeRef(flags.revision, commit);
    progress.done();
    emit({ event: "snapshot", folder, commit, ...totals, bytesReceived: received });
    note(`ready: deno task ask --model ${folder}`);
    print(folder);
  } catch (error) {
    progress.done();
    if (!(signal.aborted && signal.reason instanceof Interrupted)) throw error;
    throw new Interrupted(
      signal.reason.signal,
      "what came is kept: the same command goes on from there",
    );
  }
}

/** The commit of the revision and the files it has: two requests, one where the revision is a commit. */
async function list(hub: Hub): Promise<{ commit: string; files: HubFile[] }> {
  const { repo, revision, endpoint } = hub.options;
  const options = {
    hubUrl: endpoint,
    fetch: (url: RequestInfo | URL) => hub.fetchMetadata(String(url)),
  };
  const entries: unknown[] = [];
  let commit = revision;
  try {
    if (!/^[0-9a-f]{40}$/.test(revision)) {
      const info = await modelInfo({ ...options, name: repo, revision, additionalFields: ["sha"] });
      commit = checkCommit(repo, info.sha);
    }
    const listing = listFiles({ ...options, repo, revision: commit, recursive: true });
    for await (const entry of listing) {
      entries.push(entry);
      if (entries.length > MAX_FILES) {
        throw new InputError(`Cannot download ${repo}: it lists more than ${MAX_FILES} files`);
      }
    }
  } catch (cause) {
    if (cause instanceof LabError || hub.options.signal.aborted) throw cause;
    // The library takes answers as they come: what is not a list or a record fails somewhere inside.
    throw new InputError(`Cannot download ${repo}: ${endpoint} gives no list of its files`, {
      help: "check --endpoint and HF_ENDPOINT",
      cause,
    });
  }
  return { commit, files: filesFrom(repo, entries) };
}

/** A file that is not in the cache yet. */
interface Missing {
  file: HubFile;
  leftBytes: number;
}

/** What has to be fetched, each blob once. */
async function missingFiles(cache: RepoCache, chosen: Chosen): Promise<Missing[]> {
  const missing = new Map<string, Missing>();
  for (const file of chosen.files) {
    if (missing.has(file.etag) || await cache.has(file)) continue;
    missing.set(file.etag, { file, leftBytes: file.sizeBytes - await cache.partBytes(file) });
  }
  return [...missing.values()];
}

async function checkSpace(
  world: HubWorld,
  folder: string,
  neededBytes: number,
  note: (text: string) => void,
): Promise<void> {
  if (neededBytes === 0) return;
  const freeBytes = await world.freeBytes(await existingPart(folder));
  if (freeBytes === undefined) {
    note(`the free space of ${folder} cannot be seen without --allow-sys=statfs`);
  } else if (neededBytes > freeBytes) {
    throw new ResourceError(
      `Cannot download: ${neededBytes} bytes are needed (${sizeText(neededBytes)}), and ` +
        `${freeBytes} are free (${sizeText(freeBytes)}) in ${folder}`,
      { help: "free some space, or name a folder on another disk with --cache DIR" },
    );
  }
}

interface Work {
  hub: Hub;
  cache: RepoCache;
  commit: string;
  chosen: Chosen;
  missing: Missing[];
  progress: Progress;
}

/** Fetches one file after the other. @returns bytes that came over the network */
async function fetchAll(context: Context<typeof FLAGS>, work: Work): Promise<number> {
  const { hub, cache, commit, chosen, missing, progress } = work;
  const { endpoint, repo, world } = hub.options;
  const wanted = new Set(missing.map(({ file }) => file));
  const total = missing.reduce((sum, { file }) => sum + file.sizeBytes, 0);
  const started = world.now();
  let [doneBytes, received, toldAt] = [0, 0, started];
  for (const file of chosen.files) {
    if (!wanted.has(file)) {
      context.emit({ event: "file", path: file.path, bytes: file.sizeBytes, cached: true });
      continue;
    }
    const path = file.path.split("/").map(encodeURIComponent).join("/");
    const fetched = await fetchBlob({
      hub,
      file,
      url: `${endpoint}/${repo}/resolve/${commit}/${path}`,
      blob: cache.blob(file),
      onProgress({ hereBytes, receivedBytes }) {
        const now = world.now();
        const bytesPerSecond = 1000 * (received + receivedBytes) / Math.max(1, now - started);
        const [here, all] = [doneBytes + hereBytes, total];
        progress.update(progressOf(repo, file, { hereBytes, here, all, bytesPerSecond }));
        if (now - toldAt < 1000) return;
        toldAt = now;
        context.emit({ event: "progress", path: file.path, bytes: here, total, bytesPerSecond });
      },
    });
    doneBytes += file.sizeBytes;
    received += fetched.receivedBytes;
    const { path: name, sizeBytes: bytes, etag, digest } = file;
    context.emit({ event: "file", path: name, bytes, cached: false, ...fetched, [digest]: etag });
  }
  return received;
}

/** `org/name  ███···  1204/29300  MB  ema.safetensors 4 %  85.2 MB/s  left 5 min`. */
function progressOf(
  repo: string,
  file: HubFile,
  at: { hereBytes: number; here: number; all: number; bytesPerSecond: number },
): Parameters<Progress["update"]>[0] {
  const [unitBytes, unit] = at.all >= 1e7
    ? [1e6, "MB"]
    : at.all >= 1e4
    ? [1e3, "kB"]
    : [1, "bytes"];
  const percent = file.sizeBytes === 0 ? 100 : Math.floor(100 * at.hereBytes / file.sizeBytes);
  return {
    label: repo,
    step: Math.round(at.here / unitBytes),
    total: Math.round(at.all / unitBytes),
    fields: { "": `${unit}  ${file.path} ${percent} %  ${sizeText(at.bytesPerSecond)}/s` },
  };
}
