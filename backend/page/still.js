// One output frame exactly as in the export: made by the engine, with AI and without.

import { still } from "./api.js";
import { app } from "./app.js";
import { $, toast } from "./dom.js";
import { forServer } from "./edit.js";
import { player } from "./player.js";
import { clock } from "./timing.js";

let asked = 0;

export async function showStill() {
  if (!app.isKnown) {
    toast("The clips are still on their way.");
    return;
  }
  player.pause();
  const ours = ++asked;
  const frame = app.outputFrame;
  const edit = forServer(app.document);
  const seconds = clock(frame / app.plan.fps, 3);
  const [without, withAi] = [$("without"), $("with")];
  for (const image of [without, withAi]) forget(image);
  $("compare").classList.add("waiting");
  $("compare").style.setProperty("--aspect", app.document.targetWidth / app.document.targetHeight);
  $("split").disabled = true;
  $("still-title").textContent = `Frame ${frame} · ${seconds}`;
  $("still-note").textContent = "The engine is making it …";
  if (!$("still").open) $("still").showModal();
  try {
    const made = await still(edit, frame, "export");
    if (ours !== asked) return;
    const isPlain = made.upscaler === "none";
    show(isPlain ? without : withAi, made);
    $("compare").classList.remove("waiting");
    say(made, "Now the other one, to compare …");
    const other = await still(edit, frame, isPlain ? "network" : "plain");
    if (ours !== asked) return;
    show(isPlain ? withAi : without, other);
    $("split").disabled = false;
    say(made, `With AI it is ${isPlain ? other.upscaler : made.upscaler}.`);
  } catch (error) {
    if (ours !== asked) return;
    $("compare").classList.remove("waiting");
    $("still-note").textContent = without.hidden && withAi.hidden
      ? error.message
      : `${$("still-note").dataset.said} There is nothing to compare it with: ${error.message}`;
  }
}

function say(made, more) {
  const how = made.upscaler === "none" ? "without AI" : `through ${made.upscaler}`;
  const said = `Exactly what the encoder will be given: the export goes ${how} (${made.why}).`;
  $("still-note").dataset.said = said;
  $("still-note").textContent = `${said} ${more}`;
}

function show(image, made) {
  image.src = made.address;
  image.hidden = false;
  split();
}

function forget(image) {
  if (image.src) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  image.hidden = true;
}

function split() {
  const both = !$("without").hidden && !$("with").hidden;
  $("compare").classList.toggle("both", both);
  $("compare").style.setProperty("--split", `${both ? $("split").value : 0}%`);
}

export function mountStill() {
  $("exact").onclick = showStill;
  $("split").oninput = split;
  $("still").onclose = () => asked++;
}
