// The fields of an object: what must be given and what matters first, the rest folded.

import { h } from "./dom.js";

/** @typedef {import("./schema_form.js").SchemaForm} SchemaForm */
/** @typedef {import("./schema_form.js").Path} Path */

/** Objects with no more fields than this fold nothing. */
const FEW = 4;

/**
 * Return the fields of an object.
 * @param {SchemaForm} form
 * @param {Path} path
 * @param {import("./schema.js").Schema} schema
 * @param {string[]} [names] the fields, if not all
 * @returns {HTMLElement}
 */
export function objectFields(form, path, schema, names) {
  const must = new Set(schema.required ?? []);
  const all = (names ?? Object.keys(schema.properties)).filter(name => !("const" in schema.properties[name]));
  const preferred = form.options.first?.(path) ?? [];
  const given = form.at(path) ?? {};
  // In a list every line counts: what need not be given is folded.
  const listed = typeof path.at(-1) === "number";
  const early = all.length <= FEW && !listed
    ? all
    : [...new Set([...all.filter(name => must.has(name)), ...preferred, ...all.filter(name => isSet(given[name], schema.properties[name]))])]
      .filter(name => all.includes(name));
  const late = all.filter(name => !early.includes(name));
  const field = (/** @type {string} */ name) => form.field([...path, name], schema.properties[name], { required: must.has(name) });
  const grid = h("div", { class: "fields" }, early.map(field));
  if (late.length) grid.append(folded(form, path, late, field));
  return grid;
}

/** Return a fold with fields. @param {SchemaForm} form @param {Path} path @param {string[]} names @param {(name: string) => HTMLElement} field */
function folded(form, path, names, field) {
  const key = JSON.stringify([...path, names[0]]);
  const fold = h("details", { class: "more wide-field" }, h("summary", {}, `More (${names.length})`),
    h("div", { class: "fields" }, names.map(field)));
  fold.open = form.unfolded.has(key);
  fold.addEventListener("toggle", () => (fold.open ? form.unfolded.add(key) : form.unfolded.delete(key)));
  return fold;
}

/** Return whether a field was given, other than what it is anyway. @param {any} value @param {import("./schema.js").Schema} schema */
function isSet(value, schema) {
  if (value === undefined || value === null || (typeof value === "object" && !Object.keys(value).length)) return false;
  return JSON.stringify(value) !== JSON.stringify(schema.default);
}
