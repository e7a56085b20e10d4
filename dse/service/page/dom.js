// Builds nodes. Data from the API becomes text and attributes, never markup.

/** @typedef {any} Child a node, a text, a number, a list of them; null, undefined and false are left out */

/**
 * Return a new element.
 *
 * `on` holds listeners by event, `data` the data attributes; `true` sets an attribute without a value, and what is
 * null, undefined or false is left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name !== "value") node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...flat(children));
  if (attributes.value !== undefined && attributes.value !== null) /** @type {any} */ (node).value = attributes.value;
  return node;
}

/** @param {Child[]} children @returns {(Node | string)[]} */
function flat(children) {
  return children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false)
    .map(child => (child instanceof Node ? child : String(child)));
}

/** Replace what an element holds. @param {Element} node @param {...Child} children */
export function fill(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

let counter = 0;

/** Return an identifier that no other element has. @param {string} prefix */
export function fresh(prefix) {
  counter += 1;
  return `${prefix}-${counter}`;
}

/** Say something to whoever listens to the page. @param {string} text */
export function say(text) {
  const place = document.getElementById("said");
  if (place && place.textContent !== text) place.textContent = text;
}

/**
 * Call a function once it has not been asked for in a while.
 * @param {number} wait_ms
 * @param {(...given: any[]) => void} action
 */
export function debounced(wait_ms, action) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const ask = (/** @type {any[]} */ ...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), wait_ms);
  };
  ask.cancel = () => clearTimeout(timer);
  return ask;
}

/**
 * Call a function at most once in a while, however often it is asked for.
 * @param {number} wait_ms
 * @param {() => void} action
 */
export function throttled(wait_ms, action) {
  let last = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const ask = () => {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      last = performance.now();
      action();
    }, Math.max(0, last + wait_ms - performance.now()));
  };
  ask.cancel = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return ask;
}
