// One design simulated again: latencies, where the time goes, what happened when, what was used.

import { fill, h } from "./dom.js";
import { colour, logTicks, PALETTE, Plot } from "./plots.js";
import { capital, number, seconds } from "./words.js";

const TOLD = [50, 90, 95, 99, 100];

/** @param {any} simulation */
export function simulationView(simulation) {
  /** @type {Plot[]} */
  const plots = [];
  const curves = simulation.latencies.filter((/** @type {any} */ curve) => curve.seconds.some((/** @type {any} */ value) => value !== null));
  const element = h("div", {},
    h("h3", {}, "How long requests take"),
    h("p", { class: "note" }, "The share of requests within each time. A dashed line is a promise; the curve must pass above its ring."),
    h("div", { class: "latencies" }, curves.map((/** @type {any} */ curve) => latency(curve, plots))),
    curves.length ? percentiles(curves) : null,
    waterfall(simulation.stages),
    uses(simulation.uses),
    timeline(simulation, plots));
  return { element, close() { for (const plot of plots) plot.close(); } };
}

/** @param {any} curve @param {Plot[]} plots */
function latency(curve, plots) {
  const place = h("div", { class: "plot curve-plot", role: "img", "aria-label": `${curve.label}: ${told(curve)}` });
  plots.push(new Plot(place, () => {
    const known = [...curve.seconds, ...curve.limits.map((/** @type {any} */ limit) => limit.limit_s)].filter(value => value > 0);
    const [low, high] = [Math.log10(Math.min(...known)), Math.log10(Math.max(...known))];
    const air = 0.04 * (high - low) + 0.02;
    return {
      data: [
        { type: "scatter", mode: "lines", x: curve.seconds, y: curve.percent, line: { width: 2.2, color: PALETTE[0] }, hovertemplate: "%{y:.4g} % within %{x:.4g} s<extra></extra>" },
        ...curve.limits.map((/** @type {any} */ limit) => ({
          type: "scatter", mode: "lines+markers", x: [limit.limit_s, limit.limit_s, limit.limit_s], y: [0, limit.percentile, 100],
          line: { width: 1.5, color: colour("--bad"), dash: "dash" },
          marker: { size: [0, 9, 0], symbol: "circle-open", line: { width: 2 }, opacity: [0, 1, 0] },
          hovertemplate: `promise: ${limit.percentile} % within ${seconds(limit.limit_s)}<extra></extra>`,
        })),
      ],
      layout: {
        xaxis: { type: "log", title: { text: "seconds" }, range: [low - air, high + air], ...logTicks(low, high) },
        yaxis: { range: [0, 104], ticksuffix: " %", dtick: 25 }, margin: { l: 52, r: 14, t: 8, b: 42 },
      },
    };
  }));
  return h("figure", {}, h("figcaption", { class: "above" }, h("b", {}, capital(curve.label)), " ", h("span", { class: "note" }, told(curve))), place);
}

/** Return the time within which a share of requests is served. @param {any} curve @param {number} percent */
function within(curve, percent) {
  const at = curve.percent.findIndex((/** @type {number} */ level) => level >= percent - 1e-9);
  return at < 0 ? null : curve.seconds[at];
}

/** @param {any} curve */
const told = curve => [50, 90, 99].map(percent => `p${percent} ${seconds(within(curve, percent))}`).join(" · ");

/** @param {any[]} curves */
function percentiles(curves) {
  return h("details", {}, h("summary", {}, "Latencies as a table"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Latencies" },
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Share of requests"), curves.map(curve => h("th", { scope: "col", class: "number" }, capital(curve.label))))),
      h("tbody", {}, TOLD.map(percent => h("tr", {}, h("th", { scope: "row" }, percent === 100 ? "all" : `${percent} %`),
        curves.map(curve => h("td", { class: "number" }, seconds(within(curve, percent))))))))));
}

/** Where requests spend their time, one stage below the other. @param {any[]} stages */
function waterfall(stages) {
  if (!stages.length) return null;
  const whole = stages.reduce((sum, stage) => sum + stage.mean_s, 0) || 1;
  let before = 0;
  return [
    h("h3", {}, "Where the time goes"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Where the time goes" }, h("table", { class: "waterfall" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Stage"), h("th", { scope: "col", class: "bars" }, "Mean, one after the other"),
        h("th", { scope: "col", class: "number" }, "Mean"), h("th", { scope: "col", class: "number" }, "of it waiting"), h("th", { scope: "col", class: "number" }, "p99"))),
      h("tbody", {}, stages.map(stage => {
        const waits = Math.min(stage.waiting_mean_s, stage.mean_s);
        const bar = h("span", { class: "lane", "aria-hidden": "true" }, piece("waits", before, waits, whole), piece("works", before + waits, stage.mean_s - waits, whole));
        before += stage.mean_s;
        return h("tr", {}, h("th", { scope: "row" }, capital(stage.label)), h("td", { class: "bars" }, bar),
          h("td", { class: "number" }, seconds(stage.mean_s)), h("td", { class: "number" }, seconds(stage.waiting_mean_s)), h("td", { class: "number" }, seconds(stage.p99_s)));
      })))),
    h("p", { class: "note legend" }, h("i", { class: "waits" }), "waiting ", h("i", { class: "works" }), "being served"),
  ];
}

