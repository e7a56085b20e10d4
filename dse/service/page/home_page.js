// The list of studies.

import { get } from "./api.js";
import { debounced, fill, h, say } from "./dom.js";
import { complain } from "./notices.js";
import { note } from "./route.js";
import { shippedCards } from "./shipped.js";
import { badge, progressBar } from "./state.js";
import { ago, duration, plural } from "./words.js";

const BUSY_MS = 2_000;
const IDLE_MS = 10_000;
const PAGE = 50;

/** @type {(main: HTMLElement, route: import("./route.js").Route, session: any) => import("./main.js").Page} */
export function homePage(main, route) {
  document.title = "Studies · dse";
  let timer = 0;
  let closed = false;
  let limit = PAGE;
  const search = h("input", {
    type: "search", id: "search", value: route.query.q ?? "", placeholder: "name or question", autocomplete: "off",
    on: { input: debounced(200, () => { note({ q: search.value }); limit = PAGE; load(); }) },
  });
  const state = h("select", { id: "state", value: "", on: { change: () => { note({ state: state.value }); load(); } } },
    h("option", { value: "" }, "any"),
    ["queued", "running", "paused", "finished", "failed", "cancelled"].map(name => h("option", { value: name }, name)));
  state.value = route.query.state ?? "";
  const count = h("p", { class: "note", id: "count" });
  const list = h("ul", { class: "studies", "aria-describedby": "count" });
  const more = h("div", { class: "row" });
  const empty = h("div");
  const filters = h("div", { class: "row filters" },
    h("div", { class: "field" }, h("label", { for: "search" }, "Search"), search),
    h("div", { class: "field" }, h("label", { for: "state" }, "State"), state));
  main.append(
    h("div", { class: "title-row" },
      h("div", {}, h("h1", {}, "Studies"),
        h("p", { class: "lede" }, "Each searches for the deployments that keep your promises at the least cost.")),
      h("a", { class: "button primary", href: "#/new" }, "New study")),
    filters, count, list, more, empty);

  /** @type {Map<string, any>} */
  const rows = new Map();

  async function load() {
    clearTimeout(timer);
    try {
      const query = new URLSearchParams({ limit: String(limit), search: search.value.trim() });
      if (state.value) query.set("state", state.value);
      const found = await get(`studies?${query}`);
      if (!closed) show(found);
    } catch (error) {
      if (!closed) complain(error);
    }
    if (!closed) timer = window.setTimeout(again, busy() ? BUSY_MS : IDLE_MS);
  }
  const again = () => (document.hidden ? (timer = window.setTimeout(again, BUSY_MS)) : load());
  const busy = () => [...rows.values()].some(row => ["queued", "running"].includes(row.state));

  /** @param {{studies: any[], total: number, next: string | null}} found */
  function show({ studies, total, next }) {
    const filtered = Boolean(search.value.trim() || state.value);
    const none = total === 0 && !filtered;
    filters.hidden = count.hidden = none;
    const text = total ? plural(total, "study", "studies") + (filtered ? " found" : "") : "No study matches.";
    if (count.textContent !== text) {
      count.textContent = text;
      if (filtered) say(text);
    }
    const kept = new Set(studies.map(study => study.id));
    for (const [id, row] of rows) if (!kept.has(id)) { row.element.remove(); rows.delete(id); }
    studies.forEach((study, place) => {
      let row = rows.get(study.id);
      if (!row || row.revision !== study.revision || row.state !== study.state) {
        const element = line(study);
        const focused = row?.element.contains(document.activeElement);
        row?.element.replaceWith(element);
        if (focused) element.querySelector("a")?.focus();
        row = { element, revision: study.revision, state: study.state };
        rows.set(study.id, row);
      }
      if (list.children[place] !== row.element) list.insertBefore(row.element, list.children[place] ?? null);
    });
    fill(more, next ? h("button", { type: "button", on: { click: () => { limit = Math.min(1000, limit + 150); load(); } } },
      "Show more") : null);
    if (none && !empty.childElementCount) fill(empty, firstTime());
    if (!none) fill(empty);
  }

  load();
  return { close() { closed = true; clearTimeout(timer); } };
}

/** Return a study's line. @param {any} study */
function line(study) {
  const facts = study.simulated
    ? `${plural(study.simulated, "design")} simulated, ${study.feasible.toLocaleString("en-US")} keep every promise`
    : study.state === "queued" ? "waits for a worker" : "no design simulated yet";
  return h("li", {},
    h("div", { class: "study-name" },
      h("a", { href: `#/study/${encodeURIComponent(study.id)}` }, study.name), badge(study),
      h("p", { class: "question" }, study.question)),
    h("div", { class: "study-progress" }, progressBar(study), h("span", { class: "note" }, facts)),
    h("div", { class: "study-front" },
      h("b", {}, study.front.toLocaleString("en-US")), h("span", { class: "note" }, "on the front")),
    h("div", { class: "study-when note" },
      h("time", { datetime: new Date(study.created_s * 1e3).toISOString(), title: new Date(study.created_s * 1e3).toLocaleString() },
        ago(study.created_s)),
      study.running_s ? h("span", {}, `ran ${duration(study.running_s)}`) : null));
}

/** Return what someone sees who has no study yet. */
function firstTime() {
  return h("section", { class: "card first-time", "aria-labelledby": "first-time" },
    h("h2", { id: "first-time" }, "Start with a question that is already asked"),
    h("p", {}, "A study simulates many deployments of a model on your load and keeps those that no other one beats. ",
      "Pick a shipped study, change what differs for you, and watch its front grow."),
    shippedCards("h3", name => `#/new?from=${encodeURIComponent(name)}`));
}
