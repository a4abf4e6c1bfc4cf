// Run an exported 2D model (joints as the stream) in JavaScript, from raw joints to an action.
//
//     npm install onnxruntime-node            (in a browser: onnxruntime-web, the calls are the same)
//     unzip sample.npz && node predict.mjs FOLDER
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

// A float32 or integer .npy file as {shape, values}.
function readNpy(path) {
  const bytes = readFileSync(path);
  const length = bytes.readUInt16LE(8);
  const header = bytes.toString("latin1", 10, 10 + length);
  const shape = [...header.match(/\(([^)]*)\)/)[1].matchAll(/\d+/g)].map((size) => Number(size[0]));
  const kind = header.includes("'<f4'") ? Float32Array : BigInt64Array;
  return { shape, values: new kind(bytes.buffer.slice(bytes.byteOffset + 10 + length, bytes.byteOffset + bytes.length)) };
}

// The middle and half extent that PreNormalize2D maps to [-1, 1]: of the picture, or of the box around the joints seen.
function frame(keypoint, score, [height, width], { auto, threshold }) {
  if (!auto) return { middle: [width / 2, height / 2], half: [width / 2, height / 2] };
  const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  score.values.forEach((certain, joint) => {
    if (certain <= threshold) return;
    for (const axis of [0, 1]) {
      low[axis] = Math.min(low[axis], keypoint.values[2 * joint + axis]);
      high[axis] = Math.max(high[axis], keypoint.values[2 * joint + axis]);
    }
  });
  return { middle: [0, 1].map((i) => (low[i] + high[i]) / 2), half: [0, 1].map((i) => (high[i] - low[i]) / 2) };
}

// What inference.yml's transforms do to one clip: PreNormalize2D, Stream j, UniformSample, Pack.
// keypoint (M, T, V, 2) in pixels, score (M, T, V), [height, width]; shape [persons, frames, joints, 3] of the model.
function prepare(keypoint, score, size, [persons, frames, joints, channels], settings) {
  const [people, total] = keypoint.shape;
  const { middle, half } = frame(keypoint, score, size, settings);
  const input = new Float32Array(persons * frames * joints * channels);
  for (let m = 0; m < Math.min(people, persons); m++) {
    for (let t = 0; t < frames; t++) {
      // clips shorter than the model's repeat from their start; of longer ones take the middle of each of T pieces
      const from = total < frames ? t % total : Math.floor(((t + 0.5) * total) / frames);
      for (let v = 0; v < joints; v++) {
        const raw = (m * total + from) * joints + v;
        const place = ((m * frames + t) * joints + v) * channels;
        const certain = score.values[raw];
        input[place + 2] = certain;
        if (certain <= settings.threshold) continue; // not seen: stays (0, 0)
        for (const axis of [0, 1]) input[place + axis] = (keypoint.values[2 * raw + axis] - middle[axis]) / half[axis];
      }
    }
  }
  return input;
}

const folder = process.argv[2] ?? ".";
const [keypoint, score, size] = ["raw_keypoint", "raw_score", "image_size"].map((name) => readNpy(`${folder}/${name}.npy`));
const [expectedInput, expected] = ["input", "output"].map((name) => readNpy(`${folder}/${name}.npy`));
const furthest = (a, b) => a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i])), 0);

const shape = expectedInput.shape;
const described = readFileSync(`${folder}/inference.yml`, "utf8");
const threshold = /threshold: ([\d.]+)/.exec(described);
const settings = { auto: /mode: auto/.test(described), threshold: threshold ? Number(threshold[1]) : -1 };
const input = prepare(keypoint, score, [...size.values].map(Number), shape.slice(1), settings);
const session = await ort.InferenceSession.create(`${folder}/inference.onnx`);
const results = await session.run({ keypoint: new ort.Tensor("float32", input, shape) });
const logits = results[session.outputNames[0]].data;
const powers = [...logits].map((value) => Math.exp(value - Math.max(...logits)));
const best = powers.indexOf(1);
const difference = furthest(logits, expected.values);
console.log(`class ${best}, probability ${(1 / powers.reduce((a, b) => a + b)).toFixed(4)}`);
console.log(`largest difference: input ${furthest(input, expectedInput.values).toExponential(1)}, output ${difference.toExponential(1)}`);
process.exit(difference <= 1e-4 * furthest(expected.values, new Float32Array(expected.values.length)) ? 0 : 1);