/** @param {string} kind @param {number} from @param {number} long @param {number} whole */
function piece(kind, from, long, whole) {
  const part = h("i", { class: kind });
  part.style.left = `${(100 * from) / whole}%`;
  part.style.width = `${(100 * long) / whole}%`;
  return part;
}

/** @param {any[]} pools */
function uses(pools) {
  if (!pools.length) return null;
  return [
    h("h3", {}, "What it uses"),
    h("div", { class: "uses" }, pools.map(pool => h("div", { class: "scroll" }, h("table", {},
      h("caption", {}, pool.name, pool.bottleneck ? h("small", {}, ` limited by ${pool.bottleneck}`) : null),
      h("tbody", {}, pool.shares.map((/** @type {any} */ share) => {
        const bar = h("span", { class: "lane", "aria-hidden": "true" });
        if (share.value !== null && share.value <= 1.0001) bar.append(piece("works", 0, Math.min(1, share.value), 1));
        return h("tr", {}, h("th", { scope: "row" }, capital(share.label)), h("td", { class: "bars" }, bar), h("td", { class: "number" }, share.said));
      })))))),
  ];
}

/** What happened when, for one pool or service at a time. @param {any} simulation @param {Plot[]} plots */
function timeline(simulation, plots) {
  const parts = [...new Set(simulation.series.map((/** @type {any} */ series) => series.part))];
  if (!parts.length) return null;
  const charts = h("div", { class: "latencies" });
  const table = h("div");
  /** @type {Plot[]} */
  let own = [];
  const show = (/** @type {string} */ part) => {
    for (const plot of own) {
      plot.close();
      plots.splice(plots.indexOf(plot), 1);
    }
    own = [];
    const chosen = simulation.series.filter((/** @type {any} */ series) => series.part === part);
    fill(charts, chosen.map((/** @type {any} */ series, /** @type {number} */ place) => {
      const box = h("div", { class: "plot time-plot", role: "img", "aria-label": `${series.label}: ${extremes(series)}` });
      const line = PALETTE[place % PALETTE.length];
      const plot = new Plot(box, () => ({
        data: [{ type: "scatter", mode: "lines", x: simulation.time_s, y: series.values, line: { width: 1.6, color: line, shape: "hv" }, connectgaps: false, hovertemplate: `%{x:.4g} s: %{y:.4g} ${series.unit}<extra></extra>` }],
        layout: { xaxis: { title: { text: "seconds" } }, yaxis: { rangemode: "tozero", nticks: 5 }, margin: { l: 52, r: 14, t: 6, b: 38 } },
      }));
      own.push(plot);
      plots.push(plot);
      return h("figure", {}, h("figcaption", { class: "above" }, h("b", {}, capital(series.label)), " ", h("span", { class: "note" }, series.unit)), box);
    }));
    fill(table, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Over time" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Quantity"), ["Least", "Mean", "Most"].map(text => h("th", { scope: "col", class: "number" }, text)))),
      h("tbody", {}, chosen.map((/** @type {any} */ series) => {
        const { least, mean, most } = range(series);
        return h("tr", {}, h("th", { scope: "row" }, capital(series.label), h("small", {}, ` ${series.unit}`)), [least, mean, most].map(value => h("td", { class: "number" }, number(value))));
      })))));
  };
  const choice = h("select", { id: "part", on: { change: () => show(choice.value) } }, parts.map(part => h("option", { value: part }, part)));
  show(/** @type {string} */ (parts[0]));
  return [
    h("div", { class: "section-head" }, h("h3", {}, "Over time"), parts.length > 1 ? h("div", { class: "row" }, h("label", { for: "part" }, "Of"), choice) : null),
    charts, h("details", {}, h("summary", {}, "Over time as a table"), table),
  ];
}

/** @param {any} series */
function range(series) {
  const known = series.values.filter((/** @type {any} */ value) => value !== null);
  if (!known.length) return { least: null, mean: null, most: null };
  return { least: Math.min(...known), mean: known.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0) / known.length, most: Math.max(...known) };
}

/** @param {any} series */
function extremes(series) {
  const { least, mean, most } = range(series);
  return `from ${number(least)} to ${number(most)} ${series.unit}, ${number(mean)} on average`;
}
