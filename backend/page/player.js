// Plays the selected clip as the export retimes it; where the browser cannot, shows its filmstrip.

import { fileAddress } from "./api.js";
import { app, on, tell } from "./app.js";
import { $, icon } from "./dom.js";
import { pieceAt, retimedTime, sourceFrameAt, startOfSourceFrame } from "./retime.js";
import { clock, exactSeconds, TOLERANCE } from "./timing.js";

// the range of speeds that browsers play
const SLOWEST = 0.0625;
const FASTEST = 16;
const NUDGE = TOLERANCE.toNumber(); // seconds past a timestamp: surely on its frame

const video = $("video");
const standIn = $("stand-in");
/** Where the clip's time begins in the file, in seconds. */
const offset = () => app.source.start.toNumber();

let key = null;
let blind = false;
let playing = false;
let ticked = 0;

export const player = {
  get picture() {
    return blind ? standIn : video;
  },

  get isPlaying() {
    return playing;
  },

  seek(time) {
    const duration = app.durationOf(app.clip ?? {});
    app.time = Math.min(Math.max(0, time), Math.max(0, duration - NUDGE));
    if (!blind && key) video.currentTime = offset() + app.time + NUDGE;
    tell("time");
    if (blind) drawStandIn();
  },

  step(frames) {
    this.pause();
    const { source } = app;
    const next = sourceFrameAt(source, exactSeconds(app.time)) + frames;
    const frame = Math.min(Math.max(0, next), source.ticks.length - 1);
    this.seek(startOfSourceFrame(source, frame).toNumber());
  },

  play() {
    if (!app.medium?.facts) return;
    const [start, stop] = app.trim;
    if (app.time < start || app.time >= stop - 0.02) this.seek(start);
    playing = true;
    ticked = performance.now();
    if (!blind) video.play().catch(() => this.pause());
    requestAnimationFrame(tick);
    showPlaying();
  },

  pause() {
    playing = false;
    video.pause();
    showPlaying();
  },

  toggle() {
    if (playing) this.pause();
    else this.play();
  },
};

function tick(now) {
  if (!playing) return;
  const speed = pieceAt(app.place.pieces, exactSeconds(app.time)).speed.toNumber();
  if (blind) {
    app.time += ((now - ticked) / 1000) * speed;
    drawStandIn();
  } else {
    video.playbackRate = Math.min(Math.max(speed, SLOWEST), FASTEST);
    app.time = Math.max(0, video.currentTime - offset());
  }
  ticked = now;
  if (app.time >= app.trim[1] - NUDGE || video.ended) {
    goOn();
    return;
  }
  tell("time");
  requestAnimationFrame(tick);
}

function goOn() {
  const next = app.index + 1;
  if (next >= app.document.clips.length) {
    player.pause();
    player.seek(app.trim[1]);
    return;
  }
  app.select(next);
  player.play();
}

function showPlaying() {
  const name = playing ? "Pause" : "Play";
  $("play").replaceChildren(icon(playing ? "pause" : "play"));
  $("play").ariaLabel = name;
  $("play").title = `${name} (space)`;
}

function load() {
  const medium = app.medium;
  const known = medium?.facts ? app.clip.fileName : null;
  if (known) $("screen").style.setProperty("--aspect", medium.facts.width / medium.facts.height);
  if (known === key) return;
  key = known;
  if (!known) {
    video.removeAttribute("src");
    video.load();
    return;
  }
  become(false);
  video.src = fileAddress(known);
  player.seek(app.trim[0]);
}

/** Turns the picture under the crop, which is taken of the turned frame. */
function turn() {
  for (const picture of [video, standIn]) picture.style.rotate = `${-(app.clip?.rotation ?? 0)}deg`;
}

/** Blind: the browser does not decode this clip. */
function become(isBlind) {
  blind = isBlind;
  video.hidden = blind;
  standIn.hidden = !blind;
  $("screen-note").hidden = !blind;
  if (!blind) return;
  const { codec } = app.medium.facts;
  $("screen-note").textContent =
    `This browser does not play ${codec.toUpperCase()}: you see the filmstrip. The export is not affected.`;
  drawStandIn();
}

function drawStandIn() {
  const { strip, image } = app.medium ?? {};
  if (!image?.complete || !strip) return;
  standIn.width = strip.width * 4;
  standIn.height = strip.height * 4;
  const place = Math.min(strip.count - 1, Math.floor(app.shareOfFile(app.clip, app.time) * strip.count));
  standIn.getContext("2d").drawImage(
    image, place * strip.width, 0, strip.width, strip.height, 0, 0, standIn.width, standIn.height);
  tell("picture");
}

function everyPicture() {
  tell("picture");
  video.requestVideoFrameCallback(everyPicture);
}

function showTime() {
  if (!app.medium?.facts) {
    $("time").textContent = "";
    $("out-time").textContent = "";
    return;
  }
  const { fps, seconds } = app.plan;
  const { start, pieces } = app.place;
  const out = start / fps + retimedTime(pieces, exactSeconds(app.time)).toNumber();
  $("time").textContent = `${clock(app.time)} / ${clock(app.durationOf(app.clip))}`;
  $("out-time").textContent = `${clock(out)} of ${clock(seconds)}`;
}

export function mountPlayer() {
  $("play").onclick = () => player.toggle();
  $("step-back").onclick = () => player.step(-1);
  $("step-on").onclick = () => player.step(1);
  video.onerror = () => key && become(true);
  video.onloadedmetadata = () => (video.videoWidth ? player.seek(app.time) : become(true));
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(everyPicture);
  else video.ontimeupdate = () => tell("picture");
  // the callback may come while the next seek is on its way, when the picture cannot be drawn, and
  // does not come again for the same picture
  video.onseeked = () => tell("picture");
  let shown = null;
  on("select edit media", () => {
    load();
    if (shown !== app.onStage && key) {
      shown = app.onStage;
      player.seek(app.trim[0]);
    }
    turn();
    showTime();
  });
  on("time", showTime);
  on("media", () => blind && drawStandIn());
}
