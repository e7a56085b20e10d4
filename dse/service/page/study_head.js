// The head of a study: what it asks, how far it is, what can be done with it.

import { download, post, remove, token } from "./api.js";
import { fill, h, say } from "./dom.js";
import { complain, confirmed } from "./notices.js";
import { go } from "./route.js";
import { badge, progressBar } from "./state.js";
import { duration, number, plural } from "./words.js";

const EXPORTS = [
  ["front.csv", "Front as CSV"], ["trials.csv", "All designs as CSV"], ["trials.parquet", "All designs as Parquet"],
  ["study.json", "Study and results as JSON"], ["study.yaml", "Study as YAML"],
];
const RANK = ["read", "run", "admin"];

/** Return whether somebody may do what a scope allows. @param {any} session @param {string} scope */
export function allows(session, scope) {
  return RANK.indexOf(session.scope ?? "admin") >= RANK.indexOf(scope);
}

/** Delete a study, if that is really wanted. @param {string} id @param {string} name @param {string} designs what goes with it */
export async function deleteStudy(id, name, designs) {
  if (!(await confirmed("Delete this study?", `${name} and ${designs} go for good.`, "Delete"))) return;
  try {
    await remove(`studies/${encodeURIComponent(id)}`);
    say(`${name} is deleted`);
    go({ page: "home" });
  } catch (error) {
    complain(error);
  }
}

/** @param {import("./study_model.js").StudyModel} model @param {any} session */
export function studyHead(model, session) {
  const { study } = model;
  const may = (/** @type {string} */ scope) => allows(session, scope);
  const state = h("span");
  const bar = h("div", { class: "head-bar" });
  const tiles = h("ul", { class: "tiles" });
  const actions = h("div", { class: "row actions" });
  const reason = h("div");
  let drawn = "";
  let tick = 0;

  async function act(/** @type {string} */ verb) {
    try {
      model.update(await post(`${model.path}/${verb}`));
      say({ pause: "Pausing", resume: "Goes on", cancel: "Cancelling" }[verb] ?? "");
    } catch (error) {
      complain(error);
    }
  }
  async function cancel() {
    if (await confirmed("Cancel this study?", "What was simulated stays, and it can be resumed.", "Cancel the study")) act("cancel");
  }
  const erase = () => deleteStudy(study.id, study.name, plural(study.evaluated, "design"));

  function buttons() {
    const active = ["queued", "running"].includes(study.state);
    const button = (/** @type {string} */ text, /** @type {() => void} */ click, off = false) =>
      h("button", { type: "button", disabled: off, on: { click } }, text);
    const asked = Boolean(study.asked);
    const focused = /** @type {HTMLElement | null} */ (actions.contains(document.activeElement) ? document.activeElement : null);
    fill(actions,
      may("run") && active ? button("Pause", () => act("pause"), asked) : null,
      may("run") && ["paused", "cancelled", "failed"].includes(study.state) ? button("Resume", () => act("resume")) : null,
      may("run") && (active || study.state === "paused") ? button("Cancel", cancel, asked) : null,
      may("run") ? h("a", { class: "button", href: `#/new?from=${encodeURIComponent(`study:${study.id}`)}` }, "Use as a start") : null,
      exportMenu(model),
      may("admin") && !active ? button("Delete", erase) : null);
    if (focused) /** @type {HTMLElement | null} */ (actions.querySelector("button:not(:disabled), a"))?.focus();
  }

  function time() {
    const running = study.state === "running" && study.started_s;
    const since = running && !study.running_s ? Date.now() / 1e3 - study.started_s : study.running_s;
    return since ? duration(since) : "–";
  }

  function update() {
    fill(state, badge(study));
    fill(bar, progressBar(study));
    const tile = (/** @type {string} */ value, /** @type {string} */ text) => h("li", {}, h("b", {}, value), h("span", {}, text));
    fill(tiles,
      tile(number(study.simulated), study.state === "finished" ? `simulated, of ${number(study.trials)} at most` : `of ${plural(study.trials, "design")} simulated`),
      tile(number(study.feasible), "keep every promise"),
      tile(number(study.front), "on the front"),
      tile(number(study.evaluated - study.simulated), "excluded without simulation"),
      tile(compact(study.designs), "designs in the space"),
      tile(time(), "wall time"));
    fill(reason, study.reason ? h("p", { class: "alarm" }, study.reason) : null);
    const now = `${study.state} ${study.asked}`;
    if (now !== drawn) {
      drawn = now;
      buttons();
    }
  }
  tick = window.setInterval(() => { if (study.state === "running") update(); }, 1_000);
  update();
  return {
    element: h("div", { class: "study-head" },
      h("div", { class: "title-row" },
        h("div", { class: "title-words" }, h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Studies"), " / ", state),
          h("h1", {}, study.name)),
        actions),
      study.question ? h("p", { class: "lede" }, study.question) : null, reason, bar, tiles),
    update,
    close() { clearInterval(tick); },
  };
}

/** Return a large count in a few characters. @param {number} count */
function compact(count) {
  return count < 1e6 ? number(count) : new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 }).format(count);
}

/** @param {import("./study_model.js").StudyModel} model */
function exportMenu(model) {
  const { study } = model;
  const fetchIt = async (/** @type {string} */ path, /** @type {string} */ name) => {
    menu.open = false;
    try {
      await download(`${model.path}/${path}`, `${study.name}-${name}`);
      say(`${name} downloaded`);
    } catch (error) {
      complain(error);
    }
  };
  // A page of its own cannot send the token: with one, the report is saved instead.
  const report = token()
    ? h("button", { type: "button", on: { click: () => fetchIt("report", "report.html") } }, "Report, as a file")
    : h("a", { href: `v1/${model.path}/report`, target: "_blank", rel: "noopener", on: { click: () => { menu.open = false; } } }, "Report, in a new tab");
  const menu = h("details", { class: "menu" }, h("summary", { class: "button" }, "Export"),
    h("ul", {}, h("li", {}, report), EXPORTS.map(([name, text]) => h("li", {},
      h("button", { type: "button", data: { export: name }, on: { click: () => fetchIt(`exports/${name}`, name) } }, text)))));
  menu.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary")?.focus();
  });
  menu.addEventListener("focusout", (/** @type {FocusEvent} */ event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  return menu;
}
