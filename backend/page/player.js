// Plays the selected clip as the export retimes it; where the browser cannot, shows its filmstrip.

import { fileAddress } from "./api.js";
import { app, on, tell } from "./app.js";
import { $, icon } from "./dom.js";
import { clock, pieces, retimed, trimOf } from "./timing.js";

const SLOWEST = 0.0625;
const FASTEST = 16;
const NUDGE = 0.001; // containers round time stamps: just past one is on its frame

const video = $("video");
const standIn = $("stand-in");
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
    if (!blind && key) video.currentTime = app.time + NUDGE;
    tell("time");
    if (blind) drawStandIn();
  },

  step(frames) {
    this.pause();
    const perSecond = app.medium?.facts?.framesPerSecond ?? 30;
    this.seek((Math.round(app.time * perSecond) + frames) / perSecond);
  },

  play() {
    if (!app.medium?.facts) return;
    const [start, stop] = trimOf(app.clip, app.durationOf(app.clip));
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
  const cut = pieces(app.clip, app.durationOf(app.clip));
  const piece = cut.findLast((each) => each.start <= app.time) ?? cut[0];
  if (blind) {
    app.time += ((now - ticked) / 1000) * piece.speed;
    drawStandIn();
  } else {
    video.playbackRate = Math.min(Math.max(piece.speed, SLOWEST), FASTEST);
    app.time = video.currentTime;
  }
  ticked = now;
  if (app.time >= cut.at(-1).stop - NUDGE || video.ended) {
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
    player.seek(trimOf(app.clip, app.durationOf(app.clip))[1]);
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
  player.seek(trimOf(app.clip, app.durationOf(app.clip))[0]);
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
  const { strip, image, facts } = app.medium ?? {};
  if (!image?.complete || !strip) return;
  standIn.width = strip.width * 4;
  standIn.height = strip.height * 4;
  const place = Math.min(strip.count - 1, Math.floor((app.time / facts.durationSeconds) * strip.count));
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
  const { clips, fps, seconds } = app.plan;
  const place = clips[app.index];
  const out = place.start / fps + retimed(place.cut, app.time);
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
  else video.onseeked = video.ontimeupdate = () => tell("picture");
  let shown = null;
  on("select edit media", () => {
    const now = app.clip?.fileName;
    load();
    if (shown !== `${app.index} ${now}` && key) {
      shown = `${app.index} ${now}`;
      player.seek(trimOf(app.clip, app.durationOf(app.clip))[0]);
    }
    showTime();
  });
  on("time", showTime);
  on("media", () => blind && drawStandIn());
}
