// Two designs side by side.

import { get } from "./api.js";
import { otherChoices } from "./choices.js";
import { badges } from "./design_card.js";
import { fill, h } from "./dom.js";
import { capital, number } from "./words.js";

/**
 * @param {import("./study_model.js").StudyModel} model
 * @param {() => {compared: number[]}} view
 * @param {import("./design_card.js").Actions} actions
 */
export function comparePanel(model, view, actions) {
  const title = h("h2", { id: "compare-title", tabindex: "-1" }, "Compare");
  const clear = h("button", { type: "button", on: { click: () => { for (const number of [...view().compared]) actions.toggle(number); } } }, "Clear");
  const content = h("div");
  const element = h("section", { class: "card", id: "compare", hidden: true, "aria-labelledby": "compare-title" },
    h("div", { class: "section-head" }, title, clear), content);
  let shown = "";

  async function update() {
    const { compared } = view();
    element.hidden = !compared.length;
    const key = compared.join(" ");
    if (key === shown) return;
    shown = key;
    if (compared.length < 2) {
      fill(content, h("p", {}, compared.length ? `Design #${compared[0]} is chosen. Choose a second one in the table or in the plot to see what differs.` : ""));
      return;
    }
    const [first, second] = compared;
    fill(content, h("p", { class: "note" }, "…"));
    try {
      const answer = await get(`${model.path}/compare?first=${first}&second=${second}`);
      if (shown === key) fill(content, body(answer));
    } catch (/** @type {any} */ error) {
      if (shown === key) fill(content, h("p", { class: "alarm" }, error.message));
    }
  }

  /** @param {any} answer */
  function body(answer) {
    const side = (/** @type {string} */ mark, /** @type {number} */ number) => {
      const trial = model.trials.get(number);
      return h("div", { class: "side-of" }, h("span", { class: "mark", "aria-hidden": "true" }, mark),
        h("div", {}, h("div", { class: "row badges" }, trial ? badges(trial, model) : null),
          h("button", { type: "button", class: "link strong", on: { click: () => actions.select(number, { full: true }) } }, `#${number}`), ` ${trial?.label ?? ""}`, trial ? h("p", { class: "note choices" }, otherChoices(trial, model.varied)) : null));
    };
    return [
      h("div", { class: "sides" }, side("A", answer.first), side("B", answer.second)),
      answer.said.length ? h("ul", { class: "said" }, answer.said.map((/** @type {string} */ text) => h("li", {}, text))) : null,
      answer.choices.length ? table("What differs", answer.choices, answer, false) : h("p", {}, "Both make the same choices."),
      table("How they did", answer.figures, answer, true),
      answer.choices.length && answer.figures.length ? why(answer) : null,
    ];
  }

  /** Which choices matter takes simulations of designs between the two, so it is answered when asked for. @param {any} answer */
  function why(answer) {
    const place = h("div", { "aria-live": "polite" });
    const ask = h("button", { type: "button" }, "Which choices make the difference?");
    ask.addEventListener("click", async () => {
      ask.disabled = true;
      fill(place, h("p", { class: "note" }, "Simulating designs between the two …"));
      try {
        const { said } = await get(`${model.path}/why?first=${answer.first}&second=${answer.second}`);
        fill(place, h("ul", { class: "said" }, said.map((/** @type {string} */ text) => h("li", {}, text))));
      } catch (/** @type {any} */ error) {
        fill(place, h("p", { class: "alarm" }, error.message));
      }
      ask.disabled = false;
    });
    return h("div", { class: "why" }, ask, place);
  }

  /** @param {string} caption @param {any[]} rows @param {any} answer @param {boolean} judged */
  function table(caption, rows, answer, judged) {
    const cell = (/** @type {any} */ row, /** @type {"first" | "second"} */ which) => h("td", { class: judged && row.better === which ? "better" : "" },
      row[which], judged && row.better === which ? h("small", {}, "better") : null);
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", { class: "compare" }, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, judged ? "Figure" : "Choice"), h("th", { scope: "col" }, `A · #${answer.first}`), h("th", { scope: "col" }, `B · #${answer.second}`),
        judged ? h("th", { scope: "col", class: "number" }, "B by A") : null)),
      h("tbody", {}, rows.map(row => h("tr", {}, h("th", { scope: "row" }, capital(row.label)), cell(row, "first"), cell(row, "second"),
        judged ? h("td", { class: "number" }, row.ratio === null ? "" : `× ${number(row.ratio)}`) : null)))));
  }

  return {
    element, update,
    reveal() {
      element.scrollIntoView();
      title.focus({ preventScroll: true });
    },
  };
}
