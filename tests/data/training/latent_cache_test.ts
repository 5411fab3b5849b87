import assert from "node:assert/strict";
import { ResourceError } from "../../../lib/errors.ts";
import { openLatentCache } from "../../../lib/data/training/latent_cache.ts";

const moments = (seed: number) => ({
  channels: 2,
  height: 3,
  width: 4,
  mean: Float32Array.from({ length: 24 }, (_, i) => seed + i / 7),
  logvar: Float32Array.from({ length: 24 }, (_, i) => -seed - i / 3),
});
const pixels = (value: number, width = 2) => {
  return { height: 2, width, data: new Float32Array(6 * width).fill(value) };
};

Deno.test("a latent cache's keys tell pixels, sizes and autoencoders apart", async () => {
  const dir = await Deno.makeTempDir();
  const cache = await openLatentCache(dir, { autoencoder: "x" });
  const other = await openLatentCache(dir, { autoencoder: "y" });
  const keys = [
    cache.key(pixels(0)),
    cache.key(pixels(1)),
    other.key(pixels(0)),
    cache.key({ height: 4, width: 1, data: new Float32Array(12) }),
  ];
  assert.equal(new Set(keys).size, 4);
  assert.equal(cache.key(pixels(0)), keys[0]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a latent cache gives back what was kept, also to another process's cache", async () => {
  const dir = await Deno.makeTempDir();
  const cache = await openLatentCache(`${dir}/deep/er`, { autoencoder: "x" });
  const key = cache.key(pixels(0));
  assert.equal(await cache.read(key), undefined);
  await Promise.all([cache.write(key, moments(1)), cache.write(key, moments(1))]);
  const again = await openLatentCache(`${dir}/deep/er`, { autoencoder: "x" });
  assert.deepEqual(await again.read(key), moments(1));
  const files = await Array.fromAsync(Deno.readDir(`${dir}/deep/er/${key.slice(0, 2)}`));
  assert.deepEqual(files.map(({ name }) => name), [`${key}.latents`]); // nothing half is left
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a full latent cache says so once and keeps nothing more", async () => {
  const dir = await Deno.makeTempDir();
  const notes: string[] = [];
  const settings = { autoencoder: "x", maxBytes: 500, onNote: (m: string) => notes.push(m) };
  const first = await openLatentCache(dir, settings);
  const keys = [0, 1, 2, 3].map((value) => first.key(pixels(value)));
  await first.write(keys[0], moments(0)); // 244 bytes
  await first.write(keys[1], moments(1));
  const cache = await openLatentCache(dir, settings); // knows what is there already
  await cache.write(keys[2], moments(2));
  await cache.write(keys[3], moments(3));
  assert.equal(notes.length, 1);
  assert.match(
    notes[0],
    /^Cannot keep more latents in .*: it has 488 bytes of at most 500; others/,
  );
  assert.deepEqual(await cache.read(keys[1]), moments(1));
  assert.equal(await cache.read(keys[2]), undefined);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a latent cache that cannot be written goes on without, one that cannot be made is an error", async () => {
  const dir = await Deno.makeTempDir();
  const notes: string[] = [];
  const cache = await openLatentCache(dir, { autoencoder: "x", onNote: (m) => notes.push(m) });
  const key = cache.key(pixels(0));
  await Deno.writeTextFile(`${dir}/${key.slice(0, 2)}`, "in the way");
  await cache.write(key, moments(0));
  assert.equal(notes.length, 1);
  assert.match(notes[0], /^Cannot keep more latents in /);
  await assert.rejects(
    openLatentCache(`${dir}/${key.slice(0, 2)}/x`, { autoencoder: "x" }),
    (error) => error instanceof ResourceError && error.message.startsWith("Cannot keep latents in"),
  );
  await Deno.remove(dir, { recursive: true });
});
