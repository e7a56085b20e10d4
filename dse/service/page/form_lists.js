// Controls of fields that hold several values.

import { fill, fresh, h, say } from "./dom.js";
import { blank, blankOf, choices, unitOf } from "./schema.js";

/** @typedef {import("./schema_form.js").SchemaForm} SchemaForm */
/** @typedef {import("./schema_form.js").Path} Path */
/** @typedef {import("./schema.js").Shape} Shape */
/** @typedef {import("./schema_form.js").Hint} Hint */

/** Numbers, written with commas between them. @param {SchemaForm} form @param {import("./schema_form.js").Field} field */
export function numberList(form, { path, shape, id, described }) {
  const unit = unitOf(String(path.findLast(step => typeof step === "string") ?? ""));
  const known = form.at(path) ?? shape.schema.default ?? [];
  const input = h("input", {
    id, type: "text", inputmode: "decimal", "aria-describedby": described || null, value: known.join(", "), autocomplete: "off",
    placeholder: "e.g. 1, 2, 4",
    on: {
      input: () => {
        const parts = input.value.split(/[\s,;]+/).filter(Boolean);
        // What is no number stays a text, so that the service says what is wrong with it.
        const values = parts.map((/** @type {string} */ part) => (Number.isFinite(Number(part)) ? Number(part) : part));
        form.put(path, values.length ? values : undefined);
      },
    },
  });
  return unit ? h("div", { class: "with-unit" }, input, h("span", { class: "unit" }, unit)) : input;
}

/** Words of which any number may be taken. @param {SchemaForm} form @param {Path} path @param {Shape} shape @param {Shape} items @param {Hint[]} hints */
export function wordChips(form, path, shape, items, hints) {
  const known = form.at(path) ?? [];
  /** @type {{value: any, label: string, note: string}[]} */
  const words = items.kind === "boolean"
    ? [{ value: false, label: "without", note: "" }, { value: true, label: "with", note: "" }]
    : items.kind === "enum"
      ? items.schema.enum.map((/** @type {any} */ word) => ({ value: word, label: String(word).replaceAll("_", " "), note: "" }))
      : hints.map(({ name, note }) => ({ value: name, label: name, note: note ?? "" }));
  for (const value of known) if (!words.some(word => word.value === value)) words.push({ value, label: String(value), note: "" });
  const taken = new Set(known);
  return h("div", { class: "chips" }, words.map(word => {
    const box = h("input", {
      type: "checkbox",
      on: {
        change: () => {
          if (box.checked) taken.add(word.value);
          else taken.delete(word.value);
          // In the order of the words, unless a person gave another one: a new word comes last.
          form.put(path, [...taken]);
        },
      },
    });
    box.checked = taken.has(word.value);
    return h("label", { class: "chip" }, box, h("span", {}, word.label, word.note ? h("small", {}, word.note) : null));
  }));
}

