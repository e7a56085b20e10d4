// Controls of fields that hold one value.

import { fresh, h } from "./dom.js";
import { unitOf } from "./schema.js";
import { number } from "./words.js";

/** @typedef {import("./schema_form.js").SchemaForm} SchemaForm */
/** @typedef {import("./schema_form.js").Field} Field */

/** @param {Field} field */
const common = ({ id, described, required }) => ({
  id, "aria-describedby": described || null, "aria-required": required ? "true" : null,
});

/** @param {SchemaForm} form @param {Field} field */
function shown(form, { path, shape }) {
  return form.at(path) ?? shape.schema.default ?? "";
}

/** @param {SchemaForm} form @param {Field} field @param {import("./schema_form.js").Hint[]} hints */
export function textInput(form, field, hints) {
  const long = ["question", "description"].includes(String(field.path.at(-1)));
  const input = h(long ? "textarea" : "input", {
    ...common(field), value: shown(form, field), autocomplete: "off", spellcheck: long ? null : "false", rows: long ? 3 : null,
    type: long ? null : "text",
    on: { input: () => form.put(field.path, input.value === "" && !field.required ? undefined : input.value) },
  });
  if (!hints.length || long) return input;
  const list = h("datalist", { id: fresh("list") }, hints.map(hint => h("option", { value: hint.name }, hint.note ?? "")));
  input.setAttribute("list", list.id);
  return h("div", { class: "with-list" }, input, list);
}

/** @param {SchemaForm} form @param {Field} field */
export function numberInput(form, field) {
  const { schema } = field.shape;
  const whole = field.shape.kind === "integer";
  const unit = unitOf(String(field.path.findLast(step => typeof step === "string") ?? ""));
  const input = h("input", {
    ...common(field), type: "number", inputmode: whole ? "numeric" : "decimal", step: whole ? String(schema.multipleOf ?? 1) : "any",
    min: schema.minimum ?? schema.exclusiveMinimum ?? null, max: schema.maximum ?? schema.exclusiveMaximum ?? null,
    value: shown(form, field), placeholder: field.shape.nullable ? "not set" : null,
    on: { input: () => form.put(field.path, input.value === "" ? undefined : input.valueAsNumber) },
  });
  return unit ? h("div", { class: "with-unit" }, input, h("span", { class: "unit" }, unit)) : input;
}

/** @param {SchemaForm} form @param {Field} field */
export function wordSelect(form, field) {
  const { schema, nullable } = field.shape;
  const select = h("select", {
    ...common(field),
    on: { change: () => form.put(field.path, select.value === "" ? undefined : schema.enum[select.selectedIndex - (nullable ? 1 : 0)]) },
  }, nullable ? h("option", { value: "" }, "not set") : null,
  schema.enum.map((/** @type {any} */ word) => h("option", { value: String(word) }, String(word).replaceAll("_", " "))));
  select.value = String(shown(form, field));
  return select;
}

/** @param {SchemaForm} form @param {Field} field */
export function checkbox(form, field) {
  const input = h("input", { ...common(field), type: "checkbox", on: { change: () => form.put(field.path, input.checked) } });
  input.checked = Boolean(shown(form, field));
  return input;
}

/** @param {any} word */
export function fixedWord(word) {
  return h("output", {}, typeof word === "number" ? number(word) : String(word));
}
