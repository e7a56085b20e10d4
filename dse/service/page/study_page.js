// One study: its front as it grows, designs in full, two side by side, all of them in a table.

import { get } from "./api.js";
import { comparePanel } from "./compare_panel.js";
import { designCard } from "./design_card.js";
import { designPanel } from "./design_panel.js";
import { fill, h, say } from "./dom.js";
import { frontPlot } from "./front_plot.js";
import { hypervolumePlot } from "./hypervolume.js";
import { complain } from "./notices.js";
import { note } from "./route.js";
import { allows, deleteStudy, studyHead } from "./study_head.js";
import { StudyModel } from "./study_model.js";
import { trialTable } from "./trial_table.js";
import { whatIfPanel } from "./what_if.js";
import { capital, plural } from "./words.js";

const SAY_MS = 10_000;

/** @type {(main: HTMLElement, route: import("./route.js").Route, session: any) => import("./main.js").Page} */
export function studyPage(main, route, session) {
  /** @type {ReturnType<typeof openStudy> | null} */
  let open = null;
  let closed = false;
  fill(main, h("p", { class: "loading" }, "Loading …"));
  get(`studies/${encodeURIComponent(route.id)}`).then(study => {
    if (!closed) open = openStudy(main, study, route, session);
  }, error => {
    if (closed || error.status === 401) return;
    fill(main, error.status === 409 ? unreadable(error, route.id, session) : h("section", { class: "card" }, h("h1", {}, error.status === 404 ? "No such study" : "Study"),
      h("p", { class: "alarm" }, error.message), h("a", { href: "#/" }, "All studies")));
  });
  return {
    close() { closed = true; open?.close(); },
    update(next) { route = next; open?.update(next); },
  };
}

/** Return what is shown of a study that another version made. @param {Error} error @param {string} id @param {any} session */
function unreadable(error, id, session) {
  return h("section", { class: "card" }, h("h1", {}, "Study of another version"),
    h("p", { class: "alarm" }, `${capital(error.message)}.`),
    h("p", {}, "What it found can be shown by the version that made it. Here it can only be deleted."),
    h("div", { class: "row" },
      allows(session, "admin") ? h("button", { type: "button", on: { click: () => deleteStudy(id, "This study", "all its designs") } }, "Delete") : null,
      h("a", { href: "#/" }, "All studies")));
}

/** @param {string | undefined} text @returns {number | null} */
const whole = text => (text !== undefined && /^\d+$/.test(text) ? Number(text) : null);

