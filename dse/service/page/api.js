// Requests to the service. A token, where one is needed, lives as long as the tab.

const KEY = "dse-token";

/** What the service answered that is not an answer: RFC 9457, or no connection at all. */
export class Problem extends Error {
  /**
   * @param {number} status 0 if the service did not answer
   * @param {string} detail
   * @param {{field: string, message: string, given: string | null}[]} errors
   * @param {number} retry_s
   */
  constructor(status, detail, errors = [], retry_s = 0) {
    super(detail);
    this.status = status;
    this.errors = errors;
    this.retry_s = retry_s;
  }
}

/** Return the token of this tab; empty if there is none. */
export function token() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** Keep a token for this tab; an empty one forgets it. @param {string} text */
export function keepToken(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/** Return the headers that every request has. @returns {Record<string, string>} */
export function credentials() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

/** @type {(problem: Problem) => void} */
let refused = () => {};

/** Name who is told when the service asks for another token. @param {(problem: Problem) => void} listener */
export function onRefused(listener) {
  refused = listener;
}

/** Return the problem that a response holds. @param {Response} response */
export async function problemOf(response) {
  let detail = `${response.status} ${response.statusText}`.trim();
  let errors = [];
  try {
    const body = await response.json();
    detail = body.detail || body.title || detail;
    errors = Array.isArray(body.errors) ? body.errors : [];
  } catch {
    // No problem document: a proxy in between, perhaps. The status says enough.
  }
  const problem = new Problem(response.status, String(detail), errors, Number(response.headers.get("Retry-After")) || 0);
  if (response.status === 401) refused(problem);
  return problem;
}

/**
 * Send a request and return the response.
 * @param {string} path below `v1/`
 * @param {{method?: string, body?: BodyInit, type?: string, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 */
export async function ask(path, { method = "GET", body, type, headers = {}, signal } = {}) {
  const all = { ...credentials(), ...headers, ...(type ? { "Content-Type": type } : {}) };
  let response;
  try {
    response = await fetch(`v1/${path}`, { method, body, headers: all, signal, cache: "no-cache" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "The service does not answer. Is it running?");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** Return the JSON at a path. @param {string} path @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

/** Post JSON and return the answer. @param {string} path @param {any} [data] @param {Record<string, any>} [options] @returns {Promise<any>} */
export async function post(path, data, options = {}) {
  const body = data === undefined ? {} : { body: JSON.stringify(data), type: "application/json" };
  return (await ask(path, { method: "POST", ...body, ...options })).json();
}

/** Delete what is at a path. @param {string} path */
export async function remove(path) {
  await ask(path, { method: "DELETE" });
}

/**
 * Send a file and tell how much has arrived, which fetch cannot.
 * @param {string} path
 * @param {Blob} file
 * @param {(share: number) => void} progress
 * @returns {Promise<any>}
 */
export function upload(path, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `v1/${path}`);
    for (const [name, value] of Object.entries(credentials())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", event => event.lengthComputable && progress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Problem(0, "The upload broke off. Try again.")));
    request.addEventListener("load", async () => {
      const response = new Response(request.response, { status: request.status, statusText: request.statusText });
      if (response.ok) resolve(await response.json());
      else reject(await problemOf(response));
    });
    request.send(file);
  });
}

/** Save a text or file under a name. @param {Blob} content @param {string} name */
export function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Download what is at a path; a plain link could not send the token. @param {string} path @param {string} name */
export async function download(path, name) {
  save(await (await ask(path)).blob(), name);
}
