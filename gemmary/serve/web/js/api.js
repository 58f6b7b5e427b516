// Calls to the server: the key, errors with a sentence for people, and streams.

const KEY = "gemmary.key";
let askForKey = async () => null;
let asking = null;

/** `ask(refused)` gives a key or null. */
export function keyFrom(ask) {
  askForKey = ask;
}

/** status 0: the server did not answer. `after`: seconds to wait before another try. */
export class ApiError extends Error {
  constructor(status, message, code = null, after = null) {
    super(message);
    Object.assign(this, { status, code, after });
  }
}

export const GONE = "The server does not answer.";

function key() {
  try { return sessionStorage.getItem(KEY); } catch { return null; }
}

async function renewed(used) {
  if (key() !== used) return true; // somebody else was asked meanwhile
  asking ??= askForKey(used !== null).finally(() => (asking = null));
  const given = await asking;
  if (given) sessionStorage.setItem(KEY, given);
  return Boolean(given);
}

/** The response of a request that the server took; ApiError otherwise. */
export async function call(path, { method = "GET", json, body, type, signal, keepalive } = {}) {
  for (;;) {
    const used = key();
    const headers = {};
    if (used) headers.Authorization = `Bearer ${used}`;
    if (json !== undefined) headers["Content-Type"] = "application/json";
    else if (type) headers["Content-Type"] = type;
    let response;
    try {
      response = await fetch(path, {
        method, headers, signal, keepalive, body: json === undefined ? body : JSON.stringify(json),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, GONE);
    }
    if (response.ok) return response;
    if (response.status === 401 && (await renewed(used))) continue;
    throw await refusal(response);
  }
}

async function refusal(response) {
  let said = {};
  try { said = (await response.json()).error ?? {}; } catch { /* not our server's words */ }
  const after = Number(response.headers.get("Retry-After")) || null;
  return new ApiError(response.status, sentence(said.message ?? `The server refused this (${response.status}).`),
    said.code ?? null, after);
}

export function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…)]$/.test(first) ? first : `${first}.`;
}

export async function json(path, options) {
  const response = await call(path, options);
  return response.status === 204 ? null : response.json();
}

/** Data of server-sent events, parsed, until the stream ends. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data !== "[DONE]") yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
