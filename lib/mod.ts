// The public names, in reading order. Notebooks and experiments may import from here or from the files.

// Errors and devices
export * from "./errors.ts";
export { adapterFacts } from "./gpu/adapter.ts";
export { type Gpu, type GpuOptions, openDevice } from "./gpu/device.ts";
export { formatBytes } from "./gpu/buffers.ts";
export { foldGrid, Kernel } from "./gpu/kernel.ts";
export type { Profile } from "./gpu/profile.ts";
export { type KernelTime, kernelTimes, type TimedCall, type Work } from "./gpu/timings.ts";
export type { ChromeTrace } from "./gpu/trace.ts";

// Tensors and gradients
export { type DType, readAll, Scope, type Shape, Tensor, tidy } from "./tensor.ts";
export {
  backward,
  backwardSteps,
  checkpointed,
  detach,
  noGrad,
  parameter,
  record,
  recordAll,
  reshape,
} from "./autograd.ts";

// Ops
export { adamwStep } from "./ops/adamw_step.ts";
export { add } from "./ops/add.ts";
export { addRmsNorm } from "./ops/add_rms_norm.ts";
export { affine } from "./ops/affine.ts";
export { attention } from "./ops/attention.ts";
export { attentionMask, type TokenMask } from "./ops/attention_mask.ts";
export { attendCached, cacheView } from "./ops/cached_attention.ts";
export { axpy, sub } from "./ops/axpy.ts";
export { toChannelsFirst, toChannelsLast } from "./ops/channels.ts";
export { columns } from "./ops/columns.ts";
export { conv2d, padAll } from "./ops/conv2d.ts";
export { crossEntropy } from "./ops/cross_entropy.ts";
export { emaStep } from "./ops/ema_step.ts";
export { embedding, gatherRows } from "./ops/gather_rows.ts";
export { clipScale, sumSquares } from "./ops/global_norm.ts";
export { groupNorm } from "./ops/group_norm.ts";
export { headNormRope } from "./ops/head_norm_rope.ts";
export { latentSample } from "./ops/latent_sample.ts";
export { layerNorm } from "./ops/layer_norm.ts";
export { linear } from "./ops/linear.ts";
export { linearCrossEntropy } from "./ops/linear_cross_entropy.ts";
export { matmul } from "./ops/matmul.ts";
export { describeMatmul, type MatmulDescription } from "./ops/matmul_table.ts";
export { mergeRows } from "./ops/merge_rows.ts";
export { mse } from "./ops/mse.ts";
export { mul } from "./ops/mul.ts";
export { rmsNorm } from "./ops/rms_norm.ts";
export { rope, ropeTables } from "./ops/rope.ts";
export { roundBf16 } from "./ops/round_bf16.ts";
export { rowIndex } from "./ops/row_index.ts";
export { scaledSum } from "./ops/scaled_sum.ts";
export { softmax } from "./ops/softmax.ts";
export { stackedLinear } from "./ops/stacked_linear.ts";
export { mean, sum, weightedSum } from "./ops/sum.ts";
export { swigluHalves } from "./ops/swiglu_halves.ts";
export { geluTanh, scale, silu, swiglu } from "./ops/unary.ts";
export { unpack } from "./ops/unpack.ts";
export { upsampleNearest2 } from "./ops/upsample_nearest.ts";

// Data
export { openDataset } from "./data/dataset.ts";
export { encodePng, readImage } from "./data/image.ts";
export { normalNoise } from "./data/noise.ts";
export { TorchGenerator, torchNoise } from "./data/torch_noise.ts";
export { packBatch, type PackedBatch, type PackOptions } from "./data/pack.ts";
export * from "./data/patches.ts";
export { sinCosTable, timestepFeatures } from "./data/position_tables.ts";
export { resizeBicubic } from "./data/resize.ts";
export { type Picture, type PictureOptions, readPicture, WINDOW_PRESETS } from "./data/picture.ts";
export { openSafetensors, writeSafetensors } from "./data/safetensors.ts";
export * from "./data/sample.ts";
export * from "./data/transforms.ts";
export { openTokenizer, type TextStream, type Tokenizer } from "./data/tokenizer.ts";
export { WordTokenizer } from "./data/words.ts";
export * from "./data/phantoms/codes.ts";
export * from "./data/phantoms/factors.ts";
export { fitJudge, fitShapeJudge } from "./data/phantoms/judge.ts";
export { bytesOf, inModality, phantom, planesOf, withoutLesion } from "./data/phantoms/phantom.ts";
export { picturePair } from "./data/phantoms/pictures.ts";
export { naturalWorld, plantedWorld } from "./data/phantoms/worlds.ts";

// Training data
export { type DecodeOptions, decodeRef } from "./data/training/decode_ref.ts";
export { openSource } from "./data/training/open_source.ts";
export {
  type ImageRef,
  type InspectedRecord,
  type Task,
  TASKS,
  type TrainingRecord,
} from "./data/training/record.ts";
export { type RecordSource, SOURCE_FORMATS, type SourceOptions } from "./data/training/source.ts";

// Layers and models
export { Parameters } from "./nn/parameters.ts";
export { keepSite, type Site, within } from "./nn/site.ts";
export { Autoencoder, type AutoencoderConfig } from "./model/autoencoder.ts";
export { autoencoderShapes } from "./model/autoencoder_shapes.ts";
export { initAutoencoder, loadAutoencoder } from "./model/autoencoder_weights.ts";
export { type ModelInputs, prepareBatch, shiftTimesteps } from "./model/batch.ts";
export { loadModel, saveModel, warmStart } from "./model/checkpoint.ts";
export { openCheckpoint } from "./model/checkpoint_folder.ts";
export * from "./model/config.ts";
export { initModel } from "./model/init.ts";
export { attachLora, detachLora, type LoraInfo, type LoraOptions } from "./model/lora.ts";
export { loadLora, saveLora } from "./model/lora_file.ts";
export { mergeLora } from "./model/lora_merge.ts";
export { writeConfig } from "./model/own_config.ts";
export { quantizeCheckpoint } from "./model/quantize.ts";
export { synthCheckpoint } from "./model/synth.ts";
export { decodePixels, encodePixels } from "./model/latents.ts";
export { readConfig } from "./model/read_config.ts";
export { parameterShapes } from "./model/shapes.ts";
export { type Outputs, UniMedVL } from "./model/unimedvl.ts";
export { nameFromReference, nameInReference } from "./model/weights.ts";

