// The front: designs by two objectives.

import { otherChoices } from "./choices.js";
import { colour, logTicks, PALETTE, plain, Plot } from "./plots.js";
import { quantity } from "./words.js";

/** @typedef {import("./study_model.js").Trial} Trial */
/** Designs drawn at most of each kind beside the front. */
const DRAWN = 1_500;
const MARK = ["A", "B"];

/** Return what tells designs apart by colour: the accelerator that decodes. @param {Trial} trial */
export function groupOf(trial) {
  const { design } = trial;
  const key = "decode.accelerator" in design ? "decode.accelerator" : Object.keys(design).find(name => name.endsWith("accelerator"));
  return key ? String(design[key]) : "designs";
}

/** @param {Trial} trial @param {string} [suffix] */
const symbolOf = (trial, suffix = "") => (trial.design.layout === "disaggregated" ? "diamond" : "circle") + suffix;

/** Return a part of a list in equal steps. @template T @param {T[]} list @returns {T[]} */
function thinned(list) {
  const step = Math.ceil(list.length / DRAWN);
  return step > 1 ? list.filter((_, place) => place % step === 0) : list;
}

/**
 * Draw the front.
 * @param {HTMLElement} element
 * @param {import("./study_model.js").StudyModel} model
 * @param {() => {x: number, y: number, selected: number | null, compared: number[], whatIf: any | null}} view
 * @param {(number: number) => void} onSelect
 */
