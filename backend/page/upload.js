// Uploads files by the tus protocol (https://tus.io), piece by piece. A broken upload continues where
// it stopped, also after a reload: its URL ends in the clip's key, which is made of the file.

import { Refused, uploadState, uploadUrl } from "./api.js";

const PIECE_BYTES = 8 << 20;
const TRIES = 5;
const TUS = { "Tus-Resumable": "1.0.0" };

/** A key for a file: its name, and its size so that another file of that name is told apart. */
export function keyOf(file) {
  const cut = file.name.lastIndexOf(".");
  const [stem, suffix] = cut > 0 ? [file.name.slice(0, cut), file.name.slice(cut)] : [file.name, ""];
  const plain = stem.normalize("NFKD").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+|[.-]+$/g, "");
  const tag = (file.size ^ (file.lastModified / 1000)) >>> 0;
  return `${(plain || "clip").slice(0, 80)}-${tag.toString(36)}${suffix.toLowerCase()}`;
}

/** Uploads a file. `onShare(share)` is told how much of it has been received, 0 to 1. */
export async function upload(file, key, onShare) {
  const before = await uploadState(key);
  if (before.complete) return onShare(1);
  let failures = 0;
  let offset = before.offset ? null : await start(file, key);
  while (offset !== file.size) {
    try {
      offset ??= await startOrResume(file, key);
      onShare(offset / file.size);
      if (offset < file.size) offset = await sendPiece(file, key, offset, onShare);
      failures = 0;
    } catch (error) {
      const lasting = error instanceof Refused && ![404, 409, 423].includes(error.status) && error.status < 500;
      if (lasting || ++failures >= TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** failures));
      offset = null; // the server knows how much it has
    }
  }
  onShare(1);
}

/** The number of bytes that the server has of the file. */
async function startOrResume(file, key) {
  const state = await fetch(uploadUrl(key), { method: "HEAD", headers: TUS, cache: "no-store" });
  if (state.ok && Number(state.headers.get("Upload-Length")) === file.size) {
    return Number(state.headers.get("Upload-Offset"));
  }
  if (!state.ok && state.status !== 404) throw new Refused(state.status, `the server answered ${state.status}`);
  return start(file, key);
}

/** Creates the upload. The server then has 0 bytes of it. */
async function start(file, key) {
  const headers = { ...TUS, "Upload-Length": file.size, "Upload-Metadata": `key ${base64(key)}` };
  const created = await fetch(uploadUrl(), { method: "POST", headers });
  if (!created.ok) throw new Refused(created.status, detailOf(await created.text()));
  return 0;
}

// XMLHttpRequest, since fetch reports no progress while it sends
function sendPiece(file, key, offset, onShare) {
  const stop = Math.min(offset + PIECE_BYTES, file.size);
  const request = new XMLHttpRequest();
  request.open("PATCH", uploadUrl(key));
  const headers = { ...TUS, "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" };
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  request.upload.onprogress = (event) => onShare((offset + event.loaded) / file.size);
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(new Error("the connection broke"));
    request.onload = () => {
      if (request.status >= 400) reject(new Refused(request.status, detailOf(request.response)));
      else resolve(Number(request.getResponseHeader("Upload-Offset")));
    };
    request.send(file.slice(offset, stop));
  });
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function detailOf(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return "it was refused";
  }
}