// Using a model
export { type OpenModel, openModel, type Part } from "./infer/open_model.ts";
export { type Answer, ask, askAll, type AskOptions, report } from "./infer/ask.ts";
export { Chat, type ChatOptions } from "./infer/chat.ts";
export {
  counterfactual,
  edit,
  type Edited,
  type EditOptions,
  generate,
  generateAll,
  type Generated,
  type GenerateOptions,
  segment,
} from "./infer/generate.ts";
export { interleave, type InterleaveOptions } from "./infer/interleave.ts";
export { reconstruct } from "./infer/reconstruct.ts";
export { MODALITIES as PROMPT_MODALITIES, presetPrompt, PROMPTS } from "./infer/prompts.ts";
export { CachePool, type Context } from "./infer/cache.ts";
export { type Block, runPass } from "./infer/pass.ts";
export { writeText } from "./infer/text.ts";
export { denoise } from "./infer/denoise.ts";
export { guide, RENORMS } from "./infer/guidance.ts";

// Batches to train on
export {
  type LoadedBatch,
  type LoadedSample,
  type Loader,
  type LoaderOptions,
  type LoaderState,
  openLoader,
} from "./data/training/loader.ts";
export { type LatentCache, openLatentCache } from "./data/training/latent_cache.ts";
export { openPhantoms } from "./data/training/phantom_source.ts";
export { encoderDigest, latentsOf } from "./train/latents.ts";

// Training and drawing
export { type Communicator, SOLO } from "./comm/communicator.ts";
export { openCommunicator } from "./comm/open.ts";
export { AdamW } from "./train/adamw.ts";
export { findCheckpoint } from "./train/checkpoint/find.ts";
export { openSnapshot } from "./train/checkpoint/open.ts";
export { type Snapshot, type TensorEntry } from "./train/checkpoint/snapshot.ts";
export { writeCheckpoint } from "./train/checkpoint/write.ts";
export { type LoopOptions, type StepRecord, trainLoop } from "./train/loop.ts";
export { type Objective, objectiveLoss, runObjective } from "./train/objective.ts";
export { GradientReducer, type Reduced, ReducedWindow } from "./train/reduce.ts";
export { Shards } from "./train/shards.ts";
export { learningRateAt, type Schedule } from "./train/schedule.ts";
export { narrowMatrices } from "./train/narrow.ts";
export { type Clip, trainStep } from "./train/step.ts";
export { drawImages, drawPacked, timeGrid } from "./infer/flow.ts";
export { TrainWindow } from "./train/window.ts";

// A whole training: settings, steps, what it leaves behind
export {
  type ConfigInputs,
  readConfigFile as readTrainConfig,
  type ResolvedTrainConfig,
  resolveTrainConfig,
} from "./train/config/resolve.ts";
export { checkTrainConfig } from "./train/config/check.ts";
export { configText } from "./train/config/print.ts";
export { TRAIN_PRESETS } from "./train/config/presets.ts";
export type { StageConfig, TrainConfig } from "./train/config/schema.ts";
export { train, type TrainOptions, type TrainStep, trainToEnd } from "./session/train.ts";
export { courseOf } from "./session/course.ts";
export { saveVaeFolder, VAE_DEFAULTS, VaePart } from "./session/vae.ts";
export { saveVitFolder, VIT_DEFAULTS, VitPart } from "./session/vit.ts";
export { type PartStep, trainPart } from "./session/part_training.ts";
export { autoencoderLoss, psnr } from "./train/autoencoder_training.ts";
export { recallAtOne, sigmoidPairLoss } from "./train/contrastive.ts";
export { examine } from "./session/examine.ts";
export { stagedFigure } from "./show/stage_losses.ts";
export { trainabilityTable, trainabilityText } from "./train/trainability.ts";

// Evidence
export { auroc } from "./study/auroc.ts";
export { readConfigFile, resolveConfig, setLayer } from "./study/config.ts";
export { compareArms } from "./study/effect.ts";
export { depthSites, imageFeatures, pooled } from "./study/features.ts";
export { effectText, gate } from "./study/gate.ts";
export { fitDenseProbe, fitLinearProbe } from "./study/probe.ts";
export { armRecords, readRun } from "./study/read_run.ts";
export { gradientRoutes, PARAMETER_GROUPS } from "./study/routes.ts";
export { openRun } from "./study/runs.ts";
export { effectiveRank, linearCka } from "./study/similarity.ts";
export * from "./study/statistics.ts";
export { answerAll, questionSample } from "./study/vqa.ts";

// Figures, progress, notebooks
export { lossFigure } from "./show/curves.ts";
export { demoFigure } from "./show/demo_figure.ts";
export type { DemoResult } from "./show/demo_result.ts";
export { saveFigure } from "./show/export.ts";
export {
  interruptSignal,
  liveFigure,
  prepareNotebook,
  show,
  showProgress,
} from "./show/notebook.ts";
export { profileFigure } from "./show/profile_figure.ts";
export { profileTable } from "./show/profile_table.ts";
export { type Progress, SILENT, terminalProgress } from "./show/progress.ts";
