// The shipped studies as cards.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { complain } from "./notices.js";

/** @type {Promise<any> | null} */
let asked = null;

/** Return the catalogue, asked for once. @returns {Promise<any>} */
export function catalog() {
  asked ??= get("catalog").catch(error => { asked = null; throw error; });
  return asked;
}

/**
 * Return a list of cards that fills itself.
 * @param {"h2" | "h3"} heading
 * @param {(name: string) => string} link
 */
export function shippedCards(heading, link) {
  const list = h("ul", { class: "cards", "aria-busy": "true" });
  catalog().then(({ studies, metrics }) => {
    const labels = new Map(metrics.map((/** @type {any} */ metric) => [metric.name, metric.label]));
    fill(list, studies.map((/** @type {any} */ study) => h("li", {},
      h("a", { href: link(study.name) },
        h(heading, {}, study.name),
        h("p", {}, study.question),
        h("p", { class: "tags" }, study.objectives.map((/** @type {string} */ name) =>
          h("span", { class: "tag" }, labels.get(name) ?? name.replaceAll("_", " "))))))));
    list.removeAttribute("aria-busy");
  }, complain);
  return list;
}
