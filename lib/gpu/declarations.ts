// What a WGSL file declares for its launches: bindings and params, read from the text.

/** A binding of group 0. */
export interface Declared {
  name: string;
  index: number;
  type: "read-only-storage" | "storage" | "uniform" | "texels";
  /** The binding whose buffer it is a copy of, where that is another one. */
  of?: string;
}

/** A field of the struct `Params`. */
export interface Field {
  name: string;
  type: "u32" | "i32" | "f32";
}

/** The bindings a kernel declares, in order. */
export function readBindings(code: string): Declared[] {
  const pattern = /@group\(0\)\s*@binding\((\d+)\)\s*var<(storage|uniform)(?:,\s*(\w+))?>\s*(\w+)/g;
  return [...code.matchAll(pattern)].map(([, index, space, access, name]) => ({
    name,
    index: Number(index),
    type: space === "uniform"
      ? "uniform"
      : access === "read_write"
      ? "storage"
      : "read-only-storage",
  }));
}

/** The fields of its `Params`, in order; none if it has no such struct. */
export function readFields(code: string): Field[] {
  const body = /struct\s+Params\s*\{([^}]*)\}/.exec(code)?.[1] ?? "";
  const plain = body.replace(/\/\/[^\n]*/g, "");
  return [...plain.matchAll(/(\w+)\s*:\s*(u32|i32|f32)/g)].map(([, name, type]) => ({
    name,
    type: type as Field["type"],
  }));
}
