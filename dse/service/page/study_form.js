// What the form knows of a study beyond its schema: what comes first, and names to choose from.

import { fill, h } from "./dom.js";
import { objectFields } from "./form_objects.js";
import { blank } from "./schema.js";
import { SchemaForm } from "./schema_form.js";
import { tracePicker } from "./trace_picker.js";
import { number } from "./words.js";

/** @typedef {import("./schema_form.js").Path} Path */

const SECTIONS = [
  { title: "The question", fields: ["question", "name", "model"] },
  { title: "Workload", fields: ["workload"], about: "The requests to serve: generated at a rate, or a trace of your own." },
  { title: "What may vary", fields: ["space"], about: "Every combination is a design. More choices make a larger space, not a longer study." },
  { title: "Promises", fields: ["slos", "constraints"], about: "A design that misses one of them is infeasible." },
  { title: "What to optimise", fields: ["objectives"], about: "The front holds the designs that no other one beats in all of them. The first two are its axes." },
  { title: "When to stop", fields: ["budget", "limits"] },
];

const FIRST = /** @type {Record<string, string[]>} */ ({
  "workload.lengths": ["statistics", "prompt", "output"],
  "workload.trace": ["path", "rate_rps"],
  space: ["accelerators", "clients", "tp", "layouts", "weights", "policies", "token_budgets_tokens", "max_batches_requests", "routers"],
  budget: ["trials", "timeout_s"],
});

/**
 * Return the known values of a text field.
 * @param {any} catalog
 * @param {Path} path
 */
function hintsOf(catalog, path) {
  const at = path.map(step => (typeof step === "number" ? "#" : step)).join(".");
  const named = (/** @type {any[]} */ list, /** @type {(entry: any) => string} */ note = () => "") =>
    (list ?? []).map(entry => ({ name: entry.name ?? entry, note: note(entry) }));
  const metrics = () => named(catalog.metrics, metric => `${metric.label}, ${metric.direction === "maximize" ? "higher" : "lower"} is better`);
  const devices = () => [...named(catalog.accelerators), ...named(catalog.cpus)];
  if (at === "model" || at.startsWith("model.")) return { hints: named(catalog.models, model => (model.parameters ? `${number(model.parameters / 1e9)} B parameters` : "")) };
  if (/^space(\.stages\..+)?\.accelerators$/.test(at)) {
    return { hints: named(catalog.accelerators, chip => [
      chip.memory_gb ? `${number(chip.memory_gb)} GB` : "", chip.usd_per_hour ? `${chip.usd_per_hour.toFixed(2)} USD/h` : "",
    ].filter(Boolean).join(" · ")) };
  }
  if (at === "objectives") return { hints: metrics(), many: true };
  if (at === "constraints.#.metric") return { hints: metrics() };
  if (/\.devices?$/.test(at)) return { hints: devices() };
  if (at.endsWith(".statistics")) return { hints: named(catalog.statistics) };
  if (at === "start") return { hints: [{ name: "planned", note: "what exact placement proposes" }], many: true };
  return null;
}

/**
 * Return a form for a study.
 * @param {any} schema
 * @param {any} catalog
 * @param {any} value
 * @param {(value: any) => void} onChange
 */
export function studyForm(schema, catalog, value, onChange) {
  const element = h("div", { class: "study-form" });
  const form = new SchemaForm({
    root: schema, onChange,
    hints: path => hintsOf(catalog, path),
    first: path => FIRST[path.join(".")] ?? [],
    custom: path => {
      const at = path.join(".");
      if (/^(workload|workloads\.\d+\.workload)$/.test(at)) return workloadField;
      if (at.endsWith("workload.trace.path")) return tracePicker;
      return null;
    },
  }, value);

  function draw() {
    const taken = new Set(SECTIONS.flatMap(section => section.fields));
    const rest = Object.keys(schema.properties).filter(name => !taken.has(name));
    const several = Boolean(form.value.workloads?.length);
    const field = (/** @type {string} */ name) =>
      form.field([name], schema.properties[name], { required: schema.required.includes(name) });
    fill(element,
      SECTIONS.map(({ title, about, fields }) => {
        const shown = several && fields[0] === "workload" ? ["workloads", "robust"] : fields;
        return h("section", { class: "card", "aria-label": title }, h("h2", {}, title), about ? h("p", { class: "note" }, about) : null,
          h("div", { class: "fields" }, shown.map(field)));
      }),
      h("section", { class: "card", "aria-label": "More" },
        h("details", { class: "more" }, h("summary", {}, "More: sampler, seed, services, replications …"),
          h("div", { class: "fields" }, rest.filter(name => !(several && ["workloads", "robust"].includes(name))).map(field)))));
  }
  draw();
  return {
    element, form,
    /** Show another study. @param {any} next */
    show(next) { form.value = next; draw(); },
  };
}

/** A workload is generated or recorded; the fields of the other way are not shown. @param {SchemaForm} form @param {Path} path @param {import("./schema.js").Shape} shape */
function workloadField(form, path, shape) {
  const { schema } = shape;
  const fields = h("div");
  const name = `way-${path.join("-")}`;
  /** What the way not shown held, should a person come back to it. */
  /** @type {Record<string, any>} */
  const aside = {};
  const ways = /** @type {Record<string, string[]>} */ ({ generated: ["arrivals", "lengths"], recorded: ["trace"] });
  const way = () => (form.at([...path, "trace"]) ? "recorded" : "generated");
  const draw = () => {
    const hidden = way() === "recorded" ? [...ways.generated, "seed", "classes"] : ways.recorded;
    const leading = way() === "recorded" ? ["trace", "requests"] : ["arrivals", "lengths", "requests", "seed"];
    const rest = Object.keys(schema.properties).filter(field => !hidden.includes(field) && !leading.includes(field));
    fill(fields,
      h("div", { class: "fields" }, leading.map(field => form.field([...path, field], schema.properties[field]))),
      objectFields(form, path, schema, rest));
  };
  const choose = (/** @type {string} */ next) => {
    if (next === way()) return;
    const workload = form.at(path) ?? {};
    for (const field of ways[way()]) {
      aside[field] = workload[field];
      delete workload[field];
    }
    for (const field of ways[next]) {
      workload[field] = aside[field] ?? blank(form.root, { ...schema.properties[field], default: undefined });
    }
    // A number of requests to generate is no number of rows to replay.
    [workload.requests, aside.requests] = [aside.requests, workload.requests];
    if (workload.requests === undefined) delete workload.requests;
    if (next === "recorded") delete workload.seed;
    form.put(path, workload);
    draw();
  };
  const radio = (/** @type {string} */ value, /** @type {string} */ text) => {
    const input = h("input", { type: "radio", name, value, on: { change: () => choose(value) } });
    input.checked = way() === value;
    return h("label", { class: "segment" }, input, h("span", {}, text));
  };
  draw();
  return h("div", { class: "wide-field" },
    h("div", { class: "segments", role: "radiogroup", "aria-label": "Where requests come from" },
      radio("generated", "Generated"), radio("recorded", "Recorded trace")), fields);
}
