// Adds clips: files that are dropped or chosen, or clips that are stored already.

import { removeClip, storedClips } from "./api.js";
import { app, know, on, tell } from "./app.js";
import { $, h, icon, toast } from "./dom.js";
import { newClip } from "./edit.js";
import { keyOf, upload } from "./upload.js";

const dialog = $("library");

export async function openLibrary() {
  dialog.showModal();
  await showStored($("library-stored"));
}

async function showStored(place) {
  const clips = await storedClips();
  place.replaceChildren(...(clips.length ? [h("h3", {}, "Already here"), h("ul", {}, clips.map(row))] : []));

  function row(clip) {
    const megabytes = `${(clip.size_bytes / 1e6).toFixed(1)} MB`;
    return h("li", {},
      h("button", { type: "button", class: "pick", onclick: () => add(clip.key) }, icon("film"), h("span", {}, clip.key), h("small", {}, megabytes)),
      h("button", {
        type: "button", class: "mini", ariaLabel: `Delete ${clip.key} from the store`, title: "Delete from the store",
        onclick: async () => {
          await removeClip(clip.key);
          await showStored(place);
        },
      }, icon("trash")));
  }
}

function add(key) {
  dialog.close();
  const title = key.replace(/(-[a-z0-9]{1,7})?\.[^.]+$/, "");
  app.change((document) => document.clips.push(newClip(key, title)));
  app.select(app.document.clips.length - 1);
}

/** Adds files to the reel at once, and uploads them one after the other. */
export async function addFiles(files) {
  if (dialog.open) dialog.close();
  const waiting = files.map((file) => ({ file, key: keyOf(file), medium: { title: file.name, share: 0 } }));
  const first = app.document.clips.length;
  for (const { key, medium } of waiting) {
    if (!app.media.get(key)?.facts) app.media.set(key, medium);
  }
  app.change((document) => {
    document.clips.push(...waiting.map(({ file, key }) => newClip(key, file.name.replace(/\.[^.]+$/, ""))));
  });
  app.select(first);
  for (const { file, key, medium } of waiting) {
    await send(file, key, medium);
    know(key);
  }
}

async function send(file, key, medium) {
  let shown = 0;
  try {
    await upload(file, key, (share) => {
      medium.share = share;
      if (performance.now() - shown < 150 && share < 1) return;
      shown = performance.now();
      tell("media");
    });
    delete medium.share;
  } catch (error) {
    delete medium.share;
    medium.error = error.message;
    toast(`${file.name}: ${error.message}`);
    tell("media");
  }
}

export function mountLibrary() {
  const input = $("files");
  for (const id of ["choose", "library-files"]) $(id).onclick = () => input.click();
  input.onchange = () => {
    addFiles([...input.files]);
    input.value = "";
  };
  const over = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", event.type === "dragover");
  };
  for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, over);
  document.addEventListener("drop", (event) => addFiles([...event.dataTransfer.files]));
  on("edit", () => app.document.clips.length || showStored($("welcome-stored")).catch(() => {}));
  if (!app.document.clips.length) showStored($("welcome-stored")).catch(() => {});
}
