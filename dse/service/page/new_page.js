// A new study: start from a shipped one, a file or another study; change it in a form or as text; run it.

import { ask, get } from "./api.js";
import { debounced, fill, h, say } from "./dom.js";
import { complain } from "./notices.js";
import { go } from "./route.js";
import { resolved } from "./schema.js";
import { catalog, shippedCards } from "./shipped.js";
import { studyForm } from "./study_form.js";
import { dropTarget } from "./trace_picker.js";
import { capital, plural } from "./words.js";

/** @typedef {import("./api.js").Problem} Problem */

const DRAFT = "dse-draft";
const CHECK_MS = 350;

/** @type {(main: HTMLElement, route: import("./route.js").Route, session: any) => import("./main.js").Page} */
export function newPage(main, route) {
  document.title = "New study · dse";
  /** What is loaded for an older address must not show up any more. */
  let turn = 0;
  let stop = () => {};
  const from = () => route.query.from ?? "";
  async function open() {
    turn += 1;
    const mine = turn;
    fill(main);
    if (!from()) return choose(main);
    main.append(h("p", { class: "loading" }, "Loading …"));
    try {
      const [schema, known, draft] = await Promise.all([get("schemas/study"), catalog(), draftOf(from())]);
      if (mine !== turn) return undefined;
      fill(main);
      stop = edit(main, schema, known, draft);
    } catch (error) {
      if (mine !== turn) return undefined;
      fill(main, h("section", { class: "card" }, h("h1", {}, "New study"), h("p", { class: "alarm" }, /** @type {Error} */ (error).message),
        h("a", { href: "#/new" }, "Start from something else")));
    }
    return undefined;
  }
  open();
  return {
    close() {
      turn += 1;
      stop();
    },
    update(next) {
      if ((next.query.from ?? "") === from()) return;
      stop();
      stop = () => {};
      route = next;
      open();
    },
  };
}

/** @typedef {{from: string, value: any, text: string}} Draft */

/** Keep what is being written, so that a reload loses nothing. @param {Draft} draft */
function keep(draft) {
  try {
    sessionStorage.setItem(DRAFT, JSON.stringify(draft));
  } catch {
    // Full or forbidden: the draft then lives as long as the page.
  }
}

/** Return what the form begins with. @param {string} from @returns {Promise<Draft>} */
async function draftOf(from) {
  const kept = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  if (kept?.from === from) return kept;
  const [kind, name] = from.includes(":") ? from.split(":") : ["shipped", from];
  if (kind === "study") {
    const { spec } = await get(`studies/${encodeURIComponent(name)}`);
    return { from, value: spec, text: "" };
  }
  if (kind === "file") throw new Error("The file is not there any more. Choose it again.");
  return { from, value: await get(`catalog/studies/${encodeURIComponent(name)}`), text: "" };
}

/** Offer what a study can start from. @param {HTMLElement} main */
function choose(main) {
  const file = h("input", { type: "file", id: "spec-file", hidden: true, accept: ".yaml,.yml,.json" });
  const take = async (/** @type {File} */ given) => {
    const text = await given.text();
    /** @type {any} */
    let value = null;
    try {
      value = JSON.parse(text);
    } catch {
      // YAML: the service reads it.
    }
    const from = `file:${given.name}`;
    keep({ from, value, text: value ? "" : text });
    go({ page: "new", query: { from } });
  };
  file.addEventListener("change", () => file.files[0] && take(file.files[0]));
  const drop = h("section", { class: "card drop is-large", "aria-labelledby": "own" },
    h("h2", { id: "own" }, "Or bring your own"),
    h("p", { class: "note" }, "A study as YAML or JSON, as the command line takes it. Drop the file here, or choose it."),
    h("button", { type: "button", on: { click: () => file.click() } }, "Choose a file …"), file);
  dropTarget(drop, take);
  main.append(
    h("div", { class: "title-row" }, h("div", {}, h("h1", {}, "New study"),
      h("p", { class: "lede" }, "Start from the question that is nearest to yours. Everything can be changed in the next step."))),
    shippedCards("h2", name => `#/new?from=${encodeURIComponent(name)}`), drop);
}

/**
 * Show the form, the source beside it, and what the service thinks of it.
 * @param {HTMLElement} main
 * @param {any} schema
 * @param {any} known the catalogue
 * @param {Draft} draft
 * @returns {() => void} stops it
 */
