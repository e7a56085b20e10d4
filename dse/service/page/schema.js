// Reads a JSON Schema: what a field is, what it is called, in which unit it is given.

/** @typedef {Record<string, any>} Schema */
/**
 * What a field is, with references followed and the alternative `null` taken out.
 * @typedef {object} Shape
 * @property {"object" | "map" | "array" | "union" | "enum" | "const" | "boolean" | "integer" | "number" | "string"} kind
 * @property {boolean} nullable whether it may be null, or left out
 * @property {Schema} schema
 * @property {Schema[]} branches alternatives of a union, resolved
 * @property {string} description
 */

/** @param {Schema} root @param {Schema} schema @returns {Schema} */
export function resolved(root, schema) {
  if (!schema.$ref) return schema;
  const { $ref, ...own } = schema;
  const named = root.$defs?.[$ref.split("/").pop()] ?? {};
  return resolved(root, { ...named, ...own });
}

/** Return what a schema allows one of; alternatives of alternatives are among them. @param {Schema} root @param {Schema} given @returns {Schema[]} */
function alternatives(root, given) {
  const schema = resolved(root, given);
  const several = schema.anyOf ?? schema.oneOf;
  return several ? several.flatMap((/** @type {Schema} */ branch) => alternatives(root, branch)) : [schema];
}

/** @param {Schema} root @param {Schema} given @returns {Shape} */
export function shapeOf(root, given) {
  let schema = resolved(root, given);
  const description = schema.description ?? "";
  let nullable = false;
  for (let several = schema.anyOf ?? schema.oneOf; several; several = schema.anyOf ?? schema.oneOf) {
    const branches = several.flatMap((/** @type {Schema} */ branch) => alternatives(root, branch));
    const others = branches.filter((/** @type {Schema} */ branch) => branch.type !== "null");
    nullable ||= others.length < branches.length;
    if (others.length > 1) return { kind: "union", nullable, schema, branches: others, description };
    schema = { ...others[0], ...("default" in schema ? { default: schema.default } : {}), description };
  }
  return { kind: kindOf(schema), nullable, schema, branches: [], description };
}

/** @param {Schema} schema @returns {Shape["kind"]} */
function kindOf(schema) {
  if ("const" in schema) return "const";
  if (schema.enum) return "enum";
  if (schema.type === "object" || schema.properties) return schema.properties ? "object" : "map";
  return schema.type ?? "string";
}

/** Return the field that tells alternatives apart, the one that every branch fixes. @param {Schema[]} branches */
export function discriminator(branches) {
  const first = branches.find(branch => branch.properties);
  return Object.keys(first?.properties ?? {}).find(name =>
    branches.every(branch => !branch.properties || "const" in (branch.properties[name] ?? {}))) ?? null;
}

/**
 * Return the alternatives of a union as a person chooses between them; each word of an enumeration is one.
 * @param {Schema[]} branches
 * @returns {{label: string, schema: Schema, fixed?: any, help: string}[]}
 */
export function choices(branches) {
  const tag = discriminator(branches);
  return branches.flatMap(schema => {
    if (schema.enum) return schema.enum.map((/** @type {any} */ word) => ({ label: String(word), schema, fixed: word, help: "" }));
    const fixed = tag && schema.properties?.[tag];
    const label = fixed ? String(fixed.const).replaceAll("_", " ") : plainLabel(schema);
    return [{ label, schema, help: schema.description ?? "" }];
  });
}

/** @param {Schema} schema */
function plainLabel(schema) {
  const kind = kindOf(schema);
  if (kind === "object") return (schema.title ?? "object").toLowerCase();
  return { map: "one for each name", array: "list", string: "one", integer: "number" }[/** @type {string} */ (kind)] ?? kind;
}

/**
 * Return which alternative a value is, -1 if none.
 * @param {Schema} root
 * @param {ReturnType<typeof choices>} options
 * @param {any} value
 */
