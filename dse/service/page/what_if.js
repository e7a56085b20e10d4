// What if prices or the load were others: the front as it would be, at once.

import { post } from "./api.js";
import { debounced, fill, fresh, h } from "./dom.js";
import { decoded, note } from "./route.js";
import { number } from "./words.js";

const WAIT_MS = 150;
const RATES = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];

/**
 * @param {import("./study_model.js").StudyModel} model
 * @param {Record<string, string>} query
 * @param {(answer: any | null) => void} show
 * @param {(number: number) => void} select
 */
export function whatIfPanel(model, query, show, select) {
  const inputs = h("div", { class: "what-if-inputs" });
  const words = h("div", { class: "what-if-words", role: "status" });
  const reset = h("button", { type: "button", on: { click: clear } }, "Back to how it is");
  const element = h("details", { class: "what-if", open: Boolean(query.what) },
    h("summary", {}, "What if prices or the load change?"),
    h("div", { class: "what-if-body" }, inputs, h("div", {}, words, reset)));
  /** @type {Record<string, number>} */
  let listed = {};
  let rate_rps = /** @type {number | null} */ (null);
  /** What differs from how it is. @type {{prices: Record<string, number>, kwh: number, rate: number}} */
  let asked = parsed(query.what ?? "");
  let controller = new AbortController();
  let ready = false;
  let closed = false;

  const isAsked = () => Object.keys(asked.prices).length > 0 || asked.kwh > 0 || asked.rate !== 1;

  async function open() {
    if (ready || !element.open || !model.front.length) return;
    ready = true;
    try {
      const answer = await post(`${model.path}/what-if`, {});
      listed = answer.devices;
      rate_rps = answer.rate_rps;
      draw();
      if (isAsked()) ask();
    } catch (/** @type {any} */ error) {
      ready = false;
      fill(words, h("p", { class: "problem" }, error.message));
    }
  }
  element.addEventListener("toggle", open);
  model.addEventListener("change", open);
  model.addEventListener("hypervolume", () => { if (ready && isAsked()) ask(); });

  function draw() {
    fill(inputs,
      Object.entries(listed).map(([device, price]) => slider({
        id: fresh("price"), label: device, unit: "USD/h", low: 0, high: nice(3 * price || 10), step: 0.01, value: asked.prices[device] ?? price, standard: price,
        change: value => {
          if (Math.abs(value - price) < 1e-9) delete asked.prices[device];
          else asked.prices[device] = value;
          changed();
        },
      })),
      slider({ id: "kwh", label: "Electricity", unit: "USD/kWh", low: 0, high: 0.6, step: 0.01, value: asked.kwh, standard: 0, change: value => { asked.kwh = value; changed(); } }),
      rateField());
    tell(null);
  }

  /** @param {{id: string, label: string, unit: string, low: number, high: number, step: number, value: number, standard: number, change: (value: number) => void}} options */
  function slider({ id, label, unit, low, high, step, value, standard, change }) {
    const field = h("input", { id, type: "number", min: low, step: "any", inputmode: "decimal", value: String(value) });
    const track = h("input", { type: "range", min: low, max: high, step, value: String(value), "aria-label": `${label}, ${unit}` });
    field.addEventListener("input", () => {
      const given = field.valueAsNumber;
      if (!Number.isFinite(given) || given < 0) return;
      track.value = String(given);
      change(given);
    });
    track.addEventListener("input", () => {
      field.value = track.value;
      change(track.valueAsNumber);
    });
    return h("div", { class: "slider" }, h("label", { for: id }, label, h("small", {}, standard ? ` now ${number(standard)}` : "")), track,
      h("div", { class: "with-unit" }, field, h("span", { class: "unit" }, unit)));
  }

  function rateField() {
    const place = RATES.reduce((best, rate, at) => (Math.abs(rate - asked.rate) < Math.abs(RATES[best] - asked.rate) ? at : best), 0);
    const said = h("output", { for: "rate" });
    const track = h("input", { id: "rate", type: "range", min: 0, max: RATES.length - 1, step: 1, value: String(place) });
    const tell_ = () => {
      const factor = RATES[track.valueAsNumber];
      const text = `× ${factor}${rate_rps ? ` = ${number(rate_rps * factor)} requests/s` : ""}`;
      said.textContent = text;
      track.setAttribute("aria-valuetext", text);
    };
    track.addEventListener("input", () => {
      asked.rate = RATES[track.valueAsNumber];
      tell_();
      changed();
    });
    tell_();
    return h("div", { class: "slider" }, h("label", { for: "rate" }, "Load", h("small", {}, " simulated again")), track, said);
  }

  function changed() {
    note({ what: written(asked) });
    if (!isAsked()) {
      ask.cancel();
      controller.abort();
      tell(null);
      return;
    }
    ask();
  }

  const ask = debounced(WAIT_MS, async () => {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    element.setAttribute("aria-busy", "true");
    const slow = setTimeout(() => fill(words, h("p", { class: "note" }, "Simulating …")), 400);
    try {
      const answer = await post(`${model.path}/what-if`, { usd_per_hour: asked.prices, electricity_usd_per_kwh: asked.kwh, rate_factor: asked.rate }, { signal });
      if (!signal.aborted && !closed) tell(answer);
    } catch (/** @type {any} */ error) {
      if (signal.aborted || closed) return;
      // What was drawn before answers another question.
      show(null);
      reset.disabled = false;
      fill(words, h("p", { class: "problem" }, error.message));
    } finally {
      clearTimeout(slow);
      if (!signal.aborted) element.removeAttribute("aria-busy");
    }
  });

  /** @param {any | null} answer */
  function tell(answer) {
    show(answer);
    reset.disabled = !answer;
    if (!answer) {
      fill(words, h("p", { class: "note" }, "Move a price or the load. The front as it would be is drawn over the one above."));
      return;
    }
    const list = (/** @type {string} */ title, /** @type {number[]} */ numbers) => (numbers.length ? h("p", { class: "note" }, h("b", {}, `${title}: `), numbers.slice(0, 12).map(each => `#${each}`).join(", "), numbers.length > 12 ? " …" : "") : null);
    const best = answer.recommended;
    fill(words, h("p", {}, answer.said),
      best === null ? null : h("p", {}, h("button", { type: "button", class: "link", on: { click: () => select(best) } }, `Show design #${best}`)),
      list("Join the front", answer.joined), list("Leave it", answer.left));
  }

  function clear() {
    asked = { prices: {}, kwh: 0, rate: 1 };
    note({ what: "" });
    ask.cancel();
    controller.abort();
    draw();
  }

  reset.disabled = true;
  open();
  return { element, close() { closed = true; ask.cancel(); controller.abort(); } };
}

/** Return a round number that is not smaller. @param {number} value */
function nice(value) {
  const step = 10 ** Math.floor(Math.log10(value));
  return Math.ceil(value / step) * step;
}

/** Return what {@link written} wrote. @param {string} text */
function parsed(text) {
  /** @type {{prices: Record<string, number>, kwh: number, rate: number}} */
  const asked = { prices: {}, kwh: 0, rate: 1 };
  for (const part of text.split(",").filter(Boolean)) {
    const [name, value] = part.split(":");
    const given = Number(value);
    if (!Number.isFinite(given) || given < 0) continue;
    if (name === "kwh") asked.kwh = given;
    else if (name === "rate") asked.rate = given || 1;
    else asked.prices[decoded(name)] = given;
  }
  return asked;
}

/** Return what is asked as a text for the address; names of devices may hold commas. @param {{prices: Record<string, number>, kwh: number, rate: number}} asked */
function written({ prices, kwh, rate }) {
  const named = Object.entries(prices).map(([device, price]) => [encodeURIComponent(device), price]);
  return [...named, ...(kwh ? [["kwh", kwh]] : []), ...(rate !== 1 ? [["rate", rate]] : [])].map(pair => pair.join(":")).join(",");
}
