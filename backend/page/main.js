// Puts the page together, and answers the keyboard.

import { logOut, session } from "./api.js";
import { app, know, on, tell, unreadable } from "./app.js";
import { addKeyframe, mountCrop } from "./crop.js";
import { $, toast } from "./dom.js";
import { mountExporting } from "./exporting.js";
import { mountInspector, removePicked } from "./inspector.js";
import { mountLibrary } from "./library.js";
import { mountPlayer, player } from "./player.js";
import { mountPreview } from "./preview.js";
import { mountReel, move } from "./reel.js";
import { mountStill, showStill } from "./still.js";
import { mountStrip, setTrim } from "./strip.js";

const THEME = "framestream theme";

const KEYS = {
  " ": () => player.toggle(),
  ArrowLeft: ({ shiftKey }) => (shiftKey ? player.seek(app.time - 1) : player.step(-1)),
  ArrowRight: ({ shiftKey }) => (shiftKey ? player.seek(app.time + 1) : player.step(1)),
  ArrowUp: () => app.select(app.index - 1),
  ArrowDown: () => app.select(app.index + 1),
  i: () => setTrim("start", app.time),
  o: () => setTrim("end", app.time),
  k: () => addKeyframe(),
  e: () => showStill(),
  Delete: () => removePicked(),
  Backspace: () => removePicked(),
};

let byTab = false;

function pressed(event) {
  const { target, key } = event;
  if (document.querySelector("dialog[open]") || target.closest("input, textarea, select, video[controls]")) return;
  const name = key.length === 1 ? key.toLowerCase() : key;
  if ((event.ctrlKey || event.metaKey) && name === "z") {
    event.preventDefault();
    if (event.shiftKey) app.edit.redo();
    else app.edit.undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || !app.medium?.facts) return;
  if (event.altKey) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[name];
    if (!way) return;
    event.preventDefault();
    move(app.index, app.index + way);
    return;
  }
  // space presses an element that was reached by tab, not one that a pointer or a dialog left focused
  if (name === " " && byTab && target.matches("button, summary, a, [role=slider]")) return;
  if (!KEYS[name]) return;
  event.preventDefault();
  KEYS[name](event);
}

function mountTools() {
  $("undo").onclick = () => app.edit.undo();
  $("redo").onclick = () => app.edit.redo();
  $("keys").onclick = () => $("shortcuts").showModal();
  const show = () => {
    $("undo").disabled = !app.edit.canUndo;
    $("redo").disabled = !app.edit.canRedo;
  };
  on("edit", show);
  show();
  $("copy").onclick = async () => {
    const text = JSON.stringify(app.document, null, 2);
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied: save it beside the clips as edit.json, and framestream render takes it.");
    } catch {
      openPaste(text);
    }
  };
  $("paste").onclick = () => openPaste("");
  if (unreadable) openPaste(unreadable.text, `The edit of your last visit: ${unreadable.reason}`);
  $("paste-use").onclick = () => {
    try {
      const warnings = [];
      app.edit.replace(JSON.parse($("pasted").value), (warning) => warnings.push(warning));
      app.select(0);
      $("pasting").close();
      if (warnings.length) toast(warnings.join("; "));
    } catch (error) {
      $("paste-error").textContent = error.message;
    }
  };
}

function openPaste(text, error = "") {
  $("pasted").value = text;
  $("paste-error").textContent = error;
  $("pasting").showModal();
  $("pasted").select();
}

function mountTheme() {
  const root = document.documentElement;
  root.dataset.theme = localStorage.getItem(THEME) ?? "auto";
  $("theme").onclick = () => {
    const dark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem(THEME, root.dataset.theme);
    tell("media");
  };
}

async function mountLogin() {
  $("leave").onclick = async () => {
    try {
      await logOut();
      location.reload();
    } catch (error) {
      toast(error.message);
    }
  };
  try {
    const { expires_at: end } = await session();
    $("leave").hidden = end === null;
  } catch (error) {
    toast(error.message);
  }
}

mountTheme();
await mountLogin();
for (const mount of [
  mountTools, mountPlayer, mountCrop, mountPreview, mountStrip, mountInspector, mountReel,
  mountLibrary, mountStill, mountExporting,
]) mount();
document.addEventListener("keydown", pressed);
document.addEventListener("keydown", ({ key }) => (byTab ||= key === "Tab"), true);
document.addEventListener("pointerdown", () => (byTab = false), true);
app.document.clips.forEach((clip) => know(clip.fileName));
tell("edit");
document.body.dataset.ready = "true";
