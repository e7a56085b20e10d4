// Server-sent events over fetch, because EventSource cannot send a token.

import { credentials, problemOf } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** The service sends a sign of life every 15 s; a stream that is silent for longer is dead. */
const SILENCE_MS = 45_000;

/**
 * @typedef {object} Watcher
 * @property {(name: string, data: any) => void} onEvent
 * @property {(state: "open" | "lost" | "closed", problem?: Error) => void} onState
 */

/**
 * Watch a stream until its `end`, going on after a lost connection where it was.
 * @param {string} path below `v1/`
 * @param {Watcher} watcher
 * @returns {() => void} stops watching
 */
export function watch(path, { onEvent, onState }) {
  let last = "";
  let wait_ms = FIRST_WAIT_MS;
  let stopped = false;
  let controller = new AbortController();
  /** @type {(() => void) | null} */
  let wake = null;

  const pause = (/** @type {number} */ ms) => new Promise(resolve => {
    const timer = setTimeout(() => resolve(undefined), ms);
    wake = () => { clearTimeout(timer); resolve(undefined); };
  });

  async function once() {
    controller = new AbortController();
    const headers = { Accept: "text/event-stream", ...credentials(), ...(last ? { "Last-Event-ID": last } : {}) };
    const response = await fetch(`v1/${path}`, { headers, signal: controller.signal, cache: "no-store" });
    if (!response.ok || !response.body) throw await problemOf(response);
    onState("open");
    wait_ms = FIRST_WAIT_MS;
    for await (const event of parsed(response.body, controller)) {
      if (event.id) last = event.id;
      if (event.data) onEvent(event.name, JSON.parse(event.data));
      if (event.name === "end") return true;
    }
    return false;
  }

  async function forever() {
    while (!stopped) {
      /** @type {any} */
      let problem;
      try {
        if (await once()) return onState("closed");
      } catch (error) {
        problem = error;
      }
      if (stopped) return undefined;
      // A study that is gone, or that this token may not read, stays so.
      if (problem && [401, 403, 404].includes(problem.status)) return onState("closed", problem);
      onState("lost");
      await pause(wait_ms);
      wait_ms = Math.min(LONGEST_WAIT_MS, wait_ms * 2);
    }
    return undefined;
  }

  const online = () => wake?.();
  addEventListener("online", online);
  forever();
  return () => {
    stopped = true;
    removeEventListener("online", online);
    controller.abort();
    wake?.();
  };
}

/**
 * Yield the events of a stream.
 * @param {ReadableStream<Uint8Array>} body
 * @param {AbortController} controller
 */
async function* parsed(body, controller) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let text = "";
  let event = { name: "message", id: "", data: "" };
  for (;;) {
    const silence = setTimeout(() => controller.abort(), SILENCE_MS);
    const { done, value } = await reader.read();
    clearTimeout(silence);
    if (done) return;
    text += value;
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    text = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (event.data || event.name !== "message") yield event;
        event = { name: "message", id: "", data: "" };
        continue;
      }
      const [, field, content] = /^([^:]*):? ?(.*)$/s.exec(line) ?? ["", "", ""];
      if (field === "event") event.name = content;
      else if (field === "id") event.id = content;
      else if (field === "data") event.data += (event.data ? "\n" : "") + content;
    }
  }
}
