// The chosen design at a glance, beside the front; without a choice the recommended one.

import { otherChoices } from "./choices.js";
import { fill, h } from "./dom.js";
import { capital, quantity } from "./words.js";

/** @typedef {{select: (number: number | null, options?: {full?: boolean}) => void, toggle: (number: number) => void}} Actions */

/**
 * @param {import("./study_model.js").StudyModel} model
 * @param {() => {selected: number | null, compared: number[], recommended: number | null, whatIf: any}} view
 * @param {Actions} actions
 */
export function designCard(model, view, actions) {
  const body = h("div", { class: "card-body" });
  const more = h("div", { class: "card-more" });
  const back = h("button", { type: "button", "aria-label": "Previous design on the front", title: "Previous on the front", on: { click: () => step(-1) } }, "‹");
  const next = h("button", { type: "button", "aria-label": "Next design on the front", title: "Next on the front", on: { click: () => step(1) } }, "›");
  const place = h("span", { class: "note" });
  const full = h("button", { type: "button", class: "primary", on: { click: () => shown() !== null && actions.select(shown(), { full: true }) } }, "See it in full");
  const compare = h("button", { type: "button", on: { click: () => shown() !== null && actions.toggle(/** @type {number} */ (shown())) } });
  const buttons = h("div", { class: "row" }, full, compare);
  const element = h("aside", { class: "design-card", "aria-label": "Chosen design" },
    h("div", { class: "row stepper" }, back, place, next), body, more, buttons);
  let drawn = "";
  let asked = -1;

  const shown = () => view().selected ?? view().recommended ?? null;

  /** Go along the front. @param {number} by */
  function step(by) {
    const { front } = model;
    if (!front.length) return;
    const at = front.indexOf(shown() ?? -1);
    actions.select(front[at < 0 ? 0 : (at + by + front.length) % front.length]);
  }

  /** Say why no design stands here. */
  function none() {
    if (view().whatIf?.recommended === null) return "At these prices and this load no design keeps every promise. Choose any point to see what it is.";
    return model.study.simulated
      ? "As soon as a design keeps every promise, the recommended one stands here. Choose any point to see what it is."
      : "Choose a point to see what it is.";
  }

  function update() {
    const number = shown();
    const trial = number === null ? undefined : model.trials.get(number);
    back.disabled = next.disabled = model.front.length < 2;
    const at = model.front.indexOf(number ?? -1);
    place.textContent = at >= 0 ? `${at + 1} of ${model.front.length} on the front` : model.front.length ? "not on the front" : "";
    full.disabled = compare.disabled = !trial;
    if (!trial) {
      drawn = "";
      asked = -1;
      fill(more);
      fill(body, h("p", { class: "note" }, none()));
      compare.textContent = "Compare";
      return;
    }
    const { compared, recommended, whatIf } = view();
    compare.textContent = compared.includes(trial.number) ? "Leave out of comparison" : "Compare";
    const changed = whatIf?.trials.find((/** @type {any} */ other) => other.number === trial.number);
    const key = JSON.stringify([trial, recommended === trial.number, at >= 0, changed?.objectives, model.varied.size]);
    if (key !== drawn) {
      drawn = key;
      fill(body,
        h("div", { class: "row badges" }, badges(trial, model, recommended)),
        h("h3", {}, `#${trial.number} · ${trial.label}`), h("p", { class: "note choices" }, otherChoices(trial, model.varied)),
        trial.simulated
          ? h("ul", { class: "tiles" }, model.objectives.map((objective, index) => h("li", {},
            h("b", {}, quantity(objective, (changed ?? trial).objectives[index])),
            h("span", {}, capital(objective.label), changed && changed.objectives[index] !== trial.objectives[index] ? `, as it is ${quantity(objective, trial.objectives[index])}` : ""))))
          : h("p", { class: "alarm" }, trial.reason));
    }
    if (asked !== trial.number) {
      asked = trial.number;
      fill(more, h("p", { class: "note" }, "…"));
      model.detail(trial.number).then(detail => {
        if (asked !== trial.number) return;
        fill(more, h("p", {}, detail.sentence), promises(detail.slos),
          trial.bottleneck ? h("p", { class: "note" }, "Limited by ", h("b", {}, trial.bottleneck), ".") : null);
      }, error => { if (asked === trial.number) fill(more, h("p", { class: "problem" }, error.message)); });
    }
  }
  return { element, update };
}

/** Return what a design is, as badges. @param {any} trial @param {import("./study_model.js").StudyModel} model @param {number | null} [recommended] */
export function badges(trial, model, recommended = model.recommended) {
  const front = model.onFront.has(trial.number);
  return [
    recommended === trial.number ? h("span", { class: "badge is-star" }, "★ recommended") : null,
    front ? h("span", { class: "badge" }, "on the front") : null,
    !trial.simulated ? h("span", { class: "state" }, "excluded") : trial.feasible
      ? (front ? null : h("span", { class: "state is-finished" }, "keeps every promise"))
      : h("span", { class: "state is-failed" }, `misses ${trial.broken[0] ?? "a promise"}${trial.broken.length > 1 ? ` and ${trial.broken.length - 1} more` : ""}`),
  ];
}

/** Return how promises are kept, as a list. @param {any[]} slos */
export function promises(slos) {
  if (!slos.length) return null;
  return h("ul", { class: "promises" }, slos.map(slo => h("li", {},
    h("span", { class: slo.holds ? "good" : "bad", "aria-hidden": "true" }, slo.holds ? "✓" : "✗"),
    h("span", {}, slo.label), h("b", { class: slo.holds ? "" : "bad" }, slo.value_said),
    h("span", { class: "note" }, `of ${slo.limit_said}${slo.soft ? ", soft" : ""}`),
    h("span", { class: "unseen" }, slo.holds ? "kept" : "missed"))));
}
