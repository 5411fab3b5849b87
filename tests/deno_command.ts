/** Deno's program as this process may run it, by its path or by its name; undefined if it may not. */
export const DENO: string | undefined = [Deno.execPath(), "deno"].find((command) =>
  Deno.permissions.querySync({ name: "run", command }).state === "granted"
);