/** Texts in an order, with known ones to choose from. @param {SchemaForm} form @param {Path} path @param {string} label @param {Hint[]} hints */
export function tagList(form, path, label, hints) {
  const box = h("div", { class: "tag-list" });
  const notes = new Map(hints.map(hint => [hint.name, hint.note]));
  const draw = () => {
    const known = [...(form.at(path) ?? [])];
    const change = (/** @type {string[]} */ next) => { form.put(path, next); draw(); };
    const input = h("input", {
      type: "text", id: fresh("add"), "aria-label": `Add to ${label.toLowerCase()}`, autocomplete: "off", placeholder: "type or choose …",
      on: { keydown: (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter") { event.preventDefault(); add(); } } },
    });
    const list = h("datalist", { id: fresh("list") }, hints.filter(hint => !known.includes(hint.name))
      .map(hint => h("option", { value: hint.name }, hint.note ?? "")));
    if (hints.length) input.setAttribute("list", list.id);
    const add = () => {
      const text = input.value.trim();
      if (!text || known.includes(text)) return;
      change([...known, text]);
      say(`${text} added`);
      box.querySelector("input")?.focus();
    };
    fill(box,
      h("ol", {}, known.map((text, place) => h("li", { class: "picked" },
        h("span", {}, notes.get(text)?.split(",")[0] || text, notes.get(text) ? h("small", {}, text) : null),
        place > 0 ? h("button", { type: "button", class: "quiet", "aria-label": `Move ${text} forward`, on: { click: () => {
          const next = [...known];
          next.splice(place - 1, 2, next[place], next[place - 1]);
          change(next);
        } } }, "↑") : null,
        h("button", { type: "button", class: "quiet", "aria-label": `Remove ${text}`, on: { click: () => {
          change(known.filter(other => other !== text));
          say(`${text} removed`);
          box.querySelector("input")?.focus();
        } } }, "×")))),
      h("div", { class: "row" }, input, list, h("button", { type: "button", on: { click: add } }, "Add")));
  };
  draw();
  return box;
}

/** Objects, or alternatives, in an order. @param {SchemaForm} form @param {Path} path @param {Shape} shape @param {Shape} items @param {string} label */
export function itemList(form, path, shape, items, label) {
  const box = h("div", { class: "items" });
  const one = label.replace(/ies$/, "y").replace(/s$/, "");
  const options = items.kind === "union" ? choices(items.branches) : [];
  const draw = () => {
    /** @type {any[]} */
    const known = form.at(path) ?? [];
    const change = (/** @type {any[]} */ next) => { form.put(path, next); draw(); };
    const button = (/** @type {string} */ text, /** @type {string} */ told, /** @type {() => void} */ click, off = false) =>
      h("button", { type: "button", class: "quiet", "aria-label": told, title: told, disabled: off, on: { click } }, text);
    const move = (/** @type {number} */ from, /** @type {number} */ to) => {
      const next = [...known];
      next.splice(to, 0, ...next.splice(from, 1));
      change(next);
      // At an end the other way has the focus: it must not be lost.
      const [up, down] = box.children[to].querySelectorAll(":scope > .tools > button");
      (up.disabled || (to > from && !down.disabled) ? down : up).focus();
    };
    fill(box,
      known.map((_, place) => {
        const inner = [...path, place];
        const name = `${one} ${place + 1}`;
        const body = items.kind === "object" || items.kind === "union" ? form.inside(inner, items, name) : form.field(inner, shape.schema.items, { label: name });
        return form.place(h("div", { class: "item", role: "group", "aria-label": name }, body, h("div", { class: "tools" },
          options.length && known.length > 1 ? [
            button("↑", `Move ${name} up`, () => move(place, place - 1), place === 0),
            button("↓", `Move ${name} down`, () => move(place, place + 1), place === known.length - 1)] : null,
          button("×", `Remove ${name}`, () => change(known.filter((_other, at) => at !== place))))), inner);
      }),
      h("button", { type: "button", class: "add", on: { click: () => {
        change([...known, options.length ? blankOf(form.root, options[0]) : blank(form.root, shape.schema.items)]);
        /** @type {HTMLElement | null} */ (box.querySelector(".item:last-of-type :is(input, select)"))?.focus();
      } } }, `Add ${one.length > 3 ? one.toLowerCase() : one}`));
  };
  draw();
  return box;
}

/** Values by name. @param {SchemaForm} form @param {Path} path @param {Shape} shape @param {string} label */
export function mapList(form, path, shape, label) {
  const box = h("div", { class: "items" });
  const draw = () => {
    const known = form.at(path) ?? {};
    const input = h("input", { type: "text", "aria-label": `Name to add to ${label.toLowerCase()}`, placeholder: "name", autocomplete: "off" });
    const add = () => {
      const name = input.value.trim();
      if (!name || name in known) return;
      const first = blank(form.root, shape.schema.additionalProperties);
      form.put([...path, name], first ?? null);
      draw();
    };
    input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter") { event.preventDefault(); add(); } });
    fill(box,
      Object.keys(known).map(name => h("div", { class: "item", role: "group", "aria-label": name },
        form.field([...path, name], shape.schema.additionalProperties, { label: name }),
        h("button", { type: "button", class: "quiet remove", "aria-label": `Remove ${name}`, title: "Remove", on: { click: () => { form.put([...path, name], undefined); draw(); } } }, "×"))),
      h("div", { class: "row" }, input, h("button", { type: "button", on: { click: add } }, "Add")));
  };
  draw();
  return box;
}
