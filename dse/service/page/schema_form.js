// A form for any JSON Schema of the service: what it shows follows from the schema and the value alone.

import { fill, fresh, h } from "./dom.js";
import { itemList, mapList, numberList, tagList, wordChips } from "./form_lists.js";
import { objectFields } from "./form_objects.js";
import { checkbox, fixedWord, numberInput, textInput, wordSelect } from "./form_scalars.js";
import { blank, blankOf, choices, chosen, isObject, labelOf, resolved, shapeOf } from "./schema.js";

/** @typedef {(string | number)[]} Path */
/** @typedef {{name: string, note?: string}} Hint */
/**
 * @typedef {object} Options
 * @property {import("./schema.js").Schema} root the schema
 * @property {(path: Path) => {hints: Hint[], many?: boolean} | null} [hints] known values of a text
 * @property {(path: Path) => string[]} [first] optional fields of an object to show without unfolding
 * @property {(path: Path) => ((form: SchemaForm, path: Path, shape: import("./schema.js").Shape) => HTMLElement) | null} [custom]
 * @property {(value: any) => void} onChange
 */

/** What a control needs to know of its field. */
/** @typedef {{path: Path, shape: import("./schema.js").Shape, id: string, label: string, described: string, required: boolean}} Field */

export class SchemaForm {
  /** @param {Options} options @param {any} value */
  constructor(options, value) {
    this.options = options;
    this.root = options.root;
    this.value = value;
    /** Paths of the groups that are unfolded, so that they stay so when the form is drawn again. */
    this.unfolded = new Set();
    /** What holds where nothing is given, by path: groups show it, and a change inside starts from it. @type {Map<string, any>} */
    this.presumed = new Map();
  }

  /** Say what holds at a path as long as nothing is given there. @param {Path} path @param {any} value */
  presume(path, value) {
    this.presumed.set(JSON.stringify(path), value);
  }

  /** Return what is given at a path, or what holds there otherwise. @param {Path} path @returns {any} */
  at(path) {
    return path.reduce((/** @type {any} */ part, _, place) => this.inPart(part, path.slice(0, place + 1)), this.value);
  }

  /** Return the same of the last step alone. @param {any} part what is given one step before @param {Path} path @returns {any} */
  inPart(part, path) {
    const given = part?.[path[path.length - 1]];
    return given === undefined ? this.presumed.get(JSON.stringify(path)) : given;
  }

  /** Put something at a path; undefined leaves the field out. @param {Path} path @param {any} value */
  put(path, value) {
    if (!path.length) {
      this.value = value;
    } else {
      let part = this.value;
      path.slice(0, -1).forEach((step, place) => {
        const held = this.inPart(part, path.slice(0, place + 1));
        if (typeof held !== "object" || held === null) part[step] = typeof path[place + 1] === "number" ? [] : {};
        else if (part[step] !== held) part[step] = structuredClone(held);
        part = part[step];
      });
      const last = path[path.length - 1];
      if (value === undefined) delete part[last];
      // What is presumed stays as it is, whatever is changed in here later.
      else part[last] = structuredClone(value);
    }
    this.options.onChange(this.value);
  }

  /** @param {Path} path */
  hints(path) {
    return this.options.hints?.(path) ?? null;
  }

  /**
   * Return a field with label, control, help and room for a problem.
   * @param {Path} path
   * @param {import("./schema.js").Schema} schema
   * @param {{required?: boolean, label?: string}} [given]
   * @returns {HTMLElement}
   */
  field(path, schema, { required = false, label = labelOf(String(path[path.length - 1] ?? "")) } = {}) {
    const shape = shapeOf(this.root, schema);
    // A description that says no more than the label is left out.
    if (label.toLowerCase().startsWith(shape.description.toLowerCase())) shape.description = "";
    const custom = this.options.custom?.(path);
    if (custom) return this.place(custom(this, path, shape), path);
    if (["object", "map", "union"].includes(shape.kind) || isList(this, path, shape)) return this.group(path, shape, { required, label });
    const id = fresh("field");
    const described = shape.description ? `${id}-help` : "";
    const control = this.control({ path, shape, id, label, described, required });
    const box = shape.kind === "boolean"
      ? h("div", { class: "field check" }, h("div", { class: "row" }, control, h("label", { for: id }, label)), help(id, shape.description))
      : h("div", { class: "field" }, h("label", { for: id }, label, required ? h("span", { class: "must" }, " required") : null),
        control, help(id, shape.description));
    return this.place(box, path);
  }

  /** @param {HTMLElement} box @param {Path} path */
  place(box, path) {
    box.dataset.path = JSON.stringify(path);
    return box;
  }

  /** Return the control of a field that has one. @param {Field} field @returns {HTMLElement} */
  control(field) {
    const { shape, path } = field;
    switch (shape.kind) {
      case "const": return fixedWord(shape.schema.const);
      case "enum": return wordSelect(this, field);
      case "boolean": return checkbox(this, field);
      case "integer": case "number": return numberInput(this, field);
      case "array": return numberList(this, field);
      default: return textInput(this, field, this.hints(path)?.hints ?? []);
    }
  }

