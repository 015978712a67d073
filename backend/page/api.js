// The server's routes as functions. Of all elements it knows only the dialog that asks for a key.

import { $ } from "./dom.js";

/** The server refused a request: its status, and its reason as the message. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(method, path, { body, headers = {} } = {}) {
  const answer = await fetch(path, { method, body, headers });
  if (answer.status === 401) {
    await askForKey();
    return call(method, path, { body, headers });
  }
  if (!answer.ok) throw new Refused(answer.status, await reason(answer));
  return answer;
}

async function reason(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : detail.map((each) => each.msg).join("; ");
  } catch {
    return `the server answered ${answer.status}`;
  }
}

const json = async (method, path, content) => {
  const headers = content === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await call(method, path, { body: JSON.stringify(content), headers });
  return answer.status === 204 ? null : answer.json();
};

const at = (key) => `/api/clips/${encodeURIComponent(key)}`;

/** Who is logged in: `{ user_id, expires_at }`. The latter is null without a login that can end. */
export const session = () => json("GET", "/api/session");
export const logOut = () => json("DELETE", "/api/session");
export const storedClips = async () => (await json("GET", "/api/clips")).clips;
export const glance = (key) => json("GET", `${at(key)}/glance`);
export const stripAddress = (key) => `${at(key)}/filmstrip`;
export const fileAddress = (key) => `${at(key)}/file`;
export const uploadState = (key) => json("GET", `${at(key)}/upload`);

/** The tus URL of a clip's upload, or of all uploads. */
export const uploadUrl = (key) => (key === undefined ? "/api/uploads" : `/api/uploads/${encodeURIComponent(key)}`);
export const removeClip = (key) => json("DELETE", at(key));

export const estimate = (edit) => json("POST", "/api/estimate", { edit });

/** One output frame as an object URL, with the server's facts about it. */
export async function still(edit, frame, through) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ edit, frame, through });
  const answer = await call("POST", "/api/preview", { body, headers });
  const told = JSON.parse(decodeURIComponent(answer.headers.get("X-Preview")));
  return { ...told, address: URL.createObjectURL(await answer.blob()) };
}

export async function begin(exportId, edit, name) {
  const body = new FormData();
  body.append("export_id", exportId);
  body.append("project_name", name);
  body.append("multi_clip_data_json", JSON.stringify(edit));
  const headers = { Prefer: "respond-async" };
  return (await call("POST", "/api/export/multi-clip", { body, headers })).json();
}

const job = (id) => `/api/exports/${encodeURIComponent(id)}`;

export const exports = async () => (await json("GET", "/api/exports?limit=30")).exports;
export const exported = (id) => json("GET", job(id));
export const cancel = (id) => json("DELETE", job(id));
export const retry = (id) => json("POST", `${job(id)}/retry`);
export const report = (id) => json("GET", `${job(id)}/report`);
export const proof = (id) => json("GET", `${job(id)}/proof`);
export const reportAddress = (id) => `${job(id)}/report`;
export const videoAddress = (id) => `${job(id)}/download`;

/** Passes on each state of an export until the last. Reconnects when the connection breaks. Returns a function that stops it. */
export function follow(id, told) {
  let socket;
  let over = false;
  const open = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/ws/export/${encodeURIComponent(id)}`);
    socket.onmessage = (message) => {
      const state = JSON.parse(message.data);
      over = state.status !== "processing";
      told(state);
    };
    socket.onclose = () => over || setTimeout(reopen, 1000);
  };
  const reopen = async () => {
    await session().catch(() => {}); // where the login has ended, it asks for a key
    if (!over) open();
  };
  open();
  return () => {
    over = true;
    socket.close();
  };
}

let asking = null;

/** Resolves when the server has accepted a key. The login is a cookie that scripts cannot read. */
function askForKey() {
  asking ??= new Promise((entered) => {
    const dialog = $("login");
    dialog.oncancel = (event) => event.preventDefault();
    $("login-form").onsubmit = async (event) => {
      event.preventDefault();
      const body = JSON.stringify({ key: $("api-key").value });
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch("/api/session", { method: "POST", body, headers });
      $("api-key").value = "";
      if (!answer.ok) {
        $("login-error").textContent = answer.status === 401 ? "That is no key of this server." : await reason(answer);
        return;
      }
      dialog.close();
      asking = null;
      entered();
    };
    dialog.showModal();
  });
  return asking;
}
