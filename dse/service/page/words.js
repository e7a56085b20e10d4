// Numbers, times and names as a person reads them; the same rules as the command line's.

/** Return a number with about three significant digits. @param {number | null | undefined} value */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 100) return Math.round(value).toLocaleString("en-US");
  if (size < 1) return String(Number(value.toPrecision(3)));
  return value.toFixed(size < 10 ? 2 : 1);
}

/** Return a time with the unit that suits its size. @param {number | null | undefined} value */
export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return number(value);
  const size = Math.abs(value);
  if (size > 0 && size < 1) return `${number(value * 1e3)} ms`;
  return size < 600 ? `${number(value)} s` : `${number(value / 60)} min`;
}

/** Return how long something took. @param {number | null | undefined} value */
export function duration(value) {
  if (value === null || value === undefined) return "–";
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Return when something was, relative to now. @param {number} at_s seconds since 1970 */
export function ago(at_s) {
  const passed = Date.now() / 1e3 - at_s;
  if (passed < 45) return "just now";
  if (passed < 3600) return `${Math.max(1, Math.round(passed / 60))} min ago`;
  if (passed < 86400) return `${Math.round(passed / 3600)} h ago`;
  if (passed < 14 * 86400) return plural(Math.round(passed / 86400), "day", "days") + " ago";
  return new Date(at_s * 1e3).toLocaleDateString();
}

/** Return a count with its noun. @param {number} count @param {string} one @param {string} [many] */
export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
}

/** Return the size of a file. @param {number} bytes */
export function size(bytes) {
  if (bytes < 1e3) return `${bytes} B`;
  if (bytes < 1e6) return `${number(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${number(bytes / 1e6)} MB` : `${number(bytes / 1e9)} GB`;
}

/**
 * Return the value of an objective with its unit, which the title names in brackets.
 * @param {{name: string, title: string}} objective
 * @param {number | null | undefined} value
 */
export function quantity(objective, value) {
  if (value === null || value === undefined) return "–";
  if (objective.name.startsWith("slo_attainment")) return `${number(value * 100)} %`;
  const unit = /\(([^()]*)\)/.exec(objective.title)?.[1] ?? "";
  if (unit === "s") return seconds(value);
  const money = unit === "USD" && Math.abs(value) >= 0.01 && Math.abs(value) < 1000;
  return `${money ? value.toFixed(2) : number(value)} ${unit}`.trim();
}

/** Return a name as words: `token_budget_tokens` becomes `token budget tokens`. @param {string} name */
export function spoken(name) {
  return name.replaceAll("_", " ").replaceAll("-", "-");
}

/** Return a text that begins with a capital. @param {string} text */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
