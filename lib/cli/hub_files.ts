// Which files of a hub repository are downloaded: what its list says of each, checked before anything is written, and
// the choice among them.

import { InputError, UsageError } from "../errors.ts";

/** A file of a repository, as its list gives it. */
export interface HubFile {
  /** From the repository's root, with `/`. */
  path: string;
  sizeBytes: number;
  /** Name of its blob in the cache, and the digest of its content. */
  etag: string;
  /** What the etag is: sha256 of the bytes, or git's sha1 of `blob <size>\0` and the bytes. */
  digest: "sha256" | "git-sha1";
}

/** A choice of files. */
export interface Chosen {
  files: HubFile[];
  /** The folder of the repository that is the checkpoint: "" for its root, else `name/`. */
  folder: string;
  /** Weights that were passed over, as one of each kind is enough. */
  passedOver: string[];
}

/** Formats that run code when they are opened, or are code. */
const UNSAFE = /\.(bin|pt|pth|pkl|pickle|ckpt|py|pyc|so|dll|sh)$/i;
/** What is taken beside the weights. */
const BESIDE = [
  "config*.json",
  "llm_config.json",
  "vit_config.json",
  "generation_config.json",
  "tokenizer*.json",
  "vocab.json",
  "merges.txt",
  "added_tokens.json",
  "special_tokens_map.json",
  "ae.safetensors",
  "LICENSE*",
];
/** Kinds of weights in one file or in shards; the first kind that is there is taken, as the reference does. */
const WEIGHTS = ["ema_bf16", "ema", "model_bf16", "model"];
const WEIGHT_FILE = /^(ema|model)[\w-]*?(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/;

/**
 * Checks the entries of a hub's list.
 *
 * @throws {InputError} On an entry that is not what hubs give, or whose name would leave the folder
 */
export function filesFrom(repo: string, entries: readonly unknown[]): HubFile[] {
  const files: HubFile[] = [];
  for (const entry of entries) {
    const { type, path, size, oid, lfs } = (entry ?? {}) as Record<string, unknown>;
    const wrong = (what: string) =>
      new InputError(`Cannot download ${repo}: its list of files has ${what}`, {
        help: "this is not the list of a model hub, or a hostile one: check --endpoint",
      });
    if (typeof path !== "string" || !isInside(path)) {
      throw wrong(`the name ${JSON.stringify(path)}, which no file inside a folder can have`);
    }
    if (type === "directory") continue;
    const content = (lfs ?? { oid, size }) as Record<string, unknown>;
    const digest = lfs ? "sha256" : "git-sha1";
    const etag = String(content.oid);
    if (!(digest === "sha256" ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(etag)) {
      throw wrong(`no ${digest === "sha256" ? "sha256" : "git object"} for ${path}`);
    }
    const sizeBytes = content.size;
    if (!Number.isSafeInteger(sizeBytes) || Number(sizeBytes) < 0) {
      throw wrong(`the size ${sizeBytes} for ${path}`);
    }
    files.push({ path, sizeBytes: Number(sizeBytes), etag, digest });
  }
  const names = new Set<string>();
  const twice = files.find(({ path }) => names.size === names.add(path).size);
  const clash = twice ?? files.find(({ path }) => foldersOf(path).some((f) => names.has(f)));
  if (clash) {
    throw new InputError(`Cannot download ${repo}: its list of files has ${clash.path} twice`, {
      help: "as a file and again as a file or folder; check --endpoint",
    });
  }
  return files;
}

/** True for a name that stays inside the folder it is joined to, on every system. */
export function isInside(path: string): boolean {
  // deno-lint-ignore no-control-regex -- they are what is looked for
  if (path === "" || /[\\:\x00-\x1f\x7f]/.test(path)) return false;
  return path.split("/").every((part) =>
    part !== "" && part !== "." && part !== ".." && new TextEncoder().encode(part).length <= 255
  );
}

/** `a/b/c` → `a`, `a/b`. */
function foldersOf(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("/"));
}

/**
 * The files a model is run from: configs, tokenizer, autoencoder, licence, and one kind of weights.
 *
 * @throws {InputError} If the repository has no safetensors weights, or has them in several folders
 */
export function checkpointFiles(repo: string, files: readonly HubFile[]): Chosen {
  const folderOf = (file: HubFile) => file.path.slice(0, file.path.lastIndexOf("/") + 1);
  const nameOf = (file: HubFile) => file.path.slice(file.path.lastIndexOf("/") + 1);
  const weights = files.filter((file) => WEIGHT_FILE.test(nameOf(file)));
  const folders = [...new Set(weights.map(folderOf))];
  if (folders.length === 0) {
    throw new InputError(`Cannot download ${repo}: it has no ema or model .safetensors weights`, {
      help: `it has ${listed(files)}; others are taken with --files 'PATTERN'`,
    });
  }
  const folder = folders.includes("") ? "" : folders[0];
  if (folder !== "" && folders.length > 1) {
    throw new InputError(`Cannot choose among the checkpoints of ${repo}: ${folders.join(", ")}`, {
      help: `take one with --files '${folder}*'`,
    });
  }
  const here = files.filter((file) => folderOf(file) === folder);
  const kind = (file: HubFile) => WEIGHTS.find((stem) => isKind(nameOf(file), stem));
  const first = WEIGHTS.find((stem) => here.some((file) => kind(file) === stem));
  const patterns = BESIDE.map(globRegExp);
  const chosen = here.filter((file) =>
    WEIGHT_FILE.test(nameOf(file))
      ? kind(file) === first // all of them where no name is a usual one
      : patterns.some((pattern) => pattern.test(nameOf(file)))
  );
  const passedOver = weights.filter((file) => !chosen.includes(file)).map((file) => file.path);
  return { files: chosen, folder, passedOver };
}

function isKind(name: string, stem: string): boolean {
  const rest = name.startsWith(stem) ? name.slice(stem.length) : "?";
  return /^(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/.test(rest);
}

/**
 * The files that patterns name: `*` is any part of a name, `**` of a path too.
 *
 * @throws {UsageError} If a pattern asks for a format that runs code
 * @throws {InputError} If a pattern matches nothing
 */
export function matchingFiles(
  repo: string,
  files: readonly HubFile[],
  patterns: readonly string[],
): Chosen {
  const wanted = new Set<HubFile>();
  for (const pattern of patterns) {
    if (UNSAFE.test(pattern)) {
      throw new UsageError(`Cannot download ${pattern}: such files can run code when opened`, {
        help: "weights are read from .safetensors only",
      });
    }
    const regExp = globRegExp(pattern);
    const matches = files.filter((file) => regExp.test(file.path) && !UNSAFE.test(file.path));
    if (matches.length === 0) {
      throw new InputError(`Cannot find ${pattern} in ${repo}`, {
        help: `it has ${listed(files)}`,
      });
    }
    for (const file of matches) wanted.add(file);
  }
  const chosen = files.filter((file) => wanted.has(file));
  return { files: chosen, folder: "", passedOver: [] };
}

/** A pattern with `*`, `**` and `?` as a regular expression over whole paths. */
function globRegExp(pattern: string): RegExp {
  const source = pattern.replace(/\*\*|[*?]|[^*?]+/g, (part) => {
    if (part === "**") return ".*";
    if (part === "*") return "[^/]*";
    if (part === "?") return "[^/]";
    return part.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  });
  return new RegExp(`^${source}$`);
}

/** The first names of a list, for help. */
function listed(files: readonly HubFile[]): string {
  const names = files.map((file) => file.path);
  if (names.length === 0) return "no files";
  const more = names.length - 12;
  return names.slice(0, 12).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Three figures and a unit: 29 214 520 256 → "29.2 GB", 84 → "84 bytes". */
export function sizeText(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let [value, i] = [bytes, 0];
  for (; value >= 999.5 && i < units.length - 1; i++) value /= 1000;
  return `${i === 0 || value >= 99.95 ? value.toFixed(0) : value.toPrecision(3)} ${units[i]}`;
}
