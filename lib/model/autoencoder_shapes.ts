// The shape of every weight of an autoencoder, under the reference's names, from the config alone.

import type { AutoencoderConfig, AutoencoderParts } from "./autoencoder.ts";

/**
 * Name → shape, in the order of a forward pass, encoder first.
 *
 * @param parts of which halves. Default: both
 */
export function autoencoderShapes(
  config: AutoencoderConfig,
  parts: AutoencoderParts = "both",
): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  const conv = (name: string, from: number, to: number, side: number) => {
    shapes.set(`${name}.weight`, [to, from, side, side]);
    shapes.set(`${name}.bias`, [to]);
  };
  const norm = (name: string, channels: number) => {
    shapes.set(`${name}.weight`, [channels]);
    shapes.set(`${name}.bias`, [channels]);
  };
  const block = (name: string, from: number, to: number) => {
    norm(`${name}.norm1`, from);
    conv(`${name}.conv1`, from, to, 3);
    norm(`${name}.norm2`, to);
    conv(`${name}.conv2`, to, to, 3);
    if (from !== to) conv(`${name}.nin_shortcut`, from, to, 1);
  };
  const middle = (side: string, channels: number) => {
    block(`${side}.mid.block_1`, channels, channels);
    norm(`${side}.mid.attn_1.norm`, channels);
    for (const name of ["q", "k", "v", "proj_out"]) {
      conv(`${side}.mid.attn_1.${name}`, channels, channels, 1);
    }
    block(`${side}.mid.block_2`, channels, channels);
  };

  const widths = config.chMult.map((m) => m * config.ch);
  const levels = widths.length;
  conv("encoder.conv_in", config.inChannels, config.ch, 3);
  let channels = config.ch;
  for (const [level, width] of widths.entries()) {
    for (let b = 0; b < config.numResBlocks; b++) {
      block(`encoder.down.${level}.block.${b}`, channels, width);
      channels = width;
    }
    if (level < levels - 1) conv(`encoder.down.${level}.downsample.conv`, width, width, 3);
  }
  middle("encoder", channels);
  norm("encoder.norm_out", channels);
  conv("encoder.conv_out", channels, 2 * config.zChannels, 3);

  conv("decoder.conv_in", config.zChannels, channels, 3);
  middle("decoder", channels);
  for (let level = levels - 1; level >= 0; level--) {
    const width = widths[level];
    for (let b = 0; b <= config.numResBlocks; b++) {
      block(`decoder.up.${level}.block.${b}`, channels, width);
      channels = width;
    }
    if (level > 0) conv(`decoder.up.${level}.upsample.conv`, width, width, 3);
  }
  norm("decoder.norm_out", channels);
  conv("decoder.conv_out", channels, config.outCh, 3);
  if (parts === "both") return shapes;
  return new Map([...shapes].filter(([name]) => name.startsWith(`${parts}.`)));
}
