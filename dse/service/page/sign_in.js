// Asks for a token.

import { keepToken } from "./api.js";
import { h } from "./dom.js";

/**
 * Return the form that asks for a token.
 * @param {string} reason why the last one was refused
 * @param {() => void} signedIn
 */
export function signIn(reason, signedIn) {
  const field = h("input", {
    id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false",
    "aria-describedby": reason ? "token-help token-problem" : "token-help", "aria-invalid": reason ? "true" : null,
  });
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    signedIn();
  };
  return h("section", { class: "card sign-in" },
    h("h1", {}, "Sign in"),
    h("p", {}, "This service asks for a token."),
    h("form", { on: { submit } },
      h("label", { for: "token" }, "Token"),
      field,
      h("p", { id: "token-help", class: "help" }, "Whoever runs the service makes one with ",
        h("code", {}, "dse token create"), ". It is kept until you close this tab."),
      reason ? h("p", { id: "token-problem", class: "problem", role: "alert" }, reason) : null,
      h("button", { class: "primary" }, "Sign in")));
}