export function frontPlot(element, model, view, onSelect) {
  /** Colours stay with their kind while others arrive. @type {Map<string, string>} */
  const colours = new Map();
  const colourOf = (/** @type {string} */ group) => {
    if (!colours.has(group)) colours.set(group, PALETTE[colours.size % PALETTE.length]);
    return /** @type {string} */ (colours.get(group));
  };

  const hover = (/** @type {Trial} */ trial) => plain([
    `#${trial.number} · ${trial.label}`, otherChoices(trial, model.varied),
    ...model.objectives.map((objective, place) => `${objective.label}: ${quantity(objective, trial.objectives[place])}`),
    trial.feasible ? `limited by ${trial.bottleneck}` : `misses ${trial.broken.join(", ")}`,
  ].filter(Boolean).join("\n")).replaceAll("\n", "<br>");

  function figure() {
    const { x, y, selected, compared, whatIf } = view();
    const [ink, faint, accent, change, card] = ["--ink", "--faint", "--accent", "--change", "--card"].map(colour);
    const single = model.objectives.length === 1;
    const all = [...model.trials.values()].filter(trial => trial.simulated);
    const order = new Map(all.map((trial, place) => [trial.number, place + 1]));
    const across = (/** @type {Trial} */ trial) => (single ? order.get(trial.number) ?? null : trial.objectives[x]);
    const points = (/** @type {Trial[]} */ trials) => ({
      type: "scatter", mode: "markers", x: trials.map(across), y: trials.map(trial => trial.objectives[single ? 0 : y]),
      customdata: trials.map(trial => trial.number),
    });
    const told = (/** @type {Trial[]} */ trials) => ({ ...points(trials), hovertext: trials.map(hover), hoverinfo: "text" });
    const infeasible = all.filter(trial => !trial.feasible);
    const feasible = all.filter(trial => trial.feasible);
    const front = model.front.map(number => model.trials.get(number)).filter(trial => trial !== undefined);
    /** @type {any[]} */
    const traces = [];
    if (infeasible.length) {
      const some = thinned(infeasible);
      traces.push({ ...told(some), name: "misses a promise", marker: { symbol: some.map(trial => symbolOf(trial, "-open")), size: 7, color: faint, line: { width: 1.2 } } });
    }
    if (front.length > 1 && !single && model.objectives.length === 2) {
      const line = [...front].sort((a, b) => (a.objectives[x] ?? 0) - (b.objectives[x] ?? 0));
      traces.push({ ...points(line), mode: "lines", name: "front", showlegend: false, hoverinfo: "skip", line: { shape: stairs(), width: 1.5, color: whatIf ? faint : ink, dash: "dot" } });
    }
    const groups = [...new Set([...feasible].map(groupOf))].sort();
    groups.forEach(group => colourOf(group));
    for (const group of groups) {
      const members = feasible.filter(trial => groupOf(trial) === group);
      const pale = thinned(members.filter(trial => !model.onFront.has(trial.number)));
      const strong = members.filter(trial => model.onFront.has(trial.number));
      const common = { name: plain(group), legendgroup: group };
      if (pale.length) traces.push({ ...told(pale), ...common, showlegend: !strong.length, marker: { symbol: pale.map(trial => symbolOf(trial)), color: colourOf(group), size: 7.5, opacity: 0.45 } });
      if (strong.length) traces.push({ ...told(strong), ...common, marker: { symbol: strong.map(trial => symbolOf(trial)), color: colourOf(group), size: 11.5, line: { width: 1.3, color: ink } } });
    }
    if (whatIf) {
      const now = whatIf.trials;
      const line = [...now].sort((a, b) => (a.objectives[x] ?? 0) - (b.objectives[x] ?? 0));
      if (!single && now.length > 1 && model.objectives.length === 2) traces.push({ ...points(line), mode: "lines", showlegend: false, hoverinfo: "skip", line: { shape: stairs(), width: 2, color: change } });
      traces.push({ ...told(now), name: "what if", marker: { symbol: "diamond", size: 10, color: change, line: { width: 1.3, color: card } } });
    }
    const knee = whatIf ? whatIf.trials.find((/** @type {Trial} */ trial) => trial.number === whatIf.recommended) : front.find(trial => trial.number === model.recommended);
    if (knee) {
      traces.push({ ...told([knee]), mode: "markers+text", name: "recommended", text: ["recommended"], textposition: "top right",
        textfont: { color: ink, size: 13.5 }, cliponaxis: false, showlegend: false,
        marker: { symbol: "star", size: 19, color: colour("--star"), line: { width: 1.3, color: ink } } });
    }
    const chosen = selected === null ? undefined : model.trials.get(selected);
    if (chosen?.simulated) traces.push({ ...points([chosen]), name: "selected", showlegend: false, hoverinfo: "skip", marker: { symbol: "circle-open", size: 25, color: accent, line: { width: 3 } } });
    compared.forEach((number, place) => {
      const trial = model.trials.get(number);
      if (trial?.simulated) traces.push({ ...points([trial]), mode: "markers+text", text: [MARK[place]], textposition: "middle center", textfont: { size: 13, color: card }, marker: { symbol: "circle", size: 20, color: ink, line: { width: 1.5, color: card } }, showlegend: false, hoverinfo: "skip" });
    });
    const shown = feasible.length ? feasible : best(infeasible, single ? 0 : y);
    const extra = whatIf?.trials ?? [];
    const picked = [chosen, ...compared.map(number => model.trials.get(number))].filter(trial => trial?.simulated);
    const values = (/** @type {number} */ place) => [...shown, ...extra, ...picked].map(trial => trial.objectives[place]).filter(value => value !== null);
    const narrow = innerWidth < 640;
    const title = (/** @type {number} */ place) => (narrow ? model.objectives[place].title.split(",")[0] : model.objectives[place].title);
    return {
      data: traces,
      layout: {
        uirevision: `${x} ${y}`, showlegend: groups.length > 0,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 13 } },
        margin: { l: 60, r: 24, t: 40, b: 52 },
        xaxis: single ? { title: { text: "Simulated designs" }, rangemode: "tozero" } : { title: { text: title(x) }, ...range(values(x)) },
        yaxis: { title: { text: title(single ? 0 : y) }, ...range(values(single ? 0 : y)) },
      },
    };
  }

  /** The better a design in x, the worse in y: steps go along the axis that a design cannot pass. */
  function stairs() {
    const { x } = view();
    return model.objectives[x].direction === "minimize" ? "hv" : "vh";
  }

  /** Hopeless designs must not squeeze the interesting ones into a corner. @param {Trial[]} trials @param {number} place */
  function best(trials, place) {
    const sign = model.objectives[place].direction === "minimize" ? 1 : -1;
    const known = trials.filter(trial => trial.objectives[place] !== null)
      .sort((a, b) => sign * (Number(a.objectives[place]) - Number(b.objectives[place])));
    return known.slice(0, Math.max(5, Math.floor(0.75 * known.length)));
  }

  return new Plot(element, figure, { bar: true, onClick: tag => Number.isInteger(tag) && onSelect(tag) });
}

/** Return a range with a little air; logarithmic if the values span a wide range. @param {number[]} values */
function range(values) {
  if (!values.length) return { range: [0, 1] };
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low > 8;
  if (log) [low, high] = [Math.log10(low), Math.log10(high)];
  const air = 0.08 * (high - low) || 0.1 * (Math.abs(high) || 1);
  return { ...(log ? { type: "log", tickmode: "array", ...logTicks(low, high) } : { type: "linear", tickmode: "auto" }), range: [low - air, high + air] };
}
