// Named places in a forward pass. A layer passes each value through the site function it was given; taps
// and interventions are such functions, so nothing is registered and nothing has to be removed.

import type { Tensor } from "../tensor.ts";

/** Called with a site's name and value; what it returns is used instead. */
export type Site = (name: string, x: Tensor) => Tensor;

/** Leaves every value as it is. */
export const keepSite: Site = (_name, x) => x;

/** The same function with `prefix` and a dot before every name. */
export function within(site: Site, prefix: string): Site {
  return site === keepSite ? keepSite : (name, x) => site(`${prefix}.${name}`, x);
}
