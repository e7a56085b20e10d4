// The state of a study: a badge and a bar.

import { h } from "./dom.js";
import { plural } from "./words.js";

const SAID = { pause: "pausing", cancel: "cancelling" };

/** Return the state as a badge. @param {any} study */
export function badge(study) {
  const asked = SAID[/** @type {keyof typeof SAID} */ (study.asked)];
  return h("span", { class: `state is-${study.state}` }, asked && study.state === "running" ? asked : study.state);
}

/** Return how far a study is; one that proves its space may end long before its budget. @param {any} study */
export function progressBar(study) {
  const done = study.state === "finished";
  const bar = h("progress", {
    max: Math.max(1, study.trials), "aria-label": `Progress of ${study.name}`,
    value: done ? Math.max(1, study.trials) : Math.min(study.simulated, study.trials),
  });
  bar.textContent = done ? "finished" : `${study.simulated} of ${plural(study.trials, "design")}`;
  return bar;
}
