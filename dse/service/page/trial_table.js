// All designs: filters, order, pages.

import { otherChoices } from "./choices.js";
import { debounced, fill, h } from "./dom.js";
import { note } from "./route.js";
import { capital, plural, quantity } from "./words.js";

/** @typedef {import("./study_model.js").Trial} Trial */
const PAGE = 25;
const KINDS = /** @type {[string, string][]} */ ([["front", "On the front"], ["feasible", "Keep every promise"], ["simulated", "All simulated"], ["excluded", "Excluded"]]);

/**
 * @param {import("./study_model.js").StudyModel} model
 * @param {() => {selected: number | null, compared: number[]}} view
 * @param {import("./design_card.js").Actions} actions
 * @param {Record<string, string>} query
 */
export function trialTable(model, view, actions, query) {
  const { objectives } = model;
  const state = { kind: "front", text: "", least: /** @type {(number | null)[]} */ ([]), most: /** @type {(number | null)[]} */ ([]), by: "0", down: false, page: 0 };
  /** @type {Map<number, {element: HTMLTableRowElement, key: string, box: HTMLInputElement}>} */
  const rows = new Map();
  const changed = () => { state.page = 0; keep(); update(); };
  const keep = () => note({
    show: state.kind === "front" ? "" : state.kind, q: state.text, sort: state.by === "0" ? "" : state.by, desc: state.down ? "1" : "", p: state.page || "",
    ...Object.fromEntries(objectives.flatMap((_, place) => [[`min${place}`, state.least[place] ?? ""], [`max${place}`, state.most[place] ?? ""]])),
  });

  const kinds = new Map(KINDS.map(([kind, text]) => {
    const count = h("span", { class: "count" });
    const input = h("input", { type: "radio", name: "kind", value: kind, on: { change: () => { state.kind = kind; changed(); } } });
    return [kind, { input, count, element: h("label", { class: "segment" }, input, h("span", {}, text, " "), count) }];
  }));
  const text = h("input", { type: "search", id: "filter-text", placeholder: "e.g. b200 TP4", autocomplete: "off", on: { input: debounced(150, () => { state.text = text.value; changed(); }) } });
  const bounds = objectives.map((objective, place) => ["least", "most"].map(side => {
    const id = `${side}-${place}`;
    const input = h("input", { id, type: "number", step: "any", inputmode: "decimal", placeholder: side === "least" ? "from" : "to",
      "aria-label": `${objective.label}, ${side === "least" ? "at least" : "at most"}`,
      on: { input: debounced(200, () => { state[/** @type {"least" | "most"} */ (side)][place] = input.value === "" ? null : input.valueAsNumber; changed(); }) } });
    return input;
  }));

  const heads = [
    h("th", { scope: "col" }, h("span", { class: "unseen" }, "Compare")),
    head("number", "#", "number"),
    head("label", "Design", ""),
    ...objectives.map((objective, place) => head(String(place), capital(objective.label), "number")),
    h("th", { scope: "col" }, "Verdict"),
    h("th", { scope: "col" }, "Limited by"),
  ];
  const body = h("tbody");
  const count = h("p", { class: "note", role: "status" });
  const pages = h("nav", { class: "row pages", "aria-label": "Pages of the table" });
  const element = h("section", { class: "card", id: "designs", "aria-labelledby": "designs-title" },
    h("div", { class: "section-head" }, h("h2", { id: "designs-title" }, "Designs")),
    h("div", { class: "segments", role: "radiogroup", "aria-label": "Which designs" }, [...kinds.values()].map(kind => kind.element)),
    h("div", { class: "row filters" },
      h("div", { class: "field" }, h("label", { for: "filter-text" }, "Filter"), text),
      objectives.map((objective, place) => h("div", { class: "field bounds", role: "group", "aria-label": objective.label },
        h("span", { class: "bound-label" }, capital(objective.label)), h("div", { class: "row" }, bounds[place])))),
    count,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of designs" },
      h("table", { class: "trials" }, h("thead", {}, h("tr", {}, heads)), body)),
    pages);

  /** @param {string} by @param {string} words @param {string} kind */
  function head(by, words, kind) {
    const button = h("button", { type: "button", on: { click: () => {
      state.down = state.by === by ? !state.down : false;
      state.by = by;
      changed();
    } } }, words);
    return h("th", { scope: "col", class: kind, data: { by } }, button);
  }

  /** @param {Record<string, string>} given */
  function read(given) {
    const value = (/** @type {string | undefined} */ word) => (word !== undefined && word !== "" && Number.isFinite(Number(word)) ? Number(word) : null);
    state.kind = kinds.has(given.show) ? given.show : "front";
    state.text = given.q ?? "";
    state.by = given.sort ?? "0";
    state.down = given.desc === "1";
    state.page = value(given.p) ?? 0;
    objectives.forEach((_, place) => {
      state.least[place] = value(given[`min${place}`]);
      state.most[place] = value(given[`max${place}`]);
      bounds[place][0].value = String(state.least[place] ?? "");
      bounds[place][1].value = String(state.most[place] ?? "");
    });
    if (text.value !== state.text) text.value = state.text;
    const chosen = kinds.get(state.kind);
    if (chosen) chosen.input.checked = true;
  }

  /** @param {string} kind @param {Trial} trial */
  function isOf(kind, trial) {
    if (kind === "front") return model.onFront.has(trial.number);
    if (kind === "feasible") return trial.simulated && trial.feasible;
    return kind === "simulated" ? trial.simulated : !trial.simulated;
  }

  /** @param {Trial} trial @param {string[]} words */
  function passes(trial, words) {
    if (!isOf(state.kind, trial)) return false;
    const about = `#${trial.number} ${trial.label} ${otherChoices(trial, model.varied)} ${trial.bottleneck} ${trial.broken.join(" ")} ${trial.reason}`.toLowerCase();
    if (!words.every(word => about.includes(word))) return false;
    return objectives.every((_, place) => {
      const value = trial.objectives[place];
      const [least, most] = [state.least[place] ?? null, state.most[place] ?? null];
      if (least === null && most === null) return true;
      return value !== null && (least === null || value >= least) && (most === null || value <= most);
    });
  }

  /** @param {Trial} a @param {Trial} b */
  function order(a, b) {
    const sign = state.down ? -1 : 1;
    if (state.by === "number") return sign * (a.number - b.number);
    if (state.by === "label") return sign * a.label.localeCompare(b.label) || a.number - b.number;
    const [first, second] = [a, b].map(trial => trial.objectives[Number(state.by)] ?? null);
    // What has no value comes last, whichever way the others go.
    if (first === null || second === null) return Number(first === null) - Number(second === null) || a.number - b.number;
    return sign * (first - second) || a.number - b.number;
  }

  function update() {
    const all = [...model.trials.values()];
    for (const [kind, { count: place }] of kinds) {
      const many = String(all.reduce((sum, trial) => sum + Number(isOf(kind, trial)), 0));
      if (place.textContent !== many) place.textContent = many;
    }
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter(trial => passes(trial, words)).sort(order);
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    const page = Math.min(state.page, last);
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    const said = found.length ? `${plural(found.length, "design")}${last ? `, page ${page + 1} of ${last + 1}` : ""}` : nothing();
    if (count.textContent !== said) count.textContent = said;
    for (const cell of heads) {
      if (cell.dataset.by === state.by) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    place(shown);
    turn(page, last);
  }

  function nothing() {
    if (!model.trials.size) return model.isOver ? "No design was evaluated." : "Designs appear as soon as they are simulated.";
    return state.kind === "front" && !model.front.length ? "No design keeps every promise yet: look at all simulated ones." : "No design passes the filter.";
  }

  /** Put rows into the table without touching those that stay, so that focus and pointer stay too. @param {Trial[]} shown */
  function place(shown) {
    const { selected, compared } = view();
    const kept = new Set(shown.map(trial => trial.number));
    for (const [number, row] of rows) if (!kept.has(number)) { row.element.remove(); rows.delete(number); }
    shown.forEach((trial, at) => {
      const key = `${model.onFront.has(trial.number)} ${model.recommended === trial.number} ${model.varied.size}`;
      let row = rows.get(trial.number);
      if (!row || row.key !== key) {
        const made = line(trial);
        const focused = row?.element.contains(document.activeElement) ? document.activeElement : null;
        row?.element.replaceWith(made.element);
        if (focused) /** @type {HTMLElement | null} */ (made.element.querySelector(focused.tagName))?.focus();
        row = { ...made, key };
        rows.set(trial.number, row);
      }
      row.element.classList.toggle("is-selected", selected === trial.number);
      row.element.querySelector("button")?.setAttribute("aria-pressed", String(selected === trial.number));
      row.box.checked = compared.includes(trial.number);
      if (body.children[at] !== row.element) body.insertBefore(row.element, body.children[at] ?? null);
    });
  }

  /** @param {Trial} trial */
  function line(trial) {
    const front = model.onFront.has(trial.number);
    const verdict = !trial.simulated ? h("span", { class: "note" }, trial.reason)
      : model.recommended === trial.number ? h("span", { class: "badge is-star" }, "★ recommended")
        : front ? h("span", { class: "badge" }, "front")
          : trial.feasible ? h("span", { class: "good" }, "keeps every promise")
            : h("span", { class: "bad" }, `misses ${trial.broken.join(", ")}`);
    const box = h("input", { type: "checkbox", "aria-label": `Compare design ${trial.number}`, disabled: !trial.simulated, on: { change: () => actions.toggle(trial.number) } });
    const element = h("tr", { data: { trial: String(trial.number) }, on: { click: (/** @type {MouseEvent} */ event) => {
      if (!(/** @type {Element} */ (event.target).closest("input, button, label"))) actions.select(trial.number, { full: true });
    } } },
    h("td", {}, h("label", { class: "tick" }, box)), h("td", { class: "number" }, String(trial.number)),
    h("th", { scope: "row", class: "design" }, h("button", { type: "button", class: "link", on: { click: () => actions.select(trial.number, { full: true }) } }, trial.label), h("small", {}, otherChoices(trial, model.varied))),
    objectives.map((objective, at) => h("td", { class: "number" }, quantity(objective, trial.objectives[at]))),
    h("td", {}, verdict), h("td", {}, trial.bottleneck));
    return { element, box };
  }

  /** @param {number} page @param {number} last */
  function turn(page, last) {
    pages.hidden = last === 0;
    if (!last) return;
    const key = `${page} ${last}`;
    if (pages.dataset.key === key) return;
    pages.dataset.key = key;
    const had = pages.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.to : undefined;
    const to = (/** @type {string} */ name, /** @type {string} */ words, /** @type {number} */ next) => h("button", { type: "button", data: { to: name }, disabled: next < 0 || next > last,
      on: { click: () => { state.page = next; keep(); update(); } } }, words);
    fill(pages, to("first", "First", page === 0 ? -1 : 0), to("back", "Previous", page - 1), h("span", { class: "note" }, `${page + 1} of ${last + 1}`), to("next", "Next", page + 1), to("last", "Last", page === last ? last + 1 : last));
    if (had) /** @type {HTMLElement | null} */ (pages.querySelector(`[data-to="${had}"]:not(:disabled)`) ?? pages.querySelector("button:not(:disabled)"))?.focus();
  }

  read(query);
  return { element, update, read };
}
