// Puts files into the store piece by piece; what broke off goes on where it stopped.

import { pieceAddress, Refused, uploadState } from "./api.js";

const PIECE_BYTES = 8 << 20;
const TRIES = 5;

/** A key for a file: its name, and its size so that another file of that name is told apart. */
export function keyOf(file) {
  const cut = file.name.lastIndexOf(".");
  const [stem, suffix] = cut > 0 ? [file.name.slice(0, cut), file.name.slice(cut)] : [file.name, ""];
  const plain = stem.normalize("NFKD").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+|[.-]+$/g, "");
  const tag = (file.size ^ (file.lastModified / 1000)) >>> 0;
  return `${(plain || "clip").slice(0, 80)}-${tag.toString(36)}${suffix.toLowerCase()}`;
}

/** Uploads a file; `told(share)` hears how much of it is there. */
export async function upload(file, key, told) {
  let failures = 0;
  let { offset, complete } = await uploadState(key);
  while (!complete) {
    told(offset / file.size);
    try {
      ({ offset, complete } = await sendPiece(file, key, offset, told));
      failures = 0;
    } catch (error) {
      const lasting = error instanceof Refused && error.status !== 409 && error.status < 500;
      if (lasting || ++failures >= TRIES) throw error;
      await new Promise((soon) => setTimeout(soon, 500 * 2 ** failures));
      ({ offset, complete } = await uploadState(key));
    }
  }
  told(1);
}

// XMLHttpRequest, since fetch tells nothing while it sends
function sendPiece(file, key, offset, told) {
  const stop = Math.min(offset + PIECE_BYTES, file.size);
  const request = new XMLHttpRequest();
  request.open("PUT", pieceAddress(key));
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.setRequestHeader("Content-Range", `bytes ${offset}-${stop - 1}/${file.size}`);
  request.upload.onprogress = (event) => told((offset + event.loaded) / file.size);
  return new Promise((sent, failed) => {
    request.onerror = () => failed(new Error("the connection broke"));
    request.onload = () => {
      const answer = parsed(request.response);
      if (request.status >= 400) failed(new Refused(request.status, answer.detail ?? "it was refused"));
      else sent({ offset: answer.offset ?? file.size, complete: answer.complete ?? true });
    };
    request.send(file.slice(offset, stop));
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
