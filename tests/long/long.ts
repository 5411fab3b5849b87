// Tests that take minutes to hours. `deno task test:long` runs them; `deno task test` names them as skipped.

const WANTED = Deno.env.get("OKA_LONG") === "1";

/** Registers a test that is skipped, by name, unless OKA_LONG is 1. @param name of what holds, without the length */
export function longTest(
  name: string,
  fn: () => Promise<void>,
  options: Omit<Deno.TestDefinition, "name" | "fn"> = {},
): void {
  Deno.test({
    ...options,
    name: WANTED ? name : `${name} (long: deno task test:long)`,
    ignore: !WANTED || (options.ignore ?? false),
    fn,
  });
}

/**
 * How often something is repeated: a variable of the environment, or its default.
 *
 * @throws {RangeError} If the variable is no integer ≥ 1
 */
export function countFrom(variable: string, usual: number): number {
  const text = Deno.env.get(variable);
  if (text === undefined) return usual;
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1) return count;
  throw new RangeError(`Cannot repeat ${variable}=${text} times: not an integer ≥ 1`);
}
