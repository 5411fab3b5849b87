// An independent oracle: graphs written as ONNX protobuf by hand and run by onnxruntime on the CPU. Field
// numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, ValueInfoProto).

import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";

/** An attribute: integers become INT or INTS; write `{ float: 1 }` for FLOAT, since 1 and 1.0 are one number. */
export type OnnxAttribute = number | readonly number[] | string | { float: number };

/** One operator of a graph. */
export interface OnnxNode {
  /** Operator name, as `MatMul`. */
  op: string;
  /** Names of inputs; "" leaves an optional one out. */
  inputs: readonly string[];
  outputs: readonly string[];
  attributes?: Readonly<Record<string, OnnxAttribute>>;
}

/** A value fed to a graph; its ONNX type follows the array: float, int32 or int64. */
export interface OnnxInput {
  shape: readonly number[];
  data: Float32Array | Int32Array | BigInt64Array;
}

/** A value a graph gives back. */
export interface OnnxOutput {
  shape: readonly number[];
  data: Float32Array;
}

/** Newest operator set the runtime in use knows and this writer was tried with. */
export const OPSET = 24;

const IR_VERSION = 11;
const FLOAT = 1, INT32 = 6, INT64 = 7; // TensorProto.DataType

/**
 * Runs a graph once.
 *
 * @param outputs names of float values to return
 * @throws {Error} What onnxruntime reports: an unknown operator, shapes that do not fit
 */
export async function runOnnx(
  nodes: readonly OnnxNode[],
  inputs: Readonly<Record<string, OnnxInput>>,
  outputs: readonly string[],
  opset = OPSET,
): Promise<Record<string, OnnxOutput>> {
  const model = writeModel(nodes, inputs, outputs, opset);
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1 });
  try {
    const feeds: Record<string, OrtTensor> = {};
    for (const [name, { data, shape }] of Object.entries(inputs)) {
      feeds[name] = new OrtTensor(typeName(data), data, shape);
    }
    const results = await session.run(feeds);
    return Object.fromEntries(outputs.map((name) => {
      const { data, dims } = results[name];
      if (!(data instanceof Float32Array)) throw new TypeError(`${name} is not a float tensor`);
      return [name, { data: data.slice(), shape: [...dims] }];
    }));
  } finally {
    await session.release();
  }
}

/** A constant of indices, sizes or axes. */
export function int64s(...values: number[]): OnnxInput {
  return { shape: [values.length], data: BigInt64Array.from(values, BigInt) };
}

/** The serialized ModelProto of a graph. */
export function writeModel(
  nodes: readonly OnnxNode[],
  inputs: Readonly<Record<string, OnnxInput>>,
  outputs: readonly string[],
  opset: number,
): Uint8Array {
  const graph = new Message();
  for (const node of nodes) graph.message(1, writeNode(node));
  graph.text(2, "oracle");
  for (const [name, { data, shape }] of Object.entries(inputs)) {
    graph.message(11, writeValue(name, typeCode(data), shape));
  }
  for (const name of outputs) graph.message(12, writeValue(name, FLOAT));
  return new Message()
    .integer(1, IR_VERSION)
    .message(7, graph)
    .message(8, new Message().text(1, "").integer(2, opset))
    .bytes();
}

function writeNode({ op, inputs, outputs, attributes = {} }: OnnxNode): Message {
  const node = new Message();
  for (const name of inputs) node.text(1, name);
  for (const name of outputs) node.text(2, name);
  node.text(4, op);
  for (const [name, value] of Object.entries(attributes)) {
    const attribute = new Message().text(1, name);
    if (typeof value === "number") attribute.integer(3, value).integer(20, 2);
    else if (typeof value === "string") attribute.text(4, value).integer(20, 3);
    else if ("float" in value) attribute.float(2, value.float).integer(20, 1);
    else {
      for (const v of value) attribute.integer(8, v);
      attribute.integer(20, 7);
    }
    node.message(5, attribute);
  }
  return node;
}

/** A ValueInfoProto; without a shape the runtime infers it. */
function writeValue(name: string, type: number, shape?: readonly number[]): Message {
  const tensor = new Message().integer(1, type);
  if (shape) {
    const axes = new Message();
    for (const size of shape) axes.message(1, new Message().integer(1, size));
    tensor.message(2, axes);
  }
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

function typeCode(data: OnnxInput["data"]): number {
  return data instanceof Float32Array ? FLOAT : data instanceof Int32Array ? INT32 : INT64;
}

function typeName(data: OnnxInput["data"]): "float32" | "int32" | "int64" {
  return data instanceof Float32Array ? "float32" : data instanceof Int32Array ? "int32" : "int64";
}

/** Appends protobuf fields: varints (wire type 0), length-delimited (2) and 32-bit (5). */
class Message {
  readonly #out: number[] = [];

  integer(field: number, value: number): this {
    this.#varint(BigInt(field) << 3n);
    this.#varint(BigInt.asUintN(64, BigInt(value)));
    return this;
  }

  float(field: number, value: number): this {
    this.#varint(BigInt(field) << 3n | 5n);
    this.#out.push(...new Uint8Array(new Float32Array([value]).buffer));
    return this;
  }

  text(field: number, value: string): this {
    return this.#delimited(field, new TextEncoder().encode(value));
  }

  message(field: number, value: Message): this {
    return this.#delimited(field, value.#out);
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#out);
  }

  #delimited(field: number, bytes: ArrayLike<number>): this {
    this.#varint(BigInt(field) << 3n | 2n);
    this.#varint(BigInt(bytes.length));
    for (let i = 0; i < bytes.length; i++) this.#out.push(bytes[i]);
    return this;
  }

  #varint(value: bigint): void {
    for (; value > 127n; value >>= 7n) this.#out.push(Number(value & 127n | 128n));
    this.#out.push(Number(value));
  }
}
