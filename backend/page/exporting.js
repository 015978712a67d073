// The export: what it will take, how far it is, and what it has made.

import * as api from "./api.js";
import { app, on } from "./app.js";
import { $, h, toast } from "./dom.js";
import { forServer } from "./edit.js";
import { clock } from "./timing.js";

const SETTLED_MS = 600;
const RUNNING = "framestream export";

let chunks = [];
let waiting;
let asked = 0;
let stopFollowing = () => {};

// Before the export

function askSoon() {
  clearTimeout(waiting);
  $("export").hidden = !app.document.clips.length;
  $("start").disabled = !app.isKnown;
  waiting = setTimeout(ask, SETTLED_MS);
}

async function ask() {
  if (!app.isKnown) return;
  const ours = ++asked;
  try {
    const { plan, estimate } = await api.estimate(forServer(app.document));
    if (ours !== asked) return;
    chunks = estimate.chunkFrames;
    showEstimate(plan, estimate);
    $("start").disabled = false;
  } catch (error) {
    if (ours !== asked) return;
    $("estimate").replaceChildren();
    $("warnings").replaceChildren(h("li", { class: "error" }, error.message));
    $("start").disabled = true;
  }
}

function showEstimate(plan, { frames, sourceFrames, upscaledFrames, here, modal }) {
  const containers = modal.containers === 1 ? "1 container" : `${modal.containers} containers`;
  const upscaled = upscaledFrames ? `${upscaledFrames} through a network` : "none through a network here";
  facts($("estimate"), [
    ["Frames to render", `${frames}`, `${plan.durationSeconds.toFixed(3)} s at ${plan.fps} frames/s`, "frames"],
    ["Source frames to upscale", `${sourceFrames}`, `each once, ${upscaled}`, "source-frames"],
    ["On this machine", here.seconds === null ? "not known" : `about ${clock(here.seconds, 0)}`, here.from, "here"],
    ["On Modal", `about ${clock(modal.seconds, 0)} · $${modal.usd.toFixed(2)}`, `${containers}, not measured`, "modal"],
  ]);
  $("assumptions").replaceChildren(...modal.assumptions.map((each) => h("li", {}, each)));
  $("warnings").replaceChildren(...plan.warnings.map((each) => h("li", {}, each)));
}

function facts(list, rows) {
  list.replaceChildren(...rows.map(([name, value, more, id]) => h("div", {},
    h("dt", {}, name), h("dd", { data: id ? { fact: id } : {} }, value), more ? h("dd", { class: "fine" }, more) : null)));
}

// During the export

