// Conversions between f32 and the two 16-bit storage formats of checkpoints: IEEE f16 and bf16
// (the upper half of an f32). Both round to nearest, ties to even, as the training frameworks do.

/** f16 bit patterns → f32, exact. */
export function f16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(new Float16Array(bits.buffer, bits.byteOffset, bits.length));
}

/** f32 → f16 bit patterns; beyond ±65520 becomes infinity, NaN stays NaN. */
export function float32ToF16(values: Float32Array): Uint16Array<ArrayBuffer> {
  return new Uint16Array(new Float16Array(values).buffer);
}

/** bf16 bit patterns → f32, exact. */
export function bf16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const wide = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) wide[i] = bits[i] << 16;
  return new Float32Array(wide.buffer);
}

/** f32 → bf16 bit patterns; NaN stays a quiet NaN. */
export function float32ToBf16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const wide = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < wide.length; i++) {
    const bits = wide[i];
    const isNaN = (bits & 0x7f800000) === 0x7f800000 && (bits & 0x7fffff) !== 0;
    out[i] = isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return out;
}
