// The cropped picture, live: small, quick, and without the next clip of a dissolve.

import { app, on } from "./app.js";
import { ASPECT_RATIOS, STRETCH_TOLERANCE } from "./constants.js";
import { reshape } from "./crop.js";
import { $, h } from "./dom.js";
import { EASES } from "./inspector.js";
import { aspectOf } from "./keyframes.js";
import { player } from "./player.js";
import { exactRate } from "./timing.js";

const HEIGHT = 640;
const RATES = [23.976, 24, 25, 29.97, 30, 50, 59.94, 60];

const canvas = $("preview");

function draw() {
  const aspect = aspectOf(app.document);
  const [width, height] = [Math.round(HEIGHT * Math.min(1, aspect)), Math.round(HEIGHT / Math.max(1, aspect))];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  if (!app.size) return;
  const picture = player.picture;
  const there = picture.videoWidth ?? picture.width;
  if (!there) return;
  const { x, y, width: w, height: h } = app.crop;
  const box = placed(w / h, width, height, app.clip.fit ?? app.document.fit ?? "contain");
  context.imageSmoothingQuality = "high";
  context.save();
  context.beginPath();
  context.rect(box.x, box.y, box.width, box.height);
  context.clip();
  // from here on in pixels of the frame, which is turned about its centre
  context.translate(box.x, box.y);
  context.scale(box.width / w, box.height / h);
  context.translate(app.size.width / 2 - x, app.size.height / 2 - y);
  context.rotate((-(app.clip.rotation ?? 0) * Math.PI) / 180);
  context.drawImage(picture, -app.size.width / 2, -app.size.height / 2, app.size.width, app.size.height);
  context.restore();
}

/** Where a crop of an aspect lies in the target: the engine's `geometry.fit_crop`, not rounded. */
function placed(aspect, width, height, fit) {
  const off = aspect / (width / height);
  if (fit === "stretch" || Math.abs(off - 1) <= STRETCH_TOLERANCE) return { x: 0, y: 0, width, height };
  const wider = off > 1;
  const full = fit === "cover" ? !wider : wider;
  const across = full ? width : height * aspect;
  const down = full ? width / aspect : height;
  return { x: (width - across) / 2, y: (height - down) / 2, width: across, height: down };
}

function showTarget() {
  const { targetWidth, targetHeight, targetFps, includeAudio, ease } = app.document;
  const size = `${targetWidth}x${targetHeight}`;
  const shapes = Object.entries(ASPECT_RATIOS).map(([name, [width, height]]) => [`${width}x${height}`, `${name} · ${width}×${height}`]);
  offer($("shape"), shapes, size, size.replace("x", "×"));
  const rate = exactRate(targetFps);
  const same = RATES.find((each) => exactRate(each).minus(rate).numerator === 0n);
  const name = String(Math.round(rate.toNumber() * 1000) / 1000);
  offer($("fps"), RATES.map((each) => [String(each), String(each)]), String(same ?? targetFps), name);
  offer($("ease"), Object.entries(EASES), ease);
  $("audio").checked = includeAudio;
}

/** Fills a select with choices, and with the value where it is not among them. */
function offer(select, choices, value, name) {
  const all = choices.some(([each]) => each === value) ? choices : [...choices, [value, name]];
  select.replaceChildren(...all.map(([each, text]) => h("option", { value: each }, text)));
  select.value = value;
}

export function mountPreview() {
  on("picture edit select media time", draw);
  on("edit select", showTarget);
  showTarget();
  $("shape").onchange = ({ target }) => app.change((document) => {
    const [width, height] = target.value.split("x").map(Number);
    Object.assign(document, { targetWidth: width, targetHeight: height });
    reshape(document, width / height, (clip) => app.media.get(clip.fileName)?.facts);
  });
  $("fps").onchange = ({ target }) => app.change((document) => {
    const number = Number(target.value);
    document.targetFps = String(number) === target.value ? number : target.value;
  });
  $("ease").onchange = ({ target }) => app.change((document) => {
    document.ease = target.value;
  });
  $("audio").onchange = ({ target }) => app.change((document) => {
    document.includeAudio = target.checked;
  });
}