async function start() {
  const id = crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.floor(Math.random() * 1e9)}`;
  $("start").disabled = true;
  try {
    await api.begin(id, forServer(app.document), app.document.clips[0].title ?? "Reel");
    watch(id);
  } catch (error) {
    toast(error.message);
  }
  $("start").disabled = false;
}

function watch(id) {
  stopFollowing();
  localStorage.setItem(RUNNING, id);
  const row = h("ol", { class: "cells", ariaLabel: "Chunks" });
  const bar = h("progress", { max: 100, value: 0, ariaLabel: "Progress of the export" });
  const line = h("p", { class: "line", id: "state" });
  const numbers = h("dl", { class: "facts" });
  const buttons = h("p", {});
  $("job").hidden = false;
  $("job").replaceChildren(h("h3", {}, "Exporting"), bar, row, line, numbers, buttons);
  drawCells(row, chunks, null);
  offer(buttons, ["Cancel", () => api.cancel(id).catch((error) => toast(error.message))]);
  stopFollowing = api.follow(id, (state) => {
    bar.value = state.progress;
    line.textContent = state.message;
    drawCells(row, chunks, state);
    facts(numbers, running(state));
    if (state.job_status === "done") showResult(id);
    else if (state.status === "error") showFailure(id, state, buttons);
  });
}

function running(state) {
  return [
    ["Frames", state.frames_total ? `${state.frames_done} of ${state.frames_total}` : "–"],
    ["Speed", state.fps ? `${state.fps.toFixed(1)} frames/s` : "–"],
    ["Left", state.eta_s === null || state.eta_s === undefined ? "–" : clock(state.eta_s, 0)],
    ["Bottleneck", state.bottleneck ?? "–"],
  ];
}

/** A cell per chunk, as wide as its frames. Frames of unfinished chunks fill the first of them. */
function drawCells(row, lengths, state) {
  if (row.childElementCount !== lengths.length) {
    row.replaceChildren(...lengths.map((frames) => {
      const cell = h("li", {}, h("span", {}));
      cell.style.flexGrow = frames;
      return cell;
    }));
  }
  const isOver = ["sound", "join", "upload", "database", "done"].includes(state?.phase);
  const finished = new Set(isOver ? lengths.keys() : state?.chunks_done);
  let left = (state?.frames_done ?? 0) - lengths.reduce((sum, frames, index) => sum + (finished.has(index) ? frames : 0), 0);
  lengths.forEach((frames, index) => {
    const filled = finished.has(index) ? frames : Math.max(0, Math.min(frames, left));
    if (!finished.has(index)) left -= filled;
    const cell = row.children[index];
    cell.firstChild.style.transform = `scaleX(${filled / frames})`;
    cell.title = `chunk ${index + 1}: ${filled} of ${frames} frames`;
  });
}

function offer(place, ...buttons) {
  place.replaceChildren(...buttons.map(([text, onclick]) => h("button", { class: "quiet", onclick }, text)));
}

function showFailure(id, state, buttons) {
  localStorage.removeItem(RUNNING);
  const again = async () => {
    try {
      await api.retry(id);
      watch(id);
    } catch (error) {
      toast(error.message);
    }
  };
  $("job").querySelector("h3").textContent = state.job_status === "cancelled" ? "Cancelled" : "It failed";
  $("state").textContent = state.error ?? state.message;
  offer(buttons, ["Try again", again]);
  showPast();
}

// After the export

async function showResult(id) {
  localStorage.removeItem(RUNNING);
  const [job, report] = await Promise.all([api.exported(id), api.report(id)]);
  const film = h("video", { controls: true, playsInline: true, preload: "auto", src: api.videoAddress(id), ariaLabel: "The finished film", id: "film" });
  const list = h("dl", { class: "facts" });
  facts(list, [
    ["Made", `${report.frames} frames`, `${report.duration_s.toFixed(3)} s in ${report.wall_s.toFixed(1)} s`],
    ["Speed", `${report.frames_per_s.toFixed(1)} frames/s`, `busiest: ${report.bottleneck}`],
    ["Upscaler", report.upscaler, report.upscaler_why],
    ["Encoder", report.encoder, report.encoder_why],
  ]);
  const name = job.result.filename;
  $("job").replaceChildren(
    h("h3", {}, "Done"),
    h("div", { class: "made" }, film, h("div", {},
      list,
      report.warnings.length ? h("ul", { class: "warnings" }, report.warnings.map((each) => h("li", {}, each))) : null,
      h("p", { class: "row wrap" },
        h("a", { class: "primary", href: api.videoAddress(id), download: name }, "Download"),
        h("a", { class: "quiet", href: api.reportAddress(id), download: name.replace(/\.mp4$/, ".report.json") }, "Report (JSON)")),
      proof(id, report))));
  showPast();
  askSoon();
}

/** What anybody can check: what the file holds, and hashes of the frames given to its encoder. */
function proof(id, report) {
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ["frames", "hash of the frames given to the encoder", "rendered in"].map((each) => h("th", {}, each)))),
    h("tbody", {}, report.chunks.map((chunk) => h("tr", {},
      h("td", {}, `${chunk.start_frame}–${chunk.stop_frame - 1}`),
      h("td", {}, chunk.frame_hash ? h("code", {}, chunk.frame_hash) : "packets copied, not encoded"),
      h("td", {}, chunk.resumed ? "earlier" : `${chunk.render_s.toFixed(2)} s`)))));
  const read = h("p", { id: "proof" }, "Reading the file …");
  const ask = async ({ target }) => {
    if (!target.open) return;
    try {
      const told = await api.proof(id);
      const sound = told.samples ? `${told.samples} samples at ${told.sample_rate_hz} Hz` : "no sound";
      const [matrix, primaries, transfer, range] = told.colour;
      read.textContent = `Read back from the file: ${told.frames} frames of ${told.size} at ${told.fps} frames/s, `
        + `${sound}; ${told.codec} ${told.pixel_format}, tagged ${matrix}, ${primaries}, ${transfer}, ${range} range. `
        + `The plan has ${report.frames} frames from ${report.source_frames} source frames.`;
    } catch (error) {
      read.textContent = error.message;
    }
  };
  return h("details", { class: "fine", ontoggle: ask }, h("summary", {}, "Proof"), read,
    h("p", {}, "Rendered again, here or elsewhere, a chunk has the same hash."),
    h("div", { class: "scroll", tabIndex: 0, role: "region", ariaLabel: "Chunks and their hashes" }, table));
}

async function showPast() {
  const all = await api.exports();
  $("past").hidden = !all.length;
  $("exports").replaceChildren(...all.map((job) => {
    const when = new Date(job.created_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const length = job.result?.video_duration ? `${job.result.video_duration.toFixed(1)} s` : job.error ?? job.message;
    const open = () => {
      if (job.status === "done") showResult(job.export_id);
      else watch(job.export_id);
      $("job").scrollIntoView({ behavior: "smooth", block: "nearest" });
    };
    return h("li", {}, h("button", { class: "pick", onclick: open },
      h("span", { class: `state ${job.status}` }, job.status), h("span", {}, job.project_name || job.type),
      h("small", {}, length), h("small", {}, when)));
  }));
}

export function mountExporting() {
  on("edit media", askSoon);
  $("start").onclick = start;
  showPast().catch(() => {});
  const running = localStorage.getItem(RUNNING);
  if (running) {
    api.exported(running).then((job) => ["queued", "running"].includes(job.status) && watch(running), () => localStorage.removeItem(RUNNING));
  }
  askSoon();
}
