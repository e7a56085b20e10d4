// Short messages at the edge of the page, and questions before something is lost.

import { Problem } from "./api.js";
import { h } from "./dom.js";

/**
 * Show a message until it is closed, or for a while if it is no problem.
 * @param {string} text
 * @param {{bad?: boolean}} [options]
 */
export function notice(text, { bad = false } = {}) {
  const place = /** @type {HTMLElement} */ (document.getElementById("notices"));
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close message", on: { click: () => box.remove() } }, "×");
  const box = h("div", { class: `notice${bad ? " is-bad" : ""}`, role: bad ? "alert" : "status" }, h("p", {}, text), close);
  place.append(box);
  if (!bad) setTimeout(() => box.remove(), 6_000);
}

/** Show why something did not work. @param {any} error */
export function complain(error) {
  if (error?.name === "AbortError" || error?.status === 401) return;
  const why = error instanceof Problem && error.status === 403
    ? `Your token does not allow this: ${error.message}`
    : error instanceof Problem && error.status === 429
      ? `Too many requests at once. Try again in ${error.retry_s || 1} s.`
      : error?.message ?? String(error);
  notice(why, { bad: true });
}

/**
 * Ask before something is done that cannot be undone.
 * @param {string} question
 * @param {string} consequence
 * @param {string} verb what the button says
 * @returns {Promise<boolean>}
 */
export function confirmed(question, consequence, verb) {
  return new Promise(resolve => {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("h2", { id: "question" }, question), h("p", {}, consequence),
      h("form", { method: "dialog", class: "row" },
        h("button", { value: "yes", class: "primary danger" }, verb),
        h("button", { value: "no" }, "Keep it")));
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
