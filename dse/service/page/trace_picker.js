// Chooses an uploaded trace, or uploads one.

import { get, upload } from "./api.js";
import { fill, fresh, h, say } from "./dom.js";
import { duration, plural, size } from "./words.js";

/** @typedef {import("./schema_form.js").SchemaForm} SchemaForm */

/** Return a file's name as the service takes it. @param {string} name */
export function traceName(name) {
  return name.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 100) || "trace";
}

/** @param {SchemaForm} form @param {import("./schema_form.js").Path} path */
export function tracePicker(form, path) {
  const id = fresh("trace");
  const select = h("select", { id, "aria-describedby": `${id}-help` });
  const state = h("div", { class: "upload-state", "aria-live": "polite" });
  const file = h("input", { type: "file", hidden: true, accept: ".csv,.jsonl,.json,.gz,.parquet,.txt" });
  select.addEventListener("change", () => form.put(path, select.value));

  async function list(/** @type {string} */ chosen) {
    try {
      const found = await get("traces");
      const traces = Array.isArray(found) ? found : found.traces;
      const known = traces.some((/** @type {any} */ trace) => trace.name === chosen);
      fill(select, h("option", { value: "" }, traces.length ? "choose …" : "none uploaded yet"),
        traces.map((/** @type {any} */ trace) => h("option", { value: trace.name },
          `${trace.name} (${plural(trace.requests, "request")}, ${duration(trace.span_s)})`)),
        chosen && !known ? h("option", { value: chosen }, `${chosen} (not uploaded)`) : null);
      select.value = chosen;
    } catch (/** @type {any} */ error) {
      fill(state, h("p", { class: "problem" }, error.message));
    }
  }

  async function send(/** @type {File} */ chosen) {
    const name = traceName(chosen.name);
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
    const said = h("span", { class: "help" });
    fill(state, bar, said);
    try {
      const trace = await upload(`traces/${encodeURIComponent(name)}`, chosen, share => {
        bar.value = share;
        said.textContent = share < 1 ? `${Math.floor(share * 100)} % of ${size(chosen.size)}` : "reading the trace …";
      });
      fill(state, h("p", { class: "help good" }, `Uploaded: ${plural(trace.requests, "request")} over ${duration(trace.span_s)}.`));
      say(`${name} uploaded`);
      form.put(path, trace.name);
      await list(trace.name);
    } catch (/** @type {any} */ error) {
      fill(state, h("p", { class: "problem", role: "alert" }, error.message));
    }
  }
  file.addEventListener("change", () => { if (file.files[0]) send(file.files[0]); file.value = ""; });

  list(form.at(path) ?? "");
  const drop = h("div", { class: "drop" },
    h("button", { type: "button", on: { click: () => file.click() } }, "Upload a trace …"), file,
    h("span", { class: "help" }, "or drop a file here: CSV or JSON lines, also gzipped"));
  dropTarget(drop, send);
  return h("div", { class: "field wide-field" }, h("label", { for: id }, "Trace"), select,
    h("p", { class: "help", id: `${id}-help` }, "Azure (TIMESTAMP,ContextTokens,GeneratedTokens), Mooncake (JSON lines), or arrival_s,prompt_tokens,output_tokens."),
    drop, state);
}

/** Let files be dropped on an element. @param {HTMLElement} element @param {(file: File) => void} take */
export function dropTarget(element, take) {
  const over = (/** @type {boolean} */ is) => element.classList.toggle("is-over", is);
  element.addEventListener("dragover", event => { event.preventDefault(); over(true); });
  element.addEventListener("dragleave", () => over(false));
  element.addEventListener("drop", event => {
    event.preventDefault();
    over(false);
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
}
