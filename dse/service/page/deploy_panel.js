// A design as files that deploy it: for which engine or platform, what is in them, and what they do not hold.

import { download, get } from "./api.js";
import { fill, h, say } from "./dom.js";
import { plural } from "./words.js";

const TARGETS = [
  ["vllm", "vLLM"], ["sglang", "SGLang"], ["kubernetes", "Kubernetes"], ["llm-d", "llm-d"],
  ["dynamo", "NVIDIA Dynamo"], ["ray-serve", "Ray Serve"], ["all", "All of them"],
];
const REPLAYED = 1000;
/** Longer files are only downloaded. */
const SHOWN_CHARACTERS = 20_000;

/** @param {import("./study_model.js").StudyModel} model @param {number} number */
export function deployPanel(model, number) {
  const target = h("select", { "aria-label": "For", on: { change: () => show() } }, TARGETS.map(([name, text]) => h("option", { value: name }, text)));
  const load = h("input", { type: "checkbox", on: { change: () => { requests.disabled = !load.checked; show(); } } });
  const requests = h("input", { type: "number", min: "1", step: "1", value: REPLAYED, disabled: true, "aria-label": "Requests to replay", on: { change: () => show() } });
  const files = h("div", { role: "status" });
  let asked = "";

  /** @param {string} form */
  const query = form => {
    const wanted = new URLSearchParams({ form, load: String(load.checked) });
    if (load.checked && requests.value) wanted.set("requests", requests.value);
    return `${model.path}/trials/${number}/exports/${target.value}?${wanted}`;
  };
  /** @param {any} error */
  const failed = error => { fill(files, h("p", { class: "alarm" }, error.message)); };

  async function show() {
    const path = asked = query("json");
    fill(files, h("p", { class: "note" }, "…"));
    try {
      const found = await get(path);
      if (asked === path) fill(files, contents(found));
    } catch (error) {
      if (asked === path) failed(error);
    }
  }

  async function fetchAll() {
    const name = `${model.study.name}-${number}-${target.value}.zip`;
    try {
      await download(query("zip"), name);
      say(`${name} downloaded`);
    } catch (error) {
      failed(error);
    }
  }

  const fold = h("details", { class: "deployment deploy" }, h("summary", {}, "Files that deploy it"),
    h("div", { class: "row" }, h("label", {}, "For ", target), h("label", {}, load, " with its load,"), h("label", {}, requests, " requests"),
      h("button", { type: "button", class: "primary", on: { click: fetchAll } }, "Download as zip")),
    files);
  fold.addEventListener("toggle", () => fold.open && !asked && show());
  return fold;
}

/** Return notes and files. @param {any} found */
function contents(found) {
  const notes = Object.entries(found.notes).flatMap(([about, sentences]) =>
    /** @type {string[]} */ (sentences).map(sentence => h("li", {}, Object.keys(found.notes).length > 1 ? h("b", {}, `${about}: `) : null, sentence)));
  return [
    h("details", {}, h("summary", {}, `What they do not hold (${notes.length})`), h("ul", { class: "notes" }, notes)),
    Object.entries(found.files).filter(([name]) => name !== "NOTES.md").map(([name, text]) => file(name, /** @type {string} */ (text))),
  ];
}

/** @param {string} name @param {string} text */
function file(name, text) {
  const lines = plural(text.split("\n").length - 1, "line");
  if (text.length > SHOWN_CHARACTERS) return h("p", { class: "note" }, h("code", {}, name), `: ${lines}, in the download`);
  return h("details", { class: "file" }, h("summary", {}, h("code", {}, name), h("span", { class: "note" }, ` ${lines}`)),
    h("pre", { tabindex: "0", "aria-label": name }, h("code", {}, text)));
}