/** @param {HTMLElement} main @param {any} study @param {import("./route.js").Route} route @param {any} session */
function openStudy(main, study, route, session) {
  document.title = `${study.name} · dse`;
  const model = new StudyModel(study);
  const state = { x: 0, y: 0, selected: /** @type {number | null} */ (null), compared: /** @type {number[]} */ ([]), whatIf: /** @type {any} */ (null) };
  const recommended = () => (state.whatIf ? state.whatIf.recommended : model.recommended);

  /** @param {Record<string, string>} query */
  function read(query) {
    const places = model.objectives.length;
    state.x = Math.min(whole(query.x) ?? 0, places - 1);
    state.y = Math.min(whole(query.y) ?? 1, places - 1);
    state.selected = whole(query.trial);
    state.compared = [whole(query.a), whole(query.b)].filter(number => number !== null);
  }
  read(route.query);

  /** Show a design; `full` goes to all that is known of it. @param {number | null} number @param {{full?: boolean}} [options] */
  function select(number, { full = false } = {}) {
    const changed = state.selected !== number;
    state.selected = number;
    if (changed) {
      note({ trial: number }, { step: true });
      card.update();
      panel.update();
      plot.draw();
      table.update();
    }
    if (full && number !== null) panel.reveal();
  }

  /** Take a design into the comparison, or out of it. @param {number} number */
  function toggle(number) {
    const { compared } = state;
    state.compared = compared.includes(number) ? compared.filter(other => other !== number) : [...compared, number].slice(-2);
    note({ a: state.compared[0], b: state.compared[1] });
    say(state.compared.length === 2 ? `Comparing designs ${state.compared.join(" and ")}` : state.compared.length ? `Design ${state.compared[0]} chosen. Choose a second one to compare.` : "Nothing to compare");
    card.update();
    panel.update();
    plot.draw();
    table.update();
    compare.update();
    if (state.compared.length === 2 && state.compared.includes(number)) compare.reveal();
  }

  const figure = h("div", { class: "plot front-plot", role: "group", "aria-labelledby": "front-title", "aria-describedby": "front-words" });
  const words = h("p", { id: "front-words", class: "note" });
  const caveat = h("p", { class: "note" });
  const axes = h("div", { class: "row axes" });
  const head = studyHead(model, session);
  const card = designCard(model, () => ({ ...state, recommended: recommended() }), { select, toggle });
  const panel = designPanel(model, () => state, { select, toggle });
  const compare = comparePanel(model, () => state, { select, toggle });
  const table = trialTable(model, () => state, { select, toggle }, route.query);
  const hypervolume = hypervolumePlot(model);
  const whatIf = whatIfPanel(model, route.query, answer => {
    state.whatIf = answer;
    plot.draw();
    card.update();
  }, select);
  const plot = frontPlot(figure, model, () => state, number => select(number));

  if (model.objectives.length > 2) {
    const axis = (/** @type {"x" | "y"} */ name, /** @type {string} */ text) => {
      const choice = h("select", { id: `axis-${name}`, on: { change: () => { state[name] = Number(choice.value); note({ [name]: choice.value }); plot.draw(); } } },
        model.objectives.map((objective, place) => h("option", { value: String(place) }, objective.label)));
      choice.value = String(state[name]);
      return h("div", { class: "row" }, h("label", { for: `axis-${name}` }, text), choice);
    };
    axes.append(axis("x", "Across"), axis("y", "Up"));
  }

  const connection = h("p", { class: "connection", role: "status", hidden: true });
  fill(main, head.element, connection,
    h("section", { class: "card", id: "front", "aria-labelledby": "front-title" },
      h("div", { class: "section-head" }, h("h2", { id: "front-title" }, "The front"), axes),
      h("div", { class: "front-grid" },
        h("figure", {}, figure, h("figcaption", {}, words, caveat)),
        card.element),
      whatIf.element),
    panel.element, table.element, compare.element, hypervolume.element);

  let said = 0;
  function change() {
    head.update();
    card.update();
    panel.update();
    table.update();
    plot.draw();
    const { study: now } = model;
    const excluded = now.evaluated - now.simulated;
    const text = model.front.length
      ? `${plural(model.front.length, "design")} that no other one beats, of ${plural(now.feasible, "design")} that keep every promise. ` +
        `Hollow ones miss a promise${excluded ? `; ${plural(excluded, "design")} excluded without simulation ${excluded === 1 ? "is" : "are"} not drawn` : ""}. The table below lists them.`
      : now.simulated ? "No design keeps every promise yet. Hollow ones miss one." : now.state === "queued" ? "The study waits for a worker." : "Designs appear here as they are simulated.";
    if (words.textContent !== text) words.textContent = text;
    if (!model.isOver && performance.now() - said > SAY_MS && now.simulated) {
      said = performance.now();
      say(`${now.simulated} of ${plural(now.trials, "design")} simulated, ${model.front.length} on the front`);
    }
  }
  function ended() {
    if (model.complete && model.isOver && said >= 0) {
      if (said > 0) say(`The study is ${model.study.state}. ${plural(model.front.length, "design")} on the front.`);
      said = -1;
    }
  }
  model.addEventListener("change", () => { change(); ended(); });
  model.addEventListener("hypervolume", () => {
    hypervolume.update();
    caveat.textContent = model.caveat ? `${capital(model.caveat)}.` : "";
  });
  model.addEventListener("connection", () => {
    const lost = model.connection === "lost";
    connection.hidden = !lost;
    connection.textContent = lost ? "Connection lost, retrying …" : "";
  });
  model.addEventListener("gone", () => {
    complain(new Error("This study was deleted."));
    location.hash = "#/";
  });
  change();
  panel.update();
  compare.update();

  return {
    /** @param {import("./route.js").Route} next */
    update(next) {
      read(next.query);
      table.read(next.query);
      change();
      compare.update();
    },
    close() {
      model.close();
      for (const part of [plot, panel, hypervolume, whatIf, head]) part.close();
    },
  };
}