export function chosen(root, options, value) {
  const exact = options.findIndex(option => "fixed" in option && option.fixed === value);
  if (exact >= 0) return exact;
  return options.findIndex(option => !("fixed" in option) && fits(root, option.schema, value));
}

/** @param {Schema} root @param {Schema} schema @param {any} value @returns {boolean} */
function fits(root, schema, value) {
  const { kind } = shapeOf(root, schema);
  if (kind === "array") return Array.isArray(value);
  if (kind === "map") return isObject(value);
  if (kind === "object") {
    return isObject(value) && Object.entries(schema.properties).every(([name, property]) =>
      !("const" in property) || value[name] === property.const || (value[name] === undefined && "default" in property))
      && Object.keys(value).every(name => name in schema.properties);
  }
  if (kind === "integer" || kind === "number") return typeof value === "number";
  return typeof value === kind;
}

/** @param {any} value */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return what a field holds when it is first used. @param {Schema} root @param {Schema} schema @returns {any} */
export function blank(root, schema) {
  const shape = shapeOf(root, schema);
  const known = shape.schema;
  if (shape.kind === "const") return known.const;
  if (known.default !== undefined && known.default !== null) return structuredClone(known.default);
  switch (shape.kind) {
    case "object": {
      const must = known.required ?? [];
      const names = Object.keys(known.properties).filter(name => must.includes(name) || "const" in known.properties[name]);
      return Object.fromEntries(names.map(name => [name, blank(root, known.properties[name])]).filter(([, value]) => value !== undefined));
    }
    case "map": return {};
    case "array": return [];
    case "union": {
      return blankOf(root, choices(shape.branches)[0]);
    }
    case "enum": return known.enum[0];
    case "boolean": return false;
    default: return undefined;
  }
}

/** Return what a field holds when an alternative is first chosen. @param {Schema} root @param {ReturnType<typeof choices>[number]} option */
export function blankOf(root, option) {
  return "fixed" in option ? option.fixed : blank(root, option.schema);
}

const UNITS = /** @type {[string, string][]} */ ([
  ["usd_per_gb_hour", "USD/GB/h"], ["usd_per_hour", "USD/h"], ["usd_per_kwh", "USD/kWh"], ["gb_per_s", "GB/s"],
  ["us_per_request", "µs"], ["us_per_token", "µs"], ["tokens_per_document", "tokens"], ["bytes_per_vector", "bytes"],
  ["_rps", "requests/s"], ["_tokens", "tokens"], ["_requests", "requests"], ["_gb", "GB"], ["_kw", "kW"], ["_us", "µs"],
  ["_ms", "ms"], ["_s", "s"],
]);
const WORDS = /** @type {Record<string, string>} */ ({
  tp: "Tensor parallelism (TP)", pp: "Pipeline parallelism (PP)", dp: "Data parallelism (DP)", ep: "Expert parallelism (EP)",
  kv: "KV-cache precision", weights: "Weight precision", slos: "SLOs", us_per_request: "Time per request",
  us_per_token: "Time per token", usd_per_hour: "Price", usd_per_gb_hour: "Price", gb_per_s: "Bandwidth", rate_rps: "Rate",
  max_batches_requests: "Largest batches", token_budgets_tokens: "Token budgets", max_waits_ms: "Longest waits",
});

/** Return the unit that ends a field's name; empty if there is none. @param {string} name */
export function unitOf(name) {
  if (name === "requests") return "";
  return UNITS.find(([suffix]) => name.endsWith(suffix))?.[1] ?? "";
}

/** Return a field's name for a person, without its unit. @param {string} name */
export function labelOf(name) {
  if (WORDS[name]) return WORDS[name];
  const suffix = UNITS.find(([end]) => end.startsWith("_") && name.endsWith(end))?.[0] ?? "";
  const words = name.slice(0, name.length - suffix.length).replaceAll("_", " ").trim().replace(/\bgb\b/i, "GB").replace(/\bcv\b/i, "CV");
  return words ? words.charAt(0).toUpperCase() + words.slice(1) : name;
}
