// What a design chooses beyond the hardware, which its label names.

/** Choices that labels name. */
const NAMED = /(^|\.)(accelerator|clients|tp|pp|dp|ep|weights|layout)$/;
const UNIT = /_(tokens|requests|gb|s|ms|us)$/;

/**
 * Return a design's other choices in a few words, as far as designs of the study differ in them.
 * @param {import("./study_model.js").Trial} trial
 * @param {Set<string>} varied
 */
export function otherChoices(trial, varied) {
  const told = Object.entries(trial.design).filter(([name]) => varied.has(name) && !NAMED.test(name));
  const pools = new Set(Object.keys(trial.design).filter(name => name.includes(".")).map(name => name.split(".")[0]));
  return told.map(([name, value]) => {
    const [pool, own] = name.includes(".") ? name.split(".", 2) : ["", name];
    const words = own.replace(UNIT, "").replaceAll("_", " ");
    const said = typeof value === "boolean" ? `${value ? "" : "no "}${words}`
      : typeof value === "number" ? `${words} ${value.toLocaleString("en-US")}` : String(value).replaceAll("_", " ");
    return pool && pools.size > 1 ? `${pool} ${said}` : said;
  }).join(" · ");
}
