// What the page shows stands in the address, so that reload, back and a shared link bring it back.

/** @typedef {{page: string, id: string, query: Record<string, string>}} Route */

/** Return what an address asks for. @param {string} [hash] @returns {Route} */
export function read(hash = location.hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page = "", id = ""] = path.split("/").map(decoded);
  return { page: page || "home", id, query: Object.fromEntries(new URLSearchParams(search)) };
}

/** Return a text without its percent signs; one that was never encoded as it is. @param {string} text */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Return the address of a route. @param {Partial<Route>} route */
export function address({ page = "home", id = "", query = {} }) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  const path = page === "home" ? "" : [page, id].filter(Boolean).map(encodeURIComponent).join("/");
  return `#/${path}${search ? `?${search}` : ""}`;
}

/** Go to a page. @param {Partial<Route>} route */
export function go(route) {
  location.hash = address(route);
}

/**
 * Change the query of the address; empty values leave it.
 * @param {Record<string, string | number | null | undefined>} changes
 * @param {{step?: boolean}} [options] `step`: back undoes it
 */
export function note(changes, { step = false } = {}) {
  const route = read();
  const query = { ...route.query };
  for (const [name, value] of Object.entries(changes)) query[name] = String(value ?? "");
  const next = address({ ...route, query });
  if (next === location.hash) return;
  if (step) history.pushState(null, "", next);
  else history.replaceState(null, "", next);
}