  /**
   * Return a group of fields; one that may be absent has a button that adds it.
   * @param {Path} path
   * @param {import("./schema.js").Shape} shape
   * @param {{required: boolean, label: string}} given
   * @returns {HTMLElement}
   */
  group(path, shape, { required, label }) {
    const id = fresh("group");
    const box = h("fieldset", { class: "group wide-field", "aria-describedby": shape.description ? `${id}-help` : null });
    this.presume(path, shape.schema.default);
    const draw = () => {
      const value = this.at(path);
      const absent = shape.nullable && (value === undefined || value === null);
      box.classList.toggle("is-absent", absent);
      const toggle = !shape.nullable ? null : h("button", {
        type: "button", class: "link", "aria-label": `${absent ? "Add" : "Remove"} ${label}`,
        on: { click: () => { this.put(path, absent ? blank(this.root, { ...shape.schema, default: undefined }) : undefined); draw(); box.querySelector("button, input, select")?.focus(); } },
      }, absent ? "Add" : "Remove");
      fill(box, h("legend", {}, label, required ? h("span", { class: "must" }, " required") : null, toggle ? [" ", toggle] : null),
        help(id, shape.description), absent ? null : this.inside(path, shape, label));
    };
    draw();
    return this.place(box, path);
  }

  /** Return the fields of a group. @param {Path} path @param {import("./schema.js").Shape} shape @param {string} label @returns {HTMLElement} */
  inside(path, shape, label) {
    switch (shape.kind) {
      case "object": return objectFields(this, path, shape.schema);
      case "map": return mapList(this, path, shape, label);
      case "union": return this.union(path, shape, label);
      default: {
        const items = shapeOf(this.root, shape.schema.items ?? {});
        const hints = this.hints(path);
        if (items.kind === "enum" || items.kind === "boolean" || (items.kind === "string" && hints && !hints.many)) return wordChips(this, path, shape, items, hints?.hints ?? []);
        if (items.kind === "string") return tagList(this, path, label, hints?.hints ?? []);
        return itemList(this, path, shape, items, label);
      }
    }
  }

  /** Return a choice between alternatives and the fields of the chosen one. @param {Path} path @param {import("./schema.js").Shape} shape @param {string} label */
  union(path, shape, label) {
    const options = choices(shape.branches);
    const body = h("div", { class: "branch" });
    const select = h("select", { "aria-label": `Kind of ${label.toLowerCase()}` },
      options.map((option, place) => h("option", { value: String(place) }, option.label)));
    // The first one is shown where nothing is given.
    if (this.at(path) === undefined) this.presume(path, blankOf(this.root, options[0]));
    select.value = String(Math.max(0, chosen(this.root, options, this.at(path))));
    const draw = () => {
      const option = options[Number(select.value)];
      if ("fixed" in option) return fill(body);
      const inner = shapeOf(this.root, option.schema);
      const alone = ["object", "map"].includes(inner.kind) || isList(this, path, inner);
      const field = { path, shape: inner, id: fresh("field"), label, described: "", required: true };
      if (alone) return fill(body, this.inside(path, inner, label));
      const control = this.control(field);
      control.querySelector?.("input")?.setAttribute("aria-label", label);
      if (control instanceof HTMLInputElement) control.setAttribute("aria-label", label);
      return fill(body, control);
    };
    select.addEventListener("change", () => {
      const option = options[Number(select.value)];
      const before = this.at(path);
      let next = blankOf(this.root, option);
      if (isObject(before) && isObject(next)) {
        const properties = resolved(this.root, option.schema).properties ?? {};
        const kept = Object.entries(before).filter(([name]) => name in properties && !("const" in properties[name]));
        next = { ...next, ...Object.fromEntries(kept) };
      }
      this.put(path, next);
      draw();
    });
    draw();
    return h("div", { class: "union" }, select, body);
  }

  /**
   * Show problems at their fields.
   * @param {HTMLElement} element what holds the form
   * @param {{field: string, message: string}[]} errors
   * @returns {{field: string, message: string}[]} those whose field is not to be seen
   */
  showProblems(element, errors) {
    for (const old of element.querySelectorAll(".problem.of-field")) old.remove();
    for (const old of element.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
    const boxes = /** @type {HTMLElement[]} */ ([...element.querySelectorAll("[data-path]")]);
    const paths = boxes.map(box => /** @type {Path} */ (JSON.parse(box.dataset.path ?? "[]")));
    return errors.filter(error => {
      const steps = String(error.field ?? "").split(/[^\w-]+/).filter(Boolean);
      let best = -1;
      paths.forEach((path, place) => {
        if (path.length && leadsTo(path, steps) && (best < 0 || path.length > paths[best].length)) best = place;
      });
      if (best < 0) return true;
      const box = boxes[best];
      const id = fresh("problem");
      const text = h("p", { class: "problem of-field", id }, error.message);
      const first = box.querySelector(":scope > .help, :scope > legend");
      if (box.tagName === "FIELDSET" && first) first.after(text);
      else box.append(text);
      const control = box.querySelector("input, select, textarea");
      if (control && box.tagName !== "FIELDSET") {
        control.setAttribute("aria-invalid", "true");
        control.setAttribute("aria-describedby", `${control.getAttribute("aria-describedby") ?? ""} ${id}`.trim());
      }
      for (let fold = box.closest("details"); fold; fold = fold.parentElement?.closest("details") ?? null) fold.open = true;
      return false;
    });
  }
}

/** Return whether a field is a list of more than plain numbers. @param {SchemaForm} form @param {Path} path @param {import("./schema.js").Shape} shape */
function isList(form, path, shape) {
  if (shape.kind !== "array") return false;
  return !["integer", "number"].includes(shapeOf(form.root, shape.schema.items ?? {}).kind);
}

/** Return whether the steps of a problem pass through all of a path; steps that name an alternative lie between. @param {Path} path @param {string[]} steps */
function leadsTo(path, steps) {
  let at = 0;
  for (const step of path) {
    at = steps.indexOf(String(step), at) + 1;
    if (!at) return false;
  }
  return steps[0] === String(path[0]);
}

/** @param {string} id @param {string} text */
function help(id, text) {
  return text ? h("p", { class: "help", id: `${id}-help` }, text) : null;
}
