// All that is known of one design: what it is, how it did, how to deploy it, and its simulation.

import { ask, get, save } from "./api.js";
import { badges } from "./design_card.js";
import { deployPanel } from "./deploy_panel.js";
import { fill, h } from "./dom.js";
import { drawing } from "./drawing.js";
import { complain } from "./notices.js";
import { simulationView } from "./simulation_view.js";
import { capital, quantity } from "./words.js";

/** So that who only looks around makes the service simulate nothing. */
const SETTLED_MS = 500;

/**
 * @param {import("./study_model.js").StudyModel} model
 * @param {() => {selected: number | null, compared: number[]}} view
 * @param {import("./design_card.js").Actions} actions
 */
export function designPanel(model, view, actions) {
  const title = h("h2", { id: "design-title", tabindex: "-1" });
  const marks = h("div", { class: "row badges" });
  const compare = h("button", { type: "button", on: { click: () => view().selected !== null && actions.toggle(/** @type {number} */ (view().selected)) } });
  const close = h("button", { type: "button", on: { click: leave } }, "Close");
  const content = h("div");
  const simulation = h("div", { class: "simulation" });
  const element = h("section", { class: "card", id: "design", hidden: true, "aria-labelledby": "design-title" },
    h("div", { class: "section-head" }, h("div", {}, marks, title), h("div", { class: "row" }, compare, close)), content, simulation);
  let shown = -1;
  /** @type {ReturnType<typeof simulationView> | null} */
  let figures = null;
  let timer = 0;
  /** @type {HTMLElement | null} */
  let before = null;
  /** @type {Map<number, any>} */
  const simulated = new Map();
  const watcher = new IntersectionObserver(entries => { if (entries.some(entry => entry.isIntersecting)) soon(); }, { rootMargin: "200px" });
  watcher.observe(simulation);

  element.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => { if (event.key === "Escape") leave(); });

  function leave() {
    actions.select(null);
    (before?.isConnected ? before : document.getElementById("main"))?.focus();
  }

  function soon() {
    clearTimeout(timer);
    timer = window.setTimeout(simulate, SETTLED_MS);
  }

  async function simulate() {
    const number = shown;
    const trial = model.trials.get(number);
    const place = simulation.getBoundingClientRect();
    if (!trial?.simulated || figures || element.hidden || place.top > innerHeight + 200 || place.bottom < -200) return;
    if (!simulation.childElementCount) fill(simulation, h("h3", {}, "Its simulation"), h("p", { class: "note", role: "status" }, "Simulating it again, in full …"));
    try {
      const answer = simulated.get(number) ?? (await get(`${model.path}/trials/${number}/simulation`));
      simulated.set(number, answer);
      if (shown !== number || figures) return;
      figures = simulationView(answer);
      fill(simulation, figures.element);
    } catch (/** @type {any} */ error) {
      if (shown !== number) return;
      fill(simulation, h("h3", {}, "Its simulation"), h("p", { class: "alarm" }, error.message),
        h("button", { type: "button", on: { click: () => { fill(simulation); simulate(); } } }, "Try again"));
    }
  }

  async function load(/** @type {number} */ number) {
    try {
      const detail = await model.detail(number);
      if (shown === number) fill(content, description(detail));
    } catch (/** @type {any} */ error) {
      if (shown === number) fill(content, h("p", { class: "alarm" }, error.message));
    }
  }

  /** @param {any} detail */
  function description(detail) {
    const picture = detail.drawing ? drawing(detail.drawing) : null;
    return [
      h("p", {}, detail.sentence),
      detail.reason ? h("p", { class: "alarm" }, detail.reason) : null,
      h("div", { class: "design-grid" },
        h("div", {},
          detail.simulated ? h("ul", { class: "tiles" }, model.objectives.map((objective, place) => h("li", {},
            h("b", {}, quantity(objective, detail.objectives[place])), h("span", {}, capital(objective.label)))),
          detail.bottleneck ? h("li", {}, h("b", {}, detail.bottleneck), h("span", {}, "limits it")) : null) : null,
          detail.slos.length ? h("div", { class: "scroll" }, h("table", {}, h("caption", {}, "Promises"),
            h("thead", {}, h("tr", {}, ["Promise", "Is", "Limit", ""].map((text, place) => h("th", { scope: "col", class: place === 1 || place === 2 ? "number" : "" }, text || h("span", { class: "unseen" }, "Kept"))))),
            h("tbody", {}, detail.slos.map((/** @type {any} */ slo) => h("tr", {}, h("th", { scope: "row" }, slo.label, slo.soft ? h("small", {}, " soft") : null),
              h("td", { class: "number" }, slo.value_said), h("td", { class: "number" }, slo.limit_said),
              h("td", { class: slo.holds ? "good" : "bad" }, slo.holds ? "✓ kept" : "✗ missed")))))) : null,
          h("details", {}, h("summary", {}, `Every figure (${detail.figures.length})`), h("dl", { class: "facts in-columns" },
            detail.figures.map((/** @type {any} */ figure) => h("div", {}, h("dt", {}, capital(figure.label)), h("dd", {}, figure.said))))),
          h("details", {}, h("summary", {}, "Every choice"), h("dl", { class: "facts in-columns" },
            Object.entries(detail.design).map(([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, String(value)))))),
          detail.deployment ? [deployment(detail.number), deployPanel(model, detail.number)] : null),
        picture ? h("figure", { class: "drawing" }, picture, h("figcaption", {}, "Pools, stages and links")) : null),
    ];
  }

  /** Return the deployment to copy or save. @param {number} number */
  function deployment(number) {
    const code = h("code", {}, "…");
    let text = "";
    const fetched = async () => {
      text ||= await (await ask(`${model.path}/trials/${number}/deployment`)).text();
      code.textContent = text;
      return text;
    };
    const guarded = (/** @type {(text: string) => any} */ then) => async () => {
      try {
        await then(await fetched());
      } catch (error) {
        complain(error);
      }
    };
    const fold = h("details", { class: "deployment" }, h("summary", {}, "Deployment as YAML"),
      h("div", { class: "row" },
        h("button", { type: "button", on: { click: guarded(copy) } }, "Copy"),
        h("button", { type: "button", on: { click: guarded(yaml => save(new Blob([yaml], { type: "application/yaml" }), `${model.study.name}-design-${number}.yaml`)) } }, "Download")),
      h("pre", { tabindex: "0", "aria-label": "Deployment as YAML" }, code));
    const copied = h("span", { class: "note", role: "status" });
    /** @param {string} yaml */
    async function copy(yaml) {
      fold.open = true;
      if (navigator.clipboard) {
        await navigator.clipboard.writeText(yaml);
        copied.textContent = "copied";
      } else {
        // Browsers offer a clipboard to secure pages alone: select the text instead.
        getSelection()?.selectAllChildren(code);
        copied.textContent = "selected: copy it with Ctrl-C";
      }
    }
    fold.querySelector(".row").append(copied, h("span", { class: "note" }, "dse simulate reads it."));
    fold.addEventListener("toggle", () => fold.open && guarded(() => {})());
    return fold;
  }

  function update() {
    const number = view().selected;
    element.hidden = number === null;
    if (number === null) {
      shown = -1;
      figures?.close();
      figures = null;
      return;
    }
    const trial = model.trials.get(number);
    compare.textContent = view().compared.includes(number) ? "Leave out of comparison" : "Compare";
    fill(marks, trial ? badges(trial, model) : null);
    const name = `Design #${number}${trial ? ` · ${trial.label}` : ""}`;
    if (title.textContent !== name) title.textContent = name;
    if (shown !== number) {
      shown = number;
      figures?.close();
      figures = null;
      fill(simulation);
      if (!content.childElementCount) fill(content, h("p", { class: "note" }, "…"));
      load(number);
    }
    if (trial?.simulated && !figures && !simulation.childElementCount) soon();
  }

  return {
    element, update,
    /** Go to the panel; closing it goes back. */
    reveal() {
      if (!element.contains(document.activeElement)) before = /** @type {HTMLElement} */ (document.activeElement);
      element.scrollIntoView();
      title.focus({ preventScroll: true });
      soon();
    },
    close() {
      clearTimeout(timer);
      watcher.disconnect();
      figures?.close();
    },
  };
}
