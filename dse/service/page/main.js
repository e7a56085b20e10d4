// Starts the page: session, sign-in, and which page the address asks for.

import { get, keepToken, onRefused, token } from "./api.js";
import { fill, h, say } from "./dom.js";
import { homePage } from "./home_page.js";
import { newPage } from "./new_page.js";
import { read } from "./route.js";
import { signIn } from "./sign_in.js";
import { studyPage } from "./study_page.js";
import { plural } from "./words.js";

/** @typedef {{close: () => void, update?: (route: import("./route.js").Route) => void}} Page */

const PAGES = { home: homePage, new: newPage, study: studyPage };
const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** @type {any} */
let session = null;
/** @type {{key: string, page: Page} | null} */
let shown = null;

/** Show what the address asks for. */
function show() {
  const route = read();
  const kind = route.page in PAGES ? route.page : "home";
  const key = `${kind}/${route.id}`;
  if (shown?.key === key && shown.page.update) return shown.page.update(route);
  const first = shown === null;
  shown?.page.close();
  for (const link of document.querySelectorAll("header.top nav a")) {
    if (/** @type {HTMLElement} */ (link).dataset.page === kind) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  fill(main);
  const page = PAGES[/** @type {keyof typeof PAGES} */ (kind)](main, route, session);
  shown = { key, page };
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  return undefined;
}

/** Ask for a token, and start again with it. @param {string} reason */
function askForToken(reason) {
  shown?.page.close();
  shown = null;
  fill(main, signIn(reason, start));
  /** @type {HTMLElement | null} */ (main.querySelector("input"))?.focus();
}

/** Say in the header who runs studies and how to leave. */
function showSession() {
  const place = /** @type {HTMLElement} */ (document.getElementById("session"));
  const workers = session.workers?.length ?? 0;
  fill(place,
    h("span", { class: workers ? "" : "bad", title: workers ? "" : "Start one with: dse worker" },
      workers ? plural(workers, "worker") : "no worker: studies wait"),
    session.dashboard && /^https?:/.test(session.dashboard)
      ? h("a", { href: session.dashboard, rel: "noreferrer", target: "_blank" }, "Optuna dashboard") : null,
    token() ? h("button", { type: "button", class: "link", on: { click: leave } }, "Sign out") : null);
}

function leave() {
  keepToken("");
  say("Signed out");
  start();
}

/** Ask the service who we are, and show the page. */
async function start() {
  try {
    session = await get("session");
  } catch (error) {
    const problem = /** @type {import("./api.js").Problem} */ (error);
    if (problem.status === 401) return;
    fill(main, h("section", { class: "card" },
      h("h1", {}, "No answer"), h("p", { class: "alarm" }, problem.message),
      h("button", { type: "button", class: "primary", on: { click: start } }, "Try again")));
    return;
  }
  if (session.token_required && !token()) return askForToken("");
  showSession();
  show();
}

onRefused(problem => {
  const had = token();
  keepToken("");
  askForToken(had ? `The service did not accept the token: ${problem.message}` : "");
});
document.getElementById("skip")?.addEventListener("click", event => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => session && show());
setInterval(async () => {
  if (document.hidden || !session || (session.token_required && !token())) return;
  try {
    session = { ...session, ...(await get("session")) };
    showSession();
  } catch {
    // The page that is open tells of a lost connection.
  }
}, 15_000);
start();