function edit(main, schema, known, draft) {
  let stopped = false;
  let controller = new AbortController();
  /** Text that is not JSON stays as it was written; the service reads it. */
  let yaml = draft.value ? "" : draft.text;
  /** One key for each text, so that a second click, or a retry, makes no second study. */
  let key = { text: "", id: "" };

  const source = h("textarea", { id: "source", spellcheck: "false", rows: 24, "aria-describedby": "source-help", autocomplete: "off" });
  const sourceProblem = h("p", { class: "problem", id: "source-problem" });
  const summary = h("div", { class: "verdict", "aria-live": "polite" }, h("p", { class: "note" }, "Checking …"));
  const warnings = h("div", { class: "warnings" });
  const run = h("button", { type: "button", class: "primary", on: { click: submit } }, "Run study");
  const holder = h("div");
  /** @type {ReturnType<typeof studyForm> | null} */
  let form = null;

  const usual = resolved(schema, schema.properties.budget).properties.trials.default;
  const body = () => (yaml ? { body: yaml, type: "application/yaml" } : { body: JSON.stringify(draft.value), type: "application/json" });
  const write = () => { source.value = yaml || JSON.stringify(draft.value, null, 2); };
  const changed = () => {
    draft.text = yaml;
    keep(draft);
    check();
  };

  function showForm() {
    if (!draft.value) return;
    if (form) return form.show(draft.value);
    form = studyForm(schema, known, draft.value, value => {
      draft.value = value;
      yaml = "";
      write();
      sourceProblem.textContent = "";
      changed();
    });
    fill(holder, form.element);
    return undefined;
  }

  source.addEventListener("input", () => {
    sourceProblem.textContent = "";
    try {
      const value = JSON.parse(source.value);
      if (typeof value !== "object" || value === null || Array.isArray(value)) throw new SyntaxError("an object is expected");
      draft.value = value;
      yaml = "";
      showForm();
    } catch {
      yaml = source.value;
    }
    changed();
  });

  const check = debounced(CHECK_MS, async () => {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    try {
      const answer = await (await ask("studies/check", { method: "POST", ...body(), signal })).json();
      if (stopped || signal.aborted) return;
      if (yaml && answer.spec) {
        draft.value = answer.spec;
        showForm();
      }
      problems([]);
      const trials = draft.value?.budget?.trials;
      fill(summary,
        h("dl", { class: "facts" },
          fact("Space", plural(answer.designs, "design")),
          fact("Load", plural(answer.requests, "request")),
          fact("Budget", trials ? `up to ${plural(trials, "trial")}` : draft.value?.budget?.certified != null ? "until it is proved" : `up to ${plural(usual, "trial")}`)));
      fill(warnings, answer.warnings.map((/** @type {string} */ text) => h("p", { class: "warning" }, capital(text))));
    } catch (error) {
      if (stopped || signal.aborted) return;
      refuse(/** @type {Problem} */ (error));
    }
  });

  /** Show what is wrong. @param {Problem} problem */
  function refuse(problem) {
    if (problem.status !== 401) problems(problem.errors.length ? problem.errors : [{ field: "", message: problem.message }]);
  }

  /** @param {{field: string, message: string}[]} errors */
  function problems(errors) {
    const lost = form ? form.form.showProblems(holder, errors) : errors;
    run.removeAttribute("aria-describedby");
    if (!errors.length) return;
    const text = h("div", { class: "alarm", id: "check-problems" },
      h("p", {}, h("b", {}, plural(errors.length, "problem"))),
      h("ul", {}, (lost.length ? lost : errors).slice(0, 8).map(error => h("li", {}, error.field ? h("b", {}, `${error.field}: `) : null, error.message))));
    fill(summary, text);
    fill(warnings);
    run.setAttribute("aria-describedby", "check-problems");
    if (yaml) sourceProblem.textContent = errors[0].field ? `${errors[0].field}: ${errors[0].message}` : errors[0].message;
  }

  async function submit() {
    run.disabled = true;
    check.cancel();
    const sent = body();
    if (key.text !== sent.body) key = { text: sent.body, id: randomKey() };
    try {
      const response = await ask("studies", { method: "POST", ...sent, headers: { "Idempotency-Key": key.id } });
      const study = await response.json();
      sessionStorage.removeItem(DRAFT);
      say(`Study ${study.name} is created`);
      go({ page: "study", id: study.id });
    } catch (error) {
      const problem = /** @type {Problem} */ (error);
      if (problem.status === 422 || problem.status === 400) {
        refuse(problem);
        const first = /** @type {HTMLElement | null} */ (holder.querySelector("[aria-invalid], .problem.of-field"));
        const target = first?.matches("p") ? first.parentElement?.querySelector("input, select, button") : first;
        (/** @type {HTMLElement} */ (target ?? source)).focus();
        say(`Not created: ${problem.message}`);
      } else {
        complain(problem);
      }
    } finally {
      run.disabled = false;
    }
  }

  main.append(
    h("div", { class: "title-row" }, h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/new" }, "New study"), " / ", startOf(draft.from)),
      h("h1", {}, "What do you want to know?"))),
    h("div", { class: "with-side" },
      holder,
      h("aside", { class: "side", "aria-label": "Check and source" },
        h("section", { class: "card" }, h("h2", {}, "Ready to run?"), summary, run, warnings),
        h("section", { class: "card" },
          h("details", { open: matchMedia("(min-width: 1000px)").matches }, h("summary", {}, "Source"),
            h("label", { for: "source", class: "unseen" }, "Study as JSON or YAML"), source, sourceProblem,
            h("p", { class: "help", id: "source-help" }, "JSON or YAML. It changes with the form, and the form with it."))))));
  write();
  showForm();
  if (!form) fill(holder, h("section", { class: "card" }, h("h2", {}, "Reading the file …"), h("p", { class: "note" }, "The form appears as soon as the source can be read.")));
  check();
  return () => { stopped = true; controller.abort(); check.cancel(); };
}

/** @param {string} name @param {string} value */
const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

/** @param {string} from */
function startOf(from) {
  if (from.startsWith("study:")) return "like another study";
  return from.replace(/^file:/, "");
}

/** Return a word that nobody else uses; crypto.randomUUID needs a secure context. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}
